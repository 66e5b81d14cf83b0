"""The disk that says to dom0 what to do: the guest's image, its configuration, and dom0's first process."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagebuilder.image.store import Image, Store
from imagebuilder.programs import run_program

_SCRIPT = Path(__file__).with_name("dom0.sh")
# Room for a base, 600 MiB, for what the guest writes, and for a boot.
_SIZE_BYTES = 3 << 30
# Where dom0 sees the disk.
DIRECTORY = Path("/mnt")
_EXPORTED = Path("brought/guest")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A guest to start in dom0, and where dom0 looks for it: addresses on its bridges."""

    image: Image
    configuration: str
    bridges: Mapping[str, str]
    """dom0's own address on each bridge."""
    addresses: Mapping[str, str]
    """The guest's address on each bridge."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """What else is on the disk, by name."""
    folder: Path | None = None
    """An exported folder, whose own `start` starts the guest; `configuration` is of no use then."""


def make_job_disk(job: Job, store: Store, *, scratch: Path) -> Path:
    """The disk, made in `scratch`; the images in it are as they are in the store."""
    tree, disk = scratch / "job", scratch / "job.raw"
    for directory, place in _directories(job, store).items():
        (tree / place).parent.mkdir(parents=True)
        run_program(["cp", "-r", "--preserve=timestamps", "--reflink=auto", "--sparse=always", directory, tree / place])
    (tree / "dom0.sh").write_bytes(_SCRIPT.read_bytes())
    (tree / "guest.cfg").write_text(job.configuration, encoding="utf-8")
    (tree / "settings").write_text(_settings(job, store), encoding="utf-8")
    for name, file in job.files.items():
        (tree / name).write_bytes(file.read_bytes())
    with disk.open("wb") as stream:
        stream.truncate(_SIZE_BYTES)
    run_program(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, disk])
    run_program(["rm", "-r", tree])
    return disk


def _directories(job: Job, store: Store) -> Mapping[Path, Path]:
    """The directories that hold the guest's disk, and where they are on the disk of the job."""
    if job.folder is not None:
        return {job.folder: _EXPORTED}
    base = store.base(job.image.base_digest)
    assert base is not None
    return {place: "store" / place.relative_to(store.root) for place in (job.image.directory, base.directory)}


def _settings(job: Job, store: Store) -> str:
    values = {
        "name": job.image.name,
        "command": str(DIRECTORY / _EXPORTED / "start") if job.folder else f"xl create {DIRECTORY / 'guest.cfg'}",
        "store": str(store.root.absolute()),
        "bridges": " ".join(f"{bridge}={address}" for bridge, address in job.bridges.items()),
        "addresses": " ".join(f"{bridge}={address}" for bridge, address in job.addresses.items()),
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
