"""Which AMIs and snapshots may go: earlier ones of this cluster that nothing uses. Only decides; removes nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from imagebuilder.ec2.ami import IMAGE, Ami, Snapshot, is_own

# An upload takes minutes: a snapshot that is younger may be that of somebody who is at work.
_ABANDONED_AFTER = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An AMI or a snapshot that stays, and why."""

    id: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Removal:
    """An AMI that goes, and its snapshots and its bundle that go with it, if no other AMI has them."""

    ami: Ami
    snapshot_ids: tuple[str, ...]
    has_bundle: bool = False


@dataclass(frozen=True, kw_only=True)
class PrunePlan:
    """What goes and what stays. `orphans` are snapshots without an AMI."""

    removals: tuple[Removal, ...]
    orphans: tuple[Snapshot, ...]
    kept: tuple[Kept, ...]


@dataclass(frozen=True, kw_only=True)
class PruneRules:
    """Whose AMIs may go, and how many of each image and kind of root device stay.

    With `unfinished`, young snapshots without an AMI may go, too.
    """

    cluster: str
    keep: int
    unfinished: bool = False


def plan_prune(
    amis: Iterable[Ami], snapshots: Iterable[Snapshot], rules: PruneRules, *, uses: Mapping[str, str], now: datetime
) -> PrunePlan:
    """Keep the newest AMIs of each image of the cluster, and all that are not its own or in use.

    `amis` are all of the account, as one that is not the cluster's may have a snapshot that is. `uses` says of AMIs,
    by id, what uses them. Snapshots that no AMI has are left by a run that was ended; the young ones among them, which
    a run may still be at work on, go only if the rules say so.
    """
    everything = tuple(amis)
    removed: list[Ami] = []
    kept: list[Kept] = []
    newer: Counter[tuple[str, str]] = Counter()
    own = [ami for ami in everything if is_own(ami.tags, rules.cluster)]
    for ami in sorted(own, key=lambda ami: (ami.created_at, ami.id), reverse=True):
        image = ami.tags[IMAGE], ami.root_device_type
        newer[image] += 1
        if newer[image] <= rules.keep:
            kept.append(
                Kept(id=ami.id, why=f"number {newer[image]} of the newest {rules.keep} of {' on '.join(image)}")
            )
        elif ami.id in uses:
            kept.append(Kept(id=ami.id, why=f"used by {uses[ami.id]}"))
        else:
            removed.append(ami)
    taken = {snapshot_id for ami in everything if ami not in removed for snapshot_id in ami.snapshot_ids}
    locations = {ami.location for ami in everything if ami not in removed}
    removals = [
        Removal(
            ami=ami,
            snapshot_ids=tuple(one for one in ami.snapshot_ids if one not in taken),
            has_bundle=ami.root_device_type == "instance-store" and ami.location not in locations,
        )
        for ami in removed
    ]
    known = {snapshot_id for ami in everything for snapshot_id in ami.snapshot_ids}
    orphans: list[Snapshot] = []
    for snapshot in snapshots:
        if snapshot.id in known or not is_own(snapshot.tags, rules.cluster):
            continue
        if now - snapshot.started_at < _ABANDONED_AFTER and not rules.unfinished:
            kept.append(Kept(id=snapshot.id, why="begun less than an hour ago, and perhaps still at work"))
        else:
            orphans.append(snapshot)
    return PrunePlan(removals=tuple(removals), orphans=tuple(orphans), kept=tuple(kept))
