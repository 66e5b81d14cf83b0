"""`imgbuild xen --export`, on a small image in the place of the built one."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagebuilder.image.store import Store
from imagebuilder.xen.boot_files import boot_directory
from tests.command import IMGBUILD, Run
from tests.exports import names_in, overlay_image, put_program, qemu_img
from tests.machines import PROJECT
from tests.ssh_server import SshServer, ssh_server

pytestmark = pytest.mark.remote

XL = """
case $1 in
    list) [ $# = 1 ] || [ -e "$HOME/running" ] ;;
    create) touch "$HOME/running" ;;
esac
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    (tmp_path / "remote").mkdir()
    with ssh_server(tmp_path / "remote") as server:
        put_program(server.home / "bin/xl", XL)
        yield server


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with an image of the example's local01."""
    store = tmp_path / "store"
    overlay_image(store)
    monkeypatch.setenv("IMGBUILD_DIRECTORY", str(PROJECT))
    monkeypatch.setenv("IMGBUILD_STORE", str(store))
    monkeypatch.setenv("IMGBUILD_CACHE", str(tmp_path / "cache"))
    return store


def test_a_folder_is_made_of_the_image_and_its_recipe(store: Path, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("xen", "node", "--export", "out")

    folder = tmp_path / "out/local01"
    qemu_img("compare", "-f", "raw", "-F", "qcow2", folder / "disk.raw", store / "images/node/local01/k1/disk.qcow2")
    assert code == 0
    assert out.split()[:2] == ["exported", "local01"]
    assert out.split()[-1] == str(folder)
    assert "vif = [ 'mac=00:16:3e:03:90:41,bridge=xenbr0' ]" in (folder / "local01.cfg").read_text().splitlines()


@pytest.mark.usefixtures("store")
def test_what_was_exported_is_printed_as_json(tmp_path: Path, run: Run) -> None:
    run("xen", "--export", "out", "--disk", "qcow2")

    code, out, _ = run("xen", "--export", "out", "--disk", "qcow2", "--json")

    [row] = json.loads(out)
    key = json.loads((tmp_path / "out/local01/export.json").read_text())["key"]
    assert code == 0
    assert row == {
        "name": "local01",
        "path": str(tmp_path / "out/local01"),
        "key": key,
        "outcome": "unchanged",
        "kept": None,
        "dom0": None,
    }


def put_boot_files(store: Path) -> None:
    """The kernel of the image, as if it had been copied out of it already."""
    image = Store(root=store).current("node", "local01")
    assert image is not None
    place = boot_directory(image, Store(root=store))
    place.mkdir(parents=True)
    (place / "vmlinuz").write_bytes(b"kernel")
    (place / "initrd.img").write_bytes(b"ramdisk")
    (place / "options").write_text("root=LABEL=root ro\n")


def test_a_guest_that_is_started_with_a_kernel_has_it_in_its_folder(store: Path, tmp_path: Path, run: Run) -> None:
    put_boot_files(store)

    code, _, _ = run("xen", "--boot", "kernel", "--export", "out")

    folder = tmp_path / "out/local01"
    lines = (folder / "local01.cfg").read_text().splitlines()
    assert code == 0
    assert [line for line in lines if line.startswith(("kernel", "ramdisk", "cmdline"))] == [
        'kernel = "vmlinuz"',
        'ramdisk = "initrd.img"',
        'cmdline = "root=LABEL=root ro console=hvc0"',
    ]
    assert ((folder / "vmlinuz").read_bytes(), (folder / "initrd.img").read_bytes()) == (b"kernel", b"ramdisk")


def test_a_dry_run_copies_no_kernel_out_of_the_image(store: Path, run: Run) -> None:
    code, out, _ = run("xen", "--boot", "kernel", "--export", "out", "-n", "--json")

    [row] = json.loads(out)
    assert (code, row["outcome"]) == (0, "would be exported")
    assert not (store / "artifacts").exists()


@pytest.mark.usefixtures("store")
def test_it_is_copied_and_started_in_a_dom0(server: SshServer, run: Run) -> None:
    where = ["--export", "out", "--host", "dom0:guests", "--ssh-config", str(server.config)]

    code, out, _ = run("xen", "local01", *where, "--start")

    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["exported", "copied", "started"]
    assert out.splitlines()[-1] == "started    local01 runs; its console: xl console local01 (leave it by Ctrl-])"
    assert names_in(server.home / "guests") == ["local01"]


@pytest.mark.usefixtures("store")
def test_what_is_in_a_dom0_is_printed_as_json(server: SshServer, run: Run) -> None:
    where = ["--export", "out", "--host", "root@dom0", "--ssh-config", str(server.config)]

    _, out, _ = run("xen", *where, "--start", "--json")

    [row] = json.loads(out)
    assert row["dom0"] == {
        "host": "root@dom0",
        "path": "imgbuild/local01",
        "outcome": "copied",
        "kept": None,
        "started": True,
    }


@pytest.mark.usefixtures("store")
def test_a_failure_there_has_its_exit_code(server: SshServer, run: Run) -> None:
    (server.home / "running").touch()
    where = ["--export", "out", "--host", "dom0", "--ssh-config", str(server.config)]

    code, out, err = run("xen", *where, "--start")

    assert (code, out) == (6, "")
    assert "imgbuild: dom0:imgbuild: local01 was not started: start: local01 runs already" in err


@pytest.mark.usefixtures("store")
def test_a_dry_run_makes_nothing_and_asks_nobody(tmp_path: Path, run: Run) -> None:
    code, out, _ = run("xen", "--export", "out", "--host", "dom0.invalid", "--start", "-n")

    assert code == 0
    assert out.splitlines() == [
        f"local01: would be exported, {tmp_path}/out/local01",
        "local01: would be copied and started, dom0.invalid:imgbuild/local01",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "dom0"], "--host, --ssh-config and --start go on with what --export makes"),
        (["--export", "out", "--start"], "--start is for a machine in a dom0"),
        (["-n"], "--dry-run is for exports"),
        (["--export", "out", "--flat"], "--flat is a copy in the store"),
        (["--export", "out", "--host", "-oProxyCommand=x"], "'-oProxyCommand=x' is no host"),
    ],
)
@pytest.mark.usefixtures("store")
def test_options_that_do_not_go_together_are_refused(words: list[str], says: str, run: Run) -> None:
    code, _, err = run("xen", *words)

    assert code == 2
    assert err.startswith(f"imgbuild: {says}\n  fix: ")


@pytest.mark.usefixtures("store")
def test_an_interrupt_ends_the_copy_and_what_it_started(server: SshServer, tmp_path: Path) -> None:
    put_program(server.home / "bin/rsync", 'touch "$HOME/busy"; exec /usr/bin/cat >/dev/null\n')
    process = subprocess.Popen(
        [IMGBUILD, "xen", "--export", "out", "--host", "dom0", "--ssh-config", server.config],
        cwd=tmp_path,
        env=os.environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(server.home / "busy")

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)

    assert process.returncode == 130
    assert said.endswith("imgbuild: interrupted; what was begun is cleaned up\n")
    assert server.lost.wait(10)  # so ssh, which held the connection, has ended
    assert names_in(tmp_path / "out") == [".lock", "local01"]


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
