"""The stand-in's own reader of templates, by examples from OpenNebula's documentation and from its grammar."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.opennebula.parser import parse_template
from imagebuilder.opennebula.template import Pair, Template, Vector, single, write_template
from imagebuilder.opennebula.things import as_xml
from tests.opennebula.language import Attributes, TemplateError, read_template

# What the language can say: see `quoted`. XML has no control characters but these two.
CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], include_characters="\n\t")
PIECES = (
    *("A", "b", "1", "x y", "=", " = ", "[", "]", ",", '"', '\\"', "\\", "'", "]]>", "#", "#c\n", " ", "\t", "\n"),
    *('"q"', '"q r"', "A = 1\n", "B = [ C = 2 ]", 'C="d, e"'),
)
TEXTS = st.text(CHARACTERS, min_size=1, max_size=30).filter(lambda one: not one.endswith("\\") and "]]>" not in one)


def own_reading(text: str) -> Attributes:
    """What imgbuild's own reader makes of a template; of several pairs of a name oned keeps the first."""
    template, _ = parse_template(text, Path("test"))
    return [
        (
            one.key,
            one.value.text if isinstance(one, Pair) else {pair.key: one.get(pair.key) or "" for pair in one.pairs},
        )
        for one in template.attributes
    ]


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("NAME = abc\nMEMORY=1024", [("NAME", "abc"), ("MEMORY", "1024")]),
        ("name = one two = three", [("NAME", "one"), ("TWO", "three")]),
        ('A = "a \\" b"', [("A", 'a " b')]),
        ('A = "a\nb" B=c', [("A", "a\nb"), ("B", "c")]),
        ("EMPTY =\nB = 1", [("EMPTY", ""), ("B", "1")]),
        ('D = [ a = 1, B = "x, y" ]\nE=[]\n', [("D", {"A": "1", "B": "x, y"}), ("E", {})]),
        ("D = [ A = 1, A = 2 ]", [("D", {"A": "1"})]),
        ("# a comment\n  # another\nA = 1 # and one\nB = 2", [("A", "1"), ("B", "2")]),
        ("A = 'b'", [("A", "'b'")]),
        ("<TEMPLATE><a>1</a><B><C>x &amp; y</C></B></TEMPLATE>", [("A", "1"), ("B", {"C": "x & y"})]),
    ],
)
def test_a_template_is_read_as_oned_reads_it(text: str, attributes: Attributes) -> None:
    read = read_template(text)

    assert read == attributes


@pytest.mark.parametrize(
    "text",
    [
        "A",
        "A B = 1",
        "= 1",
        "A = 1, B = 2",
        'A = "a" b"',
        'A = "never closed',
        "A = [ B = 1",
        "A = [ B = 1, ]",
        "A = [ B = [ C = 1 ] ]",
        "A = b]]>c",
        "A-B = 1",
        "<TEMPLATE><A></TEMPLATE>",
        "<VM><A>1</A></VM>",
    ],
)
def test_a_template_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        read_template(text)


@given(value=TEXTS, inner=TEXTS)
def test_what_imgbuild_writes_is_read_by_oned_as_it_was_meant(value: str, inner: str) -> None:
    pairs = (single("NETWORK", inner), single("IP", "10.1.1.55"))
    template = Template(attributes=(single("NAME", value), Vector(name="NIC", pairs=pairs)))

    read = read_template(write_template(template))

    assert read == [("NAME", value), ("NIC", {"NETWORK": inner, "IP": "10.1.1.55"})]


def test_what_imgbuild_reads_without_a_fault_oned_reads_in_the_same_way() -> None:
    chance = random.Random(7)
    texts = ["A = " + "".join(chance.choices(PIECES, k=chance.randint(1, 7))) for _ in range(60_000)]
    faultless = [text for text in texts if not parse_template(text, Path("test"))[1]]

    read = {text: (own_reading(text), read_template(text)) for text in faultless}

    assert [text for text, (ours, theirs) in read.items() if ours != theirs] == []
    assert len(read) > 500


@given(value=TEXTS, inner=TEXTS)
def test_what_imgbuild_writes_in_xml_is_read_by_oned_as_it_was_meant(value: str, inner: str) -> None:
    template = Template(attributes=(single("NAME", value), Vector(name="NIC", pairs=(single("NETWORK", inner),))))

    read = read_template(as_xml(template))

    assert read == [("NAME", value), ("NIC", {"NETWORK": inner})]
