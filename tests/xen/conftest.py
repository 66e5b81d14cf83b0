import os
from pathlib import Path

import pytest

from imagebuilder.image.store import Store
from tests.command import imgbuild
from tests.machines import PROJECT
from tests.xen.dom0 import Dom0, make_dom0

# What is made for these tests only, and the transcripts of their boots; `make clean` removes it.
BUILD = PROJECT / "build/xen"


@pytest.fixture(scope="session")
def dom0() -> Dom0:
    """Xen and dom0, from Debian's packages."""
    return make_dom0(BUILD)


@pytest.fixture(scope="session")
def store() -> Store:
    """The project's own store, with the images of the example cluster as they are to be now."""
    store = Store(root=Path(os.environ.get("IMGBUILD_STORE") or PROJECT / ".imgbuild"))
    built = imgbuild(PROJECT, "build", "server", "node", store=store.root)
    assert built.code == 0, built.err
    return store
