from collections.abc import Iterator
from pathlib import Path

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this directory: each starts a cloud, or shares one."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.cloud)
