"""Further lines of /etc/fstab."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import Intent, MakeDirectory, SetLine
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
