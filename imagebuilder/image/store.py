"""The store: where finished images and bases are, and how they get there whole or not at all.

    images/ROLE/NAME/KEY/   disk, plan.json, listing.gz, manifest.json
    images/ROLE/NAME/current -> KEY
    bases/DIGEST/           disk, target.json, listing.gz, manifest.json
    bases/by-recipe/KEY -> ../DIGEST
    artifacts/xen/          configurations of finished images

A directory is made under a name that begins with `.new-`, and renamed when all in it is on the disk. Whoever
holds the lock of an image or of the bases may sweep such leavings: their maker is dead.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar

from imagebuilder.errors import BuildError, HostError
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.plan.listing import Listing
from imagebuilder.plan.target import Target
from imagebuilder.whole_files import flush

_NEW = ".new-"
_LOCK = ".lock"
_USED = ".used-"
_CURRENT = "current"
MANIFEST, LISTING, PLAN, TARGET = "manifest.json", "listing.gz", "plan.json", "target.json"


@dataclass(frozen=True, kw_only=True)
class Image:
    """A finished image; `inputs` is what it was made from, by name."""

    role: str
    name: str
    key: str
    format: DiskFormat
    directory: Path
    base_digest: str
    built_at: str
    inputs: Mapping[str, str]

    @property
    def disk(self) -> Path:
        """The image file itself."""
        return self.directory / disk_name(self.format)

    def is_untouched(self) -> bool:
        """Whether nobody has written to the disk since it was built, as a machine does that runs on it."""
        return self.disk.stat().st_mtime_ns <= (self.directory / MANIFEST).stat().st_mtime_ns

    def plan_rows(self) -> list[dict[str, object]]:
        """The changes that the image was built from, as `Plan.rows` gives them."""
        rows: list[dict[str, object]] = json.loads((self.directory / PLAN).read_text(encoding="utf-8"))
        return rows

    def listing(self) -> Listing:
        """What the image holds, as foreseen and checked when it was built."""
        return Listing.read(self.directory / LISTING)


@dataclass(frozen=True, kw_only=True)
class StoredBase:
    """A base in the store, never changed again."""

    digest: str
    format: DiskFormat
    directory: Path

    @property
    def disk(self) -> Path:
        """The base image file itself."""
        return self.directory / disk_name(self.format)

    def target(self) -> Target:
        """The facts that plans are made from."""
        return Target.from_json((self.directory / TARGET).read_text(encoding="utf-8"))

    def listing(self) -> Listing:
        """What the base holds."""
        return Listing.read(self.directory / LISTING)


Stored = TypeVar("Stored", Image, StoredBase)


def disk_name(image_format: DiskFormat) -> str:
    """The name of the image file in its directory."""
    return f"disk.{image_format}"


@dataclass(frozen=True, kw_only=True)
class Store:
    """The directory of all finished images and bases."""

    root: Path

    def image_directory(self, role: str, name: str) -> Path:
        """The directory of all builds of one image."""
        return self.root / "images" / role / name

    def current(self, role: str, name: str) -> Image | None:
        """The newest finished build of an image."""
        link = self.image_directory(role, name) / _CURRENT
        return self.build(role, name, link.readlink().name) if link.is_symlink() else None

    def build(self, role: str, name: str, key: str) -> Image | None:
        """The build with this key, or None if there is no whole one."""
        return _whole(Image, self.image_directory(role, name) / key)

    def images(self) -> Iterator[Image]:
        """The newest finished build of every image, by role and name."""
        for link in sorted(self.root.glob(f"images/*/*/{_CURRENT}")):
            image = self.current(link.parent.parent.name, link.parent.name)
            if image is not None:
                yield image

    @contextmanager
    def locked(self, directories: Sequence[Path], *, on_wait: Callable[[Path], None]) -> Iterator[None]:
        """Hold the locks of `directories`, one after another in a fixed order, and sweep what dead builds left.

        Calls `on_wait` with the directory if another process has its lock, then waits for it.
        """
        with ExitStack() as stack:
            for directory in sorted(set(directories)):
                make_directory(directory)
                with _store_errors(directory):
                    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                stack.callback(os.close, descriptor)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    on_wait(directory)
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                _sweep(directory)
            yield

    @contextmanager
    def new_directory(self, parent: Path) -> Iterator[Path]:
        """A directory in `parent` to build in; gone after the block unless `publish` has renamed it."""
        make_directory(parent)
        with _store_errors(parent):
            directory = Path(mkdtemp(prefix=_NEW, dir=parent))
        directory.chmod(0o755)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def publish(self, new: Path, image: Image) -> Image:
        """Make the finished directory `new` the image's current build, in one step that cannot fail half-way."""
        manifest = {name: value for name, value in asdict(image).items() if name != "directory"}
        image.disk.chmod(0o600)  # it has the keys of the VPN in it
        (new / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        home = self.image_directory(image.role, image.name)
        _rename_whole(new, home / image.key)
        self.make_current(image.role, image.name, image.key)
        published = self.build(image.role, image.name, image.key)
        if published is None:
            raise BuildError("vanished while it was published", where=home / image.key, fix="build again")
        return published

    def make_current(self, role: str, name: str, key: str) -> None:
        """Let `current` point at the build with this key."""
        swap_link(self.image_directory(role, name) / _CURRENT, key)

    @property
    def bases_directory(self) -> Path:
        """The directory of all bases."""
        return self.root / "bases"

    def base(self, digest: str) -> StoredBase | None:
        """The base with this digest, or None if there is no whole one."""
        return _whole(StoredBase, self.bases_directory / digest)

    def base_by_recipe(self, recipe_key: str) -> StoredBase | None:
        """The base that was made for this key of a recipe."""
        link = self.bases_directory / "by-recipe" / recipe_key
        return self.base(link.readlink().name) if link.is_symlink() else None

    def publish_base(self, new: Path, base: StoredBase, *, recipe_key: str) -> StoredBase:
        """Put the finished directory `new` in its place and remember which recipe it answers."""
        manifest = {"digest": base.digest, "format": base.format}
        (new / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if self.base(base.digest) is None:
            (new / disk_name(base.format)).chmod(0o400)
            _rename_whole(new, self.bases_directory / base.digest)
        make_directory(self.bases_directory / "by-recipe")
        swap_link(self.bases_directory / "by-recipe" / recipe_key, f"../{base.digest}")
        published = self.base(base.digest)
        if published is None:
            raise BuildError("vanished while it was published", where=base.directory, fix="build again")
        return published

    def superseded(self) -> Iterator[Path]:
        """What no current image is or needs: earlier builds, and bases. A build that was used is left out."""
        current = list(self.images())
        kept = {image.directory for image in current} | {self.bases_directory / image.base_digest for image in current}
        builds = self.root.glob("images/*/*/*")
        for directory in sorted([*builds, *self.bases_directory.glob("*")]):
            is_build = (directory / MANIFEST).is_file() and not directory.is_symlink() and _USED not in directory.name
            if is_build and directory not in kept:
                yield directory

    def remove(self, directory: Path) -> None:
        """Remove a build or a base; a process that dies meanwhile leaves nothing that looks whole."""
        leaving = directory.with_name(f"{_NEW}{directory.name}")
        directory.rename(leaving)
        shutil.rmtree(leaving)

    def artifacts(self, image: Image) -> Iterator[tuple[str, Path]]:
        """What was made from the image: kind and file."""
        configuration = self.root / "artifacts" / "xen" / f"{image.name}.cfg"
        if configuration.is_file():
            yield "xl", configuration

    def write_artifact(self, kind: str, file_name: str, text: str) -> Path:
        """Write a text that was made from an image; an artifact that is so already stays untouched."""
        path = self.root / "artifacts" / kind / file_name
        if not path.is_file() or path.read_bytes() != text.encode():
            make_directory(path.parent)
            new = path.with_name(f"{_NEW}{path.name}")
            new.write_bytes(text.encode())
            new.replace(path)
        return path


def make_directory(directory: Path) -> None:
    """Make `directory` and all above it. Raises HostError if that is not allowed."""
    with _store_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)


def require_space(needed_bytes: int, directory: Path, purpose: str) -> None:
    """Raise HostError if the file system of `directory` has less room than `purpose` may need."""
    free = shutil.disk_usage(directory).free
    if free < needed_bytes:
        what = f"{free >> 20} MiB are free, but {purpose} may need {needed_bytes >> 20} MiB"
        raise HostError(what, where=directory, fix="make room, or choose another store with --store or IMGBUILD_STORE")


@contextmanager
def _store_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = "choose another store with --store or IMGBUILD_STORE"
        raise HostError(f"cannot be written: {error.strerror}", where=directory, fix=fix) from error


def _sweep(directory: Path) -> None:
    """Remove what a dead build left in `directory`, whose lock is held."""
    for leaving in directory.glob(f"{_NEW}*"):
        if leaving.is_dir() and not leaving.is_symlink():
            shutil.rmtree(leaving, ignore_errors=True)
        else:
            leaving.unlink(missing_ok=True)


def swap_link(link: Path, target: str) -> None:
    """Let `link` point at `target`, atomically."""
    new = link.with_name(f"{_NEW}{link.name}")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)
    flush(link.parent)


def _rename_whole(new: Path, place: Path) -> None:
    for file in new.iterdir():
        flush(file)
    flush(new)
    if place.exists():  # not whole, or used since: then somebody may want it
        place.rename(name_for_used(place))
    new.rename(place)
    flush(place.parent)


def name_for_used(place: Path) -> Path:
    """Where the directory `place` is kept when another takes its name: beside it, as NAME.used-N, N the first free."""
    numbers = range(1, len(list(place.parent.iterdir())) + 2)
    return next(name for n in numbers if not (name := place.with_name(f"{place.name}{_USED}{n}")).exists())


def _whole(kind: type[Stored], directory: Path) -> Stored | None:
    """What is in `directory`, or None if its manifest is no manifest of this kind or its disk is not there."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    names = {field.name for field in fields(kind)} - {"directory"}
    if not isinstance(manifest, dict) or set(manifest) != names:
        return None
    stored = kind(directory=directory, **manifest)
    return stored if stored.disk.is_file() else None
