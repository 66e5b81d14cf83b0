"""The Xen guests of a cluster's finished images, with all that their configurations name at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from imagebuilder.edits.edit import Machine
from imagebuilder.edits.interfaces import Interfaces
from imagebuilder.image.bases import Bench
from imagebuilder.image.store import Image
from imagebuilder.recipe.xen import XenDomain
from imagebuilder.site import Site
from imagebuilder.xen.boot_files import provide_boot_files
from imagebuilder.xen.domain import Domain, make_domain
from imagebuilder.xen.flat_copy import provide_flat_copy


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A finished image and how Xen is to run it."""

    image: Image
    machine: Machine
    options: XenDomain
    interfaces: Interfaces | None


def guests_of(site: Site, images: Sequence[Image]) -> tuple[Guest, ...]:
    """Those of the images whose machines are in the site, and run under Xen."""
    machines = {(machine.role, machine.name): machine for machine in site.machines()}
    return tuple(
        Guest(image=image, machine=machine, options=options, interfaces=site.roles[machine.role].interfaces)
        for image in images
        if (machine := machines.get((image.role, image.name))) is not None
        and (options := site.roles[machine.role].recipe.xen) is not None
    )


def make_domains(guests: Sequence[Guest], bench: Bench, *, disks: Literal["as built", "flat"]) -> tuple[Domain, ...]:
    """What each guest's configuration is to say; its kernel, or a "flat" copy of its disk, is made if it is missing.

    Raises BuildError for an image of which that cannot be made.
    """
    by_kernel = [guest.image for guest in guests if guest.options.boots_by == "kernel"]
    boot_files = provide_boot_files(by_kernel, bench)
    return tuple(
        make_domain(
            guest.machine,
            guest.options,
            guest.interfaces,
            disk=provide_flat_copy(guest.image, bench) if disks == "flat" else guest.image.disk,
            disk_format="raw" if disks == "flat" else guest.image.format,
            boot_files=boot_files.get(guest.image.name),
        )
        for guest in guests
    )
