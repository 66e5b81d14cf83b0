"""What an xl configuration is checked against: the cluster, and the files of this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What stands at a path. `format` is None where it cannot be told: a device, or a file that is not there."""

    state: Literal["there", "absent", "unreadable", "directory"]
    format: str | None = None
    missing_backing_files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """The bridges are None, and the owners empty, where there is no description of a cluster."""

    look: Callable[[Path], FileFacts]
    is_dom0: bool
    bridges: frozenset[str] | None = None
    macs: Mapping[str, str] = field(default_factory=dict)
    """The name of the machine that has each MAC address."""
    uuids: Mapping[str, str] = field(default_factory=dict)
    """The name of the machine that has each UUID."""
