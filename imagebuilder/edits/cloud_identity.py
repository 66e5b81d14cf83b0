"""What an instance of EC2 is told by its cloud."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import Intent, MakeLink
from imagebuilder.plan.check import Check, Instance, Matches, Prints

_GENERATOR = PurePosixPath("/etc/systemd/system-generators/cloud-init-generator")
_DEBIANS_UNITS = ("cloud-init-local.service", "cloud-init.service", "cloud-config.service", "cloud-final.service")


class CloudIdentity(Edit):
    """Has cloud-init take the instance's ssh key from EC2's metadata service (IMDSv2), for `root`, and nothing else
    but let the root file system take all of a larger volume.

    Nothing waits for it, and it does not run where the firmware does not say that this is EC2. It does not touch
    network, names and host keys, runs no scripts of user data, and asks no other source. A new instance from the same
    image, or from a copy of another instance's disk, gets its own key. No password opens ssh on such a machine, for
    anybody; a key in a user's home does.
    """

    overlay: ClassVar[str] = "cloud-identity"
    packages: ClassVar[tuple[str, ...]] = ("cloud-init", "cloud-guest-utils", "openssh-server")
    services: ClassVar[tuple[str, ...]] = ("imgbuild-cloud-identity.service",)
    ending_services: ClassVar[tuple[str, ...]] = services

    def intents(self, machine: Machine) -> Iterator[Intent]:
        del machine
        # It would start Debian's units besides, which wait for the network before anything else may go on.
        yield MakeLink(path=_GENERATOR, target="/dev/null")

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        yield Check(
            name="aside",
            proves="the units of cloud-init that would keep others waiting do not run",
            command=("systemctl", "show", "--property=ActiveState", *_DEBIANS_UNITS),
            expects=Prints(text="\n\n".join("ActiveState=inactive" for _ in _DEBIANS_UNITS)),
        )
        yield Check(
            name="ssh",
            proves="sshd lets nobody in by password, and root by key only",
            command=("sshd", "-T"),
            expects=Matches(
                patterns=(
                    r"^passwordauthentication no$",
                    r"^kbdinteractiveauthentication no$",
                    r"^permitrootlogin (without|prohibit)-password$",
                )
            ),
        )
