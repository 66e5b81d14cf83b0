import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from imagebuilder.rehearse.outcome import Report
from imagebuilder.rehearse.page import SHOWN_BYTES, readable, render_page, verdict_sentence
from tests.pages import elements, with_class
from tests.reports import make_hostile_report, make_passed_report, make_report


def drawings(page: str) -> list[str]:
    return re.findall(r'<svg class="drawing.*?</svg>', page, re.DOTALL)


def test_the_verdict_is_one_sentence_with_every_count() -> None:
    sentences = [verdict_sentence(make_report()), verdict_sentence(make_passed_report())]

    assert sentences == [
        "The rehearsal failed: 18 checks passed, 1 failed, 1 skipped, 6 not reached.",
        "The rehearsal passed: 2 checks passed, 0 failed, 1 skipped, 0 not reached.",
    ]


def test_a_rehearsal_without_checks_did_not_pass() -> None:
    report = replace(make_passed_report(), checks=())

    page = render_page(report)

    assert "The rehearsal failed: nothing was checked." in page
    assert "passed" not in {one.attributes.get("class") for one in elements(page, "p")}
    assert elements(page, "title")[0].text == "squirrel: rehearsal failed"


def test_every_check_and_guest_is_on_the_page() -> None:
    report = make_report(nodes=16, workers=8)

    page = render_page(report)

    assert [one.text for one in elements(page, "code") if one.attributes.get("class") == "name"] == [
        check.name for check in report.checks
    ]
    assert [one.text for one in elements(page, "th") if one.attributes["scope"] == "row"] == [
        guest.name for guest in report.guests
    ]
    assert {guest.name for guest in report.guests} <= {box.text.split()[0] for box in with_class(page, "box")}


def test_a_failed_check_is_open_and_the_others_are_closed() -> None:
    page = render_page(make_report())

    opened = [one for one in elements(page, "details") if "open" in one.attributes]

    assert len(opened) == 1
    assert "vpn.all_joined" in opened[0].text
    assert "systemctl is-active openvpn-client@cluster" in opened[0].text


def test_a_failed_check_is_linked_from_the_top() -> None:
    page = render_page(make_report())

    links = [one.attributes["href"] for one in elements(page, "a") if one.text == "vpn.all_joined"]

    assert links == ["#check-vpn.all_joined"]
    assert any(one.attributes.get("id") == "check-vpn.all_joined" for one in elements(page))


def test_every_link_leads_to_a_part_of_the_page() -> None:
    page = render_page(make_report())
    identifiers = [one.attributes["id"] for one in elements(page) if "id" in one.attributes]

    leads_to = {str(one.attributes["href"]).removeprefix("#") for one in elements(page, "a")}

    assert len(identifiers) == len(set(identifiers))
    assert leads_to <= set(identifiers)


def test_the_page_needs_nothing_beside_itself() -> None:
    page = render_page(make_report())

    attributes = {name for one in elements(page) for name in one.attributes}

    assert attributes & {"src", "srcset", "action", "data", "background", "style"} == set()
    assert {element.tag for element in elements(page)} & {"link", "img", "iframe", "object", "base"} == set()
    assert not re.search(r"https?:|url\(|@import|@font-face|fetch\(|XMLHttpRequest", page)


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "</pre></details></main><h1>passed</h1>",
        '" onmouseover="alert(1)',
        "' onfocus='alert(1)",
        "</title></style><img src=x onerror=alert(1)>",
        "{{ report.cluster }}{% raw %}",
        "<!--",
        "]]><![CDATA[",
    ],
)
def test_what_a_guest_says_stays_text(hostile: str) -> None:
    harmless = [(one.tag, sorted(one.attributes)) for one in elements(render_page(make_hostile_report("harmless")))]

    page = render_page(make_hostile_report(hostile))

    assert [(one.tag, sorted(one.attributes)) for one in elements(page)] == harmless
    assert f"\n{hostile}" in [one.text for one in elements(page, "pre")]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[1;32m  OK  \x1b[0m Reached target", "  OK   Reached target"),
        ("\x1b]0;a title\x07login:", "login:"),
        ("\x1b]8;;file:///etc/passwd\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never ended\nlogin:", "0;never ended\nlogin:"),
        ("\x1b(B\x1b7\x1b[?25l\x9b2Jclear", "clear"),
        ("a\x00b\x07c\x7fd", "a␀b␇c␡d"),
        ("ends in \x1b", "ends in ␛"),
        ("one\r\ntwo\r\r\nthree\rfour\n", "one\ntwo\nthree\nfour\n"),
        ("lone \ud800 surrogate, no \ufffe character", "lone � surrogate, no � character"),
        ("turned \u202e round", "turned � round"),
        ("a\ttab, an umlaut ü, a picture 🐿", "a\ttab, an umlaut ü, a picture 🐿"),
    ],
)
def test_escape_sequences_go_and_control_characters_become_visible(said: str, shown: str) -> None:
    assert readable(said) == shown


@pytest.mark.parametrize("again", ["\r", "\n", "\x1b", "\x1b[0", "\x1b]", "\x1b ", "\x1bP\x9b", "\x00"])
def test_a_log_of_nothing_but_control_characters_takes_no_longer_than_its_length(again: str) -> None:
    # A pattern that looked at each run of them from each of its characters would take hours.
    shown = readable(again * 500_000 + "login:")

    assert shown.endswith("ogin:")


def test_no_control_character_reaches_the_page() -> None:
    page = render_page(make_hostile_report("".join(map(chr, range(0xA0))) + "\ud800\udfff\ufffe\uffff\u202e"))

    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff\u202e]", page)
    assert page.encode()


def test_of_a_long_log_the_end_is_shown_and_the_page_says_so() -> None:
    report = make_passed_report()
    log = "first line\n" + "ü" * 1024 * 1024 + "\nlast line\n"

    page = render_page(replace(report, guests=(replace(report.guests[0], serial_log=log),)))

    assert "Only the last 256 KiB of 2.0 MiB are shown." in page
    assert "last line" in page
    assert "first line" not in page
    assert len(page.encode()) < SHOWN_BYTES + 64 * 1024


@pytest.mark.parametrize(("nodes", "workers"), [(1, 1), (3, 2), (16, 8)])
def test_drawings_are_well_formed(nodes: int, workers: int) -> None:
    page = render_page(make_report(nodes=nodes, workers=workers))

    tags = [ET.fromstring(drawing).tag for drawing in drawings(page)]  # noqa: S314 - our own

    assert tags == ["svg"] * 2


def test_a_drawing_of_hostile_names_is_well_formed() -> None:
    report = make_report()
    guests = tuple(replace(guest, name='<&">\x00\x1b[1m' + "w" * 60) for guest in report.guests)

    page = render_page(replace(report, guests=guests))

    assert [ET.fromstring(drawing).tag for drawing in drawings(page)] == ["svg"] * 2  # noqa: S314 - our own


@pytest.mark.parametrize(
    "bare",
    [
        replace(make_report(), guests=(), queue="", took_s=0),
        replace(make_report(), checks=(), queue="", took_s=0),
        replace(make_report(), networks=(), queue="", took_s=0),
    ],
)
def test_a_report_without_a_part_still_has_a_page(bare: Report) -> None:
    page = render_page(bare)

    assert "The rehearsal did not come to asking" in page
