"""The generations of OpenNebula that templates are written for."""

from dataclasses import dataclass
from typing import Literal

from imagebuilder.opennebula.template import Dialect

Generation = Literal["1", "5", "7"]


@dataclass(frozen=True, kw_only=True)
class Release:
    """A generation of releases that reads the same templates."""

    generation: Generation
    title: str
    dialect: Dialect


# The driver for EC2 is in the first two only: OpenNebula 6.0 came without it (Compatibility Guide 6.0; one#5204).
RELEASES: dict[Generation, Release] = {
    "1": Release(generation="1", title="OpenNebula 1.0 to 2.2", dialect="classic"),
    "5": Release(generation="5", title="OpenNebula 4.14 to 5.12", dialect="today"),
    "7": Release(generation="7", title="OpenNebula 6.0 to 7.x", dialect="today"),
}
