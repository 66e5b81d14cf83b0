"""Compares a finished image, as it is on its disk now, with what its plan foresees."""

from collections.abc import Sequence
from dataclasses import dataclass

from imagebuilder.compare.difference import Difference, compare_listings
from imagebuilder.image.appliance import Disk
from imagebuilder.image.bases import Bench
from imagebuilder.image.build import PlannedImage
from imagebuilder.image.store import Image
from imagebuilder.plan.listing import Listing
from imagebuilder.plan.plan import foresee


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a disk differs in from what is foreseen: in each difference, `a` is foreseen and `b` is there."""

    image: Image
    path_count: int
    """How many paths are foreseen."""
    differences: tuple[Difference, ...]


def verify_images(finished: Sequence[tuple[PlannedImage, Image]], bench: Bench) -> tuple[Verification, ...]:
    """Each image against its plan and the listing of its base, as `finished_images` pairs them.

    The disks are read whole, in one appliance: every path, and of every file each byte, those of the base too.
    Raises BuildError for a disk that cannot be read.
    """
    if not finished:
        return ()
    disks = [Disk(path=image.disk, format=image.format, access="read") for _, image in finished]
    verifications = []
    with bench.appliance(disks) as appliance:
        for index, (planned, image) in enumerate(finished):
            bench.on_step(f"read the image of {image.name}")
            with appliance.mounted(index, planned.target.root_device) as system:
                found = system.listing()
            verifications.append(verify_listing(found, planned, image))
    return tuple(verifications)


def verify_listing(found: Listing, planned: PlannedImage, image: Image) -> Verification:
    """What `found`, all that is on the disk of `image`, differs in from what is foreseen."""
    foreseen = foresee(planned.base.listing(), planned.plan)
    return Verification(image=image, path_count=len(foreseen), differences=compare_listings(foreseen, found))
