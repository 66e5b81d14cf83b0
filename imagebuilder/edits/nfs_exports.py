"""The directories that the server exports."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import MakeDirectory


class NfsExports(Edit):
    """Writes /etc/exports: each export of the cluster description, to the private network only."""

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
