"""Builds images: plans them all, then writes those that are not there yet in one appliance session."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from imagebuilder.edits.edit import Machine, VpnCredentials
from imagebuilder.errors import UsageError
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.image.apply import Job, apply_plans
from imagebuilder.image.bases import Bench, check_base, known_base, provide_base
from imagebuilder.image.qemu_img import copy_to_raw, make_overlay
from imagebuilder.image.store import LISTING, PLAN, Image, Store, StoredBase, disk_name, require_space
from imagebuilder.plan.make_plan import make_plan, missing_packages
from imagebuilder.plan.plan import Plan, foresee
from imagebuilder.plan.target import Target
from imagebuilder.recipe.foundation import BaseRecipe
from imagebuilder.recipe.model import nearest
from imagebuilder.site import Site

Credentials = Callable[[Machine], VpnCredentials | None]

# A little more than what the role with most files writes, with the journal of its file system.
_OVERLAY_BYTES = 48 << 20


@dataclass(frozen=True, kw_only=True)
class PlannedImage:
    """One image as it shall be: its plan, the base that the plan is for, and what both were made from."""

    machine: Machine
    plan: Plan
    base: StoredBase
    target: Target
    inputs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class BuiltImage:
    """An image after a build, and whether the build had to write it."""

    image: Image
    outcome: Literal["built", "unchanged"]


def select_machines(site: Site, words: Sequence[str]) -> tuple[Machine, ...]:
    """The machines that `words` name by role or by name; all if there are no words. Raises UsageError."""
    machines = site.machines()
    known = {machine.name for machine in machines} | {machine.role for machine in machines}
    for word in words:
        if word not in known:
            what = f"there is no role or machine '{word}'.{nearest(word, known)}"
            raise UsageError(what, fix=f"use one of {', '.join(sorted(known))}")
    return tuple(machine for machine in machines if not words or {machine.name, machine.role} & set(words))


def plan_images(
    site: Site, machines: Iterable[Machine], credentials: Credentials, bench: Bench
) -> tuple[PlannedImage, ...]:
    """The plan of each machine's image. Makes or inspects a base that the store does not have yet.

    Raises BuildError if a base lacks what a role requires, or if edits contradict each other.
    """
    provided: dict[BaseRecipe, tuple[StoredBase, Target]] = {}
    planned = []
    for machine in machines:
        recipe = site.base_of(machine)
        if recipe not in provided:
            base = provide_base(recipe, site.directory, bench)
            provided[recipe] = base, base.target()
        base, target = provided[recipe]
        role = site.roles[machine.role]
        check_base(target, machine.role, list(missing_packages(role.required_packages, target)), base.disk)
        equipped = site.with_credentials(machine, credentials(machine))
        plan = make_plan(machine.name, machine.role, site.intents(equipped), target)
        inputs = {**site.inputs(equipped), "base": target.digest}
        planned.append(PlannedImage(machine=equipped, plan=plan, base=base, target=target, inputs=inputs))
    return tuple(planned)


def finished_images(
    site: Site, machines: Sequence[Machine], credentials: Credentials, bench: Bench
) -> tuple[tuple[PlannedImage, Image], ...]:
    """The plan of each machine's image, with the image itself, which is the one of that plan. Makes nothing.

    Raises UsageError if an image is not there, or is not what the recipes say now.
    """
    missing = [one.name for one in machines if bench.store.current(one.role, one.name) is None]
    if missing:
        raise UsageError(f"{_images_of(missing)} not there yet", fix=f"run `imgbuild build {' '.join(missing)}`")
    # Of another base there can be no image, and to plan for it would make it first.
    outdated = [one.name for one in machines if known_base(site.base_of(one), site.directory, bench.store) is None]
    planned = () if outdated else plan_images(site, machines, credentials, bench)
    pairs = [(one, image) for one in planned if (image := bench.store.current(one.plan.role, one.plan.name))]
    outdated += [one.plan.name for one, image in pairs if image.key != image_key(one.plan, image.format)]
    if outdated:
        what = f"{_images_of(outdated)} not what the recipes say now"
        raise UsageError(what, fix=f"run `imgbuild build {' '.join(outdated)}`; `imgbuild why` says what has changed")
    return tuple(pairs)


def _images_of(names: Sequence[str]) -> str:
    return f"the image of {names[0]} is" if len(names) == 1 else f"the images of {', '.join(names)} are"


def build_images(planned: Sequence[PlannedImage], image_format: DiskFormat, bench: Bench) -> tuple[BuiltImage, ...]:
    """Have every planned image in the store, and return each with whether it had to be written.

    What is there already costs nothing. The rest is written in one appliance session and published image by image;
    if anything fails, or the process dies, every image stays what it was.
    """
    found = {one.plan.name: _current(bench.store, one, image_format) for one in planned}
    missing = [one for one in planned if found[one.plan.name] is None]
    written: dict[str, Image] = {}
    if missing:
        homes = [bench.store.image_directory(one.plan.role, one.plan.name) for one in missing]
        wait = lambda home: bench.on_step(f"wait for another build of {home.name}")  # noqa: E731
        with bench.store.locked(homes, on_wait=wait):
            # Another process may have built some of them while this one waited for its locks.
            found |= {one.plan.name: _restore(bench.store, one, image_format) for one in missing}
            missing = [one for one in missing if found[one.plan.name] is None]
            written = _write(missing, image_format, bench) if missing else {}
    return tuple(
        BuiltImage(image=image, outcome="unchanged")
        if (image := found[one.plan.name]) is not None
        else BuiltImage(image=written[one.plan.name], outcome="built")
        for one in planned
    )


def image_key(plan: Plan, image_format: DiskFormat) -> str:
    """The key under which the store keeps the image of `plan` in this format."""
    return plan.key if image_format == "qcow2" else f"{plan.key}-{image_format}"


def _current(store: Store, one: PlannedImage, image_format: DiskFormat) -> Image | None:
    """The current image if it is the planned one."""
    current = store.current(one.plan.role, one.plan.name)
    return current if current is not None and current.key == image_key(one.plan, image_format) else None


def _restore(store: Store, one: PlannedImage, image_format: DiskFormat) -> Image | None:
    """The planned image if the store has it from an earlier build, as it was; makes it the current one."""
    key = image_key(one.plan, image_format)
    image = store.build(one.plan.role, one.plan.name, key)
    if image is not None and not image.is_untouched():
        return None
    if image is not None:
        store.make_current(one.plan.role, one.plan.name, key)
    return image


def _write(missing: Sequence[PlannedImage], image_format: DiskFormat, bench: Bench) -> dict[str, Image]:
    _require_space(missing, image_format, bench.store.root)
    with ExitStack() as stack:
        news: list[Path] = []
        jobs: list[Job] = []
        bench.on_step("copy the base")
        for one in missing:
            home = bench.store.image_directory(one.plan.role, one.plan.name)
            new = stack.enter_context(bench.store.new_directory(home))
            disk = new / disk_name(image_format)
            if image_format == "qcow2":
                make_overlay(disk, base=one.base.disk, base_format=one.base.format)
            else:
                copy_to_raw(disk, base=one.base.disk, base_format=one.base.format)
            news.append(new)
            jobs.append(Job(plan=one.plan, disk=disk, format=image_format, root_device=one.target.root_device))
        apply_plans(jobs, environment=bench.environment(), log=bench.log, on_step=bench.on_step, verbose=bench.verbose)
        bench.on_step("publish")
        return {
            one.plan.name: _publish(one, new, image_format, bench.store) for one, new in zip(missing, news, strict=True)
        }


def _publish(one: PlannedImage, new: Path, image_format: DiskFormat, store: Store) -> Image:
    foresee(one.base.listing(), one.plan).write(new / LISTING)
    (new / PLAN).write_text(json.dumps(one.plan.rows(), indent=1) + "\n", encoding="utf-8")
    image = Image(
        role=one.plan.role,
        name=one.plan.name,
        key=image_key(one.plan, image_format),
        format=image_format,
        directory=new,
        base_digest=one.plan.base_digest,
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=one.inputs,
    )
    return store.publish(new, image)


def _require_space(missing: Sequence[PlannedImage], image_format: DiskFormat, root: Path) -> None:
    """Raise HostError before anything is copied if the store's file system cannot hold the result."""
    needed = len(missing) * _OVERLAY_BYTES
    if image_format == "raw":
        needed += sum(one.base.disk.stat().st_blocks * 512 for one in missing)
    require_space(needed, root, "the build")
