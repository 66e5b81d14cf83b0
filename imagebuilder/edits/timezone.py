"""The time zone."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import Intent, MakeLink, WriteFile
from imagebuilder.plan.check import Check, Instance, Prints
from imagebuilder.recipe.model import refuse

_ETC = PurePosixPath("/etc")
_RULES = PurePosixPath("/usr/share/zoneinfo")
# The names of tzdata (its file theory.html, "Timezone identifiers"): no part is `..`, none is empty.
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z][A-Za-z0-9_+-]*){0,2}")


def _zone(text: str) -> str:
    if not _ZONE.fullmatch(text):
        raise refuse(f"'{text}' is no time zone", "write it as `timedatectl list-timezones` does: Europe/Madrid")
    return text


class Timezone(Edit):
    """Writes /etc/timezone and lets /etc/localtime point at the rules of that zone.

    Whether the base's tzdata has such a zone is not checked; a machine without its rules runs in UTC.
    """

    packages: ClassVar[tuple[str, ...]] = ("tzdata",)

    zone: Annotated[str, AfterValidator(_zone)]
    """A zone of tzdata, for example `Europe/Madrid`."""

    def intents(self, machine: Machine) -> Iterator[Intent]:
        del machine
        yield WriteFile(path=_ETC / "timezone", content=f"{self.zone}\n".encode())
        yield MakeLink(path=_ETC / "localtime", target=str(_RULES / self.zone))

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        yield Check(
            name="zone",
            proves="the system's time zone is this one",
            command=("readlink", "/etc/localtime"),
            expects=Prints(text=str(_RULES / self.zone)),
        )
        yield Check(
            name="rules",
            proves="the base has the rules of the zone",
            command=("stat", "--dereference", "--format=%F", "/etc/localtime"),
            expects=Prints(text="regular file"),
        )
