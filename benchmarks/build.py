"""Times a build of the three images against virt-customize doing the same edits, image by image, in one run.

virt-customize is measured twice: with one option an edit (`--upload`, `--chmod`, `--link`, …), as it is used by hand,
and with each image's files laid out beforehand and given as whole trees (`--copy-in`), its fastest way. An overlay is
made for it by qemu-img. All work on the same base and with the same kind of acceleration.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imagebuilder.host.accelerator import appliance_environment, probe_accelerator
from imagebuilder.image.apply import archive_of
from imagebuilder.image.bases import Bench
from imagebuilder.image.build import PlannedImage, plan_images
from imagebuilder.image.store import Store
from imagebuilder.plan.changes import MakeDirectory, MakeLink, RemovePath, WriteFile
from imagebuilder.plan.plan import Plan
from imagebuilder.site import STARTER, load_site

_IMGBUILD = Path(sys.executable).with_name("imgbuild")
_NO_OP_RUNS = 5


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A site and a store of our own, on the base of the store that `make demo` filled."""

    site: Path
    store: Path
    environment: dict[str, str]


def main() -> None:
    """Measure and print one line a figure."""
    with tempfile.TemporaryDirectory(prefix="imgbuild-bench-", dir=Path.cwd()) as directory:
        place = _make_workplace(Path(directory))
        _build(place)  # makes the base, and the appliance if this machine has none yet
        planned = _plan(place)
        by_edit_s = sum(_virt_customize_s(one, place, _words_by_edit) for one in planned)
        by_tree_s = sum(_virt_customize_s(one, place, _words_by_tree) for one in planned)
        _change_a_value(place.site)
        own_s = _timed(lambda: _build(place))
        no_op_s = min(_timed(lambda: _build(place)) for _ in range(_NO_OP_RUNS))
        size_bytes = _node_size_bytes(place.store)
    print(f"three images by imgbuild build, checked and published: {own_s:.1f} s")
    for way, peer_s in (("option by option, goal 6", by_edit_s), ("trees copied in", by_tree_s)):
        print(f"by virt-customize, one after another: {peer_s:.1f} s, ratio {peer_s / own_s:.1f} ({way})")
    print(f"imgbuild build with nothing to do, best of {_NO_OP_RUNS}: {no_op_s:.2f} s (goal: less than 0.5)")
    print(f"node image beyond its base: {size_bytes / 1e6:.2f} MB (goal: less than 3)")


def _make_workplace(directory: Path) -> Workplace:
    site = directory / "site"
    shutil.copytree(STARTER / "recipes", site / "recipes")
    store = directory / "store"
    if (made := Path.cwd() / ".imgbuild" / "bases").is_dir():
        store.mkdir()
        subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", made, store / "bases"], check=True)
    places = {"IMGBUILD_DIRECTORY": str(site), "IMGBUILD_STORE": str(store)}
    return Workplace(site=site, store=store, environment={**os.environ, **places})


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _build(place: Workplace) -> None:
    subprocess.run([_IMGBUILD, "--quiet", "build"], env=place.environment, check=True)


def _change_a_value(site: Path) -> None:
    recipe = site / "recipes/cluster.yaml"
    recipe.write_text(re.sub(r'domain: "[^"]+"', 'domain: "another.nis"', recipe.read_text()))


def _plan(place: Workplace) -> tuple[PlannedImage, ...]:
    site = load_site(place.site)
    bench = Bench(
        store=Store(root=place.store), environment=dict, log=place.store / "log/bench.log", on_step=lambda _: None
    )
    return plan_images(site, site.machines(), lambda _: None, bench)


def _virt_customize_s(one: PlannedImage, place: Workplace, words_for: Callable[[Plan, Path], list[str]]) -> float:
    """Seconds that the peer takes for one image."""
    with tempfile.TemporaryDirectory(dir=place.store) as scratch:
        disk, tree = Path(scratch, "disk.qcow2"), Path(scratch, "tree")
        tree.mkdir()
        subprocess.run(["tar", "--extract", "--directory", tree], input=archive_of(one.plan), check=True)
        base = [f"backing_file={one.base.disk}", f"backing_fmt={one.base.format}"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", ",".join(base), disk], check=True)
        removals = [change.path for change in one.plan.changes if isinstance(change, RemovePath)]
        words = [word for path in removals for word in ("--delete", str(path))] + words_for(one.plan, tree)
        environment = {**place.environment, **appliance_environment(probe_accelerator(place.store))}
        command: list[str | Path] = ["virt-customize", "--quiet", "--no-network", "-a", disk, *words]
        return _timed(lambda: subprocess.run(command, env=environment, check=True))


def _words_by_tree(_plan: Plan, tree: Path) -> list[str]:
    return [word for top in sorted(tree.iterdir()) for word in ("--copy-in", f"{top}:/")]


def _words_by_edit(plan: Plan, tree: Path) -> list[str]:
    words: list[str] = []
    for change in plan.changes:
        match change:
            case WriteFile():
                words += [
                    "--upload",
                    f"{tree}{change.path}:{change.path}",
                    "--chmod",
                    f"{change.mode:04o}:{change.path}",
                ]
            case MakeDirectory():
                words += ["--mkdir", str(change.path), "--chmod", f"{change.mode:04o}:{change.path}"]
            case MakeLink():
                words += ["--link", f"{change.target}:{change.path}"]
            case RemovePath():
                pass
    return words


def _node_size_bytes(store: Path) -> int:
    [disk] = store.glob("images/node/*/current/disk.qcow2")
    return disk.stat().st_blocks * 512


if __name__ == "__main__":
    main()
