"""What makes a copy a machine of its own."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import Intent, MakeLink, RemovePath, WriteFile
from imagebuilder.plan.check import Check, Instance, Matches

_KEY_TYPES = ("dsa", "ecdsa", "ed25519", "rsa")


class Identity(Edit):
    """Takes away what two copies of an image must not share: machine id, ssh host keys, random seed.

    Each copy makes its own at its first boot. /etc/machine-id stays as an empty file: without it systemd takes
    the boot for the first of all and enables every unit by preset, machine-id(5).
    """

    overlay: ClassVar[str] = "identity"
    services: ClassVar[tuple[str, ...]] = ("imgbuild-host-keys.service",)
    ending_services: ClassVar[tuple[str, ...]] = services

    def intents(self, machine: Machine) -> Iterator[Intent]:
        del machine
        yield WriteFile(path=PurePosixPath("/etc/machine-id"), content=b"", mode=0o444)
        yield MakeLink(path=PurePosixPath("/var/lib/dbus/machine-id"), target="/etc/machine-id")
        yield RemovePath(path=PurePosixPath("/var/lib/systemd/random-seed"))
        for key_type in _KEY_TYPES:
            for suffix in ("", ".pub"):
                yield RemovePath(path=PurePosixPath(f"/etc/ssh/ssh_host_{key_type}_key{suffix}"))

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        yield Check(
            name="machine-id",
            proves="the machine has given itself an id",
            command=("cat", "/etc/machine-id"),
            expects=Matches(patterns=(r"\A[0-9a-f]{32}\n\Z",)),
        )
        yield Check(
            name="host-key",
            proves="the machine has made itself a host key, of the type ed25519",
            command=("ssh-keygen", "-l", "-f", "/etc/ssh/ssh_host_ed25519_key"),
            expects=Matches(patterns=(r"^256 SHA256:\S+ .*\(ED25519\)$",)),
        )
