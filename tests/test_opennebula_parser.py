"""The language of OpenNebula's templates: what is read, what is refused, and what is written."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagebuilder.errors import Place
from imagebuilder.opennebula.parser import parse_template
from imagebuilder.opennebula.template import Dialect, Pair, Template, Vector, quoted, single, vector, write_template

FILE = Path("vm.template")

NAMES = st.from_regex(r"[A-Za-z0-9_]{1,12}", fullmatch=True)
# What both a template and a file can hold; what no template can say is refused, which has its own tests.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=20).filter(
    lambda text: not text.endswith("\\") and "]]>" not in text
)
CLASSIC_TEXTS = TEXTS.filter(lambda text: "\n" not in text and not {'"', "'"} <= set(text))


def templates(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Template]:
    """Any template whose values are of `texts`."""
    pairs = st.builds(single, NAMES, texts)
    vectors = st.builds(
        lambda name, inner: Vector(name=name, pairs=tuple(inner)), NAMES, st.lists(pairs, min_size=1, max_size=4)
    )
    commented = st.builds(lambda name, text: single(name, text, comment="a = [ #"), NAMES, texts)
    return st.builds(
        lambda attributes: Template(attributes=tuple(attributes), comment="above = ["),
        st.lists(pairs | vectors | commented, max_size=6),
    )


def faults(text: str, dialect: Dialect = "today") -> list[str]:
    """What is wrong with a template, each as `line:column what`."""
    _, found = parse_template(text, FILE, dialect)
    return [f"{fault.place.line}:{fault.place.column} {fault.what}" for fault in found]


def values(text: str, dialect: Dialect = "today") -> list[str | None]:
    """The values of the single attribute `A`, and those at `B` of the vector attribute `V`, of a sound template."""
    template, found = parse_template(text, FILE, dialect)
    assert found == ()
    return [*(one.value.text for one in template.singles("A")), *(one.get("B") for one in template.vectors("V"))]


@given(templates(TEXTS))
@example(Template(attributes=(single("A", '\\"'), vector("V", B='a\\"b', C="x\ny"))))
def test_what_is_written_reads_as_it_was(template: Template) -> None:
    text = write_template(template)

    assert parse_template(text, FILE) == (template, ())


@given(templates(CLASSIC_TEXTS))
def test_what_is_written_for_2008_reads_as_it_was(template: Template) -> None:
    text = write_template(template, "classic")

    assert parse_template(text, FILE, "classic") == (template, ())


@given(st.text("A1=\"\\[],#\n '", max_size=40), st.sampled_from(["classic", "today"]))
def test_every_text_is_read_to_its_end(text: str, dialect: Dialect) -> None:
    template, found = parse_template(text, FILE, dialect)

    assert template.attributes or found or not text.strip() or text.lstrip().startswith("#")


def test_every_name_and_value_knows_its_place() -> None:
    text = '# first\nA = 1\nV = [ B = "x",\n  c = y ]\n'

    template, _ = parse_template(text, FILE)

    [_, found] = template.attributes
    assert isinstance(found, Vector)
    assert [found.place, *((pair.place, pair.value.place) for pair in found.pairs)] == [
        Place(path=FILE, line=3, column=1),
        (Place(path=FILE, line=3, column=7), Place(path=FILE, line=3, column=11)),
        (Place(path=FILE, line=4, column=3), Place(path=FILE, line=4, column=7)),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\n", ["1"]),
        ("A=1 # a comment\n", ["1"]),
        ("A=x#y\n", ["x"]),
        ("A=\nA=2", ["", "2"]),
        ('A="two lines\nof text"\n', ["two lines\nof text"]),
        (r'A="HOSTNAME = \"ec2\""', ['HOSTNAME = "ec2"']),
        (r'A="a\b\\c"', [r"a\b\\c"]),
        ('A="C:\\"\n', ["C:\\"]),
        ("A=1 A=2\n", ["1", "2"]),
        ("A # a comment\n = 1\n", ["1"]),
        ('V=[B="x", # why\n  C=y]\n', ["x"]),
        ("V=[b=1,B=2]\n", ["1"]),
        ("V = [\n  # why\n  B=1 ,\n  C=2\n]\nV=[C=1]", ["1", None]),
    ],
)
def test_reads_what_opennebula_reads(text: str, expected: list[str | None]) -> None:
    assert values(text) == expected


def test_reads_the_template_of_the_tutorial_of_2008() -> None:
    text = """A = 'HOSTNAME = "ec2"'\nV = [ B = "22-25" ]\n"""

    assert values(text, "classic") == ['HOSTNAME = "ec2"', "22-25"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A\n", "1:1 there is no '=' behind 'A'"),
        ("A =", "1:4 nothing follows 'A =', not even the line's end"),
        ("A 1\n", "1:3 expected '=' behind 'A', found '1'"),
        ("A-B = 1\n", "1:2 '-' cannot be in an attribute's name"),
        ("A = my name\nB = 1\n", "1:8 there is no '=' behind 'name'"),
        ("A = b=c\n", "1:6 '=' stands behind the value"),
        ("A = # why\n", "1:5 OpenNebula takes a comment behind '=' for the value"),
        ("A = 'x'\n", "1:5 single quotes are a part of the value since OpenNebula 3.0"),
        ('A = "x\nB = 1\n', "1:5 the quote is not closed"),
        ('A = "x\nB = "y"\n', "1:5 the quote is closed only in line 2, before other text"),
        (
            'A = "x";\n',
            "1:8 text follows the closing quote: OpenNebula takes the quotes, too, for a part of the value",
        ),
        ("A = x]]>y\n", "1:5 ']]>' cannot be in a template: OpenNebula keeps it as CDATA in XML"),
        ("V =\n[ B = 1 ]\n", "2:1 '[' cannot begin an attribute"),
        ("V = [ ]\n", "1:7 a vector attribute without a value"),
        ("V = [ B = 1, ]\n", "1:14 a comma before ']'"),
        ("V = [ B = 1 C = 2 ]\n", "1:13 expected ',' or ']' behind the value of 'B'"),
        ("V = [ B = , C = 2 ]\n", "1:11 'B' has no value"),
        ("V = [ B = [ C = 2 ] ]\n", "1:11 a '[' inside of '[ ]'"),
        ("V = [ B = 1,\n", "1:5 '[' is not closed"),
        ("V = [ B = 1\nW = [ C = 1 ]\n", "2:1 expected ',' or ']' behind the value of 'B'"),
        ("A = 1\n# the end", "2:1 a comment in a last line that does not end is read as text"),
        (
            "A = x\r\nB = 1\r\n",
            "1:6 a carriage return: OpenNebula takes it, and the quotes before it, for a part of the value",
        ),
    ],
)
def test_refuses_what_opennebula_refuses_or_misreads(text: str, expected: str) -> None:
    assert faults(text)[:1] == [expected]


def test_names_the_faults_behind_the_first_as_well() -> None:
    text = "A = 'x'\nV = [ B = 1 C = 2 ]\nW = [ D = 1\nX = [ E = ]\nB = 1\nC-D = 2\n"

    assert faults(text) == [
        "1:5 single quotes are a part of the value since OpenNebula 3.0",
        "2:13 expected ',' or ']' behind the value of 'B'",
        "4:1 expected ',' or ']' behind the value of 'D'",
        "4:11 'E' has no value",
        "6:2 '-' cannot be in an attribute's name",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A = 1 B = 2\n", "1:7 until OpenNebula 2.2 every attribute ends its line"),
        ("A = 1", "1:6 until OpenNebula 2.2 every attribute ends its line"),
        ('A = "x\ny"\n', "1:5 the quote is not closed in its line"),
    ],
)
def test_refuses_what_opennebula_refused_in_2008(text: str, expected: str) -> None:
    assert faults(text, "classic")[:1] == [expected]


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("a\\", "today"),
        ("]]>", "today"),
        ("a\rb", "today"),
        ("", "today"),
        ("a\0", "classic"),
        ("a\nb", "classic"),
        ("'\"", "classic"),
    ],
)
def test_nothing_is_written_that_would_read_as_something_else(text: str, dialect: Dialect) -> None:
    with pytest.raises(ValueError, match="template can say"):
        quoted(text, dialect)


def test_writes_aligned_lines_and_a_line_for_each_pair_of_a_long_vector() -> None:
    key = "ssh-ed25519 " + "A" * 68
    template = Template(
        comment="The node.\nMade by imgbuild.",
        attributes=(
            single("NAME", "local01"),
            single("MEMORY", 1024),
            vector("NIC", comment="private", BRIDGE="xenbr0", MAC=None, IP="10.1.1.55"),
            vector("CONTEXT", NETWORK="YES", SSH_PUBLIC_KEY=key),
            single("REQUIREMENTS", 'HOSTNAME = "ec2"'),
        ),
    )

    assert write_template(template) == (
        "# The node.\n# Made by imgbuild.\n\n"
        'NAME   = "local01"\nMEMORY = 1024\n\n'
        '# private\nNIC = [ BRIDGE = "xenbr0", IP = "10.1.1.55" ]\n\n'
        f'CONTEXT = [\n  NETWORK        = "YES",\n  SSH_PUBLIC_KEY = "{key}" ]\n\n'
        'REQUIREMENTS = "HOSTNAME = \\"ec2\\""\n'
    )


def test_a_pair_of_a_vector_is_found_in_any_case() -> None:
    template, _ = parse_template("disk = [ image = x ]\ncpu = 1\n", FILE)

    found = [template.get("CPU"), *(disk.get("IMAGE") for disk in template.vectors("DISK"))]

    assert found == ["1", "x"]
    assert isinstance(template.attributes[1], Pair)
