"""Writes plans into copies of their bases, all in one appliance, and checks that what was foreseen is there."""

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.errors import BuildError
from imagebuilder.image.appliance import Disk, DiskFormat, open_appliance
from imagebuilder.image.bootstrap import SOURCE_DATE_EPOCH
from imagebuilder.image.file_system import FileSystem
from imagebuilder.plan.changes import MakeDirectory, MakeLink, RemovePath, WriteFile
from imagebuilder.plan.plan import Plan

_MOST_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Job:
    """One plan and the fresh copy of its base to write it into."""

    plan: Plan
    disk: Path
    format: DiskFormat
    root_device: str


def apply_plans(
    jobs: Sequence[Job],
    *,
    environment: Mapping[str, str],
    log: Path,
    on_step: Callable[[str], None],
    verbose: bool = False,
) -> None:
    """Write each plan into its disk. Raises BuildError if a disk is not afterwards what its plan foresees."""
    disks = [Disk(path=job.disk, format=job.format, access="write") for job in jobs]
    with open_appliance(disks, environment=environment, log=log, on_step=on_step, verbose=verbose) as appliance:
        for index, job in enumerate(jobs):
            on_step(f"write {job.plan.name}")
            with appliance.mounted(index, job.root_device) as root:
                root.remove(change.path for change in job.plan.changes if isinstance(change, RemovePath))
                root.write_tar(archive_of(job.plan))
                root.sync()
                _check(job.plan, root)
        on_step("close the appliance")


def archive_of(plan: Plan) -> bytes:
    """Everything that the plan writes as one tar archive, in the plan's order and with a fixed time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8") as archive:
        for change in plan.changes:
            member = tarfile.TarInfo(str(change.path).lstrip("/"))
            member.mtime = SOURCE_DATE_EPOCH
            match change:
                case WriteFile() | MakeDirectory():
                    # No names: tar would prefer them to the numbers, and ask the appliance's own accounts.
                    member.mode, member.uid, member.gid = (
                        change.mode,
                        plan.uids[change.owner],
                        plan.gids[change.group],
                    )
                case MakeLink():
                    member.type, member.linkname = tarfile.SYMTYPE, change.target
                case RemovePath():
                    continue
            if isinstance(change, MakeDirectory):
                member.type = tarfile.DIRTYPE
            content = change.payload if isinstance(change, WriteFile) else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _check(plan: Plan, root: FileSystem) -> None:
    foreseen = dict(plan.entries())
    found = root.entries(foreseen)
    wrong = [
        f"{path} should be {entry or 'gone'}, but is {found.get(path, 'not there')}"
        for path, entry in foreseen.items()
        if found.get(path) != entry
    ]
    if wrong:
        more = f" (and {len(wrong) - _MOST_SHOWN} more)" if len(wrong) > _MOST_SHOWN else ""
        what = "the image is not what its plan foresees: " + "; ".join(wrong[:_MOST_SHOWN]) + more
        raise BuildError(what, where=plan.name, fix="run `imgbuild doctor`; if it finds nothing, report this")
