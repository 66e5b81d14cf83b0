"""Plans and what is done by them, against the stand-in: again, over other people's things, and in failures."""

from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.errors import LeftoversError, RemoteError
from imagebuilder.opennebula.apply import Patience, make_plan
from imagebuilder.opennebula.things import Drivers
from tests.opennebula.clusters import (
    CLUSTER,
    MACHINE,
    NETWORK,
    PATIENCE,
    apply,
    apply_planned,
    changed_cluster,
    client,
    host,
    image,
    running,
    small_cluster,
    snapshot,
    wanted,
)
from tests.opennebula.endpoint import How
from tests.opennebula.oned import Oned

pytestmark = pytest.mark.remote

# Where all can be undone: as long as a busy machine may need for it.
PATIENT = replace(PATIENCE, undo_s=10)

# All calls of a first run with the small cluster, and of one that changes it: see the tests that count them.
FIRST = (
    *("one.vnpool.info", "one.imagepool.info", "one.templatepool.info", "one.hostpool.info", "one.datastorepool.info"),
    *("one.vn.allocate", "one.vn.info", "one.vn.info", "one.vn.info"),
    *("one.image.allocate", "one.image.info", "one.image.info", "one.image.info"),
    *("one.template.allocate", "one.host.allocate", "one.host.info", "one.host.update"),
)
CHANGE = (
    *("one.vnpool.info", "one.imagepool.info", "one.templatepool.info", "one.hostpool.info"),
    *("one.vn.info", "one.template.info", "one.host.info", "one.datastorepool.info"),
    *("one.vn.update", "one.vn.rm_ar", "one.vn.rm_ar", "one.vn.add_ar", "one.vn.add_ar"),
    *("one.image.allocate", "one.image.info", "one.image.info", "one.image.info", "one.template.update"),
)


def test_a_first_run_makes_everything_in_an_order_that_machines_can_start_in(tmp_path: Path) -> None:
    with running() as (endpoint, server):
        done = apply(server, *reversed(small_cluster(tmp_path)))

        assert done == [
            "create network squirrel-private",
            "create image squirrel-local01-1111",
            "create template local01",
            "create host host01",
        ]
        assert tuple(endpoint.methods) == FIRST


def test_a_second_run_finds_nothing_to_do_and_only_reads(tmp_path: Path) -> None:
    with running() as (endpoint, server):
        apply(server, *small_cluster(tmp_path))
        endpoint.methods.clear()

        done = apply(server, *small_cluster(tmp_path), run="run2")

        assert {one.split()[0] for one in done} == {"unchanged"}
        assert {one.rpartition(".")[2] for one in endpoint.methods} == {"info"}


def test_a_plan_alone_changes_nothing(tmp_path: Path) -> None:
    with running() as (endpoint, server):
        make_plan(small_cluster(tmp_path), server, cluster=CLUSTER)

        assert endpoint.oned.things() == []


def test_a_change_updates_what_differs_and_a_build_is_another_image(tmp_path: Path) -> None:
    with running() as (endpoint, server):
        apply(server, *small_cluster(tmp_path))
        endpoint.methods.clear()

        done = apply(server, *changed_cluster(tmp_path), run="run2")

        assert done == [
            "update network squirrel-private",
            "create image squirrel-local01-2222",
            "update template local01",
            "unchanged host host01",
        ]
        assert tuple(endpoint.methods) == CHANGE
        [network] = endpoint.oned.networks.values()
        [template] = endpoint.oned.templates.values()
        assert sorted(one.ip for one in network.ranges) == ["10.1.1.55", "10.1.1.56"]
        assert (template.single("MEMORY"), template.vectors("CONTEXT")) == ("2048", [])


def test_an_image_that_is_wanted_no_more_stays_and_is_named(tmp_path: Path) -> None:
    with running() as (endpoint, server):
        apply(server, *small_cluster(tmp_path))
        apply(server, *changed_cluster(tmp_path))

        plan = make_plan(changed_cluster(tmp_path), server, cluster=CLUSTER)

        assert plan.is_done
        assert [(one.name, one.removal) for one in plan.outdated] == [("squirrel-local01-1111", "oneimage delete 1")]
        assert len(endpoint.oned.images) == 2


def test_a_machine_starts_from_what_was_made(tmp_path: Path) -> None:
    with running() as (endpoint, server):
        apply(server, *small_cluster(tmp_path))
        [template] = server.find_own("template")

        machine = server.machine(server.instantiate(template.id, ""))

        assert machine.template.vectors("NIC")[0].get("IP") == "10.1.1.55"
        assert endpoint.oned.networks[0].used() == 1


def test_what_other_people_added_to_a_template_is_kept(tmp_path: Path) -> None:
    with running() as (endpoint, server):
        apply(server, *small_cluster(tmp_path))
        [template] = endpoint.oned.templates.values()
        template.put("LABELS", "ours")

        apply(server, *changed_cluster(tmp_path))

        assert template.single("LABELS") == "ours"
        assert endpoint.oned.networks[0].single("SECURITY_GROUPS") == "0"


def test_what_other_people_changed_of_ours_is_shown_and_changed_back(tmp_path: Path) -> None:
    with running() as (endpoint, server):
        apply(server, *small_cluster(tmp_path))
        endpoint.oned.templates[2].put("MEMORY", "4096")

        plan = make_plan(small_cluster(tmp_path), server, cluster=CLUSTER)

        assert [(one.wanted.name, one.why) for one in plan.having("update")] == [("local01", "MEMORY")]


@pytest.mark.parametrize(
    ("mark", "why"),
    [
        ("", "there is one of this name (id 0) that imgbuild has not made"),
        ('IMGBUILD = [ CLUSTER = "other" ]', "there is one of this name (id 0) of the cluster other"),
    ],
)
def test_somebody_elses_object_of_the_same_name_is_refused(tmp_path: Path, mark: str, why: str) -> None:
    with running() as (endpoint, server):
        server.make_template(wanted("template", f"NAME = local01 {mark}").template)
        before = snapshot(endpoint.oned)

        plan = make_plan(small_cluster(tmp_path), server, cluster=CLUSTER)

        [refused] = plan.having("refuse")
        assert (refused.why, refused.fix) == (why, "rename it: onetemplate rename 0 NAME")
        assert snapshot(endpoint.oned) == before


def test_another_users_object_of_the_same_name_is_in_nobodys_way(tmp_path: Path) -> None:
    with running() as (endpoint, server):
        client(endpoint.url, session="alice:wonderland").make_template(wanted("template", "NAME = local01").template)

        plan = make_plan(small_cluster(tmp_path), server, cluster=CLUSTER)

        assert len(plan.having("create")) == 4


def test_a_host_that_was_there_before_is_left_as_it_is() -> None:
    with running() as (endpoint, server):
        server.make_host("host01", Drivers(information="qemu", machines="kvm"))
        before = snapshot(endpoint.oned)

        done = apply(server, host())

        assert (done, snapshot(endpoint.oned)) == (["unchanged host host01"], before)


def test_a_range_that_a_machine_uses_is_not_changed(tmp_path: Path) -> None:
    with running() as (_, server):
        apply(server, *small_cluster(tmp_path))
        server.instantiate(2, "")

        plan = make_plan(changed_cluster(tmp_path), server, cluster=CLUSTER)

        [refused] = plan.having("refuse")
        assert refused.why == "the range of 10.1.1.55 shall be another one, and is in use"


def test_ranges_of_other_people_and_those_in_use_stay(tmp_path: Path) -> None:
    foreign = wanted("network", 'AR = [ TYPE = "IP4", IP = "10.1.1.200", SIZE = "9" ]').template.vectors("AR")[0]
    without = NETWORK.rpartition("AR = ")[0].replace("10.1.1.55", "10.1.1.77")
    with running() as (endpoint, server):
        apply(server, *small_cluster(tmp_path))
        server.instantiate(2, "")
        server.add_range(0, foreign)

        apply(server, wanted("network", without))

        assert [one.ip for one in endpoint.oned.networks[0].ranges] == ["10.1.1.55", "10.1.1.200", "10.1.1.77"]


def test_an_image_whose_copy_failed_earlier_is_named_with_its_removal(tmp_path: Path) -> None:
    with running(Oned(polls_until_ready=0)) as (endpoint, server):
        made = server.make_image(small_cluster(tmp_path)[1].template, 1)
        endpoint.oned.images[made].attributes.append(("IMGBUILD", {"CLUSTER": CLUSTER}))
        endpoint.oned.copying_fails = True

        plan = make_plan([image(tmp_path / "disk.raw")], server, cluster=CLUSTER)

        [refused] = plan.having("refuse")
        assert "it is in the state ERROR: Sun Nov 29" in refused.why
        assert refused.fix == "remove it, and run this again: oneimage delete 0"


def test_an_image_that_is_still_copied_is_waited_for(tmp_path: Path) -> None:
    with running(Oned(polls_until_ready=4)) as (endpoint, server):
        made = server.make_image(small_cluster(tmp_path)[1].template, 1)
        endpoint.oned.images[made].attributes.append(("IMGBUILD", {"CLUSTER": CLUSTER, "WROTE": "DEV_PREFIX"}))

        done = apply(server, image(tmp_path / "disk.raw"))

        assert done == ["unchanged image squirrel-local01-1111"]
        assert endpoint.oned.images[made].state == 1


def test_an_image_that_cannot_be_copied_is_undone_with_all_before_it(tmp_path: Path) -> None:
    with running(Oned(copying_fails=True)) as (endpoint, server):
        with pytest.raises(RemoteError, match="Not allowed to copy image file") as error:
            apply(server, *small_cluster(tmp_path))

        assert "SAFE_DIRS" in str(error.value)
        assert endpoint.oned.things() == []


def test_an_image_that_never_gets_ready_is_undone(tmp_path: Path) -> None:
    patience = Patience(poll_s=0.01, image_s=0.1, network_s=5, undo_s=0.1)
    oned = Oned()
    with running(oned) as (_, server):
        apply(server, wanted("network", NETWORK))
        oned.polls_until_ready = 10**6

        with pytest.raises(RemoteError, match=r"was not ready after 0\.1 s"):
            apply(server, image(tmp_path / "disk.raw"), patience=patience)

        assert oned.things() == [("virtual network", "squirrel-private")]


@pytest.mark.parametrize("how", ["internal", "drop", "gateway"])
@pytest.mark.parametrize("number", range(len(FIRST)))
def test_a_first_run_that_fails_at_any_call_leaves_nothing(tmp_path: Path, number: int, how: How) -> None:
    with running() as (endpoint, server):
        endpoint.faults[number] = how

        with pytest.raises(RemoteError) as error:
            apply(server, *small_cluster(tmp_path), patience=PATIENT)

        assert FIRST[number] in str(error.value)
        assert (type(error.value) is LeftoversError, endpoint.oned.things()) == (False, [])


@pytest.mark.parametrize("how", ["internal", "drop", "lose"])
@pytest.mark.parametrize("number", range(len(CHANGE)))
def test_a_change_that_fails_at_any_call_is_taken_back(tmp_path: Path, number: int, how: How) -> None:
    with running() as (endpoint, server):
        apply(server, *small_cluster(tmp_path))
        before = snapshot(endpoint.oned)
        endpoint.methods.clear()
        endpoint.faults[number] = how

        with pytest.raises(RemoteError) as error:
            apply(server, *changed_cluster(tmp_path), run="run2", patience=PATIENT)

        assert CHANGE[number] in str(error.value)
        assert (type(error.value) is LeftoversError, snapshot(endpoint.oned)) == (False, before)


@pytest.mark.parametrize("number", [number for number, name in enumerate(FIRST) if name != "one.host.allocate"])
@pytest.mark.parametrize("how", ["lose", "interrupt"])
def test_what_was_made_though_the_answer_was_lost_is_found_and_removed(tmp_path: Path, number: int, how: How) -> None:
    with running() as (endpoint, server):
        endpoint.faults[number] = how

        with pytest.raises((RemoteError, KeyboardInterrupt)) as error:
            apply(server, *small_cluster(tmp_path), patience=PATIENT)

    assert (type(error.value) is LeftoversError, endpoint.oned.things()) == (False, [])


@pytest.mark.parametrize("method", ["one.vn.allocate", "one.image.allocate", "one.template.allocate"])
def test_what_was_made_only_after_its_connection_was_lost_is_removed(tmp_path: Path, method: str) -> None:
    with running() as (endpoint, server):
        endpoint.faults[FIRST.index(method)] = "late"

        with pytest.raises(RemoteError, match="the connection was lost"):
            apply(server, *small_cluster(tmp_path), patience=replace(PATIENT, lost_s=10))

    assert endpoint.oned.things() == []


def test_a_host_whose_answer_was_lost_is_listed_for_it_cannot_say_who_made_it(tmp_path: Path) -> None:
    with running() as (endpoint, server):
        endpoint.faults[FIRST.index("one.host.allocate")] = "lose"

        with pytest.raises(LeftoversError) as error:
            apply(server, *small_cluster(tmp_path))

        assert endpoint.oned.things() == [("host", "host01")]
        assert [(one.what, one.undo_command) for one in error.value.leftovers] == [
            ("perhaps host host01: the answer to its making was lost", "onehost delete host01")
        ]


def test_an_object_of_another_run_is_not_taken_for_one_that_was_lost(tmp_path: Path) -> None:
    with running() as (endpoint, server):
        plan = make_plan(small_cluster(tmp_path), server, cluster=CLUSTER)
        apply(server, wanted("template", MACHINE), run="another")
        endpoint.methods.clear()

        with pytest.raises(RemoteError, match="NAME is already taken"):
            apply_planned(plan, server)

        assert endpoint.oned.things() == [("VM template", "local01")]


def test_what_cannot_be_undone_is_listed_with_its_commands(tmp_path: Path) -> None:
    first = FIRST.index("one.template.allocate")
    with running() as (endpoint, server):
        endpoint.faults.update(dict.fromkeys(range(first, first + 9), "internal"))

        with pytest.raises(LeftoversError) as error:
            apply(server, *small_cluster(tmp_path))

        assert str(error.value) == (
            f"{endpoint.url}: one.template.allocate: Cannot update the DB.\n"
            "  fix: see /var/log/one/oned.log on the front-end\n"
            "  left behind; remove each with the command below it:\n"
            "  image squirrel-local01-1111\n"
            "    oneimage delete 1\n"
            "  network squirrel-private\n"
            "    onevnet delete 0"
        )


def test_a_server_that_goes_away_for_good_ends_the_run_and_all_is_listed(tmp_path: Path) -> None:
    with running(timeout_s=0.3) as (endpoint, server):
        endpoint.faults.update(dict.fromkeys(range(FIRST.index("one.image.info"), 99), "hang"))

        with pytest.raises(LeftoversError) as error:
            apply(server, *small_cluster(tmp_path))

    assert [one.undo_command for one in error.value.leftovers] == ["oneimage delete 1", "onevnet delete 0"]
