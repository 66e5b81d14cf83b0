"""How fast the cloud is, and how much it lets one do: what AWS does, on a smaller scale of time."""

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt


class Tuning(BaseModel):
    """The delays and quotas. Times are in seconds, rates in calls a second.

    The quotas are those of EBS direct APIs and of EC2's request tokens, as AWS documents them for large regions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot_visible_after_s: NonNegativeFloat = 0.3
    """How long a new snapshot "does not exist": on AWS seconds, and up to two minutes (coldsnap#43)."""
    snapshot_completes_after_s: NonNegativeFloat = 1.0
    """From CompleteSnapshot to the state `completed`; also of a copy."""
    image_visible_after_s: NonNegativeFloat = 0.3
    image_available_after_s: NonNegativeFloat = 0.5
    """From RegisterImage to the state `available`."""
    minute_s: PositiveFloat = 60.0
    """How long a minute of StartSnapshot's Timeout lasts."""
    block_token_lifetime_s: PositiveFloat = 7 * 24 * 3600.0
    blocks_a_page: PositiveInt = 10_000
    """The most that ListSnapshotBlocks and ListChangedBlocks give at once; AWS too may give fewer than asked for."""

    starts_a_second: PositiveFloat = 10
    completes_a_second: PositiveFloat = 10
    puts_a_second: PositiveFloat = 1000
    """To one snapshot."""
    gets_a_second: PositiveFloat = 1000
    """From one snapshot."""
    lists_a_second: PositiveFloat = 50
    pending_snapshots: PositiveInt = 100
    """Started and not completed, in one region."""
    describes_a_second: PositiveFloat = 20
    describes_at_once: PositiveInt = 100
    changes_a_second: PositiveFloat = 5
    changes_at_once: PositiveInt = 50
