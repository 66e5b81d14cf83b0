"""`imgbuild one --apply` and `imgbuild one vm`, as a user runs them against the stand-in."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.image.store import LISTING, PLAN, Store
from tests.command import IMGBUILD, Outcome, Run, environment
from tests.machines import PROJECT
from tests.one_files import image
from tests.opennebula.endpoint import Endpoint, serving
from tests.opennebula.oned import Oned
from tests.opennebula.pools import PENDING
from tests.opennebula.state import PASSWORD

pytestmark = pytest.mark.remote

One = Callable[..., Outcome]
KEYS = {"oneserver": "1" * 64, "local01": "2" * 64, "worker": "3" * 64}


def publish(site: Path, role: str, name: str, key: str, suffix: str = "raw") -> None:
    store = Store(root=site / "store")
    with store.new_directory(store.image_directory(role, name)) as new:
        (new / f"disk.{suffix}").write_text("disk")
        (new / PLAN).write_text("[]")
        (new / LISTING).write_bytes(b"")
        store.publish(new, replace(image(name, role, key, format=suffix), directory=new))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The shipped site with finished images, and the login of oneadmin in its home."""
    shutil.copytree(PROJECT / "recipes", tmp_path / "recipes")
    for role, name in (("server", "oneserver"), ("node", "local01"), ("worker", "worker")):
        publish(tmp_path, role, name, KEYS[name])
    (tmp_path / ".one").mkdir()
    (tmp_path / ".one/one_auth").write_text(f"oneadmin:{PASSWORD}\n")
    return tmp_path


@pytest.fixture
def endpoint(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """An oned that the user's environment names."""
    monkeypatch.setenv("HOME", str(site))
    monkeypatch.delenv("ONE_AUTH", raising=False)
    with serving(Oned(polls_until_ready=0)) as endpoint:
        monkeypatch.setenv("ONE_XMLRPC", endpoint.url)
        yield endpoint


@pytest.fixture
def one(site: Path, endpoint: Endpoint, run: Run, monkeypatch: pytest.MonkeyPatch) -> One:
    """Runs `imgbuild one` on the site, in this process."""
    assert endpoint.methods == []
    monkeypatch.setenv("IMGBUILD_DIRECTORY", str(site))
    monkeypatch.setenv("IMGBUILD_STORE", str(site / "store"))

    def imgbuild_one(*words: str, before: tuple[str, ...] = ()) -> Outcome:
        code, out, err = run(*before, "one", *words)
        return Outcome(code=code, out=out, err=err)

    return imgbuild_one


def test_a_cluster_is_applied_and_then_there_is_nothing_to_do(endpoint: Endpoint, one: One) -> None:
    first = one("--apply")
    second = one("--apply")

    assert first.code == 0
    assert first.out == (
        "create     network   squirrel-private\n"
        "create     network   squirrel-public\n"
        "create     image     squirrel-oneserver-111111111111\n"
        "create     image     squirrel-local01-222222222222\n"
        "create     image     squirrel-worker-333333333333\n"
        "create     template  oneserver\n"
        "create     template  local01\n"
        "create     template  worker\n"
    )
    assert first.err.splitlines()[0] == f"imgbuild: {endpoint.url}, as oneadmin"
    assert second.out.splitlines()[:3] == [
        "unchanged  network   squirrel-private  (id 0)",
        "unchanged  network   squirrel-public  (id 1)",
        "unchanged  image     squirrel-oneserver-111111111111  (id 2)",
    ]
    assert {line.split()[0] for line in second.out.splitlines()} == {"unchanged"}


def test_a_dry_run_shows_the_plan_and_does_nothing(endpoint: Endpoint, one: One) -> None:
    done = one("--apply", "-n")

    assert (done.code, len(done.out.splitlines()), endpoint.oned.things()) == (0, 8, [])
    assert "imgbuild: nothing was done" in done.err


def test_a_new_build_is_a_new_image_and_the_old_one_is_named(site: Path, endpoint: Endpoint, one: One) -> None:
    one("--apply")
    publish(site, "server", "oneserver", "4" * 64)

    done = one("--apply")

    assert done.code == 0
    assert "create     image     squirrel-oneserver-444444444444\n" in done.out
    assert "update     template  oneserver  (id 5)  DISK\n" in done.out
    old = "id 2, holds what its machine has written; remove it with `oneimage delete 2`"
    assert f"old        image     squirrel-oneserver-111111111111  ({old})\n" in done.out
    assert 2 in endpoint.oned.images


def test_only_what_was_named_is_applied_and_nothing_else_is_called_old(one: One) -> None:
    one("--apply")

    done = one("--apply", "local01")

    assert done.out == (
        "unchanged  image     squirrel-local01-222222222222  (id 3)\nunchanged  template  local01  (id 6)\n"
    )


def test_the_hosts_of_the_recipe_are_made(site: Path, endpoint: Endpoint, one: One) -> None:
    recipe = site / "recipes/cluster.yaml"
    recipe.write_text(f'{recipe.read_text()}\nopennebula:\n  hosts: ["host[01-02]"]\n')

    done = one("--apply")

    assert done.code == 0
    assert [(host.name, host.im_mad, host.vm_mad) for host in endpoint.oned.hosts.values()] == [
        ("host01", "kvm", "kvm"),
        ("host02", "kvm", "kvm"),
    ]


def test_the_plan_is_there_for_programs(one: One) -> None:
    done = json.loads(one("--apply", "--json").out)

    assert done["changes"][2] == {
        "action": "create",
        "kind": "image",
        "name": "squirrel-oneserver-111111111111",
        "id": 2,
        "why": "",
    }
    assert done["outdated"] == []


def test_the_front_end_may_see_the_store_elsewhere(site: Path, endpoint: Endpoint, one: One) -> None:
    (site / "seen").symlink_to(site / "store")

    done = one("--apply", "local01", "--store-on-front-end", str(site / "seen"))

    assert done.code == 0
    [image] = endpoint.oned.images.values()
    assert image.path == f"{site}/seen/images/node/local01/{KEYS['local01']}/disk.raw"


def test_somebody_elses_template_stops_the_run_before_it_begins(endpoint: Endpoint, one: One) -> None:
    endpoint.oned.answer("one.template.allocate", (f"oneadmin:{PASSWORD}", "NAME = local01"))

    done = one("--apply")

    assert (done.code, endpoint.oned.things()) == (1, [("VM template", "local01")])
    why = "there is one of this name (id 0) that imgbuild has not made"
    assert f"refuse     template  local01  (id 0)  {why}\n" in done.out
    assert done.err.endswith(
        f"imgbuild: {endpoint.url}: template local01: {why}; nothing was done\n"
        "  fix: rename it: onetemplate rename 0 NAME\n"
    )


def test_a_cluster_with_a_machine_that_is_not_built_is_not_applied(site: Path, endpoint: Endpoint, one: One) -> None:
    shutil.rmtree(site / "store/images/node/local01")

    done = one("--apply")

    assert (done.code, endpoint.methods) == (2, [])
    assert "local01: has no finished image, which a whole cluster needs\n" in done.err


def test_a_thin_image_is_refused_before_oned_is_asked(site: Path, endpoint: Endpoint, one: One) -> None:
    publish(site, "node", "local01", "5" * 64, "qcow2")

    done = one("--apply")

    assert (done.code, endpoint.methods) == (2, [])
    assert done.err.endswith("  fix: imgbuild build local01 --format raw\n")


@pytest.mark.parametrize("words", [("--release", "5"), ("--output", "out"), ("--part", "vm")])
def test_what_does_not_go_with_apply_is_refused(endpoint: Endpoint, one: One, words: tuple[str, str]) -> None:
    done = one("--apply", *words)

    assert (done.code, endpoint.methods) == (2, [])


def test_a_failure_leaves_nothing_and_says_so_with_its_code(endpoint: Endpoint, one: One) -> None:
    endpoint.oned.copying_fails = True

    done = one("--apply")

    assert (done.code, endpoint.oned.things()) == (6, [])
    assert "Error copying image in the datastore: Not allowed to copy image file" in done.err


def test_what_is_left_is_listed_with_its_code(endpoint: Endpoint, one: One) -> None:
    endpoint.faults.update(dict.fromkeys(range(8, 99), "internal"))

    done = one("--apply")

    assert done.code == 7
    assert "  network squirrel-private\n    onevnet delete 0\n" in done.err


def test_an_interrupted_run_cleans_up(site: Path, endpoint: Endpoint) -> None:
    endpoint.oned.polls_until_ready = 10**6
    running = subprocess.Popen(
        [IMGBUILD, "one", "--apply", "local01"], env=environment(site), stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    said = iter(running.stderr.readline, "imgbuild: create image squirrel-local01-222222222222\n")
    before = list(said)

    running.send_signal(signal.SIGINT)
    _, rest = running.communicate(timeout=60)

    assert (running.returncode, endpoint.oned.things(), len(before)) == (130, [], 1)
    assert rest.endswith("imgbuild: interrupted; what was begun is cleaned up\n")


def test_without_a_login_the_exit_code_is_that_of_this_machine(site: Path, endpoint: Endpoint, one: One) -> None:
    (site / ".one/one_auth").unlink()

    done = one("--apply")

    assert (done.code, endpoint.methods) == (4, [])


def test_a_wrong_password_is_not_shown(site: Path, one: One) -> None:
    (site / ".one/one_auth").write_text("oneadmin:not-the-Pa55word")

    done = one("--apply", before=("-v",))

    assert done.code == 6
    assert "User couldn't be authenticated" in done.err
    assert "not-the-Pa55word" not in done.out + done.err


def test_no_password_is_in_what_a_run_says_and_leaves(site: Path, one: One) -> None:
    done = one("--apply", before=("-v",))
    shown = one("vm", "list", "--json", before=("-v",))

    files = [path for path in (site / "store").rglob("*") if path.is_file() and PASSWORD in path.read_text("latin-1")]
    assert PASSWORD not in done.out + done.err + shown.out + shown.err
    assert files == []


def test_machines_are_created_listed_and_shown_as_onevm_does(one: One) -> None:
    one("--apply")

    created = one("vm", "create", "local01")
    listed = [one("vm", "list").out for _ in range(4)]
    shown = one("vm", "show", "8")

    assert (created.code, created.out) == (0, "ID: 8\n")
    assert created.err == "imgbuild: next: `imgbuild one vm list`, `imgbuild one vm show 8`\n"
    assert [re.sub(" +", " ", out.splitlines()[1]) for out in listed] == [
        "8 local01-8 pend 1 1024M 0d 00h00",
        "8 local01-8 prol 1 1024M host01 0d 00h00",
        "8 local01-8 boot 1 1024M host01 0d 00h00",
        "8 local01-8 runn 1 1024M host01 0d 00h00",
    ]
    assert listed[0].splitlines()[0].split() == ["ID", "NAME", "STAT", "CPU", "MEM", "HOSTNAME", "TIME"]
    told = re.sub(r"\d\d/\d\d \d\d:\d\d:\d\d", "TIME", re.sub(r"RUN=[0-9a-f]{12}", "RUN=RUN", shown.out))
    assert told == (Path(__file__).parent / "vm_show.txt").read_text()


def test_machines_are_there_for_programs(one: One) -> None:
    one("--apply")

    created = json.loads(one("vm", "create", "local01", "--name", "mine", "--json").out)
    [listed] = json.loads(one("vm", "list", "--json").out)
    shown = json.loads(one("vm", "show", "8", "--json").out)

    assert created == {"id": 8, "template": "local01", "template_id": 6}
    assert (listed["id"], listed["name"], listed["stat"], listed["mem"]) == (8, "mine", "pend", "1024M")
    assert (shown["vid"], shown["state"], shown["memory"], shown["stop_time"]) == (8, "ACTIVE", None, None)
    assert shown["template"]["NIC"]["IP"] == "10.1.1.55"


def test_a_machine_is_not_created_in_a_dry_run(endpoint: Endpoint, one: One) -> None:
    one("--apply")

    done = one("vm", "create", "local01", "-n")

    assert (done.code, endpoint.oned.machines) == (0, {})
    assert done.err == "imgbuild: would start a machine from the template local01 (id 6)\n"


def test_a_template_that_imgbuild_has_not_made_is_not_used(endpoint: Endpoint, one: One) -> None:
    endpoint.oned.answer("one.template.allocate", (f"oneadmin:{PASSWORD}", "NAME = local02 CPU = 1 MEMORY = 64"))
    one("--apply")

    done = one("vm", "create", "local02")

    assert (done.code, endpoint.oned.machines) == (2, {})
    assert "has no template 'local02' there. Did you mean 'local01'?" in done.err


def test_a_machine_whose_address_is_taken_says_what_oned_says(endpoint: Endpoint, one: One) -> None:
    one("--apply")
    one("vm", "create", "local01")

    done = one("vm", "create", "local01")

    assert (done.code, len(endpoint.oned.machines)) == (6, 1)
    assert "Cannot get IP/MAC lease from virtual network 0." in done.err
    assert next(iter(endpoint.oned.machines.values())).state == PENDING


def test_a_machine_that_is_not_there_is_said(one: One) -> None:
    done = one("vm", "show", "99")

    assert (done.code, done.out) == (6, "")
    assert "Error getting virtual machine [99]." in done.err


def test_templates_are_still_written_without_oned(endpoint: Endpoint, one: One) -> None:
    done = one("local01")

    assert (done.code, endpoint.methods) == (0, [])
    assert 'IMAGE = "squirrel-local01"' in done.out
