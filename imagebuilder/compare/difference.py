"""What two file systems differ in, path by path."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import PurePosixPath

from imagebuilder.plan.listing import Entry, Kind, Listing


class Aspect(Enum):
    """One way in which a path differs between image A and image B."""

    ONLY_IN_A = "only in a"
    ONLY_IN_B = "only in b"
    TYPE = "type"
    MODE = "mode"
    OWNER = "owner"
    LINK = "link"
    CONTENT = "content"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A path that differs, how, and what is there in each image; None where there is nothing.

    A path of another type has no other aspect: the rest of two different things is not worth comparing.
    """

    path: PurePosixPath
    aspects: tuple[Aspect, ...]
    a: Entry | None
    b: Entry | None


def compare_listings(a: Listing, b: Listing) -> tuple[Difference, ...]:
    """Everything that differs, in the order of the paths' parts.

    Files of one size are told apart by their digests, which both must have: see `undecided_files`.
    """
    differing = [path for path in a.keys() | b.keys() if a.get(path) != b.get(path)]
    compared = (_compare(path, a.get(path), b.get(path)) for path in sorted(differing, key=lambda path: path.parts))
    return tuple(difference for difference in compared if difference.aspects)


def undecided_files(a: Listing, b: Listing) -> Mapping[PurePosixPath, int]:
    """The files that only their content can tell apart, with their size in bytes.

    These are regular files in both, of one size, and at least one has no digest yet.
    """
    return {
        path: one.size
        for path, one in a.items()
        if one.kind is Kind.FILE
        and (other := b.get(path)) is not None
        and other.kind is Kind.FILE
        and other.size == one.size
        and not (one.digest and other.digest)
    }


def with_digests(listing: Listing, digests: Mapping[PurePosixPath, str]) -> Listing:
    """The same listing, with these digests of its files."""
    return Listing(dict(listing) | {path: replace(listing[path], digest=digest) for path, digest in digests.items()})


def is_within(path: PurePosixPath, limits: Collection[PurePosixPath]) -> bool:
    """Whether `path` is one of `limits` or inside one; without limits, everything is."""
    return not limits or any(path.is_relative_to(limit) for limit in limits)


def _compare(path: PurePosixPath, a: Entry | None, b: Entry | None) -> Difference:
    return Difference(path=path, aspects=tuple(_aspects(a, b)), a=a, b=b)


def _aspects(a: Entry | None, b: Entry | None) -> Iterator[Aspect]:
    if a is None or b is None:
        yield Aspect.ONLY_IN_A if b is None else Aspect.ONLY_IN_B
        return
    if a.kind is not b.kind:
        yield Aspect.TYPE
        return
    if a.mode != b.mode and a.kind is not Kind.LINK:  # Linux never looks at the mode of a link
        yield Aspect.MODE
    if (a.uid, a.gid) != (b.uid, b.gid):
        yield Aspect.OWNER
    if a.target != b.target:
        yield Aspect.LINK
    if a.kind is Kind.FILE and (a.size, a.digest) != (b.size, b.digest):
        yield Aspect.CONTENT
