"""The EBS direct APIs: snapshots written and read block by block.

Shapes and limits are those of the service's model (botocore's `ebs`); what the model does not say follows the guide of
EBS. Where neither says it, the stricter way is taken.
"""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import timedelta

from imagebuilder.cloud.calls import Call
from imagebuilder.cloud.ebs_answers import (
    SHA256,
    answer,
    block_index,
    blocks_of,
    invalid,
    number,
    require_sha256,
    subject_snapshot,
)
from imagebuilder.cloud.ebs_read import BlockReader
from imagebuilder.cloud.ebs_start import start_snapshot
from imagebuilder.cloud.http_messages import Response
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.regions import KeyExists, Region, Regions
from imagebuilder.cloud.snapshots import BLOCK_SIZE, Snapshot, utc_now
from imagebuilder.cloud.throttle import Throttle
from imagebuilder.cloud.tuning import Tuning
from imagebuilder.secret import Secret


class Ebs:
    """Carries out the calls of the service `ebs`."""

    def __init__(
        self, regions: Regions, throttle: Throttle, *, tuning: Tuning, secret: Secret, key_exists: KeyExists
    ) -> None:
        self._regions = regions
        self._throttle = throttle
        self._tuning = tuning
        self._key_exists = key_exists
        reader = BlockReader(secret, tuning)
        self._actions: Mapping[str, Callable[[Call, Region], Response]] = {
            "StartSnapshot": self._start,
            "PutSnapshotBlock": self._put,
            "CompleteSnapshot": self._complete,
            "GetSnapshotBlock": reader.get_block,
            "ListSnapshotBlocks": reader.list_blocks,
            "ListChangedBlocks": reader.list_changed,
        }
        self._rates = {
            "StartSnapshot": tuning.starts_a_second,
            "PutSnapshotBlock": tuning.puts_a_second,
            "CompleteSnapshot": tuning.completes_a_second,
            "GetSnapshotBlock": tuning.gets_a_second,
            "ListSnapshotBlocks": tuning.lists_a_second,
            "ListChangedBlocks": tuning.lists_a_second,
        }

    def handle(self, call: Call) -> Response:
        """Carry out a call, whose signature has been checked. Raises Refusal."""
        action = self._actions.get(call.action)
        if action is None:
            message = f"{call.request.method} {call.request.path} is none of the EBS direct APIs."
            raise Refusal(code="UnknownOperationException", message=message, status=404)
        region = self._regions[call.region]
        rate = self._rates[call.action]
        # Blocks are limited for each snapshot, everything else for the account.
        whose = call.subject["SnapshotId"] if call.action in {"PutSnapshotBlock", "GetSnapshotBlock"} else ""
        if not self._throttle.allows(f"{region.name} {call.action} {whose}", a_second=rate, at_once=max(1, rate)):
            fields = {"Reason": "RESOURCE_LEVEL_THROTTLE" if whose else "ACCOUNT_THROTTLED"}
            raise Refusal(code="RequestThrottledException", message="Rate exceeded", fields=fields)
        return action(call, region)

    def _start(self, call: Call, region: Region) -> Response:
        return start_snapshot(call, region, tuning=self._tuning, key_exists=self._key_exists)

    def _put(self, call: Call, region: Region) -> Response:
        snapshot = subject_snapshot(call, region)
        index = block_index(call, snapshot)
        headers = call.request.headers
        require_sha256(call)
        body = call.request.body
        if number(headers, "x-amz-data-length") != BLOCK_SIZE or body.length != BLOCK_SIZE:
            raise invalid(f"A block has {BLOCK_SIZE} bytes, this one {body.length}.", "INVALID_BLOCK")
        if not 0 <= number(headers, "x-amz-progress", 0) <= 100:
            raise invalid("x-amz-Progress must be 0 to 100.")
        _require_pending(snapshot)
        content = body.read()
        digest = hashlib.sha256(content).digest()
        checksum = b64encode(digest).decode()
        if headers.get("x-amz-checksum") != checksum:
            message = f"The checksum of block {index} is {checksum}, not {headers.get('x-amz-checksum')}."
            raise invalid(message, "INVALID_BLOCK")
        if not blocks_of(snapshot, region).put(index, digest, content):
            raise _not_pending(snapshot)
        return Response(status=201, headers=[("x-amz-Checksum", checksum), ("x-amz-Checksum-Algorithm", SHA256)])

    def _complete(self, call: Call, region: Region) -> Response:
        snapshot = subject_snapshot(call, region)
        headers = call.request.headers
        claimed = number(headers, "x-amz-changedblockscount")
        with region.snapshots.lock:
            _require_pending(snapshot)
            blocks = blocks_of(snapshot, region)
            blocks.freeze()
            try:
                if claimed != len(blocks.own):
                    message = f"ChangedBlocksCount is {claimed}, and {len(blocks.own)} blocks were put."
                    raise invalid(message)
                _check_whole(call, blocks.own)
            except Refusal:
                blocks.thaw()
                raise
            now = utc_now()
            completed_at = now + timedelta(seconds=self._tuning.snapshot_completes_after_s)
            region.snapshots.change(snapshot.model_copy(update={"sealed_at": now, "completed_at": completed_at}))
        return answer(202, {"Status": "pending"})


def _check_whole(call: Call, blocks: Mapping[int, bytes]) -> None:
    """The checksum of all checksums, if one is given."""
    headers = call.request.headers
    checksum = headers.get("x-amz-checksum")
    method = headers.get("x-amz-checksum-aggregation-method")
    if checksum is None:
        if method is not None or "x-amz-checksum-algorithm" in headers:
            raise invalid("A checksum's algorithm and method need the checksum.")
        return
    require_sha256(call)
    if method != "LINEAR":
        raise invalid(f"x-amz-Checksum-Aggregation-Method must be LINEAR, and is {method!r}.")
    whole = hashlib.sha256(b"".join(digest for _, digest in sorted(blocks.items()))).digest()
    try:
        given = b64decode(checksum, validate=True)
    except ValueError as error:
        raise invalid("x-amz-Checksum is no Base64.") from error
    if given != whole:
        raise invalid(f"The checksum of the snapshot is {b64encode(whole).decode()}, not {checksum}.")


def _require_pending(snapshot: Snapshot) -> None:
    if snapshot.failed:
        message = f"The snapshot '{snapshot.id}' was cancelled: nothing happened for longer than its Timeout."
        raise invalid(message, "WRITE_REQUEST_TIMEOUT")
    if snapshot.sealed_at is not None:
        raise _not_pending(snapshot)


def _not_pending(snapshot: Snapshot) -> Refusal:
    return invalid(f"The snapshot '{snapshot.id}' has been completed.", "INVALID_SNAPSHOT_ID")
