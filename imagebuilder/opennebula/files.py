"""All files for one OpenNebula: networks, images, machines, and the script for its hosts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from imagebuilder.image.store import Image
from imagebuilder.opennebula.guest import Guest, guest_template, image_template
from imagebuilder.opennebula.host_script import host_script
from imagebuilder.opennebula.networks import network_template
from imagebuilder.opennebula.release import Release
from imagebuilder.opennebula.template import Template, write_template
from imagebuilder.opennebula.workers import RegisteredAmi, edge_template, instance_template
from imagebuilder.recipe.cluster import Cluster

Part = Literal["network", "image", "vm", "hosts"]


@dataclass(frozen=True, kw_only=True)
class TemplateFile:
    """A file for OpenNebula: its name says what it is, as `local01.template`."""

    name: str
    part: Part
    text: str


@dataclass(frozen=True, kw_only=True)
class Workers:
    """What there is of the workers: their image, and the AMI that was made from it."""

    image: Image | None
    ami: RegisteredAmi | None


def template_files(
    cluster: Cluster, guests: Sequence[Guest], workers: Workers, release: Release
) -> tuple[TemplateFile, ...]:
    """Every file, in the order in which OpenNebula must get them, but for the script, which is the last."""
    files = [
        *_networks(cluster, guests, release),
        *_images(cluster, guests, workers, release),
        *(_file(f"{one.machine.name}.template", "vm", guest_template(one, release), release) for one in guests),
        *_workers(cluster, workers, release),
    ]
    script = host_script(cluster.recipe, release, ami=workers.ami, files=[file.name for file in files])
    return (*files, TemplateFile(name="hosts.sh", part="hosts", text=script))


def _networks(cluster: Cluster, guests: Sequence[Guest], release: Release) -> Iterator[TemplateFile]:
    if release.generation == "1":  # 1.0 has no networks, a NIC names its bridge
        return
    for name in cluster.recipe.networks:
        if any(
            device.network == name for one in guests if one.interfaces for device in one.interfaces.devices.values()
        ):
            template = network_template(name, cluster.recipe, guests, release)
            yield _file(f"{cluster.recipe.name}-{name}.net", "network", template, release)


def _images(cluster: Cluster, guests: Sequence[Guest], workers: Workers, release: Release) -> Iterator[TemplateFile]:
    if release.generation == "1":  # 1.0 has no images, a DISK names its file
        return
    for guest in guests:
        # The server holds the homes and the queue: they must be there when it is started again.
        persistent = guest.machine.name == cluster.server.name
        template = image_template(guest.image, cluster.recipe, release, persistent=persistent)
        yield _file(f"{guest.machine.name}.image", "image", template, release)
    if release.generation == "7" and workers.image is not None:
        template = image_template(workers.image, cluster.recipe, release, persistent=False)
        yield _file(f"{workers.image.name}.image", "image", template, release)


def _workers(cluster: Cluster, workers: Workers, release: Release) -> Iterator[TemplateFile]:
    name = f"{cluster.recipe.workers.role}.template"
    if release.generation == "7":
        if workers.image is not None:
            yield _file(name, "vm", edge_template(workers.image, cluster.recipe, release), release)
    elif workers.ami is not None:
        yield _file(name, "vm", instance_template(workers.ami, cluster.recipe, release), release)


def _file(name: str, part: Part, template: Template, release: Release) -> TemplateFile:
    return TemplateFile(name=name, part=part, text=write_template(template, release.dialect))
