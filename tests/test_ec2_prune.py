"""Which AMIs go when the earlier ones are removed."""

from datetime import UTC, datetime, timedelta

from imagebuilder.ec2.ami import CLUSTER, IMAGE, KEY, Ami, Snapshot
from imagebuilder.ec2.prune import Kept, PruneRules, Removal, plan_prune

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
RULES = PruneRules(cluster="squirrel", keep=1)


def tags(cluster: str = "squirrel", image: str = "worker") -> dict[str, str]:
    return {CLUSTER: cluster, IMAGE: image, KEY: "0123"}


def ami(day: int, *snapshots: str, cluster: str = "squirrel", image: str = "worker") -> Ami:
    return Ami(
        id=f"ami-{image}{day}",
        name=f"squirrel-{image}-{day}",
        location=f"123456789012/squirrel-{image}-{day}",
        region="us-east-1",
        owner_id="123456789012",
        state="available",
        is_public=False,
        architecture="x86_64",
        root_device_type="ebs",
        boot_mode="legacy-bios",
        created_at=f"2026-11-{day:02}T00:00:00.000Z",
        deprecated_at=None,
        snapshot_ids=snapshots,
        tags=tags(cluster, image),
    )


def snapshot(name: str, *, age: timedelta = timedelta(days=2), cluster: str = "squirrel") -> Snapshot:
    return Snapshot(
        id=name,
        state="completed",
        volume_bytes=1 << 32,
        is_encrypted=False,
        started_at=NOW - age,
        message="",
        tags=tags(cluster),
    )


def test_the_newest_of_each_image_stay() -> None:
    amis = [ami(1), ami(2), ami(3), ami(1, image="node")]

    plan = plan_prune(amis, [], RULES, uses={}, now=NOW)

    assert [removal.ami.id for removal in plan.removals] == ["ami-worker2", "ami-worker1"]


def test_as_many_stay_as_the_rules_say() -> None:
    rules = PruneRules(cluster="squirrel", keep=2)

    plan = plan_prune([ami(1), ami(2), ami(3)], [], rules, uses={}, now=NOW)

    assert [removal.ami.id for removal in plan.removals] == ["ami-worker1"]
    assert plan.kept[1] == Kept(id="ami-worker2", why="number 2 of the newest 2 of worker on ebs")


def test_an_ami_takes_its_snapshot_along() -> None:
    plan = plan_prune([ami(1, "snap-1"), ami(2, "snap-2")], [snapshot("snap-1")], RULES, uses={}, now=NOW)

    assert plan.removals == (Removal(ami=ami(1, "snap-1"), snapshot_ids=("snap-1",)),)
    assert plan.orphans == ()


def test_a_snapshot_that_another_ami_has_stays() -> None:
    stranger = ami(9, "snap-1", cluster="other")

    plan = plan_prune([ami(1, "snap-1"), ami(2), stranger], [], RULES, uses={}, now=NOW)

    assert [removal.snapshot_ids for removal in plan.removals] == [()]


def test_one_in_use_stays() -> None:
    plan = plan_prune([ami(1), ami(2)], [], RULES, uses={"ami-worker1": "instance i-1"}, now=NOW)

    assert plan.removals == ()
    assert Kept(id="ami-worker1", why="used by instance i-1") in plan.kept


def test_what_is_not_the_clusters_is_not_even_mentioned() -> None:
    strangers = [ami(1, cluster="other"), ami(2, cluster="other")]

    plan = plan_prune(strangers, [snapshot("snap-9", cluster="other")], RULES, uses={}, now=NOW)

    assert (plan.removals, plan.orphans, plan.kept) == ((), (), ())


def test_a_snapshot_that_no_ami_has_goes() -> None:
    plan = plan_prune([ami(1, "snap-1")], [snapshot("snap-1"), snapshot("snap-2")], RULES, uses={}, now=NOW)

    assert [orphan.id for orphan in plan.orphans] == ["snap-2"]


def test_a_snapshot_that_a_run_may_be_at_work_on_stays() -> None:
    young = snapshot("snap-2", age=timedelta(minutes=5))

    plan = plan_prune([], [young], RULES, uses={}, now=NOW)

    assert plan.orphans == ()
    assert [kept.id for kept in plan.kept] == ["snap-2"]


def test_a_young_snapshot_goes_if_that_is_wanted() -> None:
    young = snapshot("snap-2", age=timedelta(minutes=5))
    rules = PruneRules(cluster="squirrel", keep=1, unfinished=True)

    plan = plan_prune([], [young], rules, uses={}, now=NOW)

    assert plan.orphans == (young,)
