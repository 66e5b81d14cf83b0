"""docs/tutorial.md, as its reader goes through it: each command is run, in order, and prints what is shown there."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command import IMGBUILD
from tests.machines import PROJECT
from tests.opennebula.endpoint import serving
from tests.opennebula.oned import Oned
from tests.opennebula.state import PASSWORD

pytestmark = pytest.mark.whole

TUTORIAL = PROJECT / "docs/tutorial.md"
# A block of code, and the comment of Markdown right before it, if there is one.
BLOCK = re.compile(r"(?:^<!-- (?P<note>.+?) -->\n\n)?(?P<lines>(?:^    .*\n|^\n(?=    ))+)", re.MULTILINE)
NOT_RUN = "not run by the test: "
EXIT_CODE = re.compile(r"exits with (\d+)")
PROMPT = "$ "
OMITTED = "[…]"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One command of the tutorial, the code that it ends with, and what it prints, with `[…]` for what is left out."""

    command: str
    code: int
    output: str

    def prints(self, text: str) -> bool:
        """Whether `text` is what is shown, blanks at the ends of lines left out."""
        parts = map(re.escape, self.output.split(OMITTED))
        trimmed = "\n".join(map(str.rstrip, text.splitlines()))
        return re.fullmatch(".*".join(parts), trimmed, re.DOTALL) is not None


def shown_commands(text: str) -> Iterator[Shown]:
    """The commands that are to be run, in order."""
    for block in BLOCK.finditer(text):
        note = block["note"] or ""
        code = EXIT_CODE.search(note)
        lines = [line.removeprefix("    ") for line in block["lines"].rstrip().split("\n")]
        starts = [number for number, line in enumerate(lines) if line.startswith(PROMPT)]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            if not note.startswith(NOT_RUN):
                yield Shown(
                    command=lines[start].removeprefix(PROMPT),
                    code=int(code[1]) if code else 0,
                    output="\n".join(lines[start + 1 : end]),
                )


class Shell:
    """A shell whose variables and directory last from one command to the next."""

    def __init__(self, directory: Path, variables: dict[str, str]) -> None:
        self._state = directory / ".shell"
        self._state.write_text(f"cd '{directory}'\n")
        self._environment = {**os.environ, **variables}

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        script = (
            f'. "{self._state}"\n{command}\ncode=$?\n{{ export -p; echo cd "$PWD"; }} > "{self._state}"\nexit $code'
        )
        return subprocess.run(
            ["bash", "-c", script], env=self._environment, capture_output=True, text=True, check=False, timeout=900
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, bases: Path) -> Iterator[Shell]:
    """A reader's shell, for whom a base is here already, and an OpenNebula."""
    directory = tmp_path_factory.mktemp("tutorial")
    (directory / "one_auth").write_text(f"oneadmin:{PASSWORD}\n")
    store = directory / "squirrel/.imgbuild"
    with serving(Oned(polls_until_ready=0)) as oned:
        variables = {
            "PATH": f"{IMGBUILD.parent}:{os.environ['PATH']}",
            "NO_COLOR": "1",
            "COLUMNS": "120",
            "ONE_XMLRPC": oned.url,
            "ONE_AUTH": str(directory / "one_auth"),
        }
        shell = Shell(directory, variables)
        assert shell.run(f"mkdir -p {store} && cp -a --reflink=auto --sparse=always {bases} {store}").returncode == 0
        yield shell
        shell.run("imgbuild cloud stop")


@pytest.mark.parametrize(
    "shown", list(shown_commands(TUTORIAL.read_text(encoding="utf-8"))), ids=lambda shown: shown.command
)
def test_a_command_does_what_the_tutorial_shows(shell: Shell, shown: Shown) -> None:
    done = shell.run(shown.command)

    assert done.returncode == shown.code, done.stderr
    assert shown.prints(done.stdout), done.stdout


def test_what_is_not_run_says_why() -> None:
    notes = [block["note"] for block in BLOCK.finditer(TUTORIAL.read_text(encoding="utf-8")) if block["note"]]

    assert [note for note in notes if not re.fullmatch(rf"{NOT_RUN}.{{10,}}|.*exits with \d+.*", note)] == []
