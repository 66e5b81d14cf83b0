"""What the global options say, for every verb."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Verbosity = Literal["quiet", "normal", "verbose"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The directories that a run works in, and how much it says."""

    site_directory: Path
    store: Path
    cache_directory: Path
    pki_directory: Path = Path("secrets/pki")
    ca_passphrase_file: Path | None = None
    verbosity: Verbosity = "normal"
