import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from imagebuilder.cli.settings import Settings
from imagebuilder.cli.watch import follow
from imagebuilder.image import bases
from imagebuilder.image.bases import Bench
from imagebuilder.image.bootstrap import recipe_key
from imagebuilder.image.build import image_key, plan_images
from imagebuilder.image.store import LISTING, PLAN, TARGET, Image, Store, StoredBase
from imagebuilder.plan.listing import Listing
from imagebuilder.recipe.foundation import DebianBase
from imagebuilder.rehearse.leavings import HOLDER
from imagebuilder.rehearse.networks import Holder
from imagebuilder.rehearse.outcome import CheckOutcome
from tests.command import Run
from tests.machines import PROJECT, debian, shipped_site


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an image of each machine as the recipes say; nothing is on their disks."""
    store = Store(root=tmp_path_factory.mktemp("store"))
    site = shipped_site()
    bench = Bench(store=store, environment=dict, log=store.root / "log", on_step=lambda _: None)
    [recipe] = {site.base_of(machine) for machine in site.machines()}
    assert isinstance(recipe, DebianBase)
    with store.new_directory(store.bases_directory) as new:
        (new / "disk.raw").touch()
        (new / TARGET).write_text(debian().to_json(), encoding="utf-8")
        Listing({}).write(new / LISTING)
        base = StoredBase(digest=debian().digest, format="raw", directory=new)
        store.publish_base(new, base, recipe_key=recipe_key(bases._description(recipe)))
    for planned in plan_images(site, site.machines(), lambda _: None, bench):
        with store.new_directory(store.image_directory(planned.plan.role, planned.plan.name)) as new:
            (new / "disk.qcow2").write_bytes(b"QFI\xfb")
            (new / PLAN).write_text("[]", encoding="utf-8")
            image = Image(
                role=planned.plan.role,
                name=planned.plan.name,
                key=image_key(planned.plan, "qcow2"),
                format="qcow2",
                directory=new,
                base_digest=base.digest,
                built_at="2026-11-25T12:00:00+00:00",
                inputs={},
            )
            store.publish(new, image)
    return store.root


@pytest.fixture
def rehearse(run: Run, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `imgbuild … rehearse …` on this project: exit code, standard output, standard error."""
    monkeypatch.setenv("IMGBUILD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IMGBUILD_PKI_DIR", str(tmp_path / "pki"))

    def rehearse(*words: str, site: Path = PROJECT, store: Path = built) -> tuple[int, str, str]:
        return run("-C", str(site), "--store", str(store), "rehearse", *words)

    return rehearse


def entries(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


# What would be checked


def test_a_dry_run_lists_the_checks_of_the_scenario_and_of_the_edits(rehearse: Run) -> None:
    code, out, err = rehearse("-n")

    names = out.splitlines()
    assert (code, err) == (0, "")
    assert names[:3] == ["faults.early-boot", "faults.early-join", "boot.oneserver.prompt"]
    assert "isolation.revoked" in names
    assert "local01.nis_client.bound" in names
    assert {name.partition(".")[0] for name in names} == {
        *("boot", "ec2", "faults", "isolation", "jobs", "workers"),
        *("oneserver", "local01", "workernode0", "workernode1"),
    }


def test_no_check_is_listed_twice(rehearse: Run) -> None:
    _, out, _ = rehearse("-n")

    names = out.splitlines()
    assert len(set(names)) == len(names)


def test_a_dry_run_touches_nothing(rehearse: Run, built: Path) -> None:
    before = entries(built)

    rehearse("-n")

    assert entries(built) == before


def test_a_dry_run_lists_what_is_asked_for(rehearse: Run) -> None:
    code, out, _ = rehearse("-n", "--only", "jobs", "--only", "*.cut")

    assert (code, out) == (0, "jobs.queue\njobs.spread\nfaults.cut\n")


def test_a_dry_run_as_json_says_what_each_check_proves(rehearse: Run) -> None:
    code, out, _ = rehearse("-n", "--json", "--only", "jobs.queue")

    assert code == 0
    assert json.loads(out) == {
        "jobs.queue": "Grid Engine lists the queue on each machine that runs jobs, and it is well there."
    }


def test_a_worker_more_brings_its_checks(rehearse: Run) -> None:
    _, few, _ = rehearse("-n", "--workers", "1")
    _, many, _ = rehearse("-n", "--workers", "3")

    assert "workernode1." not in few
    assert "workernode2.hostname.name" in many
    assert "workernode3." not in many


# What cannot be


def test_a_check_that_there_is_not_is_wrong_usage_and_the_nearest_is_named(rehearse: Run) -> None:
    code, out, err = rehearse("--only", "jobs", "--only", "isolation.tpc")

    assert (code, out) == (2, "")
    assert err == (
        "imgbuild: there is no check 'isolation.tpc'. Did you mean 'isolation.tcp'?\n"
        "  fix: `imgbuild rehearse -n` lists them\n"
    )


def test_images_that_are_not_built_are_wrong_usage_and_the_fix_builds_them(rehearse: Run, tmp_path: Path) -> None:
    code, out, err = rehearse(store=tmp_path / "empty")

    assert (code, out) == (2, "")
    assert err == (
        "imgbuild: the images of oneserver, local01, worker are not there yet\n"
        "  fix: run `imgbuild build oneserver local01 worker`\n"
    )


def test_images_of_other_recipes_are_wrong_usage_and_the_fix_builds_them(rehearse: Run, tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "recipes", tmp_path / "site/recipes")
    recipe = tmp_path / "site/recipes/cluster.yaml"
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("slots: 1", "slots: 2"), encoding="utf-8")

    code, out, err = rehearse(site=tmp_path / "site")

    assert (code, out) == (2, "")
    assert "not what the recipes say now\n  fix: run `imgbuild build oneserver" in err


def test_an_image_that_a_machine_ran_on_is_wrong_usage(rehearse: Run, built: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(built, store, symlinks=True)
    [disk] = {one.disk for one in Store(root=store).images() if one.name == "local01"}
    disk.write_bytes(b"QFI\xfb and more")

    code, out, err = rehearse(store=store)

    assert (code, out) == (2, "")
    assert "the image of local01 has been written to since it was built" in err
    assert "fix: run `imgbuild build local01`" in err


def test_more_workers_than_the_public_network_has_addresses_are_wrong_usage(rehearse: Run, tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "recipes", tmp_path / "site/recipes")
    recipe = tmp_path / "site/recipes/cluster.yaml"
    small = recipe.read_text(encoding="utf-8").replace("147.96.1.0/24", "147.96.1.96/29")
    recipe.write_text(small, encoding="utf-8")

    code, _, err = rehearse("--workers", "5", site=tmp_path / "site")

    assert code == 2
    assert "rehearse fewer with --workers" in err


@pytest.mark.parametrize("words", [["--workers", "0"], ["--workers", "65"], ["--nodes", "0"], ["--timeout", "0"]])
def test_numbers_that_make_no_sense_are_wrong_usage(words: list[str], rehearse: Run) -> None:
    code, out, _ = rehearse(*words)

    assert (code, out) == (2, "")


@pytest.mark.parametrize("file", ["missing/report.html", "."])
def test_a_report_that_could_not_be_written_stops_all_before_anything_starts(
    file: str, rehearse: Run, built: Path
) -> None:
    before = entries(built)

    code, out, err = rehearse("--report", file)

    assert (code, out) == (4, "")
    assert err == f"imgbuild: {file}: the report cannot be written\n  fix: give a file in a directory of yours\n"
    assert entries(built) == before


# Down


def test_there_may_be_nothing_to_end(rehearse: Run, tmp_path: Path) -> None:
    code, out, err = rehearse("--down", store=tmp_path / "empty", site=tmp_path)

    assert (code, out, err) == (0, "", "imgbuild: none was running\n")
    assert not (tmp_path / "empty").exists()


def test_what_was_kept_is_ended(rehearse: Run, tmp_path: Path) -> None:
    directory = tmp_path / "store/rehearsals/one"
    directory.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as process:
        (directory / HOLDER).write_text(Holder.of(process.pid).to_json(), encoding="utf-8")

        code, _, err = rehearse("--down", store=tmp_path / "store", site=tmp_path)

        assert process.wait(10) == -signal.SIGKILL
    assert (code, err) == (0, "imgbuild: ended 1 rehearsal\n")
    assert not directory.exists()


# What is shown meanwhile


def settings(directory: Path, *, quiet: bool = False) -> Settings:
    return Settings(
        site_directory=directory,
        store=directory / "store",
        cache_directory=directory / "cache",
        verbosity="quiet" if quiet else "normal",
    )


PASSED = CheckOutcome(name="jobs.queue", proves="", verdict="passed", took_s=12.4)
FAILED = CheckOutcome(name="jobs.spread", proves="", verdict="failed", reason="no [job] ran", took_s=180)
SKIPPED = CheckOutcome(name="isolation.expired", proves="", verdict="skipped", reason="there is no CA here")
NOT_REACHED = CheckOutcome(name="faults.cut", proves="", verdict="not reached", reason="the time was over: 60 s")


def test_elsewhere_than_on_a_terminal_each_event_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with follow(settings(tmp_path)) as watcher:
        watcher.guest("worker-1", "boots")
        watcher.begin("jobs.queue")
        watcher.decide(PASSED)
        watcher.decide(FAILED)
        watcher.decide(SKIPPED)
        watcher.decide(NOT_REACHED)

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "    0 s  worker-1 boots",
        "    0 s  ✓ jobs.queue (12 s)",
        "    0 s  ✗ jobs.spread (180 s): no [job] ran",
        "    0 s  - isolation.expired (0 s): there is no CA here",
        "    0 s  ✗ faults.cut (0 s): the time was over: 60 s",
    ]


def test_quiet_shows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with follow(settings(tmp_path, quiet=True)) as watcher:
        watcher.guest("worker-1", "boots")
        watcher.begin("jobs.queue")
        watcher.decide(PASSED)

    assert capsys.readouterr() == ("", "")


def test_how_long_a_check_took_is_remembered_if_it_passed(tmp_path: Path) -> None:
    with follow(settings(tmp_path, quiet=True)) as watcher:
        watcher.decide(PASSED)
        watcher.decide(FAILED)

    file = tmp_path / "cache/rehearsal.json"
    assert json.loads(file.read_text(encoding="utf-8")) == {"jobs.queue": 12.4}
