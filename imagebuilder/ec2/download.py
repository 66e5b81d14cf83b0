"""A disk image rebuilt from the blocks of a snapshot."""

import os
from collections.abc import Callable
from pathlib import Path

from imagebuilder.ec2.block_digests import BlockDigests
from imagebuilder.ec2.block_sender import Progress
from imagebuilder.ec2.crew import Concurrency, Crew
from imagebuilder.ec2.ebs import BLOCK_BYTES, ZERO_BLOCK, ZERO_DIGEST, EbsClient
from imagebuilder.errors import BuildError, HostError


def read_snapshot(
    client: EbsClient, snapshot_id: str, path: Path, *, size_bytes: int, on_progress: Callable[[Progress], None]
) -> dict[int, bytes]:
    """Write a raw image of `size_bytes` to `path`, sparse; gives the SHA-256 of each block that the snapshot has.

    The file gets its name when all of it is there. Raises RemoteError; BuildError if the snapshot has data behind
    `size_bytes`; HostError if the file cannot be written.
    """
    new = path.with_name(f".new-{path.name}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size_bytes)
            write = _writer(descriptor, size_bytes, snapshot_id)
            digests = _fetch(client, snapshot_id, write, on_progress)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(path)
    except OSError as error:
        raise HostError(f"cannot be written: {error.strerror}", where=path) from error
    finally:
        new.unlink(missing_ok=True)
    return digests


def read_digests(
    client: EbsClient, snapshot_id: str, *, volume_gib: int, on_progress: Callable[[Progress], None]
) -> BlockDigests:
    """The record of a snapshot that has none here, by reading all its blocks. Raises RemoteError."""
    digests = _fetch(client, snapshot_id, lambda _index, _block: None, on_progress)
    return BlockDigests(snapshot_id=snapshot_id, volume_gib=volume_gib, digests=digests)


def _fetch(
    client: EbsClient,
    snapshot_id: str,
    keep: Callable[[int, bytearray], None],
    on_progress: Callable[[Progress], None],
) -> dict[int, bytes]:
    blocks = list(client.list_blocks(snapshot_id))
    digests: dict[int, bytes] = {}
    concurrency = Concurrency()

    def work(block: tuple[int, str], buffer: bytearray) -> None:
        index, token = block
        began = client.budget.now()
        digest = client.get_block(snapshot_id, index, token, memoryview(buffer), sleep=crew.pause)
        now = client.budget.now()
        concurrency.note(now, now - began)
        if digest != ZERO_DIGEST:
            keep(index, buffer)
        digests[index] = digest

    crew = Crew(blocks, work, concurrency=concurrency, abort=client.abort)
    crew.run(lambda: on_progress(Progress(done=len(digests), total=len(blocks), sent=len(digests))))
    return digests


def _writer(descriptor: int, size_bytes: int, snapshot_id: str) -> Callable[[int, bytearray], None]:
    def write(index: int, block: bytearray) -> None:
        start = index * BLOCK_BYTES
        inside = max(0, min(BLOCK_BYTES, size_bytes - start))
        if block[inside:] != ZERO_BLOCK[inside:]:
            raise BuildError(f"block {index} of {snapshot_id} has data behind {size_bytes} bytes")
        done = 0
        while done < inside:
            done += os.pwrite(descriptor, memoryview(block)[done:inside], start + done)

    return write
