"""A machine that gets its users by NIS."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import AddWord

_NSSWITCH = PurePosixPath("/etc/nsswitch.conf")


class NisClient(Edit):
    """Binds to the server's NIS domain; adds `nis` behind `files` in /etc/nsswitch.conf and keeps the rest."""

    overlay: ClassVar[str] = "nis-client"
    packages: ClassVar[tuple[str, ...]] = ("ypbind-mt", "yp-tools", "libnss-nis", "rpcbind")
    services: ClassVar[tuple[str, ...]] = ("rpcbind.service", "ypbind.service")

    def variables(self, machine: Machine) -> Mapping[str, object]:
        cluster = machine.cluster
        return {"domain": cluster.recipe.nis.domain, "server_address": cluster.server.addresses["private"]}

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
