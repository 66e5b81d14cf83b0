from pathlib import Path

import pytest

from imagebuilder.edits import all_edits
from tests.edit_cases import CASES, checks_of, outcome_of, read_case

FILES = [file for edit in sorted(all_edits()) for file in sorted((CASES / edit).glob("*.yaml"))]
OF_EACH_FILE = pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
FILES_WITH_CHECKS = [file for file in FILES if read_case(file).checks is not None]
OF_EACH_FILE_WITH_CHECKS = pytest.mark.parametrize(
    "file", FILES_WITH_CHECKS, ids=lambda file: f"{file.parent.name}/{file.stem}"
)


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
def test_each_check_passes_on_what_a_real_machine_printed_and_can_fail(file: Path, tmp_path: Path) -> None:
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
