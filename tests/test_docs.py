"""What the documents say: that it is what there is."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from docs.generate import OPENNEBULA, REFERENCE, opennebula_page, recipe_reference
from imagebuilder.cli import app
from imagebuilder.cli.one_group import GroupWithDefault
from tests.machines import PROJECT

DOCUMENTS = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(PROJECT.glob("docs/*.md"))]
OF_EACH_DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
COLUMNS = 116


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def shown_commands() -> Iterator[str]:
    """Each `imgbuild …` in the documents: in a line of code, or between backticks."""
    for document in DOCUMENTS:
        for line in text_of(document).splitlines():
            yield from re.findall(r"(?:^    (?:\$ )?|`)(?:\.venv/bin/)?(imgbuild(?: [^`]+)?)(?:`|$)", line)


def unknown_words(command_line: str) -> list[str]:
    """The words of a command line that are neither a verb nor an option of what stands before them."""
    words = shlex.split(re.split(r" [>|] ", command_line)[0], comments=True)[1:]
    command = typer.main.get_command(app)
    unknown = []
    while words:
        word = words.pop(0)
        options = {name: option for option in command.params for name in option.opts}
        if word in options:
            takes_value = not getattr(options[word], "is_flag", False)
            words = words[1:] if takes_value else words
        elif isinstance(command, TyperGroup) and word in command.commands:
            command = command.commands[word]
        elif isinstance(command, GroupWithDefault) and word != "--help":
            command = command.commands[command.default]
            words.insert(0, word)
        elif (word.startswith("-") or isinstance(command, TyperGroup)) and word not in {"COMMAND", "--help"}:
            unknown.append(word)
    return unknown


def code_blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(document), re.MULTILINE | re.DOTALL)


def variables_in(*files: Path) -> set[str]:
    return {name for file in files for name in re.findall(r"\bIMGBUILD_[A-Z_]+\b", text_of(file))}


def test_the_recipe_reference_is_what_the_models_say() -> None:
    assert text_of(REFERENCE) == recipe_reference()  # if not: python -m docs.generate


def test_every_attribute_that_is_written_for_opennebula_has_its_source() -> None:
    assert text_of(OPENNEBULA) == opennebula_page()  # if not: python -m docs.generate


@pytest.mark.parametrize("command_line", sorted(set(shown_commands())))
def test_every_command_shown_is_there(command_line: str) -> None:
    assert unknown_words(command_line) == []


def test_the_readme_names_every_verb() -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)

    named = {word for line in shown_commands() for word in line.split()}

    assert set(command.commands) <= named


def test_the_readme_names_every_variable() -> None:
    used = variables_in(*PROJECT.glob("imagebuilder/**/*.py"))

    assert variables_in(PROJECT / "README.md") == used


@OF_EACH_DOCUMENT
def test_every_make_target_shown_is_there(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(PROJECT / "Makefile"), re.MULTILINE))

    shown = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text_of(document), re.MULTILINE))

    assert shown <= targets


@OF_EACH_DOCUMENT
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text_of(document))

    assert [link for link in links if not (document.parent / link).exists()] == []


@OF_EACH_DOCUMENT
def test_lines_are_not_too_long(document: Path) -> None:
    assert [line for line in text_of(document).splitlines() if len(line) > COLUMNS] == []


def test_the_edit_that_is_shown_is_the_one_there_is() -> None:
    blocks = code_blocks(PROJECT / "docs/adding-an-edit.md", "python")

    assert "\n\n".join(blocks).split() == text_of(PROJECT / "imagebuilder/edits/timezone.py").split()


def test_the_cases_that_are_shown_are_the_ones_there_are() -> None:
    cases = {text_of(file) for file in PROJECT.glob("tests/cases/timezone/*.yaml")}

    assert set(code_blocks(PROJECT / "docs/adding-an-edit.md", "yaml")) <= cases


@pytest.mark.parametrize("block", code_blocks(PROJECT / "README.md", "yaml"))
def test_the_recipes_that_are_shown_are_the_ones_there_are(block: str) -> None:
    recipes = [text_of(file) for file in PROJECT.glob("recipes/*.yaml")]

    assert [recipe for recipe in recipes if block in recipe] != []
