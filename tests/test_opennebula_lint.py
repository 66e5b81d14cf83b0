"""What is wrong with a template beyond its grammar: each case is a template and the faults that must be found."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.opennebula.attributes import Kind
from imagebuilder.opennebula.lint import guess_kind, lint_text
from imagebuilder.opennebula.parser import parse_template
from imagebuilder.opennebula.release import RELEASES, Generation
from tests.machines import TESTS
from tests.one_cases import CASES, faults_of

WORDS = st.sampled_from(
    [
        *("CPU", "DISK", "NIC", "AR", "CONTEXT", "IP", "SIZE", "TYPE", "EC2", "AUTHORIZEDPORTS", "NETWORK_ADDRESS"),
        *(
            "=",
            "[",
            "]",
            ",",
            '"',
            "'",
            "\n",
            " ",
            "#",
            "$NIC[IP]",
            "$NETWORK[DNS, NETWORK=x]",
            "${",
            "\\",
            "1",
            "0",
            "-",
        ),
        *("9" * 5000, "10.1.1.0", "255.255.255.255", "IP4", "\r", "]]>"),
    ]
)
SOUND = 'CPU = 1\nMEMORY = 1024\nDISK = [ IMAGE = "local01" ]\nNIC = [ NETWORK = "private" ]\n'
FILE = Path("vm.template")


@pytest.mark.parametrize("case", CASES, ids=lambda file: file.name)
def test_a_broken_template_is_refused_with_every_fault(case: Path) -> None:
    found = faults_of(case)

    # If this is meant to be so: `python -m tests.one_cases`, and read the difference.
    assert found == (case.parent / f"{case.name}.faults").read_text(encoding="utf-8")


def test_every_case_has_a_fault() -> None:
    sound = [case.name for case in CASES if not faults_of(case)]

    assert sound == []


@given(
    st.lists(WORDS, max_size=40).map("".join),
    st.sampled_from(["vm", "image", "network"]),
    st.sampled_from(["1", "5", "7"]),
)
def test_whatever_a_file_holds_gets_faults_and_nothing_worse(text: str, kind: Kind, generation: Generation) -> None:
    faults = lint_text(text, FILE, kind=kind, release=RELEASES[generation])

    assert all(1 <= fault.place.line <= text.count("\n") + 1 for fault in faults)


def test_a_sound_template_has_no_fault() -> None:
    assert lint_text(SOUND, FILE, kind="vm", release=RELEASES["7"]) == ()


def test_an_attribute_of_ones_own_is_no_fault_if_a_variable_refers_to_it_or_it_is_named() -> None:
    text = SOUND + 'ROLE = "node"\nOWNER = "ana"\nCONTEXT = [ WHAT = "$ROLE" ]\n'

    assert lint_text(text, FILE, kind="vm", release=RELEASES["7"], own=["owner"]) == ()


def test_what_a_person_is_asked_for_can_be_referred_to() -> None:
    text = SOUND + 'USER_INPUTS = [ TITLE = "M|text|Title" ]\nCONTEXT = [ WHAT = "$TITLE", WHO = "$UNAME" ]\n'

    assert lint_text(text, FILE, kind="vm", release=RELEASES["7"]) == ()


def test_a_file_of_a_datastore_can_be_referred_to() -> None:
    text = SOUND + 'CONTEXT = [ FILES_DS = "$FILE[IMAGE_ID=34] $FILE[IMAGE=\\"kernel 3.6\\"]" ]\n'

    assert lint_text(text, FILE, kind="vm", release=RELEASES["7"]) == ()


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.template", 'PATH = "/a"\n', "vm"),
        ("a.image", "", "image"),
        ("a.net", "", "network"),
        ("a.one", "CPU = 1\n", "vm"),
        ("a.one", 'PATH = "/a"\n', "image"),
        ("a.one", 'AR = [ TYPE = "IP4" ]\n', "network"),
    ],
)
def test_the_kind_of_a_template_is_that_of_its_name_or_of_what_it_holds(name: str, text: str, kind: str) -> None:
    template, _ = parse_template(text, Path(name))

    assert guess_kind(Path(name), template) == kind


def test_there_are_enough_broken_templates() -> None:
    assert len(CASES) >= 15
    assert {case.parent for case in CASES} == {TESTS / "cases" / "one"}
