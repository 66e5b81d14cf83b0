"""Runs the cases in `cases/xl`: each NAME.cfg has something wrong in it, and NAME.faults is all that is said of it.

The first line of each says what the real xl does with it; tests/test_xen_xl.py has it tried.
"""

from pathlib import Path

import pytest

from imagebuilder.xen.lint import own_faults, with_words_of_xl
from imagebuilder.xen.surroundings import Surroundings
from imagebuilder.xen.xl import Reading
from imagebuilder.xen.xl_cfg import XlFile, read_xl_file
from tests.xl_cases import AROUND, CASES, GOOD


def said_of(file: Path) -> str:
    """What is said of a case, as its `.faults` has it."""
    faults = own_faults(read_xl_file(Path(file.name), file.read_bytes()), AROUND)
    return "".join(f"{fault}\n" for fault in faults)


def read(text: str) -> XlFile:
    return read_xl_file(Path("a.cfg"), text.encode())


def test_there_are_fifty_broken_configurations_at_the_least() -> None:
    assert len(CASES) >= 50


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_a_broken_configuration_is_refused_at_the_place_of_each_fault(file: Path) -> None:
    assert said_of(file) == file.with_suffix(".faults").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GOOD, id="pv by pygrub"),
        pytest.param(GOOD.replace('"pygrub"', '"pygrub"\nextra = "quiet"'), id="kernel options for pygrub"),
        pytest.param(GOOD.replace("1024", "0x400"), id="numbers in hexadecimal"),
        pytest.param(GOOD.replace("'mac", "'bridge=xenbr1' , # another\n 'mac"), id="a list over two lines"),
        pytest.param(GOOD.replace("] \n", "]").replace("\nvif = ", '\nvif = [ "bridge=xenbr1" ];vif += '), id="+="),
        pytest.param(
            GOOD.replace("format=qcow2,vdev=xvda,access=rw,target=", "").replace("disk.qcow2", "disk.raw,,xvda"),
            id="a disk by positions",
        ),
        pytest.param(
            GOOD.replace("disk = [ ", "disk = [ 'vdev=hdc,cdrom', 'script=block-iscsi,vdev=xvdb,target=iqn=x', "),
            id="an empty drive, and a target that a script knows",
        ),
        pytest.param(
            GOOD.replace('"pv"', '"hvm"').replace('bootloader = "pygrub"', 'boot = "c"').replace("xvda", "hda"),
            id="hvm",
        ),
        pytest.param(
            GOOD.replace('bootloader = "pygrub"', 'kernel = "/usr/lib/grub-xen/grub-x86_64-xen.bin"'),
            id="a pvgrub of dom0, which this machine need not have",
        ),
    ],
)
def test_nothing_is_said_of_a_sound_configuration(text: str) -> None:
    assert own_faults(read(text), AROUND) == []


def test_a_pvgrub_that_is_missing_is_a_fault_in_a_dom0_only() -> None:
    text = GOOD.replace('bootloader = "pygrub"', 'kernel = "/usr/lib/grub-xen/grub-x86_64-xen.bin"')
    dom0 = Surroundings(look=AROUND.look, is_dom0=True)

    [fault] = own_faults(read(text), dom0)

    assert str(fault) == (
        "a.cfg:6:10: there is no /usr/lib/grub-xen/grub-x86_64-xen.bin\n  fix: apt-get install grub-xen-host"
    )


def test_bridges_and_addresses_are_compared_only_where_there_is_a_cluster() -> None:
    text = GOOD.replace("xenbr0", "br7").replace("00:16:3e:03:90:41", "00:16:3e:89:18:0b")

    assert own_faults(read(text), Surroundings(look=AROUND.look, is_dom0=False)) == []


def test_what_only_xl_finds_is_added_in_its_own_words() -> None:
    file = read(GOOD + "pci = [ '0:0' ]\n")
    reading = Reading(accepted=False, messages=("unable to parse PCI_SPEC_STRING `0:0' for passthrough",), json="")

    faults = with_words_of_xl(file, own_faults(file, AROUND), reading)

    assert [(str(fault.place), fault.what) for fault in faults] == [
        ("a.cfg:9:10", "xl: unable to parse PCI_SPEC_STRING `0:0' for passthrough")
    ]


def test_what_xl_says_of_a_line_that_has_a_fault_already_is_left_out() -> None:
    file = read(GOOD.replace("vcpus = 1", 'vcpus = "two"'))
    reading = Reading(accepted=True, messages=("a.cfg:3: warning: parameter `vcpus' is not a valid number",), json="{}")

    faults = with_words_of_xl(file, own_faults(file, AROUND), reading)

    assert [fault.what for fault in faults] == ["'two' is no number, and xl ignores it"]


def test_a_file_that_xl_refuses_without_a_word_is_never_called_sound() -> None:
    file = read(GOOD)

    faults = with_words_of_xl(file, [], Reading(accepted=False, messages=(), json=""))

    assert [str(fault.place) for fault in faults] == ["a.cfg:1:1"]


def test_what_a_terminal_cannot_show_is_not_shown() -> None:
    file = read_xl_file(Path("a.cfg"), GOOD.replace("local01", "\\f\x1b[31m").encode() + b"kernle = '\xff'\n")
    bridge = read_xl_file(Path("a.cfg"), GOOD.encode().replace(b"xenbr0", b"xen\xffbr0"))

    said = [str(fault) for fault in (*own_faults(file, AROUND), *own_faults(bridge, AROUND))]

    assert len(said) == 3
    assert [text for text in said if not text.replace("\n", "").isprintable()] == []


def test_lists_without_an_end_are_refused_and_the_rest_is_read() -> None:
    file = read(f"vnuma = {'[' * 5000}\nname = 'a'\n")

    assert [str(fault.place) for fault in file.faults] == ["a.cfg:1:29"]
    assert [setting.key for setting in file.settings] == ["name"]
