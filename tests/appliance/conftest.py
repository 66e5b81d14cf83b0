import shutil
from pathlib import Path

import pytest

from imagebuilder.site import STARTER
from tests.appliance.small_debian import make_small_debian


@pytest.fixture(scope="session")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_debian(tmp_path_factory.mktemp("base") / "debian.img")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, small_base: Path) -> Path:
    return make_site(tmp_path_factory.mktemp("site"), small_base)


def make_site(directory: Path, base: Path) -> Path:
    shutil.copytree(STARTER / "recipes", directory / "recipes")
    (directory / "recipes/base.yaml").write_text(f'image: "{base}"\n')
    return directory
