"""Has the real xl read configurations, without a hypervisor: what is written here, and what is broken in `cases/xl`."""

import ctypes
import ctypes.util
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagebuilder.image.appliance import DiskFormat
from imagebuilder.recipe.xen import XenDomain
from imagebuilder.xen.configuration import configuration_text
from imagebuilder.xen.domain import BootFiles, Domain, make_domain
from imagebuilder.xen.lint import own_faults, with_words_of_xl
from imagebuilder.xen.surroundings import FileFacts, Surroundings
from imagebuilder.xen.xl import Reading, Xl, find_xl
from imagebuilder.xen.xl_cfg import read_xl_file
from imagebuilder.xen.xl_keys import KEYS
from tests.machines import machine_of, shipped_site
from tests.xl_cases import AROUND, CASES, GOOD
from tests.xl_json import intent

PROGRAMS = sorted(Path("/usr/lib").glob("xen-[0-9]*/bin/xl"))

pytestmark = pytest.mark.skipif(
    not PROGRAMS or shutil.which("cc") is None, reason="there is no xl (apt-get install xen-utils-4.17 gcc)"
)

BOOT_FILES = BootFiles(
    kernel=Path("/srv/a b/vmlinuz"),
    ramdisk=Path("/srv/a b/initrd.img"),
    options=("root=LABEL=root", "ro", "net.ifnames=0"),
)
WAYS = [
    XenDomain(type="pv", boot="pygrub"),
    XenDomain(type="pv", boot="pygrub", extra="quiet fsck.mode=skip"),
    XenDomain(type="pv", boot="kernel", vcpus=4, memory_mib=512, maxmem_mib=2048),
    XenDomain(type="pv", boot="pvgrub", on_reboot="destroy", on_crash="coredump-restart"),
    XenDomain(type="pvh", boot="pygrub"),
    XenDomain(type="pvh", boot="kernel", extra="quiet", on_crash="preserve"),
    XenDomain(type="pvh", boot="pvgrub", on_reboot="rename-restart"),
    XenDomain(type="hvm", boot="firmware"),
    XenDomain(type="hvm", boot="firmware", vnc=False),
    XenDomain(type="hvm", boot="kernel"),
]


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Xl:
    return find_xl(tmp_path_factory.mktemp("xl") / "a cache")


def domain_of(name: str, way: XenDomain, disk_format: DiskFormat) -> Domain:
    """One of this project's machines as a guest, on a disk whose path is hard to quote."""
    machine = machine_of(shipped_site(), name)
    interfaces = shipped_site().roles[machine.role].interfaces
    disk = Path(f'/srv/o\'neill, "b" \\c=d/disk.{disk_format}')
    return make_domain(machine, way, interfaces, disk=disk, disk_format=disk_format, boot_files=BOOT_FILES)


def said_by(reading: Reading) -> str:
    """What the first line of a case calls it."""
    if not reading.accepted:
        return "refuses this"
    return "warns of this, and accepts it" if reading.messages else "accepts this without a word"


def test_the_library_for_xl_is_compiled_once(tmp_path: Path) -> None:
    find_xl(tmp_path)
    [before] = [(path, path.stat()) for path in tmp_path.iterdir()]

    find_xl(tmp_path)

    assert [(path, path.stat()) for path in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.type} by {way.boot}, {way.on_crash}")
@pytest.mark.parametrize("name", ["oneserver", "local01"])
def test_xl_understands_each_configuration_as_it_was_meant(
    name: str, way: XenDomain, disk_format: DiskFormat, xl: Xl, tmp_path: Path
) -> None:
    domain = domain_of(name, way, disk_format)
    file = tmp_path / f"{name}.cfg"
    file.write_text(configuration_text(domain), encoding="utf-8")

    reading = xl.read(file)

    assert (reading.accepted, reading.messages) == (True, ())
    assert json.loads(reading.json) == intent(domain)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.type} by {way.boot}, {way.on_crash}")
def test_the_rules_find_nothing_in_the_configurations_that_are_written(way: XenDomain) -> None:
    domain = domain_of("oneserver", way, "qcow2")
    around = Surroundings(
        look=lambda path: FileFacts(state="there", format=path.suffix[1:] or None),
        is_dom0=True,
        bridges=frozenset({"xenbr0", "xenbr1"}),
        macs={interface.mac: "oneserver" for interface in domain.interfaces},
        uuids={str(domain.uuid): "oneserver"},
    )

    assert own_faults(read_xl_file(Path("a.cfg"), configuration_text(domain).encode()), around) == []


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_xl_does_with_a_broken_configuration_what_its_first_line_says(file: Path, xl: Xl) -> None:
    expected = file.read_text(encoding="utf-8").splitlines()[0].removeprefix("# xl ")

    assert said_by(xl.read(file)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("vnc = 'yes'", "9:7: xl: parameter `vnc' is not a valid number", id="a line, without a column"),
        pytest.param(
            "device_model_version = 'kvm'", '9:25: xl: Unknown device_model_version "kvm" specified', id="text"
        ),
        pytest.param(
            "pci = [ 'zz' ]", "9:10: xl: unable to parse PCI_SPEC_STRING `zz' for passthrough", id="in a list"
        ),
        pytest.param(
            "vif += [ 'bridge=xenbr0,rate=fast' ]",
            "9:30: xl: vif: invalid rate in `fast'",
            id="inside a text of a list",
        ),
    ],
)
def test_what_only_xl_finds_has_its_place(line: str, expected: str, xl: Xl, tmp_path: Path) -> None:
    path = tmp_path / "a.cfg"
    path.write_text(f"{GOOD}{line}\n", encoding="utf-8")
    file = read_xl_file(path, path.read_bytes())

    faults = with_words_of_xl(file, own_faults(file, AROUND), xl.read(path))

    assert [f"{fault.place}: {fault.what}" for fault in faults] == [f"{path}:{expected}"]


def test_the_real_xl_has_every_key_that_is_known_here() -> None:
    program = PROGRAMS[-1].read_bytes()

    assert [key for key in sorted(KEYS) if f"{key}\0".encode() not in program] == []


# What the lexer has names for, and some of what it has none for. A numeric escape, and a byte that is zero, xl takes
# or dies of, and so they are refused here on purpose; so is a last line without an end, of which xl may overlook the
# last character.
PIECES = st.sampled_from(
    [
        *("a", "b_1", "vif", "1", "0x1f", "12ab", "'x'", '"y z"', "''", r"'\''", r"'\\'", r"'\q'", "'it", '"', "#c\n"),
        *("=", "+=", "+", "[", "]", ",", ";", "\n", "\n", " ", "\t", "\r", "\\", ".", "-", "(", "A", "é", "#", "'#'"),
    ]
)
STATEMENTS = st.sampled_from(
    ["a=1\n", "b = 'x'\n", "c = [ 1,\n 'y' , ]\n", "d+=[]\n", "e = [[1],2];", "# note\n", "\n"]
)


@settings(max_examples=400)
@given(st.lists(STATEMENTS | PIECES, max_size=8).map(lambda pieces: "".join([*pieces, "\n"])))
def test_what_is_grammar_here_is_grammar_for_xl(text: str) -> None:
    assert (read_xl_file(Path("a.cfg"), text.encode()).faults == ()) == libxlutil_accepts(text.encode())


def libxlutil_accepts(content: bytes) -> bool:
    """Whether xl's own parser takes `content`; `+=` for a list and a text is refused there, and not by the grammar."""
    library = ctypes.CDLL(str(ctypes.util.find_library("xlutil")))
    library.xlu_cfg_init.restype = ctypes.c_void_p
    library.xlu_cfg_readdata.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    library.xlu_cfg_destroy.argtypes = [ctypes.c_void_p]
    with null_stream() as report:
        configuration = library.xlu_cfg_init(report, b"a.cfg")
        try:
            return bool(library.xlu_cfg_readdata(configuration, content, len(content)) == 0)
        finally:
            library.xlu_cfg_destroy(configuration)


@contextmanager
def null_stream() -> Iterator[ctypes.c_void_p]:
    """A C stream to nowhere."""
    c = ctypes.CDLL(None)
    c.fopen.restype = ctypes.c_void_p
    c.fclose.argtypes = [ctypes.c_void_p]
    stream = ctypes.c_void_p(c.fopen(b"/dev/null", b"w"))
    try:
        yield stream
    finally:
        c.fclose(stream)
