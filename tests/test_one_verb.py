"""`imgbuild one`, as a user runs it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from imagebuilder.ec2.records import Record, Records
from imagebuilder.image.store import LISTING, PLAN, Image, Store
from tests.command import Outcome, imgbuild
from tests.machines import PROJECT
from tests.one_files import image

KEYS = {"oneserver": "1" * 64, "local01": "2" * 64, "worker": "3" * 64}


def publish(store: Store, role: str, name: str, key: str) -> Image:
    with store.new_directory(store.image_directory(role, name)) as new:
        (new / "disk.raw").write_text("disk")
        (new / PLAN).write_text("[]")
        (new / LISTING).write_bytes(b"")
        return store.publish(new, replace(image(name, role, key), directory=new))


def register(
    store: Store,
    *,
    ami: str = "ami-0123456789abcdef0",
    key: str = "3" * 64,
    region: str = "eu-west-1",
    name: str | None = None,
) -> None:
    record = Record(
        ami=ami,
        snapshot=None,
        name=name or f"squirrel-worker-{key[:12]}",
        region=region,
        key=key,
        base_digest="d" * 64,
        blocks_sent=0,
        bytes_sent=0,
        seconds=1.0,
        registered_at="2026-11-22T10:00:00+00:00",
    )
    Records.of(store, region).write(record)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    shutil.copytree(PROJECT / "recipes", tmp_path / "recipes")
    store = Store(root=tmp_path / "store")
    for role, name in (("server", "oneserver"), ("node", "local01"), ("worker", "worker")):
        publish(store, role, name, KEYS[name])
    return tmp_path


def store_of(site: Path) -> Store:
    return Store(root=site / "store")


def one(site: Path, *words: str) -> Outcome:
    return imgbuild(site, "one", *words)


def test_everything_is_printed_for_the_latest_release(site: Path) -> None:
    done = one(site)

    assert done.code == 0
    assert 'NAME            = "squirrel-private"' in done.out
    assert f'PATH       = "{site}/store/images/node/local01/{KEYS["local01"]}/disk.raw"' in done.out
    assert "onetemplate create local01.template" in done.out


def test_the_workers_template_has_the_registered_ami_and_nothing_else_is_printed(site: Path) -> None:
    register(store_of(site))

    done = one(site, "worker", "--release", "1")

    assert (done.code, done.err) == (0, "")
    assert 'AMI              = "ami-0123456789abcdef0"' in done.out
    assert done.out.count("\nNAME ") == 1


def test_a_role_that_was_asked_for_without_an_ami_is_refused(site: Path) -> None:
    done = one(site, "worker", "--release", "5")

    assert (done.code, done.out) == (2, "")
    assert "no AMI of the workers is registered" in done.err
    assert "fix: run `imgbuild bundle worker --register`" in done.err


def test_without_names_what_has_no_ami_is_left_out_and_said(site: Path) -> None:
    done = one(site, "--release", "5", "--part", "vm")

    assert done.code == 0
    assert "PUBLIC_CLOUD" not in done.out
    assert "left out: no AMI of the workers is registered" in done.err


def test_an_ami_of_an_older_build_is_used_and_said_to_be_one(site: Path) -> None:
    register(store_of(site), key="4" * 64)

    done = one(site, "worker", "--release", "5")

    assert (done.code, "ami-0123456789abcdef0" in done.out) == (0, True)
    assert "was made from an older build" in done.err


def test_an_ami_with_a_name_of_its_own_is_known_by_what_it_was_made_from(site: Path) -> None:
    register(store_of(site), name="my-workers")

    done = one(site, "worker", "--release", "5")

    assert (done.code, done.err, "ami-0123456789abcdef0" in done.out) == (0, "", True)


def test_an_ami_of_this_build_goes_before_one_of_an_older(site: Path) -> None:
    register(store_of(site), ami="ami-0000000000000000b", key="4" * 64)
    register(store_of(site))

    done = one(site, "worker", "--release", "5")

    assert (done.err, "ami-0123456789abcdef0" in done.out, "ami-0000000000000000b" in done.out) == ("", True, False)


def test_an_ami_in_several_regions_needs_one_chosen(site: Path) -> None:
    register(store_of(site))
    register(store_of(site), region="us-east-1", ami="ami-0000000000000000a")

    undecided = one(site, "worker", "--release", "5")
    decided = one(site, "worker", "--release", "5", "--region", "us-east-1")

    assert (undecided.code, "choose one with --region" in undecided.err) == (2, True)
    assert (decided.code, "ami-0000000000000000a" in decided.out) == (0, True)


def test_a_machine_without_a_finished_image_is_refused(site: Path) -> None:
    shutil.rmtree(site / "store" / "images" / "node")

    done = one(site, "local01")

    assert (done.code, done.out) == (2, "")
    assert "there is no finished image 'local01'\n  fix: run `imgbuild build local01`" in done.err


def test_an_unknown_machine_is_refused(site: Path) -> None:
    done = one(site, "locall01")

    assert (done.code, "Did you mean 'local01'?" in done.err) == (2, True)


def test_the_hosts_are_of_the_whole_cluster(site: Path) -> None:
    done = one(site, "local01", "--part", "hosts")

    assert (done.code, "--part hosts is of the whole cluster" in done.err) == (2, True)


def test_the_files_are_written_where_they_are_asked_for(site: Path) -> None:
    done = one(site, "--output", str(site / "one"))

    script = site / "one" / "hosts.sh"
    assert (done.code, done.out) == (0, "")
    assert {file.name for file in (site / "one").iterdir()} >= {"local01.template", "local01.image", "hosts.sh"}
    assert script.stat().st_mode & 0o777 == 0o755


def test_a_dry_run_writes_nothing(site: Path) -> None:
    done = one(site, "--output", str(site / "one"), "-n")

    assert (done.code, "would write" in done.err) == (0, True)
    assert not (site / "one").exists()


def test_json_has_each_file_with_its_part(site: Path) -> None:
    rows = json.loads(one(site, "local01", "--json").out)

    assert [(row["name"], row["part"]) for row in rows] == [("local01.image", "image"), ("local01.template", "vm")]


def test_lint_prints_each_fault_and_exits_with_1(site: Path) -> None:
    file = site / "vm.template"
    file.write_text("CPU = 1\nMEMROY = 1024\n")

    done = one(site, "--lint", str(file))

    assert done.code == 1
    assert f"{file}:2:1: unknown attribute MEMROY. Did you mean 'MEMORY'?" in done.out


def test_lint_says_nothing_of_a_sound_template(site: Path) -> None:
    one(site, "--output", str(site / "one"))

    done = one(site, "--lint", str(site / "one" / "local01.template"), "--lint", str(site / "one" / "local01.image"))

    assert (done.code, done.out, done.err) == (0, "", "")


def test_lint_sees_windows_line_ends(site: Path) -> None:
    file = site / "vm.template"
    file.write_bytes(b"CPU = 1\r\nMEMORY = 1024\r\n")

    done = one(site, "--lint", str(file), "--json")

    assert [row["column"] for row in json.loads(done.out)] == [8]


def test_lint_of_a_file_that_is_not_there_is_refused(site: Path) -> None:
    done = one(site, "--lint", str(site / "none.template"))

    assert (done.code, "cannot be read: No such file or directory" in done.err) == (2, True)
