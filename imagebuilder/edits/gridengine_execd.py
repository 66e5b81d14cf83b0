"""A machine that runs jobs."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import MakeDirectory


class GridengineExecd(Edit):
    """Runs Grid Engine's execution daemon, once the users are known and the cell is mounted."""

    overlay: ClassVar[str] = "gridengine-execd"
    packages: ClassVar[tuple[str, ...]] = ("gridengine-exec", "gridengine-client")
    services: ClassVar[tuple[str, ...]] = ("gridengine-exec.service",)

    def variables(self, machine: Machine) -> Mapping[str, object]:
        return {"cell": machine.cluster.recipe.grid_engine.cell}

    def intents(self, machine: Machine) -> Iterator[MakeDirectory]:
        del machine
        spool = PurePosixPath("/var/spool/gridengine/execd")
        yield MakeDirectory(path=spool, owner="sgeadmin", group="sgeadmin")
