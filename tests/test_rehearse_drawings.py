from dataclasses import replace
from itertools import combinations, pairwise

import pytest

from imagebuilder.rehearse.network_drawing import NAME_CHARACTER, Box, Point, draw_networks
from imagebuilder.rehearse.time_line import draw_time_line
from tests.reports import make_passed_report, make_report

SIZES = [(nodes, workers) for nodes in (1, 3, 4, 7, 16) for workers in (1, 2, 3, 4, 5, 8)]


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def crosses(begin: Point, end: Point, box: Box) -> bool:
    """Whether a line along an axis goes through the inside of a box; along its side is not through it."""
    left, right = sorted((begin[0], end[0]))
    top, bottom = sorted((begin[1], end[1]))
    return left < box.x + box.width and right > box.x and top < box.y + box.height and bottom > box.y


@pytest.mark.parametrize(("nodes", "workers"), SIZES)
def test_no_box_is_upon_another_or_outside_of_the_drawing(nodes: int, workers: int) -> None:
    drawing = draw_networks(make_report(nodes=nodes, workers=workers))

    collisions = [(one.name, other.name) for one, other in combinations(drawing.boxes, 2) if overlap(one, other)]

    assert collisions == []
    assert len(drawing.boxes) == 1 + nodes + workers + 1
    assert all(0 <= box.x <= drawing.width - box.width for box in drawing.boxes)
    assert all(0 <= box.y <= drawing.height - box.height for box in drawing.boxes)


@pytest.mark.parametrize(("nodes", "workers"), SIZES)
def test_tunnels_run_from_the_server_to_the_workers_beside_all_boxes(nodes: int, workers: int) -> None:
    drawing = draw_networks(make_report(nodes=nodes, workers=workers))
    pieces = [(tunnel.worker, *piece) for tunnel in drawing.tunnels for piece in pairwise(tunnel.points)]

    through = [(worker, box.name) for worker, begin, end in pieces for box in drawing.boxes if crosses(begin, end, box)]

    assert through == []
    assert [tunnel.worker for tunnel in drawing.tunnels] == [f"workernode{number}" for number in range(workers)]
    assert [tunnel.is_up for tunnel in drawing.tunnels] == [True] * (workers - 1) + [False]


def test_each_network_has_its_own_stranger_beside_the_guests() -> None:
    report = make_report(nodes=16, workers=8)
    networks = tuple(replace(network, stranger=f"192.0.2.{number}") for number, network in enumerate(report.networks))

    drawing = draw_networks(replace(report, networks=networks))

    strangers = [box for box in drawing.boxes if box.kind == "stranger"]
    assert [box.labels[-1].text for box in strangers] == ["192.0.2.0", "192.0.2.1"]
    assert not any(overlap(one, other) for one, other in combinations(drawing.boxes, 2))


def test_a_long_name_is_cut_to_its_box() -> None:
    report = make_report()
    guests = tuple(replace(guest, name=guest.name + "w" * 60) for guest in report.guests)

    drawing = draw_networks(replace(report, guests=guests))

    names = [(box, label) for box in drawing.boxes for label in box.labels if label.style == "name"]
    assert all(label.text.endswith("…") for _, label in names)
    assert all(label.x + NAME_CHARACTER * len(label.text) <= box.width for box, label in names)


def test_the_time_line_has_each_guest_and_each_check_where_they_were() -> None:
    report = make_report(nodes=16, workers=8)

    drawing = draw_time_line(report)

    marks = [mark for lane in drawing.lanes for mark in lane.marks]
    assert [bar.guest for bar in drawing.bars] == [guest.name for guest in report.guests]
    assert all(drawing.left <= bar.begin < bar.end <= drawing.right for bar in drawing.bars)
    assert [lane.verdict for lane in drawing.lanes] == ["passed", "failed", "skipped", "not reached"]
    assert len(marks) == len(report.checks)
    assert all(drawing.left <= mark.x <= drawing.right for mark in marks)


@pytest.mark.parametrize("took_s", [0, 1, 59, 600, 7000, 90000, 900000])
def test_the_axis_has_a_few_marks_however_long_it_took(took_s: float) -> None:
    report = replace(make_passed_report(), guests=(), checks=(), took_s=took_s)

    drawing = draw_time_line(report)

    assert 2 <= len(drawing.ticks) <= 12
    assert drawing.ticks[-1].x <= drawing.right
