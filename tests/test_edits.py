from pathlib import Path

import pytest

from imagebuilder.edits import all_edits
from tests.edit_cases import CASES, outcome_of, read_case

FILES = [file for edit in sorted(all_edits()) for file in sorted((CASES / edit).glob("*.yaml"))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_an_edit_reaches_what_its_case_expects(file: Path, tmp_path: Path) -> None:
    case = read_case(file)

    outcome = outcome_of(case, tmp_path)

    assert outcome in (case.expect, case.expect_among, case.error)


@pytest.mark.parametrize("edit", sorted(all_edits()))
def test_every_edit_has_cases(edit: str) -> None:
    files = list((CASES / edit).glob("*.yaml"))

    assert len(files) >= 2
