"""A file system as nested dictionaries: what applying a plan means, in so few lines that it is plainly right."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from imagebuilder.plan.changes import RemovePath
from imagebuilder.plan.listing import Entry, Kind, Listing
from imagebuilder.plan.plan import Plan
from imagebuilder.plan.target import Target
from tests.machines import debian

Node = tuple[Entry, dict[str, "Node"]]
"""What is at a path, and what is in it by name."""
Tree = dict[str, Node]

DIRECTORY = Entry(Kind.DIRECTORY, 0o755, 0, 0)


def apply(plan: Plan, tree: Tree) -> None:
    """Do to `tree` what the plan says, change by change."""
    entries = dict(plan.entries())
    for change in plan.changes:
        folder = tree
        *above, name = change.path.parts[1:]
        for part in above:
            folder = folder.get(part, (DIRECTORY, {}))[1]
        if isinstance(change, RemovePath):
            folder.pop(name, None)
        elif (entry := entries[change.path]) is not None:
            inside = folder[name][1] if name in folder and entry.kind is Kind.DIRECTORY else {}
            folder[name] = (entry, inside)


def listing_of(tree: Tree) -> Listing:
    """The tree as a listing."""
    return Listing(dict(_entries(tree, PurePosixPath("/"))))


def _entries(tree: Tree, above: PurePosixPath) -> Iterator[tuple[PurePosixPath, Entry]]:
    for name, (entry, inside) in tree.items():
        yield above / name, entry
        yield from _entries(inside, above / name)


def target_of(tree: Tree) -> Target:
    """The facts about a base that is this tree; it has Debian's accounts."""
    listing = listing_of(tree)
    return replace(
        debian(),
        links={path: entry.target for path, entry in listing.items() if entry.kind is Kind.LINK},
        directories=frozenset(path for path, entry in listing.items() if entry.kind is Kind.DIRECTORY),
        unread=frozenset(path for path, entry in listing.items() if entry.kind is Kind.FILE),
    )
