"""The regions of the one account: each has its own snapshots, images and settings."""

import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from imagebuilder.cloud.block_store import BlockStore
from imagebuilder.cloud.images import Images
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.snapshots import Snapshots
from imagebuilder.cloud.tuning import Tuning
from imagebuilder.whole_files import write_whole

ACCOUNT = "123456789012"

# Those that an account has without asking for them.
REGIONS = (
    *("ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2"),
    *("ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1"),
    *("us-east-1", "us-east-2", "us-west-1", "us-west-2"),
)


class RegionSettings(BaseModel):
    """What an account sets for a region."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encryption_by_default: bool = False
    default_kms_key: str | None = None


class Region:
    """One region."""

    def __init__(self, name: str, directory: Path, blocks: BlockStore, tuning: Tuning) -> None:
        self.name = name
        self.snapshots = Snapshots(directory / "snapshots", blocks, minute_s=tuning.minute_s)
        self.images = Images(directory / "images")
        self._settings_file = directory / "settings.json"
        self.settings = RegionSettings()
        if self._settings_file.exists():
            self.settings = RegionSettings.model_validate_json(self._settings_file.read_bytes())

    def change_settings(self, settings: RegionSettings) -> None:
        """Replace the settings."""
        write_whole(self._settings_file, settings.model_dump_json().encode(), survives="kill")
        self.settings = settings

    @property
    def default_key(self) -> str:
        """The ARN of the key that encrypts what names none: the account's choice, or that of AWS for EBS."""
        made_up = f"arn:aws:kms:{self.name}:{ACCOUNT}:key/00000000-0000-4000-8000-0000000000eb"
        return self.settings.default_kms_key or made_up


class Regions:
    """All regions, each made when it is first used, or was used before."""

    def __init__(self, directory: Path, tuning: Tuning) -> None:
        self._directory = directory / "regions"
        self._blocks = BlockStore(directory / "blocks")
        self._tuning = tuning
        self._lock = threading.Lock()
        self._regions = {name: self._open(name) for name in REGIONS if (self._directory / name).is_dir()}
        self._blocks.sweep()

    def __getitem__(self, name: str) -> Region:
        if name not in REGIONS:
            raise Refusal(code="AuthFailure", message=f"The region {name} is none of this account", status=401)
        with self._lock:
            if name not in self._regions:
                self._regions[name] = self._open(name)
            return self._regions[name]

    def used(self) -> list[Region]:
        """Those that have been used."""
        with self._lock:
            return [self._regions[name] for name in sorted(self._regions)]

    def _open(self, name: str) -> Region:
        return Region(name, self._directory / name, self._blocks, self._tuning)


KeyExists = Callable[[str, str], bool]
"""Whether there is a KMS key: its ARN, its region."""
