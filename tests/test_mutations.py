"""Runs the cases in `cases/mutations/*.yaml`: the starter site with something wrong in it, and how it is refused.

    changes:                what is done to the starter site, one after the other
      - {file: …, replace: …, by: …}    a text that stands there once; `encoding` if the file is then not UTF-8
      - {file: …, write: …}             a file of the case's own
      - {file: …, remove: true}
    expect: |               all that is said, exactly; "…" stands for anything in one line
      recipes/cluster.yaml:20:3: 'local_01' is no host name
        fix: …
"""

import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from imagebuilder.cli import main
from imagebuilder.site import STARTER

CASES = sorted((Path(__file__).parent / "cases/mutations").glob("*.yaml"))
# Every case with a clear password uses one of these.
CLEAR_PASSWORDS = ("hunter2", "4815162342")


class Change(BaseModel):
    """One thing done to a file of the site."""

    model_config = ConfigDict(extra="forbid")

    file: Path
    replace: str = ""
    by: str = ""
    encoding: str = "utf-8"
    write: str | None = None
    remove: bool = False

    def apply(self, site: Path) -> None:
        """Do it in the directory `site`."""
        path = site / self.file
        if self.remove:
            path.unlink()
        elif self.write is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.write, encoding=self.encoding)
        else:
            text = path.read_text(encoding="utf-8")
            assert text.count(self.replace) == 1, f"{self.replace!r} stands {text.count(self.replace)} times in {path}"
            path.write_text(text.replace(self.replace, self.by), encoding=self.encoding)


class Mutation(BaseModel):
    """One case as its file states it."""

    model_config = ConfigDict(extra="forbid")

    changes: list[Change]
    expect: str


def read_mutation(file: Path) -> Mutation:
    """The case in `file`."""
    return Mutation.model_validate(yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))


def pattern_of(expected: str) -> str:
    """A regular expression for a text in which "…" stands for anything in one line."""
    return ".*".join(map(re.escape, expected.split("…")))


def state_of(directory: Path) -> dict[Path, tuple[int, bytes]]:
    """Every path below `directory`, with its time of change and content."""
    return {
        path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in directory.rglob("*")
    }


def exit_code_of_imgbuild() -> object:
    """Run `imgbuild` in this process with the arguments in sys.argv."""
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copytree(STARTER / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("IMGBUILD_CACHE", str(tmp_path / "cache"))
    on_termination = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, on_termination)


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_a_mutated_recipe_is_refused_with_a_position_and_nothing_is_touched(
    file: Path, site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mutation = read_mutation(file)
    for change in mutation.changes:
        change.apply(site)
    before = state_of(site)
    monkeypatch.setattr(sys, "argv", ["imgbuild", "validate"])

    code = exit_code_of_imgbuild()

    said = capsys.readouterr()
    assert re.fullmatch(pattern_of(f"imgbuild: {mutation.expect}"), said.err), said.err
    assert said.out == ""
    assert code == 3
    assert state_of(site) == before
    assert [password for password in CLEAR_PASSWORDS if password in said.err] == []


def test_there_are_fifty_mutations_at_the_least() -> None:
    assert len(CASES) >= 50


@pytest.mark.parametrize("words", [["build"], ["plan", "node"], ["why", "node"]])
def test_every_verb_that_reads_recipes_refuses_them_alike(
    words: list[str], site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = site / "recipes/cluster.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("local01:", "local_01:"), encoding="utf-8")
    before = state_of(site)
    monkeypatch.setattr(sys, "argv", ["imgbuild", *words])

    code = exit_code_of_imgbuild()

    assert capsys.readouterr().err.startswith("imgbuild: recipes/cluster.yaml:20:3: 'local_01' is no host name\n")
    assert code == 3
    assert state_of(site) == before
