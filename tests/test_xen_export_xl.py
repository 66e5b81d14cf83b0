"""That ./start gives the real xl what was meant, wherever the folder lies."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from imagebuilder.recipe.xen import XenDomain
from imagebuilder.xen.configuration import configuration_text
from imagebuilder.xen.domain import BootFiles, Domain, make_domain
from imagebuilder.xen.folder_texts import FOLDER, folder_texts
from imagebuilder.xen.xl import Xl, find_xl
from tests.exports import put_program
from tests.machines import machine_of, shipped_site
from tests.xl_json import intent

pytestmark = pytest.mark.skipif(
    not sorted(Path("/usr/lib").glob("xen-[0-9]*/bin/xl")) or shutil.which("cc") is None,
    reason="there is no xl (apt-get install xen-utils-4.17 gcc)",
)

WAYS = [
    XenDomain(type="pv", boot="pygrub"),
    XenDomain(type="pv", boot="kernel", extra="quiet"),
    XenDomain(type="pvh", boot="pvgrub"),
    XenDomain(type="hvm", boot="firmware"),
]
PLACES = ["local01", """it's a "b" \\c, target=$HOME;#"""]

# In the place of xl, in a dom0 where nothing runs: the real one reads what it is given, and prints what it understood.
XL = """
case $1 in
    list) [ $# = 1 ] ;;
    create) shift; exec env {xl} -N create "$@" ;;
esac
"""


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Xl:
    return find_xl(tmp_path_factory.mktemp("xl"))


def domain_in(folder: Path, way: XenDomain) -> Domain:
    """The example's local01 as a guest, with all its files in a folder."""
    machine = machine_of(shipped_site(), "local01")
    interfaces = shipped_site().roles[machine.role].interfaces
    files = BootFiles(kernel=folder / "vmlinuz", ramdisk=folder / "initrd.img", options=("root=LABEL=root", "ro"))
    return make_domain(machine, way, interfaces, disk=folder / "disk.raw", disk_format="raw", boot_files=files)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.type} by {way.boot}")
def test_xl_understands_the_folders_configuration_with_absolute_names(
    way: XenDomain, place: str, xl: Xl, tmp_path: Path
) -> None:
    folder = tmp_path / place
    folder.mkdir()
    texts = folder_texts("local01", "node", configuration_text(domain_in(Path(FOLDER), way)), disk_name="disk.raw")
    (folder / "local01.cfg").write_text(texts["local01.cfg"])
    put_program(folder / "start", texts["start"])
    real = shlex.join([*(f"{name}={value}" for name, value in xl.environment.items()), str(xl.program)])
    put_program(tmp_path / "bin/xl", XL.format(xl=real))

    started = subprocess.run(
        [folder / "start"],
        env={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )

    understood, _, said = started.stdout.rstrip("\n").rpartition("\n")
    assert json.loads(understood) == intent(domain_in(folder, way))
    assert said.startswith("local01 runs")


def test_xl_understands_the_configuration_with_absolute_names_that_is_printed(xl: Xl, tmp_path: Path) -> None:
    folder = tmp_path / PLACES[1]
    folder.mkdir()
    way = XenDomain(type="pv", boot="kernel")
    texts = folder_texts("local01", "node", configuration_text(domain_in(Path(FOLDER), way)), disk_name="disk.raw")
    (folder / "local01.cfg").write_text(texts["local01.cfg"])
    put_program(folder / "start", texts["start"])

    printed = subprocess.run([folder / "start", "--config"], cwd="/", capture_output=True, check=True)
    (tmp_path / "auto.cfg").write_bytes(printed.stdout)
    reading = xl.read(tmp_path / "auto.cfg")

    assert (reading.accepted, reading.messages) == (True, ())
    assert json.loads(reading.json) == intent(domain_in(folder, way))
