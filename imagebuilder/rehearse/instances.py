"""What makes a guest an instance of EC2, as far as a rehearsal can: what its firmware and its cloud say of it."""

import hashlib
import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.programs import run_program
from imagebuilder.rehearse.metadata_service import METADATA, Tree
from imagebuilder.rehearse.topology import GuestPlan, Lease, Topology

METADATA_ADDRESS = "169.254.169.254"
_METADATA_PORT = 80

LOGIN_KEY = "login-key"
_REGION, _ZONE = "eu-west-1", "eu-west-1a"
_KEY_NAME = "gsg-keypair"
_KEY_LIMIT_S = 30


@dataclass(frozen=True, kw_only=True)
class Identity:
    """An instance's id, and the UUID in its firmware, which begins with ec2 on EC2."""

    instance_id: str
    uuid: str


def identity_of(label: str, launch: str = "") -> Identity:
    """The identity of the worker with this label: always the same one, but for another `launch`."""
    digest = hashlib.sha256(f"{label}/{launch}".encode()).hexdigest()
    return Identity(instance_id=f"i-0{digest[:16]}", uuid=str(uuid.UUID(f"ec2{digest[3:32]}")))


def firmware_options(plan: GuestPlan) -> Iterator[str]:
    """The options of QEMU by which a worker's firmware says that it is an instance, as one of EC2's does."""
    if plan.machine.host is None:
        identity = identity_of(plan.label)
        name = identity.uuid
        yield from ("-smbios", f"type=1,manufacturer=Amazon EC2,product=t3.small,uuid={name},serial={name}")
        # As Nitro's; that of Xen instances has no such tag.
        yield from ("-smbios", f"type=2,manufacturer=Amazon EC2,asset={identity.instance_id}")


def make_key_pair(directory: Path, name: str, *, log: Path) -> str:
    """Make a key pair for ssh, `name` in `directory`, and return its public half."""
    argv: list[str | Path] = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", directory / name]
    run_program(argv, log=log, timeout_s=_KEY_LIMIT_S)
    return public_half(directory, name)


def public_half(directory: Path, name: str) -> str:
    """The public half of a key pair that was made, as the line that it is in authorized_keys."""
    return (directory / f"{name}.pub").read_text(encoding="utf-8").strip()


def metadata(topology: Topology, public_key: str, *, launch: str = "") -> dict[str, Tree]:
    """What the service is to tell each worker, by the worker's address on the public network."""
    return {
        str(lease.address): _metadata_of(plan, lease, topology, public_key, launch)
        for plan in topology.workers
        for lease in topology.leases
        if lease.mac in {one.mac for one in plan.attachments}
    }


def _metadata_of(plan: GuestPlan, lease: Lease, topology: Topology, public_key: str, launch: str) -> Tree:
    address, mac = str(lease.address), lease.mac
    instance_id = identity_of(plan.label, launch).instance_id
    host_name = f"ip-{address.replace('.', '-')}.{_REGION}.compute.internal"
    document = {"instanceId": instance_id, "region": _REGION, "availabilityZone": _ZONE, "privateIp": address}
    card: Tree = {
        "device-number": "0",
        "local-hostname": host_name,
        "local-ipv4s": address,
        "mac": mac,
        "subnet-ipv4-cidr-block": str(topology.public),
        "vpc-id": "vpc-0123456789abcdef0",
    }
    return {
        "meta-data": {
            "ami-id": "ami-0123456789abcdef0",
            "ami-launch-index": str(topology.workers.index(plan)),
            "hostname": host_name,
            "instance-id": instance_id,
            "instance-type": "t3.small",
            "local-hostname": host_name,
            "local-ipv4": address,
            "mac": mac,
            "network": {"interfaces": {"macs": {mac: card}}},
            "placement": {"availability-zone": _ZONE, "region": _REGION},
            "public-keys": {f"0={_KEY_NAME}": public_key, "0": {"openssh-key": public_key}},
        },
        "dynamic": {"instance-identity": {"document": json.dumps(document)}},
    }


def write_metadata(directory: Path, told: Mapping[str, Tree]) -> None:
    """Have the service in `directory` tell this from now on."""
    new = directory / f".{METADATA}.new"
    new.write_text(json.dumps(told), encoding="utf-8")
    new.replace(directory / METADATA)


def prepare_instances(topology: Topology, directory: Path, *, log: Path) -> None:
    """Have in `directory` what makes the workers instances: the account's key pair, and what each will be told."""
    if topology.workers:
        write_metadata(directory, metadata(topology, make_key_pair(directory, LOGIN_KEY, log=log)))


def metadata_command(directory: Path) -> list[str]:
    """The program that is the metadata service of the networks whose files are in `directory`."""
    service = "imagebuilder.rehearse.metadata_service"
    return [sys.executable, "-P", "-m", service, str(directory), METADATA_ADDRESS, str(_METADATA_PORT)]
