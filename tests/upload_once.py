"""`python -m tests.upload_once DISK COUNT` uploads a disk of tests/uploads.py in a process of its own, to be killed."""

import os
import sys
from pathlib import Path

from imagebuilder.cloud import RunningCloud
from imagebuilder.cloud.credentials import Credentials
from imagebuilder.secret import Secret
from tests.cloud.uploads import account, block, upload_again


def main() -> None:
    """Upload to the cloud that the environment names."""
    credentials = Credentials(
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"], secret=Secret(os.environ["AWS_SECRET_ACCESS_KEY"])
    )
    cloud = RunningCloud(endpoint=os.environ["AWS_ENDPOINT_URL"], credentials=credentials)
    path, count = Path(sys.argv[1]), int(sys.argv[2])
    upload_again(account(cloud), path, {index: block(index) for index in range(count)})


if __name__ == "__main__":
    main()
