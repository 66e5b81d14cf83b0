"""The table of each kind of template in each generation, and what took the place of an attribute that is gone."""

from collections.abc import Mapping

from imagebuilder.opennebula import attributes_of_2008, attributes_of_today
from imagebuilder.opennebula.attributes import Kind, Table
from imagebuilder.opennebula.release import RELEASES, Generation

TABLES: Mapping[Generation, Mapping[Kind, Table]] = {
    "1": {
        "vm": attributes_of_2008.VM,
        "image": attributes_of_2008.IMAGE,
        "network": attributes_of_2008.NETWORK,
    },
    "5": {
        "vm": attributes_of_today.VM_OF_5,
        "image": attributes_of_today.IMAGE_OF_5,
        "network": attributes_of_today.NETWORK,
    },
    "7": {
        "vm": attributes_of_today.VM,
        "image": attributes_of_today.IMAGE,
        "network": attributes_of_today.NETWORK,
    },
}

_NO_EC2 = "OpenNebula starts no EC2 instances since 6.0; see `imgbuild one --part hosts`"
# By the generation that is asked for and the attribute's path.
_INSTEAD: Mapping[tuple[Generation, str], str] = {
    ("5", "REQUIREMENTS"): "write SCHED_REQUIREMENTS",
    ("7", "REQUIREMENTS"): "write SCHED_REQUIREMENTS",
    ("5", "RANK"): "write SCHED_RANK",
    ("7", "RANK"): "write SCHED_RANK",
    ("1", "SCHED_REQUIREMENTS"): "write REQUIREMENTS",
    ("1", "SCHED_RANK"): "write RANK",
    ("5", "EC2"): 'write PUBLIC_CLOUD = [ TYPE = "ec2", … ]',
    ("7", "EC2"): _NO_EC2,
    ("1", "PUBLIC_CLOUD"): "write EC2 = [ … ]",
    ("7", "PUBLIC_CLOUD"): _NO_EC2,
    ("5", "DISK.SOURCE"): "register the image, and write IMAGE",
    ("7", "DISK.SOURCE"): "register the image, and write IMAGE",
    ("5", "LEASES"): 'write AR = [ TYPE = "IP4", IP = …, SIZE = 1 ]',
    ("7", "LEASES"): 'write AR = [ TYPE = "IP4", IP = …, SIZE = 1 ]',
    ("5", "FORMAT"): "write DRIVER",
}

_NO_PORTS = "name a security group that lets them in: SECURITYGROUPS"
# What one might well take over from EC2 = [ … ].
WITHOUT_EFFECT: Mapping[str, str] = {
    "PUBLIC_CLOUD.AUTHORIZED_PORTS": _NO_PORTS,
    "PUBLIC_CLOUD.AUTHORIZEDPORTS": _NO_PORTS,
}


def elsewhere(kind: Kind, generation: Generation, path: str) -> tuple[str, str] | None:
    """The generation that has the attribute, and what to write in this one; None if no generation has it."""
    vector, _, name = path.rpartition(".")
    for other, tables in TABLES.items():
        if other != generation and tables[kind].find(vector, name) is not None:
            return RELEASES[other].title, _INSTEAD.get((generation, path), "remove it, or choose another --release")
    return None
