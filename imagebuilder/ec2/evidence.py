"""What is known about a finished image before it becomes an AMI: facts, no judgement. Pure."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from imagebuilder.ec2.boot_sectors import DiskLayout
from imagebuilder.ec2.marks import Mark
from imagebuilder.image.grub_menu import GRUB_MENU, BootEntry, boot_entries
from imagebuilder.plan.listing import Entry, Kind, Listing

PACKAGES = PurePosixPath("/var/lib/dpkg/info")
_MOST_LINKS = 40  # ELOOP
_MOST_TEXT_BYTES = 1 << 20  # a menu of GRUB with many kernels


@dataclass(frozen=True, kw_only=True)
class RootFileSystem:
    """The root file system: its type as `mount -t` names it, its label and its UUID, empty if it has none."""

    kind: str
    label: str
    uuid: str


@dataclass(frozen=True, kw_only=True)
class FileMark:
    """A secret in a file; `fingerprint` is the SHA-256 of the public key, None for what has none."""

    path: PurePosixPath
    mark: Mark
    fingerprint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that the rules go by.

    `contents` has the files that `is_read` names, `initramfs` the names in each archive that the menu loads, by its
    real path. `marks` are the secrets in files, `strays` those on the disk that are in no file. `published` are the
    files of `marks` that are just as their Debian package has them: what is in those is known to everybody.
    """

    listing: Listing
    contents: Mapping[PurePosixPath, bytes]
    root: RootFileSystem
    layout: DiskLayout
    efi_files: frozenset[PurePosixPath] = frozenset()
    """What is in the EFI system partition, as paths from its root."""
    initramfs: Mapping[PurePosixPath, frozenset[PurePosixPath]] = field(default_factory=dict)
    marks: tuple[FileMark, ...] = ()
    published: frozenset[PurePosixPath] = frozenset()
    strays: tuple[Mark, ...] = ()
    authorities: frozenset[str] = frozenset()
    """Fingerprints of the keys of the CAs whose certificates the image has."""
    planned_secrets: Mapping[PurePosixPath, str] = field(default_factory=dict)
    """The secrets that the image was built to carry, with their SHA-256."""
    size_bytes: int = 0
    sha256: str = ""
    """Of the whole disk, as a machine sees it."""

    def text(self, path: PurePosixPath) -> str | None:
        """The text of a file that was read, with the links on the way to it followed; None if there is none."""
        content = self.contents.get(follow(self.listing, path))
        return None if content is None else content.decode(errors="replace")

    def files(self) -> Iterator[tuple[PurePosixPath, Entry]]:
        """Every regular file."""
        return ((path, entry) for path, entry in self.listing.items() if entry.kind is Kind.FILE)

    def files_below(self, directory: PurePosixPath) -> Iterator[PurePosixPath]:
        """Everything inside `directory`, at any depth, that is no directory."""
        return (path for path in self.listing.below(directory) if self.listing[path].kind is not Kind.DIRECTORY)

    def boot_entries(self) -> tuple[BootEntry, ...]:
        """What the menu of GRUB offers."""
        return tuple(boot_entries(self.text(GRUB_MENU) or ""))


def is_read(path: PurePosixPath, entry: Entry) -> bool:
    """Whether `Evidence.contents` is to have this file."""
    if entry.kind is not Kind.FILE or entry.size > _MOST_TEXT_BYTES:
        return False
    return path == GRUB_MENU or path.name == "modules.builtin" or path.is_relative_to("/etc")


def follow(listing: Mapping[PurePosixPath, Entry], path: PurePosixPath) -> PurePosixPath:
    """`path` with every link on the way followed, the last one, too; as it is if that leads round in circles."""
    done, rest = PurePosixPath("/"), list(path.parts[1:])
    for _ in range(_MOST_LINKS * 16):
        if not rest:
            return done
        part = rest.pop(0)
        step = done.parent if part == ".." else done / part
        entry = listing.get(step)
        if entry is not None and entry.kind is Kind.LINK:
            target = PurePosixPath(entry.target)
            rest = [*(target.parts[1:] if target.is_absolute() else target.parts), *rest]
            done = PurePosixPath("/") if target.is_absolute() else done
        else:
            done = step
    return path


def on_root(listing: Mapping[PurePosixPath, Entry], path: PurePosixPath) -> PurePosixPath:
    """Where the file is that GRUB calls `path`: it may leave out /boot if that is a file system of its own."""
    places = [follow(listing, place) for place in (path, PurePosixPath("/boot") / path.relative_to("/"))]
    return next((place for place in places if place in listing), places[0])


_SUM = re.compile(r"([0-9a-f]{32})  (.+)")


def unchanged_files(
    listing: Mapping[PurePosixPath, Entry], sums: Iterable[str], contents: Mapping[PurePosixPath, bytes]
) -> frozenset[PurePosixPath]:
    """Which of `contents` are as a Debian package has them: `sums` are the texts of the packages' .md5sums files."""
    digests = {path: hashlib.md5(content, usedforsecurity=False).hexdigest() for path, content in contents.items()}
    known = {digest: path for path, digest in digests.items()}
    return frozenset(
        path
        for text in sums
        for digest, name in _SUM.findall(text)
        if digest in known and digests.get(path := follow(listing, PurePosixPath("/", name))) == digest
    )
