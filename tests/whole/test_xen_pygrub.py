"""Debian's own pygrub, on the images as a dom0 without qemu has them: it needs no hypervisor to find a kernel."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.command import imgbuild

PYGRUB = sorted(Path("/usr/lib").glob("xen-[0-9]*/bin/pygrub"))

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(not PYGRUB, reason="there is no pygrub (apt-get install xen-utils-4.17)"),
]


def read_by_pygrub(disk: Path, directory: Path, *options: str) -> dict[str, str]:
    """What pygrub would have Xen boot from `disk`: files in `directory`, and the kernel's options."""
    directory.mkdir()
    argv: list[str | Path] = [
        PYGRUB[-1],
        "-q",
        "--output-format=simple",
        f"--output-directory={directory}",
        *options,
        disk,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=300)
    rows = [line.partition(" ") for line in done.stdout.splitlines() if line]
    return {key: value for key, _, value in rows}


def values_of(text: str) -> dict[str, str]:
    """The single values of an xl configuration."""
    rows = [line.partition(" = ") for line in text.splitlines()]
    return {key: value.strip('"') for key, _, value in rows}


@pytest.mark.parametrize("name", ["local01", "oneserver"])
def test_pygrub_boots_what_the_image_boots(name: str, cluster: Path, tmp_path: Path) -> None:
    [flat] = json.loads(imgbuild(cluster, "xen", name, "--flat", "--json").out)
    [direct] = json.loads(imgbuild(cluster, "xen", name, "--boot", "kernel", "--json").out)
    disk = Path(flat["text"].split("target=")[1].split("'")[0])
    own = values_of(direct["text"])

    found = read_by_pygrub(disk, tmp_path / "boot", "--args=quiet")

    assert Path(found["kernel"]).read_bytes() == Path(own["kernel"]).read_bytes()
    assert Path(found["ramdisk"]).read_bytes() == Path(own["ramdisk"]).read_bytes()
    assert sorted(found["args"].split()) == sorted([*own["cmdline"].split(), "quiet"])


def test_pygrub_itself_reads_no_overlay_so_xl_must_attach_it_to_dom0(cluster: Path, tmp_path: Path) -> None:
    disk = Path(json.loads(imgbuild(cluster, "show", "local01", "--json").out)["path"])

    with pytest.raises(subprocess.CalledProcessError) as refused:
        read_by_pygrub(disk, tmp_path / "boot")

    assert "RuntimeError: Unable to find partition containing kernel" in refused.value.stderr
