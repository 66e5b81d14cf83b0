"""Where everything stands in the drawing of a rehearsed cluster: its networks, guests and tunnels. Pure.

Sizes are in CSS pixels, from the upper left corner. A guest stands in the area of the network that it is attached to;
one that is attached to both stands across the two. Tunnels run where no box is: along a spine beside a column of
workers, which a trunk joins to the server.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from imagebuilder.rehearse.outcome import Attachment, GuestOutcome, NetworkName, Report

# A character of a fixed-width font is 0.6 of the font's size wide, in some fonts a little more: of 13 and 12 pixels.
NAME_CHARACTER, LINE_CHARACTER = 7.9, 7.3
PADDING, LINE_HEIGHT, GAP = 10, 17, 14
NODE_WIDTH, WORKER_WIDTH, SERVER_WIDTH = 144, 176, 250
# The tunnels' spine is in the middle of it.
GUTTER = 36
# Holds the name of a network.
TOP = 42
# Between the networks. The server spans it, and reaches into either by half of what is left of its width.
BETWEEN = 70
REACH = (SERVER_WIDTH - BETWEEN) / 2
# So many guests stand below one another; more stand two in a row.
ONE_COLUMN = 3

Kind = Literal["server", "node", "worker", "stranger"]
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Label:
    """One text in a box; `x` and `y` count from the box's corner, `anchor` is SVG's text-anchor."""

    x: float
    y: float
    text: str
    style: Literal["name", "role", "line"]
    anchor: Literal["start", "end"] = "start"


@dataclass(frozen=True, kw_only=True)
class Box:
    """A guest, or the stranger."""

    kind: Kind
    name: str
    width: float
    height: float
    labels: tuple[Label, ...]
    came_up: bool = True
    x: float = 0
    y: float = 0


@dataclass(frozen=True, kw_only=True)
class Area:
    """The area of one network, as high as the drawing."""

    name: NetworkName
    subnet: str
    x: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Tunnel:
    """From the server to one worker."""

    worker: str
    points: tuple[Point, ...]
    is_up: bool


@dataclass(frozen=True, kw_only=True)
class NetworkDrawing:
    """All that is drawn."""

    width: float
    height: float
    areas: tuple[Area, ...]
    tunnels: tuple[Tunnel, ...]
    boxes: tuple[Box, ...]


def draw_networks(report: Report) -> NetworkDrawing:
    """The networks, guests and tunnels of a rehearsal."""
    inside, between, outside = _by_network(report.guests)
    nodes = _in_rows([*_boxes("node", inside, NODE_WIDTH), *_strangers(report, "private", NODE_WIDTH)], GAP)
    workers = _in_rows([*_boxes("worker", outside, WORKER_WIDTH), *_strangers(report, "public", WORKER_WIDTH)], GUTTER)
    servers = _in_rows(_boxes("server", between, SERVER_WIDTH), GAP)
    height = max(_height(nodes), _height(workers), 2 * _height(servers))
    middle = TOP + height / 2

    one_column = len(outside) <= ONE_COLUMN
    public_x = GAP + max(NODE_WIDTH, _width(nodes)) + GAP + REACH + BETWEEN
    left = public_x + REACH + (GUTTER if one_column else GAP)
    width = left + max(WORKER_WIDTH, _width(workers)) + GAP
    nodes = _moved(nodes, GAP, middle - _height(nodes) / 2)
    workers = _moved(workers, left, middle - _height(workers) / 2)
    # The trunk passes the first of two columns between two rows.
    trunk = middle if one_column else workers[(len(outside) + 1) // 4 * 2].y - GAP / 2
    spine = left - GUTTER / 2 if one_column else left + WORKER_WIDTH + GUTTER / 2
    servers = _moved(servers, public_x - BETWEEN - REACH, trunk - _height(servers[:1]) / 2)
    return NetworkDrawing(
        width=width,
        height=TOP + height + GAP,
        areas=(
            Area(name="private", subnet=_subnet(report, "private"), x=0, width=public_x - BETWEEN),
            Area(name="public", subnet=_subnet(report, "public"), x=public_x, width=width - public_x),
        ),
        tunnels=tuple(_tunnels(outside, workers, (public_x + REACH, trunk), spine)) if servers else (),
        boxes=(*nodes, *servers, *workers),
    )


def _by_network(guests: Sequence[GuestOutcome]) -> tuple[list[GuestOutcome], list[GuestOutcome], list[GuestOutcome]]:
    """The guests on the private network, those on both, and those on the public one."""
    inside: list[GuestOutcome] = []
    between: list[GuestOutcome] = []
    outside: list[GuestOutcome] = []
    for guest in guests:
        networks = {one.network for one in guest.attachments}
        place = between if len(networks) == 2 else outside if networks == {"public"} else inside
        place.append(guest)
    return inside, between, outside


def _subnet(report: Report, name: NetworkName) -> str:
    return next((network.subnet for network in report.networks if network.name == name), "")


def _boxes(kind: Kind, guests: Sequence[GuestOutcome], width: float) -> list[Box]:
    """A box for each guest, all as high as the fullest."""
    texts = [_server_labels(guest) if kind == "server" else _labels(guest, width) for guest in guests]
    height = max((label.y for labels in texts for label in labels), default=0) + PADDING
    return [
        Box(kind=kind, name=guest.name, width=width, height=height, labels=labels, came_up=guest.prompt_s is not None)
        for guest, labels in zip(guests, texts, strict=True)
    ]


def _strangers(report: Report, name: NetworkName, width: float) -> Iterator[Box]:
    """The box of the stranger on a network, if there is one."""
    for network in report.networks:
        if network.name == name and network.stranger:
            role = Label(x=PADDING, y=LINE_HEIGHT, text="a stranger", style="role")
            labels = (role, *_lines([network.stranger], width - 2 * PADDING))
            height = labels[-1].y + PADDING
            yield Box(kind="stranger", name="a stranger", width=width, height=height, labels=labels)


def _labels(guest: GuestOutcome, width: float) -> tuple[Label, ...]:
    """What stands in the box of a guest on one network."""
    room = width - 2 * PADDING
    texts = [f"{one.device} {_address(one)}" for one in guest.attachments]
    if any(one.network == "public" for one in guest.attachments):
        texts.append(f"vpn  {guest.vpn_address or 'no tunnel'}")
    return (*_names(guest, width), *_lines([*texts, *_state(guest)], room))


def _server_labels(guest: GuestOutcome) -> tuple[Label, ...]:
    """What stands in the box of a guest on both networks: at each side what it is there."""
    private, public = (
        [text for one in guest.attachments if one.network == network for text in (one.device, _address(one))]
        for network in ("private", "public")
    )
    room = SERVER_WIDTH / 2 - PADDING
    right = [replace(label, x=SERVER_WIDTH - PADDING, anchor="end") for label in _lines(public, room)]
    return (*_names(guest, SERVER_WIDTH), *_lines([*private, *_state(guest)], room), *right)


def _names(guest: GuestOutcome, width: float) -> Iterator[Label]:
    """The name, and the role if there is room for it too."""
    room = width - 2 * PADDING
    yield Label(x=PADDING, y=LINE_HEIGHT, text=_shortened(guest.name, room / NAME_CHARACTER), style="name")
    if len(guest.name) * NAME_CHARACTER + (1 + len(guest.role)) * LINE_CHARACTER <= room:
        yield Label(x=width - PADDING, y=LINE_HEIGHT, text=guest.role, style="role", anchor="end")


def _address(attachment: Attachment) -> str:
    return attachment.address or "asks for one"


def _state(guest: GuestOutcome) -> list[str]:
    return ["✗ no prompt"] if guest.prompt_s is None else []


def _lines(texts: Sequence[str], room: float) -> Iterator[Label]:
    """The lines below a name, each cut to its room."""
    for number, text in enumerate(texts, start=2):
        shown = _shortened(text, room / LINE_CHARACTER)
        yield Label(x=PADDING, y=number * LINE_HEIGHT, text=shown, style="line")


def _shortened(text: str, characters: float) -> str:
    return text if len(text) <= characters else f"{text[: int(characters) - 1]}…"


def _in_rows(boxes: Sequence[Box], gutter: float) -> list[Box]:
    """The boxes in rows of one or two, from 0, 0; the stranger's is a row of its own."""
    guests = [box for box in boxes if box.kind != "stranger"]
    columns = 1 if len(guests) <= ONE_COLUMN else 2
    placed = [
        replace(box, x=number % columns * (box.width + gutter), y=number // columns * (box.height + GAP))
        for number, box in enumerate(guests)
    ]
    for box in boxes[len(guests) :]:
        placed.append(replace(box, y=_height(placed) + GAP if placed else 0))
    return placed


def _width(boxes: Sequence[Box]) -> float:
    """Of boxes placed from 0."""
    return max((box.x + box.width for box in boxes), default=0)


def _height(boxes: Sequence[Box]) -> float:
    """Of boxes placed from 0."""
    return max((box.y + box.height for box in boxes), default=0)


def _moved(boxes: Sequence[Box], x: float, y: float) -> list[Box]:
    return [replace(box, x=box.x + x, y=box.y + y) for box in boxes]


def _tunnels(guests: Sequence[GuestOutcome], boxes: Sequence[Box], begin: Point, spine: float) -> Iterator[Tunnel]:
    """A line from the server at `begin` along the spine to the near side of each worker's box."""
    for guest, box in zip(guests, boxes, strict=False):
        middle = box.y + box.height / 2
        side = box.x if box.x > spine else box.x + box.width
        points = (begin, (spine, begin[1]), (spine, middle), (side, middle))
        yield Tunnel(worker=guest.name, points=points, is_up=guest.vpn_address is not None)
