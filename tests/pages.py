"""Reads an HTML page as a browser does, as far as tests ask."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"br", "input", "link", "meta"}


@dataclass
class Element:
    """One element: its attributes, and all text in it."""

    tag: str
    attributes: dict[str, str | None]
    inside: tuple[str, ...]
    """The elements that it is in, from the outermost."""
    text: str = ""


@dataclass
class _Reader(HTMLParser):
    """Collects elements; an end that is not that of the innermost open element is an error."""

    found: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag=tag, attributes=dict(attrs), inside=tuple(one.tag for one in self.open))
        self.found.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(Element(tag=tag, attributes=dict(attrs), inside=tuple(one.tag for one in self.open)))

    def handle_endtag(self, tag: str) -> None:
        innermost = self.open.pop()
        assert innermost.tag == tag, f"</{tag}> ends <{innermost.tag}>"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


def elements(page: str, tag: str | None = None) -> list[Element]:
    """The page's elements in their order, or those with `tag`."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return [one for one in reader.found if tag in {None, one.tag}]


def with_class(page: str, name: str) -> list[Element]:
    """The page's elements of a class."""
    return [one for one in elements(page) if name in (one.attributes.get("class") or "").split()]
