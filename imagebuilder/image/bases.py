"""Provides the base that images are copies of: made by mmdebstrap or brought along, inspected once, then kept."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from imagebuilder.errors import BuildError
from imagebuilder.image.appliance import Appliance, Disk, DiskFormat, Inspection, open_appliance
from imagebuilder.image.bootstrap import BaseDescription, bootstrap, recipe_key, sweep
from imagebuilder.image.file_system import FileSystem
from imagebuilder.image.qemu_img import copy_flat, format_of
from imagebuilder.image.store import LISTING, TARGET, Store, StoredBase, disk_name, make_directory
from imagebuilder.plan.listing import Kind, Listing
from imagebuilder.plan.target import Target, Text
from imagebuilder.recipe.foundation import BaseRecipe, DebianBase, OwnBase

_ROOT_LABEL = "cluster-root"
_TEXT_DIRECTORIES = (PurePosixPath("/etc"), PurePosixPath("/usr/lib/systemd/system"))
_MOST_TEXT_BYTES = 64 * 1024  # the largest text that plans edit is a passwd file
_SYSTEMD = PurePosixPath("/usr/lib/systemd/systemd")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where a run works and how it reports; `environment()` chooses libguestfs's back end.

    `on_step` is called with the name of each step as it begins.
    """

    store: Store
    environment: Callable[[], Mapping[str, str]]
    log: Path
    on_step: Callable[[str], None]
    verbose: bool = False

    def appliance(self, disks: Sequence[Disk]) -> AbstractContextManager[Appliance]:
        """An appliance with `disks`; see `open_appliance`."""
        return open_appliance(
            disks, environment=self.environment(), log=self.log, on_step=self.on_step, verbose=self.verbose
        )


def provide_base(recipe: BaseRecipe, site_directory: Path, bench: Bench) -> StoredBase:
    """The base that `recipe` describes, from the store if it was made or inspected before.

    Raises BuildError for an image of the user's own that cannot be used, and for a base that cannot be made.
    """
    known = known_base(recipe, site_directory, bench.store)
    if known is not None:
        return known
    match recipe:
        case DebianBase():
            description = _description(recipe)
            return _make(description, recipe_key(description), bench)
        case OwnBase():
            image = site_directory / recipe.image
            image_format = format_of(image, recipe.format)
            return _import(image, image_format, _own_key(image, image_format), bench)


def known_base(recipe: BaseRecipe, site_directory: Path, store: Store) -> StoredBase | None:
    """The base that `recipe` describes, if it was made or inspected before. Raises BuildError as `provide_base`."""
    match recipe:
        case DebianBase():
            return store.base_by_recipe(recipe_key(_description(recipe)))
        case OwnBase():
            image = site_directory / recipe.image
            return store.base_by_recipe(_own_key(image, format_of(image, recipe.format)))


def _description(recipe: DebianBase) -> BaseDescription:
    return BaseDescription(
        suite=recipe.suite,
        packages=recipe.packages,
        kernel=recipe.kernel,
        disk_size_gib=recipe.disk_size_gib,
        label=_ROOT_LABEL,
        components=recipe.components,
        mirror=recipe.mirror,
        debconf=recipe.debconf,
        exclude_documentation=recipe.exclude_documentation,
    )


def _own_key(image: Path, image_format: DiskFormat) -> str:
    """Names the state of a file without reading it: path, size, time of change and inode."""
    state = image.stat()
    identity = [str(image.resolve()), image_format, state.st_size, state.st_mtime_ns, state.st_ino]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _make(description: BaseDescription, key: str, bench: Bench) -> StoredBase:
    with _new_base(key, bench) as (known, new):
        if known is not None:
            return known
        disk = new / disk_name("raw")
        scratch = bench.store.bases_directory / "scratch"
        make_directory(scratch)
        sweep(scratch, log=bench.log)
        bootstrap(description, disk=disk, log=bench.log, scratch=scratch, on_step=bench.on_step)
        return _finish(new, disk, "raw", key, bench)


def _import(image: Path, image_format: DiskFormat, key: str, bench: Bench) -> StoredBase:
    with _new_base(key, bench) as (known, new):
        if known is not None:
            return known
        bench.on_step(f"copy {image.name}")
        disk = new / disk_name(image_format)
        copy_flat(disk, image=image, image_format=image_format)
        return _finish(new, disk, image_format, key, bench)


@contextmanager
def _new_base(key: str, bench: Bench) -> Iterator[tuple[StoredBase | None, Path]]:
    """A directory to make a base in; and the base itself, if another process has made it in the meantime."""
    directory = bench.store.bases_directory
    wait = lambda _: bench.on_step("wait for another build to make the base")  # noqa: E731
    with bench.store.locked([directory], on_wait=wait), bench.store.new_directory(directory) as new:
        yield bench.store.base_by_recipe(key), new


def _finish(new: Path, disk: Path, image_format: DiskFormat, key: str, bench: Bench) -> StoredBase:
    bench.on_step("record the base's digest")
    with disk.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    target, listing = inspect_base(disk, image_format, digest, bench)
    facts = new / TARGET
    facts.touch(mode=0o600)  # it holds texts such as /etc/shadow
    facts.write_text(target.to_json(), encoding="utf-8")
    listing.write(new / LISTING)
    base = StoredBase(digest=digest, format=image_format, directory=new)
    return bench.store.publish_base(new, base, recipe_key=key)


def inspect_base(disk: Path, image_format: DiskFormat, digest: str, bench: Bench) -> tuple[Target, Listing]:
    """What is in a base image: the facts for planning, and its full listing. Takes one appliance."""
    drive = Disk(path=disk, format=image_format, access="read")
    with bench.appliance([drive]) as appliance:
        bench.on_step("inspect the base")
        inspection = appliance.inspect(0)
        with appliance.mounted(0, inspection.root_device) as root:
            bench.on_step("list the base's files")
            listing = root.listing()
            return _target(inspection, listing, root, digest), listing


def _target(inspection: Inspection, listing: Listing, root: FileSystem, digest: str) -> Target:
    texts = {}
    for directory in _TEXT_DIRECTORIES:
        if directory not in listing:
            continue
        for path, content in root.read_tree(directory, most_bytes=_MOST_TEXT_BYTES).items():
            entry = listing[path]
            # A private key is none of planning's business, and must not lie about in the store.
            if _is_text(content) and b"PRIVATE KEY" not in content:
                texts[path] = Text(content=content.decode(), mode=entry.mode, uid=entry.uid, gid=entry.gid)
    return Target(
        digest=digest,
        distribution=inspection.distribution,
        version=inspection.version,
        architecture=inspection.architecture,
        init_system="systemd" if _SYSTEMD in listing else "unknown",
        packages=inspection.packages,
        root_device=inspection.root_device,
        texts=texts,
        unread=frozenset(
            path
            for directory in _TEXT_DIRECTORIES
            for path in listing.below(directory)
            if listing[path].kind is Kind.FILE and path not in texts
        ),
        links={path: entry.target for path, entry in listing.items() if entry.kind is Kind.LINK},
        directories=frozenset(path for path, entry in listing.items() if entry.kind is Kind.DIRECTORY),
    )


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def check_base(target: Target, role: str, missing: list[str], where: object) -> None:
    """Raise BuildError if the base cannot be that of `role`, which lacks the `missing` packages in it."""
    if target.distribution not in {"debian", "ubuntu"}:
        what = f"the base is {target.distribution} {target.version}, but role '{role}' needs Debian or Ubuntu"
        raise BuildError(what, where=where, fix="use another base image")
    if target.init_system != "systemd":
        raise BuildError("the base's init system is not systemd", where=where, fix="use another base image")
    if missing:
        what = f"the base lacks packages that role '{role}' requires: {', '.join(missing)}"
        raise BuildError(what, where=where, fix="add them to `packages:` of the base's recipe, or to your own image")
