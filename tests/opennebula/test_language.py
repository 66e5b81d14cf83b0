"""The stand-in's own reader of templates, by examples from OpenNebula's documentation and from its grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagebuilder.opennebula.template import Template, Vector, single, write_template
from imagebuilder.opennebula.things import as_xml
from tests.opennebula.language import Attributes, TemplateError, read_template

# What the language can say: see `quoted`. XML has no control characters but these two.
CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], include_characters="\n\t")
TEXTS = st.text(CHARACTERS, min_size=1, max_size=30).filter(lambda one: not one.endswith("\\") and "]]>" not in one)


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


@given(value=TEXTS, inner=TEXTS)
def test_what_imgbuild_writes_in_xml_is_read_by_oned_as_it_was_meant(value: str, inner: str) -> None:
    template = Template(attributes=(single("NAME", value), Vector(name="NIC", pairs=(single("NETWORK", inner),))))

    read = read_template(as_xml(template))

    assert read == [("NAME", value), ("NIC", {"NETWORK": inner})]
