"""The machine's own name."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import WriteFile
from imagebuilder.plan.check import Check, Instance, Prints


class Hostname(Edit):
    """Writes /etc/hostname.

    A host gets its name from the cluster description. The workers' image gets the name of its role, which each
    worker changes for its own once it has joined the VPN.
    """

    def intents(self, machine: Machine) -> Iterator[WriteFile]:
        yield WriteFile(path=PurePosixPath("/etc/hostname"), content=f"{machine.name}\n".encode())

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        yield Check(
            name="name",
            proves="the running system has its name",
            command=("hostname",),
            expects=Prints(text=instance.name),
        )
