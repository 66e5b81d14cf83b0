import json
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
import typer

from imagebuilder.cli.diff import DiffError, diff
from imagebuilder.cli.settings import Settings
from imagebuilder.image.store import LISTING, Image, Store
from imagebuilder.plan.listing import Entry, Kind, Listing

app = typer.Typer()
app.command()(diff)

DIRECTORY = Entry(Kind.DIRECTORY, 0o755, 0, 0)
HOSTNAME = Entry(Kind.FILE, 0o644, 0, 0, size=8, digest="aa" * 32)
NODE = {
    "/etc": DIRECTORY,
    "/etc/hostname": HOSTNAME,
    "/etc/mtab": Entry(Kind.LINK, 0o777, 0, 0, target="../proc/mounts"),
    "/etc/shadow": Entry(Kind.FILE, 0o640, 0, 42, size=5, digest="bb" * 32),
    "/usr": DIRECTORY,
}
WORKER = {
    "/etc": DIRECTORY,
    "/etc/hostname": replace(HOSTNAME, size=11, digest="cc" * 32),
    "/etc/mtab": Entry(Kind.LINK, 0o777, 0, 0, target="/proc/mounts"),
    "/etc/openvpn": DIRECTORY,
    "/etc/shadow": Entry(Kind.FILE, 0o600, 0, 0, size=5, digest="bb" * 32),
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    cache = tmp_path / "cache"
    return Settings(site_directory=tmp_path, store=tmp_path / "store", cache_directory=cache)


@pytest.fixture
def node_and_worker(settings: Settings) -> Settings:
    publish(settings, "node", "local01", "1" * 64, NODE)
    publish(settings, "worker", "worker", "2" * 64, WORKER)
    return settings


def publish(settings: Settings, role: str, name: str, key: str, entries: dict[str, Entry]) -> Image:
    store = Store(root=settings.store)
    with store.new_directory(store.image_directory(role, name)) as new:
        (new / "disk.qcow2").write_bytes(b"QFI\xfb")
        Listing({PurePosixPath(path): entry for path, entry in entries.items()}).write(new / LISTING)
        image = Image(
            role=role,
            name=name,
            key=key,
            format="qcow2",
            directory=new,
            base_digest="ba" * 32,
            built_at="2026-11-22T12:00:00+00:00",
            inputs={},
        )
        return store.publish(new, image)


def run(settings: Settings, *words: str) -> int:
    return int(app(words, standalone_mode=False, obj=settings) or 0)


def trouble(settings: Settings, *words: str) -> str:
    with pytest.raises(DiffError) as raised:
        run(settings, *words)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_each_difference_is_a_line_in_order_of_path(
    node_and_worker: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(node_and_worker, "node", "worker")

    said = capsys.readouterr()
    assert code == 1
    assert said.out.splitlines() == [
        "~ /etc/hostname  content, 8 → 11 bytes",
        "~ /etc/mtab  link to ../proc/mounts → /proc/mounts",
        "+ /etc/openvpn  directory 0755 0:0",
        "~ /etc/shadow  mode 0640 → 0600, owner 0:42 → 0:0",
        "- /usr  directory 0755 0:0",
    ]
    assert said.err == "imgbuild: 1 paths only in node, 1 only in worker, 3 different in both\n"


def test_an_image_is_the_same_as_itself(node_and_worker: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(node_and_worker, "node", "local01", "--unified")

    said = capsys.readouterr()
    assert (code, said.out, said.err) == (0, "", "imgbuild: node and local01 are the same\n")


def test_quiet_says_nothing_but_the_result(node_and_worker: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(replace(node_and_worker, verbosity="quiet"), "node", "node")

    said = capsys.readouterr()
    assert (code, said.out, said.err) == (0, "", "")


def test_json_describes_each_difference(node_and_worker: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(node_and_worker, "node", "worker", "/etc/mtab", "/usr", "/etc/hostname", "--json")

    images = node_and_worker.store / "images"
    link = {"type": "link", "mode": "0777", "uid": 0, "gid": 0}
    file = {"type": "file", "mode": "0644", "uid": 0, "gid": 0}
    directory = {"type": "directory", "mode": "0755", "uid": 0, "gid": 0}
    assert code == 1
    assert json.loads(capsys.readouterr().out) == {
        "same": False,
        "a": {
            "image": "node",
            "path": str(images / "node/local01" / ("1" * 64) / "disk.qcow2"),
            "format": "qcow2",
            "key": "1" * 64,
        },
        "b": {
            "image": "worker",
            "path": str(images / "worker/worker" / ("2" * 64) / "disk.qcow2"),
            "format": "qcow2",
            "key": "2" * 64,
        },
        "differences": [
            {
                "path": "/etc/hostname",
                "aspects": ["content"],
                "a": {**file, "size_bytes": 8, "sha256": "aa" * 32},
                "b": {**file, "size_bytes": 11, "sha256": "cc" * 32},
                "content": None,
            },
            {
                "path": "/etc/mtab",
                "aspects": ["link"],
                "a": {**link, "target": "../proc/mounts"},
                "b": {**link, "target": "/proc/mounts"},
                "content": None,
            },
            {"path": "/usr", "aspects": ["only in a"], "a": directory, "b": None, "content": None},
        ],
    }


def test_paths_limit_what_is_compared(node_and_worker: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(node_and_worker, "node", "worker", "/usr")

    assert code == 1
    assert capsys.readouterr().out == "- /usr  directory 0755 0:0\n"


def test_an_older_build_is_named_by_the_first_digits_of_its_key(
    node_and_worker: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(node_and_worker, "node", "local01", "3" * 64, {**NODE, "/new": DIRECTORY})

    code = run(node_and_worker, "node@111", "local01")

    assert code == 1
    assert capsys.readouterr().out == "+ /new  directory 0755 0:0\n"


def test_names_made_to_upset_a_terminal_are_shown_escaped(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(settings, "node", "node", "1" * 64, {"/\x1b]0;owned\x07": DIRECTORY, "/a\n+ /b": DIRECTORY})
    publish(settings, "worker", "worker", "2" * 64, {})

    run(settings, "node", "worker")

    assert capsys.readouterr().out.splitlines() == [
        "- /\\x1b]0;owned\\x07  directory 0755 0:0",
        "- /a\\n+ /b  directory 0755 0:0",
    ]


@pytest.mark.parametrize(
    ("no_color", "line"), [("", "\x1b[31m- /usr  directory 0755 0:0"), ("1", "- /usr  directory 0755 0:0")]
)
def test_a_terminal_gets_colours_unless_the_user_wants_none(
    node_and_worker: Settings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    no_color: str,
    line: str,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)

    run(node_and_worker, "node", "worker", "/usr")

    assert capsys.readouterr().out.startswith(line)


def test_a_misspelt_role_is_answered_with_the_nearest(node_and_worker: Settings) -> None:
    said = trouble(node_and_worker, "node", "wroker")

    assert said == (
        "there is neither a finished image nor a file 'wroker'. Did you mean 'worker'?\n"
        "  fix: name one of local01, node, worker, or an image file"
    )


def test_without_a_store_the_fix_is_to_build(settings: Settings) -> None:
    said = trouble(settings, "node", "worker")

    assert said.endswith("  fix: name an image that `imgbuild build` has made, or an image file")


def test_a_role_with_several_images_is_ambiguous(node_and_worker: Settings) -> None:
    publish(node_and_worker, "node", "local02", "4" * 64, NODE)

    said = trouble(node_and_worker, "node", "worker")

    assert said.endswith("node has several images\n  fix: name one of local01, local02")


def test_a_key_that_no_build_has_is_answered_with_those_there_are(node_and_worker: Settings) -> None:
    said = trouble(node_and_worker, "node@5", "worker")

    assert said.endswith("node has no build 5\n  fix: name one of local01@111111111111")


def test_a_path_in_neither_image_is_refused(node_and_worker: Settings) -> None:
    said = trouble(node_and_worker, "node", "worker", "/etc/hostnam")

    assert said.startswith("/etc/hostnam is in neither image")


def test_a_relative_path_is_refused(node_and_worker: Settings) -> None:
    said = trouble(node_and_worker, "node", "worker", "etc")

    assert said == "etc is no path in an image\n  fix: begin it with a slash: /etc"


def test_a_file_of_another_format_than_its_name_says_is_refused(settings: Settings, tmp_path: Path) -> None:
    image = tmp_path / "cloud.img"
    image.write_bytes(b"QFI\xfb")

    said = trouble(settings, str(image), str(image))

    assert said.endswith(f"  fix: say what it is: qcow2:{image} or raw:{image}")


def test_a_damaged_image_file_is_trouble(settings: Settings, tmp_path: Path) -> None:
    image = tmp_path / "cloud.img"
    image.write_bytes(b"QFI\xfb")

    said = trouble(settings, f"qcow2:{image}", f"qcow2:{image}")

    assert said.startswith("qemu-img (exit 1): ")


def test_a_directory_is_no_image(settings: Settings, tmp_path: Path) -> None:
    assert trouble(settings, str(tmp_path), str(tmp_path)) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_program_that_this_machine_lacks_is_trouble_too(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    image = tmp_path / "disk.raw"
    image.write_bytes(b"")

    said = trouble(settings, str(image), str(image))

    assert said == "the program qemu-img is not installed\n  fix: apt-get install qemu-utils"


def test_a_damaged_listing_is_trouble(node_and_worker: Settings) -> None:
    disk = node_and_worker.store / "images/node/local01" / ("1" * 64) / "disk.qcow2"
    disk.with_name(LISTING).write_bytes(b"\x1f\x8b")

    said = trouble(node_and_worker, "node", "worker")

    assert said.startswith("local01: its listing cannot be read: ")
    assert said.endswith(f"  fix: compare the image file itself: {disk}")


def test_a_cache_that_cannot_be_written_is_trouble(node_and_worker: Settings) -> None:
    node_and_worker.cache_directory.write_text("no directory")

    said = trouble(node_and_worker, "node", "worker")

    assert said == f"{node_and_worker.cache_directory}: File exists"
