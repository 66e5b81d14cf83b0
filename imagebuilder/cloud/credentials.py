"""The one key of a cloud, made with its state directory and kept there."""

import json
import secrets
import string
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import HostError
from imagebuilder.secret import Secret
from imagebuilder.whole_files import write_whole

_LETTERS = string.ascii_uppercase + "234567"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """An access key of the account."""

    access_key_id: str
    secret: Secret


def keep_credentials(directory: Path) -> Credentials:
    """The key of the cloud in this directory; a new one if it has none yet."""
    path = directory / "credentials.json"
    if not path.exists():
        key = "AKIA" + "".join(secrets.choice(_LETTERS) for _ in range(16))
        # Letters and digits only: it goes through a shell, and through a list with commas.
        secret = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(40))
        document = {"access_key_id": key, "secret_access_key": secret}
        write_whole(path, json.dumps(document).encode(), mode=0o600, survives="kill")
    if path.stat().st_mode & 0o077:
        raise HostError("others may read this secret", where=path, fix=f"chmod 600 {path}")
    document = json.loads(path.read_text(encoding="utf-8"))
    return Credentials(access_key_id=document["access_key_id"], secret=Secret(document["secret_access_key"]))
