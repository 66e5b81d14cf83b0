"""Measures the upload of the example's worker: CPU and speed beside boto3, and what a delta on its base saves.

The CPU is that of the sending process alone, for the same blocks, into the same server that takes everything at once
(block_sink.py); each sender has a process of its own, they take turns, and the middle one counts. boto3 is used as
its users do: a pool of 16 threads that read, digest and call `put_snapshot_block`. The delta goes to the local cloud.
"""

import base64
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from imagebuilder.cloud import RunningCloud, Tuning, running_cloud
from imagebuilder.ec2.block_digests import BlockDigests, SnapshotState
from imagebuilder.ec2.ebs import BLOCK_BYTES, EbsClient
from imagebuilder.ec2.journal import Journal
from imagebuilder.ec2.retry import RetryBudget
from imagebuilder.ec2.signing import Credentials
from imagebuilder.ec2.upload import Reports, Services, SnapshotRequest, UploadedSnapshot, upload_snapshot
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.image.disk_reader import DiskReader, open_disk
from imagebuilder.image.store import Store
from imagebuilder.secret import Secret

_TURNS = 5
_THREADS = 16
_REGION = "us-east-1"


def main() -> None:
    """Measure and print one line a figure."""
    store = Store(root=Path.cwd() / ".imgbuild")
    worker = store.current("worker", "worker")
    base = store.base(worker.base_digest) if worker else None
    if worker is None or base is None:
        sys.exit("there is no image of the example's worker: run `make demo` first")
    with subprocess.Popen([sys.executable, "-m", "benchmarks.block_sink"], stdout=subprocess.PIPE, text=True) as sink:
        try:
            port = sink.stdout.readline().strip() if sink.stdout else ""
            runs = [
                (_measured("imgbuild", port, worker.disk), _measured("boto3", port, worker.disk)) for _ in range(_TURNS)
            ]
        finally:
            sink.kill()
    own, peer = (sorted(sender)[_TURNS // 2] for sender in zip(*runs, strict=True))
    for name, run in (("imgbuild", own), ("boto3, 16 threads", peer)):
        print(f"{name}: {run.cpu_ms_a_block:.2f} ms CPU a block, {run.mb_a_second:.0f} MB/s, {run.blocks} blocks")
    print(f"CPU a block, boto3 to imgbuild: {peer.cpu_ms_a_block / own.cpu_ms_a_block:.1f} (goal: 3 or more)")
    whole, delta = _delta(worker.disk, worker.format, base.disk, base.format)
    print(f"the worker sent whole: {whole / 1e6:.1f} MB; on its base: {delta / 1e6:.1f} MB")
    print(f"the delta, of the whole: {delta / whole:.1%} (goal: at most 6 %)")


@dataclass(frozen=True, order=True)
class Run:
    """One upload of all blocks."""

    cpu_ms_a_block: float
    mb_a_second: float
    blocks: int


def _measured(sender: str, port: str, disk: Path) -> Run:
    command = [sys.executable, "-m", "benchmarks.ebs_upload", sender, port, str(disk)]
    return Run(**json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def send(sender: str, port: str, disk: Path) -> None:
    """In a process of its own: send the disk, and print what it took."""
    disk_format: DiskFormat = "qcow2" if disk.suffix == ".qcow2" else "raw"
    with open_disk(disk, disk_format) as reader, tempfile.TemporaryDirectory() as scratch:
        endpoint = f"http://127.0.0.1:{port}"
        work = _by_boto3(reader, endpoint) if sender == "boto3" else _by_imgbuild(reader, endpoint, Path(scratch))
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        blocks = work()
        seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {"cpu_ms_a_block": cpu_s * 1000 / blocks, "mb_a_second": blocks * BLOCK_BYTES / seconds / 1e6}
    print(json.dumps({**figures, "blocks": blocks}))


class _Completed:
    """In place of EC2: each snapshot is completed."""

    def state(self, snapshot_id: str) -> SnapshotState:
        return SnapshotState(status="completed", volume_gib=1, message=snapshot_id)

    def delete(self, snapshot_id: str, *, made_at: float | None) -> None:
        raise NotImplementedError(snapshot_id, made_at)


def _by_imgbuild(disk: DiskReader, endpoint: str, scratch: Path) -> Callable[[], int]:
    credentials = Credentials(access_key="AKIAEXAMPLE", secret_key=Secret("example"))
    account = _account(endpoint, credentials)
    return lambda: _upload(disk, account, scratch / "journal").blocks_sent


def _account(endpoint: str, credentials: Credentials) -> Services:
    client = EbsClient(endpoint, region=_REGION, credentials=lambda: credentials, budget=RetryBudget())
    return Services(client=client, snapshots=_Completed())


def _upload(disk: DiskReader, account: Services, journal: Path, parent: BlockDigests | None = None) -> UploadedSnapshot:
    request = SnapshotRequest(volume_gib=-(-disk.size_bytes // (1 << 30)), parent=parent)
    reports = Reports(say=print, on_progress=lambda _: None)
    with Journal.open(journal, {}, on_other=lambda _: None) as noted:
        return upload_snapshot(disk, request, account, journal=noted, reports=reports)


def _by_boto3(disk: DiskReader, endpoint: str) -> Callable[[], int]:
    session = boto3.Session(aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="example", region_name=_REGION)  # noqa: S106 - none
    client = session.client("ebs", endpoint_url=endpoint, config=Config(max_pool_connections=_THREADS))

    def put(index: int) -> None:
        block = bytearray(BLOCK_BYTES)
        disk.read_into(index * BLOCK_BYTES, memoryview(block))
        client.put_snapshot_block(
            SnapshotId="snap-0123456789abcdef0",
            BlockIndex=index,
            BlockData=block,  # type: ignore[arg-type]  # bytes would be a copy
            DataLength=BLOCK_BYTES,
            Checksum=base64.b64encode(hashlib.sha256(block).digest()).decode(),
            ChecksumAlgorithm="SHA256",
        )

    def work() -> int:
        with ThreadPoolExecutor(_THREADS) as pool:
            return sum(1 for _ in pool.map(put, disk.allocated_blocks(BLOCK_BYTES)))

    return work


def _delta(worker: Path, worker_format: DiskFormat, base: Path, base_format: DiskFormat) -> tuple[int, int]:
    """The bytes of the worker's blocks sent whole, and sent on a snapshot of its base."""
    at_once = Tuning(snapshot_visible_after_s=0, snapshot_completes_after_s=0)
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="imgbuild-bench-") as scratch,
        running_cloud(Path(scratch, "cloud"), tuning=at_once) as cloud,
    ):
        account = _account(cloud.endpoint, _credentials(cloud))
        with open_disk(base, base_format) as disk:
            parent = _upload(disk, account, Path(scratch, "base"))
        with open_disk(worker, worker_format) as disk:
            whole = _upload(disk, account, Path(scratch, "whole"))
            delta = _upload(disk, account, Path(scratch, "delta"), parent.digests)
    return whole.bytes_sent, delta.bytes_sent


def _credentials(cloud: RunningCloud) -> Credentials:
    return Credentials(access_key=cloud.credentials.access_key_id, secret_key=cloud.credentials.secret)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        send(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    else:
        main()
