"""What a machine mounts from the server."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import Intent, MakeDirectory, SetLine

_FSTAB = PurePosixPath("/etc/fstab")

# Mounted when first used, so that neither the boot nor a login waits for the server; mount.nfs then goes on trying
# for this many minutes and systemd sets it no limit: a machine that boots before the server waits for it.
_PATIENCE = (
    "nofail",
    "retry=10000",
    "x-systemd.automount",
    "x-systemd.mount-timeout=infinity",
    "x-systemd.requires=imgbuild-private.target",
)


class NfsMounts(Edit):
    """Adds a line to /etc/fstab for each export of the server and keeps every other line."""

    packages: ClassVar[tuple[str, ...]] = ("nfs-common",)

    def intents(self, machine: Machine) -> Iterator[Intent]:
        cluster = machine.cluster
        for path, export in sorted(cluster.recipe.exports.items()):
            options = ",".join((*export.mount_options, *_PATIENCE))
            yield MakeDirectory(path=PurePosixPath(path))
            yield SetLine(
                path=_FSTAB,
                line=f"{cluster.server.name}:{path} {path} nfs {options} 0 0",
                replaces=re.compile(rf"^\s*[^#\s]\S*\s+{re.escape(path)}\s"),
            )
