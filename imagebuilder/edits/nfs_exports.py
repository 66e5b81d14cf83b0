"""The directories that the server exports."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import MakeDirectory
from imagebuilder.plan.check import Check, Instance, Matches
from imagebuilder.recipe.cluster import Export

# What exportfs(8) lists just as exports(5) has it.
_LISTED = {
    *("ro", "rw", "sync", "async", "secure", "insecure", "no_subtree_check"),
    *("root_squash", "no_root_squash", "all_squash", "no_all_squash"),
}


class NfsExports(Edit):
    """Writes /etc/exports: each export of the cluster description, to the private network only.

    Users go by number over NFS, not by name: idmapd, which translates, does not run.
    """

    overlay: ClassVar[str] = "nfs-exports"
    packages: ClassVar[tuple[str, ...]] = ("nfs-kernel-server",)
    services: ClassVar[tuple[str, ...]] = ("nfs-server.service",)

    def variables(self, machine: Machine) -> Mapping[str, object]:
        cluster = machine.cluster
        rows = [(path, ",".join(export.options)) for path, export in sorted(cluster.recipe.exports.items())]
        return {"exports": rows, "clients": cluster.private.subnet}

    def intents(self, machine: Machine) -> Iterator[MakeDirectory]:
        for path in sorted(machine.cluster.recipe.exports):
            if path not in {"/home", machine.cluster.cell_directory}:
                yield MakeDirectory(path=PurePosixPath(path))

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        clients = re.escape(str(machine.cluster.private.subnet))
        exports = sorted(machine.cluster.recipe.exports.items())
        yield Check(
            name="exports",
            proves="each export is there with its options, for the private network and for nobody else",
            command=("exportfs", "-s"),
            expects=Matches(
                patterns=(
                    *(rf"^{re.escape(path)}\s+{clients}\({_has_options(export)}" for path, export in exports),
                    rf"\A(/\S*\s+{clients}\(\S*\)\n)*\Z",
                )
            ),
        )


def _has_options(export: Export) -> str:
    """A pattern that looks ahead for each option as a word of its own."""
    return "".join(rf"(?=(.*,)?{option}[,)])" for option in export.options if option in _LISTED)
