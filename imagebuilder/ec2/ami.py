"""An AMI and a snapshot as imgbuild sees them: what they are, what they were made from, and to whom they belong."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from imagebuilder import __version__
from imagebuilder.image.store import Image
from imagebuilder.recipe.cluster import ClusterRecipe

ROOT_DEVICE = "/dev/xvda"  # as Amazon's and Debian's own images have it; on Nitro machines the kernel calls it nvme0n1

# Tags. Every AMI and snapshot of ours has the first three: nothing without them is ever changed or removed.
CLUSTER = "imgbuild:cluster"
IMAGE = "imgbuild:image"
KEY = "imgbuild:key"
RECIPE = "imgbuild:recipe"
BASE = "imgbuild:base"
CARRIES = "imgbuild:carries"
RUN = "imgbuild:run"
_OWN = (CLUSTER, IMAGE, KEY)

# The name of an AMI has 128 characters at the most (RegisterImage, Name), that of a machine 63.
_CLUSTER_CHARACTERS = 50

NOTHING = "nothing"
"""What the tag `imgbuild:carries` says of an image without secrets; else it names them."""

BootMode = Literal["legacy-bios", "uefi", "uefi-preferred"]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """An EBS snapshot; `volume_bytes` is the size of a volume made from it, `message` why it failed."""

    id: str
    state: Literal["pending", "completed", "error", "recoverable", "recovering"]
    volume_bytes: int
    is_encrypted: bool
    started_at: datetime
    message: str
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Ami:
    """A registered image. `location` is that of its manifest in S3, or OWNER/NAME for one that is on EBS."""

    id: str
    name: str
    location: str
    region: str
    owner_id: str
    state: str
    is_public: bool
    architecture: str
    root_device_type: str
    boot_mode: str
    created_at: str
    deprecated_at: str | None
    snapshot_ids: tuple[str, ...]
    tags: Mapping[str, str]


def is_own(tags: Mapping[str, str], cluster: str) -> bool:
    """Whether something with these tags was made by imgbuild for this cluster."""
    return all(tag in tags for tag in _OWN) and tags[CLUSTER] == cluster


def ami_name(image: Image, cluster: ClusterRecipe) -> str:
    """The name of an image's AMI: the same for the same image, so that it cannot be registered twice."""
    return f"{cluster.name[:_CLUSTER_CHARACTERS]}-{image.name}-{image.key[:12]}"


def ami_tags(image: Image, cluster: ClusterRecipe, carries: str) -> dict[str, str]:
    """The tags of an image's AMI and snapshot; what its instances are to be started with, too."""
    recipe = {name: value for name, value in image.inputs.items() if name != "base"}
    tags = {
        "Name": f"{cluster.name} {image.name}",
        CLUSTER: cluster.name,
        IMAGE: image.name,
        KEY: image.key,
        RECIPE: hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest(),
        BASE: image.base_digest,
        CARRIES: carries,
        "imgbuild:version": __version__,
        "imgbuild:authorized-ports": cluster.ec2.authorized_ports,
        "imgbuild:instance-type": cluster.ec2.instance_type,
    }
    if cluster.ec2.keypair is not None:
        tags["imgbuild:keypair"] = cluster.ec2.keypair
    if cluster.ec2.elastic_ip is not None:
        tags["imgbuild:elastic-ip"] = str(cluster.ec2.elastic_ip)
    return tags
