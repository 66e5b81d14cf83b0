from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path, PurePosixPath

import pytest
import typer

from imagebuilder.cli.settings import Settings
from imagebuilder.cli.verify import describe, verify
from imagebuilder.compare.verify import Verification, verify_images, verify_listing
from imagebuilder.errors import UsageError
from imagebuilder.image.bases import Bench
from imagebuilder.image.build import PlannedImage
from imagebuilder.image.store import LISTING, Image, Store, StoredBase
from imagebuilder.plan.changes import Intent, MakeDirectory, RemovePath, WriteFile
from imagebuilder.plan.listing import Entry, Kind, Listing
from tests.machines import PROJECT, debian, machine_of, plan_of, shipped_site

app = typer.Typer()
app.command()(verify)

ETC = PurePosixPath("/etc")
MOTD = Entry(Kind.FILE, 0o644, 0, 0, size=6, digest="aa" * 32)
HOSTNAME = Entry(Kind.FILE, 0o644, 0, 0, size=8, digest=sha256(b"local01\n").hexdigest())
BASE = Listing({ETC: Entry(Kind.DIRECTORY, 0o755, 0, 0), ETC / "motd": MOTD, ETC / "old": MOTD})
CHANGES: Mapping[str, list[Intent]] = {
    "hostname": [WriteFile(path=ETC / "hostname", content=b"local01\n")],
    "other": [RemovePath(path=ETC / "old"), MakeDirectory(path=ETC / "new")],
}
FORESEEN = {
    ETC: Entry(Kind.DIRECTORY, 0o755, 0, 0),
    ETC / "hostname": HOSTNAME,
    ETC / "motd": MOTD,
    ETC / "new": Entry(Kind.DIRECTORY, 0o755, 0, 0),
}


@pytest.fixture
def planned(tmp_path: Path) -> PlannedImage:
    BASE.write(tmp_path / LISTING)
    return PlannedImage(
        machine=machine_of(shipped_site(), "local01"),
        plan=plan_of(CHANGES, debian(files={"/etc/old": "old"})),
        base=StoredBase(digest="d" * 64, format="raw", directory=tmp_path),
        target=debian(),
        inputs={},
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        site_directory=PROJECT,
        store=tmp_path / "store",
        cache_directory=tmp_path / "cache",
        pki_directory=tmp_path / "pki",
    )


def image_in(directory: Path, role: str = "node", name: str = "local01") -> Image:
    return Image(
        role=role,
        name=name,
        key="1" * 64,
        format="qcow2",
        directory=directory,
        base_digest="d" * 64,
        built_at="2026-11-25T12:00:00+00:00",
        inputs={},
    )


def publish(settings: Settings, role: str, name: str) -> None:
    store = Store(root=settings.store)
    with store.new_directory(store.image_directory(role, name)) as new:
        (new / "disk.qcow2").write_bytes(b"QFI\xfb")
        store.publish(new, image_in(new, role, name))


def verified(planned: PlannedImage, found: dict[PurePosixPath, Entry]) -> Verification:
    return verify_listing(Listing(found), planned, image_in(planned.base.directory))


def refusal(settings: Settings, *words: str) -> str:
    with pytest.raises(UsageError) as raised:
        app(words, standalone_mode=False, obj=settings)
    return str(raised.value)


def test_a_disk_with_all_of_the_base_and_the_plan_is_as_foreseen(planned: PlannedImage) -> None:
    verification = verified(planned, FORESEEN)

    assert (verification.path_count, verification.differences) == (4, ())


def test_what_the_plan_wrote_and_what_is_the_base_s_are_held_alike(planned: PlannedImage) -> None:
    changed = {
        ETC / "hostname": replace(HOSTNAME, mode=0o600),
        ETC / "motd": replace(MOTD, digest="bb" * 32),
        ETC / "old": MOTD,
    }
    found = {path: entry for path, entry in {**FORESEEN, **changed}.items() if path != ETC / "new"}

    [described] = describe([verified(planned, found)])

    assert described == {
        "role": "node",
        "name": "local01",
        "key": "1" * 64,
        "path": str(planned.base.directory / "disk.qcow2"),
        "as_foreseen": False,
        "paths": 4,
        "differences": [
            {
                "path": "/etc/hostname",
                "aspects": ["mode"],
                "foreseen": file("0644", HOSTNAME),
                "found": file("0600", HOSTNAME),
            },
            {
                "path": "/etc/motd",
                "aspects": ["content"],
                "foreseen": file("0644", MOTD),
                "found": {**file("0644", MOTD), "sha256": "bb" * 32},
            },
            {
                "path": "/etc/new",
                "aspects": ["missing"],
                "foreseen": {"type": "directory", "mode": "0755", "uid": 0, "gid": 0},
                "found": None,
            },
            {"path": "/etc/old", "aspects": ["not foreseen"], "foreseen": None, "found": file("0644", MOTD)},
        ],
        "boot": None,
    }


def file(mode: str, entry: Entry) -> dict[str, object]:
    return {"type": "file", "mode": mode, "uid": 0, "gid": 0, "size_bytes": entry.size, "sha256": entry.digest}


def test_nothing_to_verify_starts_no_appliance(tmp_path: Path) -> None:
    def environment() -> dict[str, str]:
        raise AssertionError("an appliance was to start")

    bench = Bench(store=Store(root=tmp_path), environment=environment, log=tmp_path / "log", on_step=print)

    assert verify_images([], bench) == ()


def test_images_that_are_not_built_yet_are_named_together(settings: Settings) -> None:
    publish(settings, "node", "local01")

    said = refusal(settings)

    assert said == "the images of oneserver, worker are not there yet\n  fix: run `imgbuild build oneserver worker`"


def test_an_image_of_another_base_is_refused_and_the_base_is_not_made(settings: Settings) -> None:
    publish(settings, "node", "local01")

    said = refusal(settings, "node")

    assert said == (
        "the image of local01 is not what the recipes say now\n"
        "  fix: run `imgbuild build local01`; `imgbuild why` says what has changed"
    )
    assert not (settings.store / "bases").exists()


def test_a_role_that_is_not_there_is_refused(settings: Settings) -> None:
    assert refusal(settings, "nod").startswith("there is no role or machine 'nod'. Did you mean 'node'?")
