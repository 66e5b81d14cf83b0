from collections.abc import Iterator

import pytest

from imagebuilder.cloud import RunningCloud, running_cloud
from tests.cloud.clients import AT_ONCE, Clients


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    """One cloud for all tests that need no delays; a test makes what it needs, and orders faults for that only."""
    with running_cloud(tmp_path_factory.mktemp("cloud"), tuning=AT_ONCE) as running:
        yield running


@pytest.fixture(scope="session")
def aws(cloud: RunningCloud) -> Clients:
    return Clients(cloud)
