from pathlib import Path

import pytest

from imagebuilder.errors import Fault, Place
from imagebuilder.recipe.source import Source, read_source

FILE = Path("recipes/r.yaml")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    FILE.parent.mkdir()
    return FILE


def source_of(file: Path, text: str) -> Source:
    file.write_text(text, encoding="utf-8")
    source, faults = read_source(file)
    assert source is not None
    assert faults == []
    return source


def fault_in(file: Path, content: bytes) -> Fault:
    file.write_bytes(content)
    source, [fault] = read_source(file)
    assert source is None
    return fault


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("+5", 5),
        ("0", 0),
        ("1.50", 1.5),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ('"5"', "5"),
        ("'true'", "true"),
        ('"0600"', "0600"),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says(file: Path, text: str, value: object) -> None:
    source = source_of(file, f"key: {text}\n")

    assert source.value == {"key": value}


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "yes",
        "on",
        "off",
        "True",
        "NULL",
        "0x10",
        "0o600",
        "1_000",
        "1e3",
        "12:30",
        "2026-01-31",
        ".inf",
        "=",
        "<<",
    ],
)
def test_what_yaml_1_1_would_turn_into_something_else_stays_text(file: Path, text: str) -> None:
    source = source_of(file, f"key: {text}\n")

    assert source.value == {"key": text}


def test_a_number_too_long_for_python_stays_text(file: Path) -> None:
    digits = "9" * 5000

    source = source_of(file, f"key: {digits}\n")

    assert source.value == {"key": digits}


def test_keys_are_text_whatever_they_look_like(file: Path) -> None:
    source = source_of(file, "22: a\ntrue: b\n0600: c\n")

    assert source.value == {"22": "a", "true": "b", "0600": "c"}


def test_each_value_and_key_knows_its_place(file: Path) -> None:
    source = source_of(file, "hosts:\n  a: {role: node, ports: [22, 23]}\n")

    assert str(source.place_of(("hosts", "a", "role"))) == "recipes/r.yaml:2:13"
    assert str(source.place_of_key(("hosts", "a", "role"))) == "recipes/r.yaml:2:7"
    assert str(source.place_of(("hosts", "a", "ports", 1))) == "recipes/r.yaml:2:31"


def test_what_is_missing_stands_where_its_container_stands(file: Path) -> None:
    source = source_of(file, "# a comment\nhosts:\n  a: {}\n")

    assert str(source.place_of(("hosts", "a", "addresses", "private"))) == "recipes/r.yaml:3:6"
    assert str(source.place_of_key(("hosts", "a", "role"))) == "recipes/r.yaml:3:6"
    assert str(source.place_of(("vpn",))) == "recipes/r.yaml:2:1"


def test_columns_count_characters_not_bytes(file: Path) -> None:
    source = source_of(file, 'a: {name: "Zoë €", uid: 5}\n')

    assert source.place_of(("a", "uid")) == Place(path=FILE, line=1, column=25)


def test_a_byte_order_mark_is_no_character_of_the_file(file: Path) -> None:
    source = source_of(file, "\ufeffname: x\n")

    assert source.value == {"name": "x"}
    assert source.place_of(("name",)) == Place(path=FILE, line=1, column=7)


def test_line_ends_of_windows_are_line_ends(file: Path) -> None:
    file.write_bytes(b"a: b\r\nc: 'd\r\n")

    _, [fault] = read_source(file)

    assert str(fault.place) == "recipes/r.yaml:2:4"


def test_names_are_those_written_valid_or_not(file: Path) -> None:
    source = source_of(file, "hosts:\n  Bad_Name: 5\n  good: {role: node}\nvpn: {}\n")

    assert source.names_at(("hosts",)) == ["Bad_Name", "good"]
    assert source.names_at(()) == ["hosts", "vpn"]
    assert source.names_at(("vpn",)) == []


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "~\n"])
def test_an_empty_file_is_an_empty_mapping(file: Path, text: str) -> None:
    source = source_of(file, text)

    assert source.value == {}


def test_a_second_key_of_the_same_name_is_a_fault_and_the_first_counts(file: Path) -> None:
    file.write_text("a: 1\nb: {c: 2, c: 3}\na: 4\n", encoding="utf-8")

    source, faults = read_source(file)

    assert source is not None
    assert source.value == {"a": 1, "b": {"c": 2}}
    assert [str(fault.place) for fault in faults] == ["recipes/r.yaml:2:11", "recipes/r.yaml:3:1"]


def test_every_key_that_is_no_text_is_a_fault(file: Path) -> None:
    file.write_text("[a]: 1\n{b: c}: 2\n~: 3\nd: 4\n", encoding="utf-8")

    source, faults = read_source(file)

    assert source is not None
    assert source.value == {"d": 4}
    assert [fault.place.line for fault in faults] == [1, 2, 3]


def test_aliases_cannot_fill_the_memory(file: Path) -> None:
    doubled = "".join(f"b{depth}: &b{depth} [*b{depth - 1}, *b{depth - 1}]\n" for depth in range(1, 100))
    file.write_text(f"b0: &b0 x\n{doubled}", encoding="utf-8")

    source, faults = read_source(file)

    assert source is None
    assert {fault.what for fault in faults} == {"an alias is not allowed", "an anchor is not allowed"}


def test_brackets_cannot_exhaust_the_stack(file: Path) -> None:
    fault = fault_in(file, b"[" * 100_000)

    assert str(fault.place) == "recipes/r.yaml:1:17"


@pytest.mark.parametrize(
    ("content", "place", "what"),
    [
        (b"a: b\n\tc: d\n", "2:1", "is not valid YAML: a tab in the indent"),
        (b"a: `b`\n", "1:4", "is not valid YAML: no text can begin with this character"),
        (b"a: b: c\n", "1:5", "is not valid YAML: mapping values are not allowed in this context"),
        (b"a: 'b\nc: d\n", "1:4", "is not valid YAML: found unexpected end of stream while scanning a quoted scalar"),
        (b'a: "\\q"\n', "1:5", "is not valid YAML: found unknown escape character while parsing a quoted scalar"),
        (b"- a\nb: c\n", "2:1", "is not valid YAML: did not find expected '-' indicator while parsing a block"),
        (b"a: {\n\n", "1:5", "is not valid YAML: "),
        (b"{", "1:2", "is not valid YAML: "),
        (b"a: b\nc: \xff\n", "2:4", "is not UTF-8 text"),
        ("é: ".encode() + b"\xff\n", "1:4", "is not UTF-8 text"),
        ("a: b\n".encode("utf-16"), "1:1", "is not UTF-8 text"),
        (b"a: b\0c\n", "1:5", "the control character U+0000 is not allowed"),
        ("a: b\n# \u2028\n".encode(), "2:3", "the control character U+2028 is not allowed"),
        (b"a: b\n...\n---\nc: d\n", "3:1", "a second document begins here"),
    ],
)
def test_what_is_no_yaml_has_a_place_inside_the_file(file: Path, content: bytes, place: str, what: str) -> None:
    fault = fault_in(file, content)

    assert str(fault.place) == f"recipes/r.yaml:{place}"
    assert fault.what.startswith(what)
    assert fault.fix


def test_a_directory_in_place_of_the_file_is_a_fault(tmp_path: Path) -> None:
    source, [fault] = read_source(tmp_path)

    assert source is None
    assert str(fault) == f"{tmp_path}:1:1: cannot be read: Is a directory"


def test_the_values_do_not_show_in_a_repr(file: Path) -> None:
    source = source_of(file, "password: hunter2\n")

    assert "hunter2" not in repr(source)
