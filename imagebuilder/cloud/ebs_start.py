"""StartSnapshot: what a new snapshot may be, and how it is encrypted."""

import hashlib
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imagebuilder.cloud.calls import Call
from imagebuilder.cloud.ebs_answers import answer, invalid, not_found
from imagebuilder.cloud.http_messages import Response
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.regions import ACCOUNT, KeyExists, Region
from imagebuilder.cloud.snapshots import BLOCK_SIZE, Snapshot, new_id, utc_now
from imagebuilder.cloud.tuning import Tuning

_MOST_GIB = 65_536


class _Tag(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    Key: Annotated[str, Field(min_length=1, max_length=127)]
    Value: Annotated[str, Field(max_length=255)] = ""


class StartRequest(BaseModel):
    """The document of StartSnapshot, with the limits of the service's model."""

    model_config = ConfigDict(extra="forbid", strict=True)

    VolumeSize: Annotated[int, Field(ge=1)]
    ParentSnapshotId: Annotated[str, Field(pattern="^snap-[0-9a-f]+$", max_length=64)] | None = None
    Tags: Annotated[list[_Tag], Field(max_length=50)] = []
    Description: Annotated[str, Field(max_length=255)] = ""
    ClientToken: Annotated[str, Field(pattern=r"^\S+$", max_length=255)] | None = None
    Encrypted: bool | None = None
    KmsKeyArn: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:kms:.*:[0-9]{12}:key/.*", max_length=2048)] | None = None
    Timeout: Annotated[int, Field(ge=10, le=4320)] = 60


def start_snapshot(call: Call, region: Region, *, tuning: Tuning, key_exists: KeyExists) -> Response:
    """Begin a snapshot, or give the one again that was begun with this ClientToken."""
    wish = _read(call)
    request = hashlib.sha256(wish.model_dump_json().encode()).hexdigest()
    with region.snapshots.lock:
        if wish.ClientToken and (known := region.snapshots.by_token(wish.ClientToken)):
            if known.request != request:
                message = "The request uses the same client token as a previous, but non-identical request."
                raise Refusal(code="ConflictException", message=message, status=409)
            call.subject["SnapshotId"] = known.id
            return _shown(known)
        now = utc_now()
        if region.snapshots.pending(now) >= tuning.pending_snapshots:
            message = "You have reached the limit for pending snapshots."
            raise Refusal(code="ConcurrentLimitExceededException", message=message)
        parent = _parent(wish, region, now)
        new = new_id("snap")
        snapshot = Snapshot(
            id=new,
            volume_size_gib=wish.VolumeSize,
            started_at=now,
            visible_at=now + timedelta(seconds=tuning.snapshot_visible_after_s),
            description=wish.Description,
            tags={tag.Key: tag.Value for tag in wish.Tags},
            parent_id=parent.id if parent else None,
            lineage=parent.lineage if parent else new,
            kms_key_arn=_key(wish, region, parent, key_exists),
            client_token=wish.ClientToken,
            request=request,
            timeout_minutes=wish.Timeout,
        )
        region.snapshots.add(snapshot, region.snapshots.blocks(parent.id).all() if parent else {})
    call.subject["SnapshotId"] = snapshot.id
    return _shown(snapshot)


def _read(call: Call) -> StartRequest:
    try:
        wish = StartRequest.model_validate_json(bytes(call.request.body.read()))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise invalid(f"1 validation error detected: {place}: {first['msg']}") from error
    call.subject["ClientToken"] = wish.ClientToken or ""
    if wish.VolumeSize > _MOST_GIB:
        raise invalid(f"The volume size must be 1 to {_MOST_GIB} GiB.", "INVALID_VOLUME_SIZE")
    if len({tag.Key for tag in wish.Tags}) < len(wish.Tags) or any(tag.Key.startswith("aws:") for tag in wish.Tags):
        raise invalid("A tag is there twice, or begins with 'aws:'.", "INVALID_TAG")
    return wish


def _parent(wish: StartRequest, region: Region, now: datetime) -> Snapshot | None:
    if wish.ParentSnapshotId is None:
        return None
    if wish.Encrypted is not None or wish.KmsKeyArn is not None:
        raise invalid("You can't specify ParentSnapshotId with Encrypted or KmsKeyArn.")
    parent = region.snapshots.find(wish.ParentSnapshotId, now)
    if parent is None:
        raise not_found(wish.ParentSnapshotId)
    if parent.state(now) != "completed":
        raise invalid(f"The parent snapshot '{parent.id}' is {parent.state(now)}.", "INVALID_SNAPSHOT_ID")
    if wish.VolumeSize < parent.volume_size_gib:
        message = f"The volume size must not be smaller than the parent's {parent.volume_size_gib} GiB."
        raise invalid(message, "INVALID_VOLUME_SIZE")
    return parent


def _key(wish: StartRequest, region: Region, parent: Snapshot | None, key_exists: KeyExists) -> str | None:
    """The key of a new snapshot: the table of "Using encryption" in the guide of EBS."""
    if parent is not None:
        if parent.kms_key_arn is None and region.settings.encryption_by_default:
            raise invalid("The parent is not encrypted, and encryption by default is on.", "INVALID_SNAPSHOT_ID")
        return parent.kms_key_arn
    if wish.KmsKeyArn is not None:
        if not wish.Encrypted:
            raise invalid("KmsKeyArn needs Encrypted.")
        if not key_exists(wish.KmsKeyArn, region.name):
            raise invalid("The KMS key does not exist, or cannot be used.", "INVALID_CUSTOMER_KEY")
        return wish.KmsKeyArn
    return region.default_key if wish.Encrypted or region.settings.encryption_by_default else None


def _shown(snapshot: Snapshot) -> Response:
    tags = [{"Key": key, "Value": value} for key, value in snapshot.tags.items()]
    return answer(
        201,
        {
            "SnapshotId": snapshot.id,
            "OwnerId": ACCOUNT,
            "Status": snapshot.state(utc_now()),
            "StartTime": snapshot.started_at.timestamp(),
            "VolumeSize": snapshot.volume_size_gib,
            "BlockSize": BLOCK_SIZE,
            "Description": snapshot.description or None,
            "Tags": tags or None,
            "ParentSnapshotId": snapshot.parent_id,
            "KmsKeyArn": snapshot.kms_key_arn,
        },
    )
