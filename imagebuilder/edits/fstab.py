"""Further lines of /etc/fstab."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import Intent, MakeDirectory, SetLine
from imagebuilder.plan.check import Check, Instance, Matches
from imagebuilder.recipe.cluster import AbsolutePath, Word
from imagebuilder.recipe.model import Strict


class Mount(Strict):
    """One file system to mount."""

    device: Word
    """What to mount, best as `LABEL=…` or `UUID=…`."""
    type: Word = "ext4"
    """The file system's type."""
    options: tuple[Word, ...] = ("defaults", "nofail")
    """Options of mount(8)."""


class Fstab(Edit):
    """Sets lines of /etc/fstab by mount point and keeps the rest; what comes by NFS is `nfs_mounts`' business."""

    mounts: dict[AbsolutePath, Mount] = {}
    """File systems by mount point, for example a scratch disk."""

    def intents(self, machine: Machine) -> Iterator[Intent]:
        del machine
        for path, mount in sorted(self.mounts.items()):
            yield MakeDirectory(path=PurePosixPath(path))
            yield SetLine(
                path=PurePosixPath("/etc/fstab"),
                line=f"{mount.device} {path} {mount.type} {','.join(mount.options) or 'defaults'} 0 2",
                replaces=re.compile(rf"^\s*[^#\s]\S*\s+{re.escape(path)}\s"),
            )

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        automatic = sorted(path for path, mount in self.mounts.items() if "noauto" not in mount.options)
        if automatic:
            yield Check(
                name="mounts",
                proves="what is to be mounted at boot is, but for a `nofail` device that the machine does not have",
                command=("sh", "-c", "\n".join(_look(path, self.mounts[path]) for path in automatic)),
                expects=Matches(patterns=tuple(rf"^{re.escape(path)} is (mounted|not needed)$" for path in automatic)),
            )


def _look(path: str, mount: Mount) -> str:
    """Lines of sh that say whether it is mounted. Its words and its path need no quotes there."""
    # `ls` is for x-systemd.automount.
    look = f"ls -d {path}/. >/dev/null; findmnt --mountpoint {path} >/dev/null && echo {path} is mounted"
    # A tmpfs, a bind mount: there is no device to be missed.
    if "nofail" not in mount.options or not re.match(r"/dev/|[A-Z]+=", mount.device):
        return look
    has_device = f"test -e {mount.device}" if mount.device.startswith("/") else f"findfs {mount.device} >/dev/null"
    return f"if {has_device}; then {look}; else echo {path} is not needed; fi"
