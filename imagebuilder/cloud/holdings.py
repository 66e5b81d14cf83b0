"""All that a cloud keeps in its state directory: regions, buckets, and the key that stands for EC2's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from imagebuilder.cloud.ec2_key import Ec2Key
from imagebuilder.cloud.regions import Regions
from imagebuilder.cloud.s3_objects import Objects
from imagebuilder.cloud.tuning import Tuning


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What the actions of several services work on."""

    regions: Regions
    objects: Objects
    ec2_key: Ec2Key

    @classmethod
    def open(cls, state: Path, tuning: Tuning) -> Self:
        """Those in a state directory."""
        return cls(
            regions=Regions(state, tuning),
            objects=Objects(state / "s3-buckets", state / "s3"),
            ec2_key=Ec2Key(state),
        )
