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
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from imagebuilder.cli import main
from imagebuilder.errors import RecipeError
from imagebuilder.site import STARTER, load_site

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
        path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in directory.rglob("*")
    }


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(STARTER / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., object]]:
    """Runs `imgbuild` in this process and gives its exit code."""
    monkeypatch.setenv("NO_COLOR", "1")
    on_termination = signal.getsignal(signal.SIGTERM)

    def imgbuild(*words: str) -> object:
        monkeypatch.setattr(sys, "argv", ["imgbuild", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    yield imgbuild
    signal.signal(signal.SIGTERM, on_termination)


def test_there_are_fifty_mutations_at_the_least() -> None:
    assert len(CASES) >= 50


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_a_mutated_recipe_is_refused_with_a_position_and_nothing_is_touched(file: Path, site: Path) -> None:
    mutation = read_mutation(file)
    for change in mutation.changes:
        change.apply(site)
    before = state_of(site)

    with pytest.raises(RecipeError) as refused:
        load_site(Path())

    said = f"{refused.value}\n"
    assert re.fullmatch(pattern_of(mutation.expect), said), said
    assert refused.value.exit_code == 3
    assert state_of(site) == before
    assert [password for password in CLEAR_PASSWORDS if password in said] == []


@pytest.mark.parametrize("verb", [["validate"], ["build"], ["plan", "node"], ["why", "node"]], ids=" ".join)
@pytest.mark.parametrize("file", CASES[::75], ids=lambda file: file.stem)
def test_every_verb_that_reads_recipes_refuses_them_alike(
    file: Path, verb: list[str], site: Path, command: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    mutation = read_mutation(file)
    for change in mutation.changes:
        change.apply(site)
    before = state_of(site)

    code = command(*verb)

    said = capsys.readouterr()
    assert re.fullmatch(pattern_of(f"imgbuild: {mutation.expect}"), said.err), said.err
    assert (code, said.out) == (3, "")
    assert state_of(site) == before
