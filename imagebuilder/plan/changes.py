"""What a plan is made of: changes to paths, and the intents of edits from which they are folded.

Both are closed unions of frozen values. A change says all of what a path will be; an intent may depend on what
the base has there. Paths are those inside the image.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from imagebuilder.secret import Secret

ROOT = "root"


@dataclass(frozen=True, kw_only=True)
class WriteFile:
    """A regular file with this content; owner and group are names of the image's own accounts."""

    path: PurePosixPath
    content: bytes | Secret
    mode: int = 0o644
    owner: str = ROOT
    group: str = ROOT

    @property
    def is_secret(self) -> bool:
        """Whether the content must not be shown."""
        return isinstance(self.content, Secret)

    @property
    def payload(self) -> bytes:
        """The content, secret or not, for the one who writes it into the image."""
        return self.content.reveal() if isinstance(self.content, Secret) else self.content

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hex."""
        return hashlib.sha256(self.payload).hexdigest()


@dataclass(frozen=True, kw_only=True)
class MakeDirectory:
    """A directory; one that the base has gets this mode and owner."""

    path: PurePosixPath
    mode: int = 0o755
    owner: str = ROOT
    group: str = ROOT


@dataclass(frozen=True, kw_only=True)
class MakeLink:
    """A symbolic link, with its target as it is to stand in the link."""

    path: PurePosixPath
    target: str


@dataclass(frozen=True, kw_only=True)
class RemovePath:
    """Nothing at this path; a directory goes with all that is in it."""

    path: PurePosixPath


Change = WriteFile | MakeDirectory | MakeLink | RemovePath


@dataclass(frozen=True, kw_only=True)
class SetLine:
    """One line in a text file of the base, in place of the first that `replaces` matches, else at the end.

    Further matching lines go; every other line stays. A file that the base lacks is made, mode 0644, or 0600 if a
    secret is in it.
    """

    path: PurePosixPath
    line: str | Secret
    replaces: re.Pattern[str]


@dataclass(frozen=True, kw_only=True)
class RemoveLines:
    """No line that `matching` matches in a text file of the base."""

    path: PurePosixPath
    matching: re.Pattern[str]


@dataclass(frozen=True, kw_only=True)
class AddWord:
    """`word` in each line of a text file of the base that `within` matches; if none does, `otherwise` at the end.

    The word goes behind the word `behind` if the line has that, else to the end of the line. A line that has the
    word already stays as it is. What follows a `#` is no word.
    """

    path: PurePosixPath
    within: re.Pattern[str]
    word: str
    behind: str
    otherwise: str


@dataclass(frozen=True, kw_only=True)
class EnableService:
    """The systemd unit starts at boot, as its [Install] section says; `unit` has its suffix."""

    unit: str


@dataclass(frozen=True, kw_only=True)
class DisableService:
    """The systemd unit does not start at boot by itself; another unit may still want it."""

    unit: str


@dataclass(frozen=True, kw_only=True)
class MaskService:
    """The systemd unit cannot be started by anything."""

    unit: str


LineIntent = SetLine | RemoveLines | AddWord
Intent = Change | LineIntent | EnableService | DisableService | MaskService
