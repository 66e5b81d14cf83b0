"""How the EBS direct APIs speak: headers with numbers, JSON, and their own words of refusal."""

import json
import re
from collections.abc import Mapping

from imagebuilder.cloud.block_map import BlockMap
from imagebuilder.cloud.calls import Call
from imagebuilder.cloud.http_messages import Response
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.regions import Region
from imagebuilder.cloud.snapshots import Snapshot, utc_now

SHA256 = "SHA256"


def invalid(message: str, reason: str = "INVALID_PARAMETER_VALUE") -> Refusal:
    """A ValidationException; `reason` is one of ValidationExceptionReason."""
    return Refusal(code="ValidationException", message=message, fields={"Reason": reason})


def not_found(snapshot_id: str) -> Refusal:
    """What one gets who asks for a snapshot that there is not, or not yet."""
    message = f"The snapshot '{snapshot_id}' does not exist."
    fields = {"Reason": "SNAPSHOT_NOT_FOUND"}
    return Refusal(code="ResourceNotFoundException", message=message, status=404, fields=fields)


def answer(status: int, document: Mapping[str, object]) -> Response:
    """An answer with a JSON document; what is None is left out."""
    shown = {name: value for name, value in document.items() if value is not None}
    return Response(status=status, headers=[("Content-Type", "application/json")], body=json.dumps(shown).encode())


def subject_snapshot(call: Call, region: Region) -> Snapshot:
    """The snapshot that the path of a call names."""
    snapshot_id = call.subject["SnapshotId"]
    if not re.fullmatch("snap-[0-9a-f]{1,59}", snapshot_id):
        raise invalid(f"The snapshot ID '{snapshot_id}' is not valid.", "INVALID_SNAPSHOT_ID")
    snapshot = region.snapshots.find(snapshot_id, utc_now())
    if snapshot is None:
        raise not_found(snapshot_id)
    return snapshot


def blocks_of(snapshot: Snapshot, region: Region) -> BlockMap:
    """The blocks of a snapshot, which may have been deleted since it was found."""
    try:
        return region.snapshots.blocks(snapshot.id)
    except KeyError as error:
        raise not_found(snapshot.id) from error


def block_index(call: Call, snapshot: Snapshot) -> int:
    """The block that the path of a call names."""
    text = call.subject["BlockIndex"]
    if not text.isdecimal():
        raise invalid(f"The block index '{text}' is not a number.")
    if int(text) >= snapshot.blocks:
        raise invalid(
            f"The block index {text} is outside the volume of {snapshot.volume_size_gib} GiB.", "INVALID_BLOCK"
        )
    return int(text)


def number(values: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A number of a header or a query; without a default it must be there."""
    text = values.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise invalid(f"{name} must be a number, and is {text!r}.")
    return int(text)


def require_sha256(call: Call) -> None:
    """The header that names the algorithm must name the only one there is."""
    algorithm = call.request.headers.get("x-amz-checksum-algorithm")
    if algorithm != SHA256:
        raise invalid(f"x-amz-Checksum-Algorithm must be SHA256, and is {algorithm!r}.")
