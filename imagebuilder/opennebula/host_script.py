"""The script that makes OpenNebula know the hosts, and then all that the templates describe."""

import shlex
from collections.abc import Iterable, Iterator, Sequence

from imagebuilder.opennebula.release import Release
from imagebuilder.opennebula.workers import RegisteredAmi
from imagebuilder.recipe.cluster import ClusterRecipe, expand_names


def host_script(cluster: ClusterRecipe, release: Release, *, ami: RegisteredAmi | None, files: Sequence[str]) -> str:
    """A commented script for sh(1), to be run once by `oneadmin` in the directory of `files`."""
    hosts = [name for pattern in cluster.opennebula.hosts for name in expand_names(pattern)]
    body = {"1": _of_2008, "5": _of_5, "7": _of_7}[release.generation](cluster, hosts, ami)
    lines = [
        "#!/bin/sh",
        f"# The hosts of the cluster {cluster.name}, for {release.title}.",
        "# Run it once as oneadmin, in the directory that it is in. Nothing of it has been tried with a real oned.",
        "set -eu",
        *body,
        *_registration(release, cluster, files),
    ]
    return "\n".join(lines) + "\n"


def _local_hosts(hosts: Iterable[str], command: str) -> Iterator[str]:
    yield ""
    yield "# The machines that run the local guests (recipes/cluster.yaml, opennebula: hosts:)"
    known = [command.format(host=host) for host in hosts]
    yield from known or [f"# {command.format(host='HOST')}"]


def _of_2008(cluster: ClusterRecipe, hosts: Iterable[str], _ami: RegisteredAmi | None) -> Iterator[str]:
    ec2 = cluster.opennebula.ec2_host
    yield ""
    yield "# etc/oned.conf must start the drivers im_xen, vmm_xen, im_ec2 and vmm_ec2; etc/im_ec2/im_ec2.conf says how"
    yield "# many instances there may be. EC2's tools need EC2_HOME, EC2_PRIVATE_KEY and EC2_CERT in the environment."
    yield "# Since 1.2 the driver that moves images follows: onehost create ec2 im_ec2 vmm_ec2 tm_nfs"
    yield from _local_hosts(hosts, "onehost create {host} im_xen vmm_xen")
    yield ""
    yield "# EC2"
    yield f"onehost create {ec2} im_ec2 vmm_ec2"
    yield "onehost list"


def _of_5(cluster: ClusterRecipe, hosts: Iterable[str], ami: RegisteredAmi | None) -> Iterator[str]:
    ec2 = cluster.opennebula.ec2_host
    region = ami.region if ami else "REGION"
    yield from _local_hosts(hosts, "onehost create {host} --im kvm --vm kvm")
    yield ""
    yield "# EC2: /etc/one/oned.conf must have IM_MAD and VM_MAD of the name ec2 (they are there as comments)."
    yield "# ec2host.tpl, mode 0600, holds three lines, of which the secret ones are yours to write:"
    yield '#   EC2_ACCESS  = "…"'
    yield '#   EC2_SECRET  = "…"'
    yield f'#   REGION_NAME = "{region}"'
    yield "# Before 5.4 they stand in /etc/one/ec2_driver.conf instead, and there is no --type:"
    yield f"#   onehost create {ec2} --im ec2 --vm ec2"
    yield f"onehost create {ec2} --type ec2 ec2host.tpl --im ec2 --vm ec2"
    yield "onehost list"


def _of_7(cluster: ClusterRecipe, hosts: Iterable[str], ami: RegisteredAmi | None) -> Iterator[str]:
    yield from _local_hosts(hosts, "onehost create {host} --im kvm --vm kvm")
    yield ""
    yield "# EC2: OpenNebula 6.0 came without the driver that started instances, 7.0 removed what was left of it. In"
    yield "# its place OneProvision (6.x) or OneForm (since 7.2) rents whole machines at a cloud as KVM hosts; they run"
    yield "# guests such as worker.template, not AMIs. This starts an instance of the AMI, as the driver did:"
    yield from (f"#   {line}" for line in _run_instances(cluster, ami))
    yield "onehost list"


def _run_instances(cluster: ClusterRecipe, ami: RegisteredAmi | None) -> Iterator[str]:
    ec2 = cluster.ec2
    if ami is None:
        yield "(no AMI of the workers is registered: imgbuild bundle worker --register)"
        return
    options = [f"--image-id {ami.ami}", f"--instance-type {ec2.instance_type}", "--count 1"]
    options += [f"--key-name {shlex.quote(ec2.keypair)}"] if ec2.keypair else []
    options += [f"--security-groups {' '.join(ec2.security_groups)}"] if ec2.security_groups else []
    yield f"aws ec2 run-instances --region {ami.region} \\"
    yield f"  {' '.join(options)}"


def _registration(release: Release, cluster: ClusterRecipe, files: Sequence[str]) -> Iterator[str]:
    commands = {
        ".net": "onevnet create {file}",
        ".image": f"oneimage create --datastore {cluster.opennebula.datastore} {{file}}",
        ".template": "onevm create {file}" if release.generation == "1" else "onetemplate create {file}",
    }
    for suffix, command in commands.items():
        names = [name for name in files if name.endswith(suffix)]
        if names:
            yield ""
            if suffix == ".image":
                yield "# The images hold the VPN's keys, so only their owner can read them: give oneadmin the right to,"
                yield "# and nobody else in OpenNebula (an image is private until `oneimage chmod`)."
            yield from (command.format(file=name) for name in names)
    if release.generation == "1":
        yield "onevm list"
    elif files:
        yield ""
        yield "# As often as a machine is to run: onetemplate instantiate NAME"
