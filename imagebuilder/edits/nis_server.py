"""The NIS master."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.edits.hosts import names_to_try
from imagebuilder.edits.users import group_line, passwd_line
from imagebuilder.plan.check import Check, Instance, Prints, has_rows


class NisServer(Edit):
    """Serves users, groups and hosts by NIS to the private network only.

    The maps are made from the server's own files at each boot, where a file is newer than its map; those of services,
    protocols and the like are not made, as each machine has these files. /etc/ypserv.securenets lets in nobody but the
    private network and the server itself.
    """

    overlay: ClassVar[str] = "nis-server"
    packages: ClassVar[tuple[str, ...]] = ("ypserv", "yp-tools", "rpcbind", "make")
    services: ClassVar[tuple[str, ...]] = ("rpcbind.service", "ypserv.service", "imgbuild-nis-maps.service")
    unwanted_services: ClassVar[tuple[str, ...]] = ("yppasswdd.service", "ypxfrd.service")

    def variables(self, machine: Machine) -> Mapping[str, object]:
        cluster = machine.cluster
        return {
            "domain": cluster.recipe.nis.domain,
            "server": cluster.server.name,
            "subnet": cluster.private.subnet.network_address,
            "netmask": cluster.private.subnet.netmask,
        }

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        cluster = machine.cluster
        # ypmatch has no -h, and this machine is bound to no server, not even to itself.
        ask = ("ypcat", "-d", cluster.recipe.nis.domain, "-h", cluster.server.name)
        users = cluster.recipe.users.items()
        if users:
            yield Check(
                name="users",
                proves="the server gives out each user's account",
                command=(*ask, "passwd.byname"),
                expects=has_rows(passwd_line(name, user).split() for name, user in users),
            )
            yield Check(
                name="groups",
                proves="the server gives out each user's group",
                command=(*ask, "group.byname"),
                expects=has_rows([group_line(name, user)] for name, user in users),
            )
        yield Check(
            name="hosts",
            proves="the server gives out the names of the hosts, and of the first and the last worker",
            command=(*ask, "hosts.byname"),
            expects=has_rows(names_to_try(cluster)),
        )
        subnet = cluster.private.subnet
        yield Check(
            name="clients",
            proves="ypserv is told to answer the private network and the server itself, and nobody else",
            command=("sed", "/^#/d", "/etc/ypserv.securenets"),
            expects=Prints(text=f"255.0.0.0\t127.0.0.0\n{subnet.netmask}\t{subnet.network_address}"),
        )
