from pathlib import Path

import pytest

from tests.command import imgbuild


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with the shipped recipes, all of whose images are built."""
    site = tmp_path_factory.mktemp("cluster") / "site"
    made = imgbuild(site, "init", str(site))
    assert made.code == 0, made.err
    built = imgbuild(site, "build")
    assert built.code == 0, built.err
    return site
