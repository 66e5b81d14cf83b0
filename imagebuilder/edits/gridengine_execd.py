"""A machine that runs jobs."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import MakeDirectory
from imagebuilder.plan.check import Check, Instance, Matches, Prints, Scope

_SPOOL = PurePosixPath("/var/spool/gridengine/execd")
_ACCOUNT = "sgeadmin"


class GridengineExecd(Edit):
    """Runs Grid Engine's execution daemon, once the users are known and the cell is mounted."""

    overlay: ClassVar[str] = "gridengine-execd"
    packages: ClassVar[tuple[str, ...]] = ("gridengine-exec", "gridengine-client")
    services: ClassVar[tuple[str, ...]] = ("gridengine-exec.service",)
    services_need: ClassVar[Scope] = "cluster"

    def variables(self, machine: Machine) -> Mapping[str, object]:
        return {"cell": machine.cluster.recipe.grid_engine.cell}

    def intents(self, machine: Machine) -> Iterator[MakeDirectory]:
        del machine
        yield MakeDirectory(path=_SPOOL, owner=_ACCOUNT, group=_ACCOUNT)

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        queue = f"{machine.cluster.recipe.grid_engine.queue}@{instance.name}"
        yield Check(
            name="queue",
            proves="the queue on this machine takes jobs: qmaster hears of its load, and no state is against it",
            # Or qstat(1) cuts long names off.
            command=("env", "SGE_LONG_QNAMES=-1", "qstat", "-f", "-q", queue),
            expects=Matches(patterns=(rf"^{re.escape(queue)}\s+\S+\s+\d+/\d+/\d+\s+[0-9.]+\s+lx-amd64\s*$",)),
            needs="cluster",
            within_s=180,
        )
        yield Check(
            name="spool",
            proves="the execution daemon has made its directory under the machine's own name",
            command=("stat", "--format=%U:%G", str(_SPOOL / instance.name)),
            expects=Prints(text=f"{_ACCOUNT}:{_ACCOUNT}"),
            needs="cluster",
        )
