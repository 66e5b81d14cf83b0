"""What proves, on a running machine, that an edit has had its effect: a command and what it must print. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One running copy of an image, as it knows itself.

    A host's image has one instance, with the host's name and address. Of the workers' image there are many: each
    has the name and the address that the VPN gave it, or while it has none, the image's name and no address.
    """

    name: str
    address: IPv4Address | None
    """Its address on the private network."""


@dataclass(frozen=True, kw_only=True)
class Prints:
    """The command succeeds and prints just this, but for blanks at either end."""

    text: str

    def trouble(self, code: int, output: str) -> str | None:
        """Why `output` is not as expected, or None if it is."""
        if code != 0:
            return f"exit status {code}"
        return None if output.strip() == self.text else f"not {self.text!r}"


@dataclass(frozen=True, kw_only=True)
class Matches:
    """The command succeeds, and in what it prints each of the patterns is found; `^` and `$` are those of a line."""

    patterns: tuple[str, ...]

    def trouble(self, code: int, output: str) -> str | None:
        """Why `output` is not as expected, or None if it is."""
        if code != 0:
            return f"exit status {code}"
        missing = [pattern for pattern in self.patterns if not re.search(pattern, output, re.MULTILINE)]
        return f"nothing matches {missing[0]}" if missing else None


Expectation = Prints | Matches


def has_rows(rows: Iterable[Sequence[object]]) -> Matches:
    """The expectation of a line for each row, wherever it stands: just these words, and blanks between them."""
    blanks = r"\s+"
    return Matches(patterns=tuple(f"^{blanks.join(re.escape(str(word)) for word in row)}\\s*$" for row in rows))


Scope = Literal["machine", "cluster"]
"""What must run for a check: the machine alone, or the whole cluster."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must be so on a running machine, and how to see it.

    `command` runs as root, without a shell. It changes nothing. It may be run again and again for `within_s`
    seconds, for as long as emulated machines may take to get there once they are up.
    """

    name: str
    """Lower case words with hyphens; together with the edit's name it is the check's."""
    proves: str
    """What is so if the check passes, in one sentence without a full stop; best one that fits every machine."""
    command: tuple[str, ...]
    expects: Expectation
    needs: Scope = "machine"
    within_s: float = 60


def active_services(units: Sequence[str], *, needs: Scope = "machine", within_s: float = 120) -> Check:
    """The check that all of these systemd units run, or have done what they had to do."""
    return Check(
        name="services",
        proves=f"{', '.join(units)}: started, and not failed",
        command=("systemctl", "is-active", *units),
        expects=Prints(text="\n".join("active" for _ in units)),
        needs=needs,
        within_s=within_s,
    )


def unfailed_services(units: Sequence[str], *, needs: Scope = "machine", within_s: float = 120) -> Check:
    """The check of units that end when they have done their work: enabled, and not failed."""
    return Check(
        name="ended-services",
        proves=f"{', '.join(units)}: not failed",
        command=("systemctl", "show", "--property=Result,UnitFileState", *units),
        expects=Prints(text="\n\n".join("Result=success\nUnitFileState=enabled" for _ in units)),
        needs=needs,
        within_s=within_s,
    )
