"""The one template of all workers: EC2 instances while OpenNebula starts them, guests of its hosts since."""

from collections.abc import Iterator
from dataclasses import dataclass

from imagebuilder.image.store import Image
from imagebuilder.opennebula.guest import context, image_name, origin
from imagebuilder.opennebula.release import Release
from imagebuilder.opennebula.template import Attribute, Template, single, vector
from imagebuilder.recipe.cluster import ClusterRecipe


@dataclass(frozen=True, kw_only=True)
class RegisteredAmi:
    """The workers' AMI, and whether it was made from the image as it is now."""

    ami: str
    region: str
    key: str
    is_current: bool


def instance_template(ami: RegisteredAmi, cluster: ClusterRecipe, release: Release) -> Template:
    """The template of EC2 instances; of OpenNebula 1.0 to 5.12."""
    build = f"from the image build {ami.key[:12]}"
    lines = [
        f"All workers of the cluster {cluster.name}, for {release.title}: EC2 instances, one each time it is used",
        f"{ami.ami} in {ami.region}, {build}",
    ]
    if not ami.is_current:
        lines.append("The workers' image was built anew since: register it with `imgbuild bundle worker --register`.")
    if cluster.ec2.keypair is None:
        lines.append("recipes/cluster.yaml names no key pair (ec2: keypair:): the driver takes the one it is set to.")
    attributes = _of_2008(ami, cluster) if release.generation == "1" else _of_5(ami, cluster)
    return Template(comment="\n".join(lines), attributes=(*_capacity(cluster), *attributes))


def edge_template(image: Image, cluster: ClusterRecipe, release: Release) -> Template:
    """The template of workers as guests of KVM hosts; of OpenNebula 6.0 and later."""
    lines = [
        f"All workers of the cluster {cluster.name}, for {release.title}: guests, one each time it is used",
        f"{origin(image)}",
        "OpenNebula starts no EC2 instances since 6.0 (hosts.sh has what does). This runs the workers' image on KVM",
        "hosts, as an edge cluster has them at a cloud. A worker asks for its address: the network needs DHCP.",
    ]
    attributes = (
        *_capacity(cluster),
        vector("OS", ARCH="x86_64", BOOT="disk0"),
        vector("DISK", IMAGE=image_name(cluster, image)),
        vector("NIC", NETWORK_MODE="auto", SCHED_REQUIREMENTS='TRAFFIC_TYPE = "public"', MODEL="virtio"),
        context(cluster),
        single("SCHED_REQUIREMENTS", 'HYPERVISOR = "kvm"'),
    )
    return Template(comment="\n".join(lines), attributes=attributes)


def _capacity(cluster: ClusterRecipe) -> Iterator[Attribute]:
    yield single("NAME", cluster.workers.role)
    yield single("CPU", cluster.ec2.cpu)
    yield single("MEMORY", cluster.ec2.memory_mib)


def _of_2008(ami: RegisteredAmi, cluster: ClusterRecipe) -> Iterator[Attribute]:
    ec2 = cluster.ec2
    yield vector(
        "EC2",
        AMI=ami.ami,
        KEYPAIR=ec2.keypair,
        ELASTICIP=ec2.elastic_ip,
        INSTANCETYPE=ec2.instance_type,
        AUTHORIZED_PORTS=ec2.authorized_ports,
        AUTHORIZEDPORTS=ec2.authorized_ports,
        comment="AUTHORIZED_PORTS is what the tutorial writes, AUTHORIZEDPORTS what the driver's source reads.",
    )
    yield single("REQUIREMENTS", f'HOSTNAME = "{cluster.opennebula.ec2_host}"')


def _of_5(ami: RegisteredAmi, cluster: ClusterRecipe) -> Iterator[Attribute]:
    ec2 = cluster.ec2
    groups = ", ".join(ec2.security_groups)
    where = f"the security groups {groups}" if groups else "the account's default security group"
    yield vector(
        "PUBLIC_CLOUD",
        TYPE="ec2",
        AMI=ami.ami,
        KEYPAIR=ec2.keypair,
        ELASTICIP=ec2.elastic_ip,
        INSTANCETYPE=ec2.instance_type,
        SECURITYGROUPS=groups or None,
        comment=f"This driver opens no ports: TCP {ec2.authorized_ports} must be open in {where}.",
    )
    yield single("SCHED_REQUIREMENTS", f'NAME = "{cluster.opennebula.ec2_host}"')
