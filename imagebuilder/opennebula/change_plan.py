"""What must be done so that oned has what it shall have: a plan to show before anything is done."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from imagebuilder.opennebula.template import Vector
from imagebuilder.opennebula.things import (
    TOOLS,
    AddressRange,
    Kind,
    Thing,
    Wanted,
    cluster_of,
    differences,
    own_ranges,
)

Action = Literal["create", "update", "unchanged", "refuse"]

# Machines need networks and images, so templates come behind both.
ORDER: tuple[Kind, ...] = ("network", "image", "template", "host")


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to be done about one wanted object, and why; `fix` is of one that is refused."""

    action: Action
    wanted: Wanted
    thing: Thing | None = None
    why: str = ""
    fix: str = ""
    new_ranges: tuple[Vector, ...] = ()
    old_ranges: tuple[AddressRange, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChangePlan:
    """All changes in the order to do them, and the cluster's objects that are wanted no more; those are left alone."""

    changes: tuple[Change, ...]
    outdated: tuple[Thing, ...]

    def having(self, action: Action) -> tuple[Change, ...]:
        """The changes with this action."""
        return tuple(one for one in self.changes if one.action == action)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return all(one.action == "unchanged" for one in self.changes)


def plan_changes(
    wanted: Iterable[Wanted], own: Sequence[Thing], look: Callable[[Kind, int], Thing], *, cluster: str
) -> ChangePlan:
    """What must be done, given the user's objects as their pools show them; `look` gives all of one."""
    sorted_wanted = sorted(wanted, key=lambda one: ORDER.index(one.kind))
    changes = []
    for one in sorted_wanted:
        known = next((thing for thing in own if (thing.kind, thing.name) == (one.kind, one.name)), None)
        changes.append(_change(one, look(known.kind, known.id) if known else None, cluster))
    names = {(one.kind, one.name) for one in sorted_wanted}
    outdated = [one for one in own if (one.kind, one.name) not in names and cluster_of(one.template) == cluster]
    return ChangePlan(changes=tuple(changes), outdated=tuple(outdated))


def _change(wanted: Wanted, thing: Thing | None, cluster: str) -> Change:
    if thing is None:
        return Change(action="create", wanted=wanted)
    owner = cluster_of(thing.template)
    if owner is None and wanted.kind == "host":
        return Change(action="unchanged", wanted=wanted, thing=thing, why="was there before")
    if owner != cluster:
        whose = f"of the cluster {owner}" if owner else "that imgbuild has not made"
        what = f"there is one of this name (id {thing.id}) {whose}"
        fix = f"rename it: {TOOLS[thing.kind]} rename {thing.id} NAME"
        return Change(action="refuse", wanted=wanted, thing=thing, why=what, fix=fix)
    if thing.state not in {"READY", "LOCKED"}:
        reason = thing.template.get("ERROR")
        what = f"it is in the state {thing.state}{f': {reason}' if reason else ''}"
        fix = f"remove it, and run this again: {thing.removal}"
        return Change(action="refuse", wanted=wanted, thing=thing, why=what, fix=fix)
    return _update(wanted, thing)


def _update(wanted: Wanted, thing: Thing) -> Change:
    ranges = {one.ip: one for one in thing.ranges}
    asked = {one.get("IP") or "": one for one in wanted.template.vectors("AR")}
    stale = {ip for ip, one in asked.items() if ip in ranges and not _is_same(one, ranges[ip])}
    if blocked := sorted(ip for ip in stale if ranges[ip].used):
        what = f"the range of {blocked[0]} shall be another one, and is in use"
        fix = f"stop the machine that has this address: {TOOLS['network']} show {thing.id}"
        return Change(action="refuse", wanted=wanted, thing=thing, why=what, fix=fix)
    unwanted = {ip for ip, one in ranges.items() if ip in own_ranges(thing) - asked.keys() and not one.used}
    new = tuple(one for ip, one in asked.items() if ip not in ranges or ip in stale)
    old = tuple(one for ip, one in ranges.items() if ip in stale | unwanted)
    changed = (*differences(wanted, thing), *(["AR"] if new or old else []))
    if not changed:
        return Change(action="unchanged", wanted=wanted, thing=thing)
    return Change(action="update", wanted=wanted, thing=thing, why=", ".join(changed), new_ranges=new, old_ranges=old)


def _is_same(wanted: Vector, found: AddressRange) -> bool:
    mac = wanted.get("MAC")
    is_same_mac = mac is None or mac.lower() == found.mac.lower()
    return is_same_mac and (wanted.get("TYPE"), wanted.get("SIZE")) == (found.type, str(found.size))
