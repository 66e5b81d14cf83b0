"""The description of the base: what `recipes/base.yaml` may say."""

from typing import Annotated, Literal

from pydantic import Field

from imagebuilder.recipe.cluster import Word
from imagebuilder.recipe.model import Boolean, Integer, Strict


class DebianBase(Strict):
    """A base made from Debian's packages by mmdebstrap."""

    suite: Word
    """The release, for example `bookworm`."""
    components: tuple[Word, ...] = ("main",)
    """Parts of the archive."""
    mirror: str | None = None
    """Where packages come from while the base is made; mmdebstrap's default if not given."""
    kernel: Word = "linux-image-cloud-amd64"
    """The kernel package; `linux-image-amd64` has the drivers of real hardware."""
    packages: tuple[Word, ...] = ()
    """What is installed beside the smallest Debian that boots; each role says what it requires."""
    debconf: tuple[str, ...] = ()
    """Answers for debconf-set-selections(1), one a line."""
    disk_size_gib: Annotated[Integer, Field(ge=1, le=1024)] = 4
    """Size of the disk in GiB; EBS volumes are whole GiB."""
    exclude_documentation: Boolean = True
    """Leave out manual pages, translations and /usr/share/doc but for the copyright files."""


class OwnBase(Strict):
    """A base image of your own; it is inspected and copied, never changed."""

    image: str
    """The image file; a relative path counts from the site directory."""
    format: Literal["raw", "qcow2"] | None = None
    """Its format; by default that of its suffix, .qcow2 or anything else for raw."""


BaseRecipe = DebianBase | OwnBase
