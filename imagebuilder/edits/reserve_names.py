"""The server's boot unit that reserves the workers' names."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.check import Check, Instance, Prints

_RESERVED = "/usr/share/imgbuild/workers.hosts"


class ReserveNames(Edit):
    """Puts the workers' names and addresses into the server's /etc/hosts at every boot, before anything reads it.

    The image has them already; the unit brings them back if somebody edited the file, and NIS and Grid Engine
    can thus rely on them.
    """

    overlay: ClassVar[str] = "reserve-names"
    services: ClassVar[tuple[str, ...]] = ("imgbuild-reserve-names.service",)

    def variables(self, machine: Machine) -> Mapping[str, object]:
        return {"workers": [(address, name) for name, address in machine.cluster.workers.items()]}

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        yield Check(
            name="block",
            proves="/etc/hosts has the workers' names as they are reserved",
            command=("sh", "-c", f"sed -n '/^# BEGIN workers/,/^# END workers/p' /etc/hosts | diff {_RESERVED} -"),
            expects=Prints(text=""),
        )
