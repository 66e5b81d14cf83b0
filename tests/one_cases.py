"""The cases of the linter in `cases/one`: NAME.RELEASE.template, .image or .net, and beside it its faults.

`python -m tests.one_cases` writes the faults anew.
"""

from pathlib import Path

from imagebuilder.opennebula.lint import guess_kind, lint_text
from imagebuilder.opennebula.parser import parse_template
from imagebuilder.opennebula.release import RELEASES, Generation
from tests.machines import TESTS

CASES = sorted(file for file in (TESTS / "cases" / "one").iterdir() if file.suffix != ".faults")
_GENERATIONS: dict[str, Generation] = {".1": "1", ".5": "5", ".7": "7"}


def faults_of(case: Path) -> str:
    """What is wrong with a case, as `imgbuild one --lint` prints it in the directory of the case."""
    release = RELEASES[_GENERATIONS[Path(case.stem).suffix]]
    text = case.read_bytes().decode()
    path = Path(case.name)
    kind = guess_kind(path, parse_template(text, path, release.dialect)[0])
    return "".join(f"{fault}\n" for fault in lint_text(text, path, kind=kind, release=release))


if __name__ == "__main__":
    for file in CASES:
        file.with_name(f"{file.name}.faults").write_text(faults_of(file), encoding="utf-8")
