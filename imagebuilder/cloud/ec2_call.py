"""One call of EC2, with what the actions need to carry it out."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from imagebuilder.cloud.ec2_query import Parameters
from imagebuilder.cloud.holdings import Holdings
from imagebuilder.cloud.images import Image
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.regions import KeyExists, Region
from imagebuilder.cloud.snapshots import Snapshot
from imagebuilder.cloud.tuning import Tuning

_ID = re.compile(r"(ami|snap)-(?:[0-9a-f]{8}|[0-9a-f]{17})")


@dataclass(frozen=True, kw_only=True)
class Ec2Call:
    """A call in a region. An action first reads all of its parameters, then calls `begin`, and then does something."""

    parameters: Parameters
    region: Region
    holdings: Holdings
    tuning: Tuning
    key_exists: KeyExists
    now: datetime
    subject: dict[str, str]
    """What the request log shall say that it is about."""

    def begin(self) -> None:
        """Raise Refusal if there are parameters that EC2 does not know, or if it is a dry run."""
        dry_run = self.parameters.flag("DryRun")
        self.parameters.finish()
        if dry_run:
            message = "Request would have succeeded, but DryRun flag is set."
            raise Refusal(code="DryRunOperation", message=message, status=412)

    def image(self, image_id: str) -> Image:
        """The image with this id."""
        check_id(image_id, "ami")
        image = self.region.images.find(image_id, self.now)
        if image is None:
            raise Refusal(code="InvalidAMIID.NotFound", message=f"The image id '[{image_id}]' does not exist")
        return image

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """The snapshot with this id."""
        check_id(snapshot_id, "snap")
        snapshot = self.region.snapshots.find(snapshot_id, self.now)
        if snapshot is None:
            raise Refusal(code="InvalidSnapshot.NotFound", message=f"The snapshot '{snapshot_id}' does not exist.")
        return snapshot


Action = Callable[[Ec2Call], Mapping[str, object]]
"""Carries out a call, and gives the document of the answer. Raises Refusal."""


def check_id(given: str, prefix: str) -> None:
    """Raise Refusal unless it has the form of an id."""
    found = _ID.fullmatch(given)
    if found is None or found[1] != prefix:
        code = {"ami": "InvalidAMIID.Malformed", "snap": "InvalidParameterValue"}[prefix]
        raise Refusal(code=code, message=f'Invalid id: "{given}" (expecting "{prefix}-...")')
