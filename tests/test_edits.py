import re
from pathlib import Path

import pytest

from imagebuilder.edits import all_edits
from imagebuilder.edits.edit import Machine
from imagebuilder.plan.changes import DisableService
from imagebuilder.plan.check import Check
from tests.edit_cases import CASES, checks_of, instance_of, outcome_of, read_case
from tests.machines import shipped_site

FILES = [file for edit in sorted(all_edits()) for file in sorted((CASES / edit).glob("*.yaml"))]
OF_EACH_FILE = pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
FILES_WITH_CHECKS = [file for file in FILES if read_case(file).checks is not None]
OF_EACH_FILE_WITH_CHECKS = pytest.mark.parametrize(
    "file", FILES_WITH_CHECKS, ids=lambda file: f"{file.parent.name}/{file.stem}"
)
OF_EACH_MACHINE = pytest.mark.parametrize("machine", shipped_site().machines(), ids=lambda machine: machine.name)


def checks_of_machine(machine: Machine) -> dict[str, Check]:
    return shipped_site().checks(machine, instance_of(machine))


@OF_EACH_FILE
def test_an_edit_reaches_what_its_case_expects(file: Path, tmp_path: Path) -> None:
    case = read_case(file)

    outcome = outcome_of(case, tmp_path)

    assert outcome in (case.expect, case.expect_among, case.error)


@pytest.mark.parametrize("edit", sorted(all_edits()))
def test_every_edit_has_cases(edit: str) -> None:
    files = list((CASES / edit).glob("*.yaml"))

    assert len(files) >= 2


@OF_EACH_FILE_WITH_CHECKS
def test_an_edit_proves_what_its_case_states(file: Path, tmp_path: Path) -> None:
    case = read_case(file)
    assert case.checks is not None

    found = {name: (check.command, check.expects, check.needs) for name, check in checks_of(case, tmp_path).items()}

    assert found == {name: check.stated for name, check in case.checks.items()}


@OF_EACH_FILE_WITH_CHECKS
def test_each_check_passes_on_what_a_machine_prints_that_is_well_and_can_fail(file: Path, tmp_path: Path) -> None:
    case = read_case(file)
    assert case.checks is not None
    found = [(check, case.checks[name]) for name, check in checks_of(case, tmp_path).items()]

    refused = [check.name for check, stated in found if check.expects.trouble(0, stated.passes) is not None]
    let_pass = [
        (check.name, output)
        for check, stated in found
        for output in stated.fails
        if not check.expects.trouble(0, output)
    ]

    assert (refused, let_pass) == ([], [])


@OF_EACH_FILE
def test_an_edit_that_changes_something_proves_something(file: Path, tmp_path: Path) -> None:
    case = read_case(file)
    changes = case.expect if case.expect is not None else case.expect_among

    is_proved = bool(changes) and bool(checks_of(case, tmp_path))

    assert is_proved or not changes


@OF_EACH_MACHINE
def test_every_edit_of_a_machine_proves_something(machine: Machine) -> None:
    intents = shipped_site().intents(machine)
    wanting = {name for name, wanted in intents.items() if not all(isinstance(one, DisableService) for one in wanted)}

    proving = {name.partition(".")[0] for name in checks_of_machine(machine)}

    assert wanting - proving == set()


@OF_EACH_MACHINE
def test_every_check_of_a_machine_is_held_by_a_case(machine: Machine) -> None:
    held = {f"{file.parent.name}.{name}" for file in FILES_WITH_CHECKS for name in read_case(file).checks or ()}

    assert set(checks_of_machine(machine)) - held == set()


@OF_EACH_MACHINE
def test_no_two_checks_of_an_edit_have_one_name(machine: Machine) -> None:
    edits = shipped_site().roles[machine.role].edits

    names = [
        f"{name}.{check.name}" for name, edit in edits.items() for check in edit.checks(machine, instance_of(machine))
    ]

    assert len(names) == len(set(names))


@OF_EACH_MACHINE
def test_every_check_has_a_name_in_words_and_says_what_it_proves(machine: Machine) -> None:
    checks = checks_of_machine(machine)

    odd_names = [check.name for check in checks.values() if not re.fullmatch(r"[a-z]+(-[a-z]+)*", check.name)]
    odd_sentences = [check.proves for check in checks.values() if not re.fullmatch(r"[\w/].*[\w)]", check.proves)]

    assert (odd_names, odd_sentences) == ([], [])


def test_the_workers_image_alone_has_no_check_of_an_address_that_it_has_not_got() -> None:
    [worker] = [machine for machine in shipped_site().machines() if machine.host is None]

    checks = shipped_site().checks(worker, instance_of(worker, alone=True))

    assert "openvpn_client.services" in checks
    assert "openvpn_client.address" not in checks
