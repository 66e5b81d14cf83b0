import subprocess
from pathlib import Path

import pytest

from tests.command import imgbuild
from tests.machines import PROJECT


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with the shipped recipes, all of whose images are built."""
    site = tmp_path_factory.mktemp("cluster") / "site"
    made = imgbuild(site, "init", str(site))
    assert made.code == 0, made.err
    # A base is named by all that it is made from: one that `make demo` or `imgbuild build` has made here will do.
    bases = PROJECT / ".imgbuild/bases"
    if bases.is_dir():
        (site / "store").mkdir()
        subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", bases, site / "store"], check=True)
    built = imgbuild(site, "build")
    assert built.code == 0, built.err
    return site


@pytest.fixture(scope="session")
def bases(cluster: Path) -> Path:
    """The bases of a store, to be copied into another one."""
    return cluster / "store/bases"
