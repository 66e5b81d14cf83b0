"""A machine that gets its users by NIS."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.edits.users import group_line, passwd_line
from imagebuilder.plan.changes import AddWord
from imagebuilder.plan.check import Check, Instance, Prints, Scope

_NSSWITCH = PurePosixPath("/etc/nsswitch.conf")


class NisClient(Edit):
    """Binds to the server's NIS domain; adds `nis` behind `files` in /etc/nsswitch.conf and keeps the rest."""

    overlay: ClassVar[str] = "nis-client"
    packages: ClassVar[tuple[str, ...]] = ("ypbind-mt", "yp-tools", "libnss-nis", "rpcbind")
    services: ClassVar[tuple[str, ...]] = ("rpcbind.service", "ypbind.service")
    services_need: ClassVar[Scope] = "cluster"

    def variables(self, machine: Machine) -> Mapping[str, object]:
        cluster = machine.cluster
        return {"domain": cluster.recipe.nis.domain, "server": cluster.server.name}

    def intents(self, machine: Machine) -> Iterator[AddWord]:
        del machine
        for database in ("passwd", "group", "shadow"):
            yield AddWord(
                path=_NSSWITCH,
                within=re.compile(rf"^\s*{database}:"),
                word="nis",
                behind="files",
                otherwise=f"{database}: files nis",
            )

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        cluster = machine.cluster
        yield Check(
            name="bound",
            proves="the machine is bound to the server",
            command=("ypwhich",),
            expects=Prints(text=cluster.server.name),
            needs="cluster",
        )
        users = dict(sorted(cluster.recipe.users.items()))
        if not users:
            return
        yield Check(
            name="users",
            proves="each user of the cluster is known",
            command=("getent", "passwd", *users),
            expects=Prints(text="\n".join(passwd_line(name, user) for name, user in users.items())),
            needs="cluster",
        )
        yield Check(
            name="groups",
            proves="each user's group is known",
            command=("getent", "group", *users),
            expects=Prints(text="\n".join(group_line(name, user) for name, user in users.items())),
            needs="cluster",
        )
        yield Check(
            name="no-local-users",
            proves="no user of the cluster is in the machine's own /etc/passwd",
            command=("sh", "-c", f"! getent -s passwd:files passwd {' '.join(users)}"),
            expects=Prints(text=""),
        )
