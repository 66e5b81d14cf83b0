"""What a machine mounts from the server."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import Intent, MakeDirectory, SetLine
from imagebuilder.plan.check import Check, Instance, Matches

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
_USE_S = 20  # a mount takes an emulated machine about 2 s


class NfsMounts(Edit):
    """Adds a line to /etc/fstab for each export of the server and keeps every other line."""

    packages: ClassVar[tuple[str, ...]] = ("nfs-common",)
    # For servers that have clients read the disks themselves (pNFS).
    unwanted_services: ClassVar[tuple[str, ...]] = ("nfs-blkmap.service",)

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

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        server = machine.cluster.server
        paths = sorted(machine.cluster.recipe.exports)
        address = re.escape(str(server.addresses["private"]))
        # Who uses an automount waits for as long as the server does not answer; nothing but KILL ends that.
        use = f"timeout --signal=KILL {_USE_S} ls -d {' '.join(f'{path}/.' for path in paths)} >/dev/null"
        yield Check(
            name="mounts",
            proves="each export is mounted when it is used, from the server's private address",
            command=("sh", "-c", f"{use} && findmnt -n -l -t nfs,nfs4 -o TARGET,SOURCE,OPTIONS"),
            expects=Matches(
                patterns=tuple(
                    rf"^{re.escape(path)}\s+{re.escape(f'{server.name}:{path}')}\s+(\S*,)?addr={address}(,|\s)"
                    for path in paths
                )
            ),
            needs="cluster",
            within_s=120,
        )
