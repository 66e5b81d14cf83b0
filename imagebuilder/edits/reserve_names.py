"""The server's boot unit that reserves the workers' names."""

from collections.abc import Mapping
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine


class ReserveNames(Edit):
    """Puts the workers' names and addresses into the server's /etc/hosts at every boot, before anything reads it.

    The image has them already; the unit brings them back if somebody edited the file, and NIS and Grid Engine
    can thus rely on them.
    """

    overlay: ClassVar[str] = "reserve-names"
    services: ClassVar[tuple[str, ...]] = ("imgbuild-reserve-names.service",)

    def variables(self, machine: Machine) -> Mapping[str, object]:
        return {"workers": [(address, name) for name, address in machine.cluster.workers.items()]}
