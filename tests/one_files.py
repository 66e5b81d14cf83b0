"""The files for OpenNebula of this project's own cluster, one set for each generation of releases.

`python -m tests.update_golden` writes them to `golden/opennebula/RELEASE/`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagebuilder.image.store import Image
from imagebuilder.opennebula.files import Workers, template_files
from imagebuilder.opennebula.guest import Guest
from imagebuilder.opennebula.release import RELEASES, Generation
from imagebuilder.opennebula.workers import RegisteredAmi
from imagebuilder.recipe.cluster import Cluster, ClusterRecipe
from imagebuilder.recipe.xen import XenDomain
from tests.machines import machine_of, shipped_site

AMI = RegisteredAmi(ami="ami-0123456789abcdef0", region="eu-west-1", key="3" * 64, is_current=True)


def image(name: str, role: str, key: str, **changes: Any) -> Image:
    """A finished image of which there is nothing but its description."""
    whole = {"format": "raw", "base_digest": "d" * 64, "built_at": "2026-11-22T10:00:00+00:00", "inputs": {}}
    directory = Path("/srv/store/images") / role / name / key
    return Image(role=role, name=name, key=key, directory=directory, **{**whole, **changes})


def guest(name: str, *, domain: XenDomain | None = None, **changes: Any) -> Guest:
    """A local machine of the shipped cluster, and an image of it."""
    site = shipped_site()
    machine = machine_of(site, name)
    role = site.roles[machine.role]
    assert role.recipe.xen is not None
    key = {"oneserver": "1", "local01": "2"}[name] * 64
    own = image(name, machine.role, key, **changes)
    return Guest(machine=machine, domain=domain or role.recipe.xen, interfaces=role.interfaces, image=own)


def cluster_with(**changes: Any) -> Cluster:
    """The shipped cluster, with parts of its recipe changed: `ec2={"keypair": None}`."""
    known = shipped_site().cluster
    values = known.recipe.model_dump(mode="python")
    merged = {**values, **{name: {**values[name], **change} for name, change in changes.items()}}
    return Cluster(recipe=ClusterRecipe.model_construct(**_models(known.recipe, merged)), hosts=known.hosts, workers={})


def _models(recipe: ClusterRecipe, values: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of the recipe, those that differ made anew."""
    parts = {name: getattr(recipe, name) for name in ClusterRecipe.model_fields}
    return {
        name: type(part).model_validate(values[name]) if name in ("ec2", "opennebula") else part
        for name, part in parts.items()
    }


def files_of(
    generation: Generation, *, cluster: Cluster | None = None, ami: RegisteredAmi | None = AMI
) -> dict[str, str]:
    """Each file's text by its name, for a cluster whose images are all built and whose workers' AMI is registered.

    It is the shipped one, with the tutorial's elastic address.
    """
    chosen = cluster or cluster_with(ec2={"elastic_ip": "75.101.155.97"})
    workers = Workers(image=image("worker", "worker", "3" * 64), ami=ami)
    files = template_files(chosen, [guest("oneserver"), guest("local01")], workers, RELEASES[generation])
    return {file.name: file.text for file in files}
