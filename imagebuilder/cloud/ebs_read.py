"""Reading of snapshots by the EBS direct APIs: pages of block indexes with tokens, and blocks for tokens."""

import hmac
import struct
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime

from imagebuilder.cloud.calls import Call
from imagebuilder.cloud.ebs_answers import (
    SHA256,
    answer,
    block_index,
    blocks_of,
    invalid,
    not_found,
    number,
    subject_snapshot,
)
from imagebuilder.cloud.http_messages import Response
from imagebuilder.cloud.regions import Region
from imagebuilder.cloud.snapshots import BLOCK_SIZE, Snapshot, utc_now
from imagebuilder.cloud.tuning import Tuning
from imagebuilder.secret import Secret

_NUMBERS = struct.Struct(">QQ")
_LEAST_RESULTS, _MOST_RESULTS = 100, 10_000


class BlockReader:
    """Gives and takes tokens; both kinds are sealed with the secret, so that none can be made up."""

    def __init__(self, secret: Secret, tuning: Tuning) -> None:
        self._secret = secret
        self._tuning = tuning

    def get_block(self, call: Call, region: Region) -> Response:
        """GetSnapshotBlock."""
        snapshot = _readable(call, region)
        index = block_index(call, snapshot)
        digest = blocks_of(snapshot, region).digest(index)
        expires_at = self._open(call.request.query.get("blockToken", ""), snapshot.id, (digest or b"").hex())
        if digest is None or expires_at is None or expires_at[0] != index:
            raise invalid("The block token is none of this block.", "INVALID_BLOCK_TOKEN")
        if expires_at[1] < utc_now().timestamp() * 1000:
            raise invalid("The block token has expired.", "INVALID_BLOCK_TOKEN")
        return Response(
            headers=[
                ("Content-Type", "application/octet-stream"),
                ("x-amz-Data-Length", str(BLOCK_SIZE)),
                ("x-amz-Checksum", b64encode(digest).decode()),
                ("x-amz-Checksum-Algorithm", SHA256),
            ],
            body=region.snapshots.content(digest),
        )

    def list_blocks(self, call: Call, region: Region) -> Response:
        """ListSnapshotBlocks."""
        snapshot = _readable(call, region)
        blocks = blocks_of(snapshot, region).all()
        page, next_token = self._page(call, snapshot.id, list(blocks))
        shown = [{"BlockIndex": index, "BlockToken": self._token(snapshot, index, blocks[index])} for index in page]
        return self._listed(snapshot, "Blocks", shown, next_token)

    def list_changed(self, call: Call, region: Region) -> Response:
        """ListChangedBlocks: what differs from a first snapshot, or everything if none is named."""
        snapshot = _readable(call, region)
        first_id = call.request.query.get("firstSnapshotId")
        if first_id is None:
            raise invalid("FirstSnapshotId must be specified with SecondSnapshotId.")
        first = region.snapshots.find(first_id, utc_now())
        if first is None:
            raise not_found(first_id)
        _require_completed(first, utc_now())
        if first.lineage != snapshot.lineage:
            raise invalid("The snapshots are of different lineages.", "UNRELATED_SNAPSHOTS")
        old, new = blocks_of(first, region).all(), blocks_of(snapshot, region).all()
        changed = sorted(index for index in old.keys() | new.keys() if old.get(index) != new.get(index))
        page, next_token = self._page(call, f"{first.id} {snapshot.id}", changed)
        shown = [
            {
                "BlockIndex": index,
                **({"FirstBlockToken": self._token(first, index, old[index])} if index in old else {}),
                **({"SecondBlockToken": self._token(snapshot, index, new[index])} if index in new else {}),
            }
            for index in page
        ]
        return self._listed(snapshot, "ChangedBlocks", shown, next_token)

    def _listed(
        self, snapshot: Snapshot, name: str, shown: Sequence[Mapping[str, object]], next_token: str | None
    ) -> Response:
        expiry = utc_now().timestamp() + self._tuning.block_token_lifetime_s
        sizes = {"VolumeSize": snapshot.volume_size_gib, "BlockSize": BLOCK_SIZE}
        return answer(200, {name: list(shown), "ExpiryTime": expiry, **sizes, "NextToken": next_token})

    def _page(self, call: Call, what: str, indexes: Sequence[int]) -> tuple[Sequence[int], str | None]:
        """The indexes of the page that the query asks for, and the token of the next."""
        query = call.request.query
        most = number(query, "maxResults", _MOST_RESULTS)
        if not _LEAST_RESULTS <= most <= _MOST_RESULTS:
            raise invalid(f"MaxResults must be {_LEAST_RESULTS} to {_MOST_RESULTS}.")
        start = number(query, "startingBlockIndex", 0)
        if "pageToken" in query:
            opened = self._open(query["pageToken"], what, "page")
            if opened is None:
                raise invalid("The page token is none of this list.", "INVALID_PAGE_TOKEN")
            start = opened[0]
        rest = [index for index in indexes if index >= start]
        page = rest[: min(most, self._tuning.blocks_a_page)]
        following = rest[len(page)] if len(page) < len(rest) else None
        return page, None if following is None else self._seal(following, 0, what, "page")

    def _token(self, snapshot: Snapshot, index: int, digest: bytes) -> str:
        expires_at_ms = int((utc_now().timestamp() + self._tuning.block_token_lifetime_s) * 1000)
        return self._seal(index, expires_at_ms, snapshot.id, digest.hex())

    def _seal(self, number: int, other: int, *what: str) -> str:
        plain = _NUMBERS.pack(number, other)
        return b64encode(plain + self._mark(plain, what)).decode()

    def _open(self, token: str, *what: str) -> tuple[int, int] | None:
        try:
            content = b64decode(token, validate=True)
        except ValueError:
            return None
        plain, mark = content[: _NUMBERS.size], content[_NUMBERS.size :]
        if not hmac.compare_digest(mark, self._mark(plain, what)):
            return None
        number, other = _NUMBERS.unpack(plain)
        return number, other

    def _mark(self, plain: bytes, what: Sequence[str]) -> bytes:
        text = plain + "\n".join(("token", *what)).encode()
        return hmac.new(self._secret.reveal(), text, "sha256").digest()[:24]


def _readable(call: Call, region: Region) -> Snapshot:
    snapshot = subject_snapshot(call, region)
    _require_completed(snapshot, utc_now())
    return snapshot


def _require_completed(snapshot: Snapshot, now: datetime) -> None:
    if snapshot.state(now) != "completed":
        raise invalid(f"The snapshot '{snapshot.id}' is {snapshot.state(now)}.", "INVALID_SNAPSHOT_ID")
