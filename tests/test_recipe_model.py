from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from imagebuilder.errors import Fault
from imagebuilder.recipe.model import Boolean, Integer, Strict, nearest, refuse, validate_source
from imagebuilder.recipe.source import Source, read_source
from imagebuilder.secret import Secret


def _even(number: int) -> int:
    if number % 2:
        raise refuse(f"{number} is odd", f"write {number + 1}")
    return number


class Disk(Strict):
    size: Annotated[Integer, Field(ge=1, le=9)]
    format: Literal["raw", "qcow2"] = "raw"
    sparse: Boolean = True


class Machine(Strict):
    name: str
    cores: Annotated[Integer, AfterValidator(_even)] = 2
    disks: dict[str, Disk] = {}
    words: tuple[str, ...] = ()
    password: Secret | None = None


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def source_of(text: str) -> Source:
    file = Path("machine.yaml")
    file.write_text(text, encoding="utf-8")
    source, faults = read_source(file)
    assert source is not None
    assert faults == []
    return source


def faults_in(text: str) -> list[Fault]:
    return validate_source(source_of(text), Machine)[1]


def said_of(text: str) -> str:
    return "\n".join(map(str, faults_in(text)))


@pytest.mark.parametrize(
    ("word", "found"),
    [("prot", "port"), ("PORT", "port"), ("pool", "pool"), ("certificate-days", "certificate_days"), ("nis", None)],
)
def test_the_nearest_word_is_suggested_only_if_it_is_near(word: str, found: str | None) -> None:
    suggestion = nearest(word, ["pool", "port", "device", "certificate_days"])

    assert suggestion == (f" Did you mean '{found}'?" if found else "")


def test_a_valid_file_becomes_a_model() -> None:
    source = source_of("name: a\ndisks: {root: {size: 4}}\nwords: [x, y]\n")

    model, faults = validate_source(source, Machine)

    assert model == Machine(name="a", disks={"root": Disk(size=4)}, words=("x", "y"))
    assert faults == []


def test_a_model_cannot_be_changed() -> None:
    machine = Machine(name="a")

    with pytest.raises(ValidationError, match="frozen"):
        machine.name = "b"


def test_all_faults_come_at_once_each_once() -> None:
    text = "name: 5\ncores: 3\ndisks:\n  root: {size: 10, format: qcow, spares: false}\n  data: {}\nwords: [a, 1]\n"

    said = said_of(text)

    assert said == (
        "machine.yaml:1:7: 'name': expected text\n"
        "  fix: put the value in quotes\n"
        "machine.yaml:2:8: 'cores': 3 is odd\n"
        "  fix: write 4\n"
        "machine.yaml:4:16: 'size': expected 9 or less\n"
        "machine.yaml:4:28: 'format' cannot have this value. Did you mean 'qcow2'?\n"
        "  fix: use one of raw, qcow2\n"
        "machine.yaml:4:34: unknown key 'spares'. Did you mean 'sparse'?\n"
        "  fix: use one of size, format, sparse\n"
        "machine.yaml:5:3: 'size' is missing in 'data'\n"
        "  fix: add a line `size: …`\n"
        "machine.yaml:6:12: item 2 of 'words': expected text\n"
        "  fix: put the value in quotes"
    )


def test_the_sound_rest_of_a_faulty_file_is_a_model() -> None:
    source = source_of("name: a\ncores: 3\ndisks:\n  root: {size: 4}\n  data: {size: x}\nwords: [a, 1, b]\n")

    model, faults = validate_source(source, Machine)

    assert model == Machine(name="a", disks={"root": Disk(size=4)}, words=("a", "b"))
    assert len(faults) == 3


def test_nothing_remains_without_what_is_needed_at_the_top() -> None:
    source = source_of("cores: 3\n")

    model, faults = validate_source(source, Machine)

    assert model is None
    assert [fault.what for fault in faults] == ["'name' is missing", "'cores': 3 is odd"]


@pytest.mark.parametrize("text", ["5\n", "[a]\n", "a\n"])
def test_a_file_of_something_else_is_one_fault(text: str) -> None:
    [fault] = faults_in(text)

    assert str(fault.place) == "machine.yaml:1:1"
    assert fault.what == "machine.yaml: expected `key: value` lines"


@pytest.mark.parametrize("written", ["[4815162342]", "{4815162342: x}", "4815162342", "-4815162342", "4815162342.5"])
def test_a_secret_of_the_wrong_type_is_one_fault_that_does_not_show_it(written: str) -> None:
    [fault] = faults_in(f"name: a\npassword: {written}\n")

    assert str(fault).startswith("machine.yaml:2:11: 'password': expected text")
    assert "4815162342" not in str(fault)


def test_a_secret_of_no_characters_is_a_fault() -> None:
    [fault] = faults_in('name: a\npassword: ""\n')

    assert str(fault) == "machine.yaml:2:11: 'password': expected text, but there is none"


def test_a_secret_is_kept_as_one() -> None:
    model, _ = validate_source(source_of("name: a\npassword: hunter2\n"), Machine)

    assert model is not None
    assert model.password == Secret("hunter2")
    assert "hunter2" not in repr(model)


def test_a_part_refuses_a_key_that_it_does_not_know() -> None:
    class Part(Strict):
        known: int = 0

    with pytest.raises(ValidationError):
        Part.model_validate({"unknown": 1})
    assert issubclass(Part, BaseModel)
