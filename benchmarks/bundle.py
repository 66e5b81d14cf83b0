"""Times a bundle of the worker's image against the programs that make one by hand, in one run: CPU seconds, and time.

By hand is `tar --sparse | gzip -9 | openssl enc | split`, and the same with pigz, which uses all cores. These get the
image as a raw file, where imgbuild reads it through its chain of overlays; and neither takes the digests that a
manifest wants. All files are in the page cache before, and all results are written to the same disk. Runs of imgbuild
and of the others take turns, since on a machine with other work a CPU second is not always worth the same.
"""

import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.image.store import Image, Store

_IMGBUILD = Path(sys.executable).with_name("imgbuild")
_ROUNDS = 3  # the best of each counts; gzip has one, as it takes minutes
_KEY = "00112233445566778899aabbccddeeff"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run took: CPU seconds of all its processes, time on the clock, and the size of what it made."""

    cpu_s: float
    wall_s: float
    size_bytes: int


def main() -> None:
    """Measure and print one line a figure."""
    subprocess.run([_IMGBUILD, "--quiet", "build", "worker"], check=True)
    image = Store(root=Path.cwd() / ".imgbuild").current("worker", "worker")
    if image is None:
        raise SystemExit("there is no image of the worker")
    with tempfile.TemporaryDirectory(prefix="imgbuild-bench-", dir=Path.cwd()) as directory:
        raw = Path(directory, "worker")
        subprocess.run(["qemu-img", "convert", "-f", image.format, "-O", "raw", image.disk, raw], check=True)
        subprocess.run(["cat", raw], stdout=subprocess.DEVNULL, check=True)
        _make_keys(raw.parent)
        _own(image, raw.parent)  # inspects the image for EC2, which is done once
        rounds = [(_own(image, raw.parent), _by_hand("pigz", raw.parent)) for _ in range(_ROUNDS)]
        own, by_pigz = (min(costs, key=lambda cost: cost.cpu_s) for costs in zip(*rounds, strict=True))
        by_gzip = _by_hand("gzip -9", raw.parent)
        small = _own(image, raw.parent, "--small")
    print(f"bundle of the worker by imgbuild: {_shown(own)}")
    for name, peer, goal in (("gzip -9", by_gzip, "30"), ("pigz", by_pigz, "7")):
        print(f"by tar | {name} | openssl | split: {_shown(peer)}")
        ratios = f"{peer.cpu_s / own.cpu_s:.1f} times the CPU (goal: at least {goal})"
        print(f"    {ratios}, {peer.wall_s / own.wall_s:.1f} times the time")
    print(f"by imgbuild, as small as it can: {_shown(small)}")


def _shown(cost: Cost) -> str:
    return f"{cost.cpu_s:.2f} CPU s, {cost.wall_s:.2f} s, {cost.size_bytes / 1e6:.0f} MB"


def _own(image: Image, scratch: Path, *options: str) -> Cost:
    out = scratch / "own"
    words = ["--format", "instance-store", "--output", str(out), "--user", "123456789012", *options]
    keys = [
        "--cert",
        str(scratch / "user.crt"),
        "--key",
        str(scratch / "user.key"),
        "--ec2cert",
        str(scratch / "ec2.crt"),
    ]
    return _cost([str(_IMGBUILD), "--quiet", "bundle", image.name, *words, *keys], out)


def _make_keys(scratch: Path) -> None:
    for name in ("user", "ec2"):
        files: list[str | Path] = ["-keyout", scratch / f"{name}.key", "-out", scratch / f"{name}.crt"]
        request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"]
        subprocess.run([*request, *files], check=True, capture_output=True)


def _by_hand(compress: str, scratch: Path) -> Cost:
    encrypt = f"openssl enc -e -aes-128-cbc -K {_KEY} -iv {_KEY}"
    out = scratch / "by-hand"
    out.mkdir()
    archive = f"tar --create --sparse --directory {shlex.quote(str(scratch))} worker"
    split = f"split --bytes 10485760 --numeric-suffixes - {shlex.quote(str(out))}/worker.part."
    return _cost(["bash", "-c", f"set -o pipefail; {archive} | {compress} | {encrypt} | {split}"], out)


def _cost(words: Sequence[str], out: Path) -> Cost:
    """What it costs to run `words`, which fill the directory `out`; it is removed again."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    files = list(out.iterdir())
    size_bytes = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    out.rmdir()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu_s=cpu_s, wall_s=wall_s, size_bytes=size_bytes)


if __name__ == "__main__":
    main()
