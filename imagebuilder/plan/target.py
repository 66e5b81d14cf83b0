"""The facts about a base image that plans are made from; inspected once, then kept with the base's digest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Literal, Self

OWN_UNITS = PurePosixPath("/etc/systemd/system")
"""Where systemd keeps what the administrator of a machine has enabled."""

_MOST_LINKS = 40  # ELOOP: Linux gives up after 40 symbolic links in one path


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user and its primary group, by number."""

    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text file of the base with its permissions."""

    content: str
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Target:
    """A base image, as far as planning needs to know it.

    `texts` holds the text files below /etc and the systemd units; `links` every symbolic link in those places and
    every link to a directory anywhere; `unread` the other files there: too big, private, or no UTF-8 text.
    """

    digest: str
    distribution: str
    version: str
    architecture: str
    init_system: str
    packages: Mapping[str, str]
    root_device: str
    """Where the root file system is on the disk: `` for a disk without partitions, `1` for the first partition."""
    texts: Mapping[PurePosixPath, Text] = field(default_factory=dict)
    links: Mapping[PurePosixPath, str] = field(default_factory=dict)
    directories: frozenset[PurePosixPath] = frozenset()
    unread: frozenset[PurePosixPath] = frozenset()

    @cached_property
    def unit_links(self) -> Mapping[PurePosixPath, str]:
        """The links below /etc/systemd/system, which say what starts at boot."""
        return {path: target for path, target in self.links.items() if path.is_relative_to(OWN_UNITS)}

    def text(self, path: PurePosixPath) -> Text | None:
        """The text file at `path` of the base, or None if it has none there."""
        return self.texts.get(path)

    def has_file(self, path: PurePosixPath) -> bool:
        """Whether the base is known to have something at `path` that is no directory."""
        return path in self.texts or path in self.links or path in self.unread

    def resolve(self, path: PurePosixPath, *, last: Literal["kept", "followed"] = "kept") -> PurePosixPath:
        """`path` with every link in its *directories* followed, as the kernel would; its last part only by wish.

        Debian's /lib is a link to usr/lib: a plan names each file once, by its real path. Raises ValueError for a
        loop of links.
        """
        done = PurePosixPath("/")
        rest = list(path.parts[1:])
        followed = 0
        while rest:
            part = rest.pop(0)
            if part == "..":
                done = done.parent
                continue
            step = done / part
            target = self.links.get(step) if rest or last == "followed" else None
            if target is None:
                done = step
                continue
            followed += 1
            if followed > _MOST_LINKS:
                raise ValueError(f"{path} goes round in circles through links of the base image")
            link = PurePosixPath(target)
            rest = [*(link.parts[1:] if link.is_absolute() else link.parts), *rest]
            done = PurePosixPath("/") if link.is_absolute() else done
        return done

    def to_json(self) -> str:
        """The facts as JSON text."""
        value = {
            "digest": self.digest,
            "distribution": self.distribution,
            "version": self.version,
            "architecture": self.architecture,
            "init_system": self.init_system,
            "packages": dict(sorted(self.packages.items())),
            "root_device": self.root_device,
            "texts": {str(path): [text.content, text.mode, text.uid, text.gid] for path, text in self.texts.items()},
            "links": {str(path): target for path, target in self.links.items()},
            "directories": sorted(map(str, self.directories)),
            "unread": sorted(map(str, self.unread)),
        }
        return json.dumps(value, ensure_ascii=True, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The facts that `to_json` wrote."""
        value = json.loads(text)
        texts = {
            PurePosixPath(path): Text(content=content, mode=mode, uid=uid, gid=gid)
            for path, (content, mode, uid, gid) in value.pop("texts").items()
        }
        links = {PurePosixPath(path): target for path, target in value.pop("links").items()}
        directories = frozenset(map(PurePosixPath, value.pop("directories")))
        unread = frozenset(map(PurePosixPath, value.pop("unread", ())))
        return cls(texts=texts, links=links, directories=directories, unread=unread, **value)


def accounts_in(passwd: str) -> dict[str, Account]:
    """The accounts in the text of a passwd(5) file; lines of NIS (`+…`) and broken ones are left out."""
    accounts: dict[str, Account] = {}
    for line in passwd.split("\n"):
        fields = line.split(":")
        if len(fields) >= 4 and fields[2].isdecimal() and fields[3].isdecimal():
            # As for getpwnam(3), the first line of a name counts.
            accounts.setdefault(fields[0], Account(uid=int(fields[2]), gid=int(fields[3])))
    return accounts


def groups_in(group: str) -> dict[str, int]:
    """The group ids in the text of a group(5) file."""
    groups: dict[str, int] = {}
    for line in group.split("\n"):
        fields = line.split(":")
        if len(fields) >= 3 and fields[2].isdecimal():
            groups.setdefault(fields[0], int(fields[2]))
    return groups
