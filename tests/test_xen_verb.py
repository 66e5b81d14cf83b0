import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from imagebuilder.image.store import Store
from imagebuilder.site import STARTER
from imagebuilder.xen.boot_files import boot_directory
from tests.command import Run
from tests.finished import publish_base, publish_image
from tests.xl_cases import GOOD


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The starter's recipes with finished images of all their machines, and a cache of its own."""
    shutil.copytree(STARTER / "recipes", tmp_path / "recipes")
    monkeypatch.setenv("IMGBUILD_CACHE", str(tmp_path / "cache"))
    store = Store(root=tmp_path / ".imgbuild")
    base = publish_base(store)
    publish_image(store, base, "local01")
    publish_image(store, base, "oneserver", role="server")
    publish_image(store, base, "worker", role="worker")
    return tmp_path


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """No xl is asked then, whether there is one or not."""
    monkeypatch.setenv("PATH", "/nonexistent")


def settings_in(text: str) -> Mapping[str, str]:
    """The single values of a configuration, by key."""
    rows = [line.partition(" = ") for line in text.splitlines() if " = " in line]
    return {key: value.strip('"') for key, _, value in rows}


def change_recipe(site: Path, old: str, new: str) -> None:
    file = site / "recipes/node.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.usefixtures("site")
def test_every_image_that_runs_under_xen_has_its_configuration_printed(run: Run) -> None:
    code, out, err = run("xen")

    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("name")] == ['name = "local01"', 'name = "oneserver"']


def test_what_the_recipe_says_now_is_printed_and_kept(site: Path, run: Run) -> None:
    run("xen")
    change_recipe(site, "memory_mib: 1024", "memory_mib: 768")

    code, out, _ = run("xen", "node")

    assert (code, settings_in(out)["memory"]) == (0, "768")
    assert (site / ".imgbuild/artifacts/xen/local01.cfg").read_text() == out


def test_another_type_is_only_looked_at(site: Path, run: Run) -> None:
    run("xen")

    code, out, _ = run("xen", "local01", "--type", "hvm")

    assert (code, settings_in(out)["type"]) == (0, "hvm")
    assert settings_in((site / ".imgbuild/artifacts/xen/local01.cfg").read_text())["type"] == "pv"


@pytest.mark.usefixtures("site")
def test_a_way_to_boot_that_cannot_be_is_refused(run: Run) -> None:
    code, out, err = run("xen", "local01", "--boot", "firmware")

    assert (code, out) == (2, "")
    assert err == (
        "imgbuild: a guest of type pv cannot boot by firmware\n  fix: use pygrub or kernel or pvgrub, or another type\n"
    )


def test_a_guest_that_boots_by_kernel_has_the_image_s_own(site: Path, run: Run) -> None:
    store = Store(root=site / ".imgbuild")
    [image] = [image for image in store.images() if image.name == "local01"]
    files = boot_directory(image, store)
    files.mkdir(parents=True)
    (files / "options").write_text("root=LABEL=root ro console=tty0 console=hvc0 console=ttyS0,115200\n")

    pvh = settings_in(run("xen", "local01", "--type", "pvh", "--boot", "kernel")[1])
    hvm = settings_in(run("xen", "local01", "--type", "hvm", "--boot", "kernel")[1])

    assert (pvh["kernel"], pvh["ramdisk"]) == (str(files / "vmlinuz"), str(files / "initrd.img"))
    assert pvh["cmdline"] == "root=LABEL=root ro console=tty0 console=ttyS0,115200 console=hvc0"
    assert hvm["cmdline"] == "root=LABEL=root ro console=tty0 console=hvc0 console=ttyS0,115200"


def test_a_flat_disk_is_named_when_asked_for(site: Path, run: Run) -> None:
    code, out, _ = run("xen", "local01", "--flat", "--json")

    [row] = json.loads(out)
    copy = site / ".imgbuild/images/node/local01/local01-key/flat.raw"
    assert (code, row["name"], row["path"], copy.is_file()) == (0, "local01", None, True)
    assert f"format=raw,vdev=xvda,access=rw,target={copy}" in row["text"]


def test_json_says_where_the_configuration_is_kept(site: Path, run: Run) -> None:
    rows = json.loads(run("xen", "--json")[1])

    assert [row["path"] for row in rows] == [
        str(site / f".imgbuild/artifacts/xen/{name}.cfg") for name in ("local01", "oneserver")
    ]
    assert Path(rows[0]["path"]).read_text() == rows[0]["text"]


@pytest.mark.usefixtures("site")
def test_an_image_that_does_not_run_under_xen_has_none(run: Run) -> None:
    code, _, err = run("xen", "worker")

    assert (code, err.splitlines()[0]) == (2, "imgbuild: no Xen machine among worker")


@pytest.mark.usefixtures("site", "without_compiler")
def test_the_configurations_of_this_site_are_sound(tmp_path: Path, run: Run) -> None:
    run("xen")

    code, out, err = run("xen", "--lint", *map(str, sorted((tmp_path / ".imgbuild/artifacts/xen").glob("*.cfg"))))

    assert (code, out.count(": sound\n")) == (0, 2)
    assert err.startswith("imgbuild: the real xl was not asked: ")


@pytest.mark.usefixtures("site", "without_compiler")
def test_faults_are_printed_with_their_places_and_the_code_is_one(run: Run) -> None:
    Path("a.cfg").write_text(GOOD.replace("memory = 1024", "memory = 0").replace("xenbr0", "xenbr9"))

    code, out, _ = run("xen", "--lint", "a.cfg")

    assert code == 1
    assert out == (
        "a.cfg:4:10: 0 MiB are too little for a Linux guest\n"
        "  fix: write 64 or more; the unit is MiB\n"
        "a.cfg:7:51: there is no /images/disk.qcow2\n"
        "  fix: bring the file there, or correct the path\n"
        "a.cfg:8:39: the cluster has no bridge 'xenbr9'. Did you mean 'xenbr1'?\n"
        "  fix: use xenbr0 or xenbr1, or name it in recipes/cluster.yaml\n"
    )


@pytest.mark.usefixtures("site", "without_compiler")
def test_faults_are_values_for_programs(run: Run) -> None:
    Path("a.cfg").write_text("name = \n")

    code, out, _ = run("xen", "--lint", "a.cfg", "--json")

    fault = {
        "line": 1,
        "column": 6,
        "what": "there is no value behind this",
        "fix": "write the value on the same line",
    }
    assert code == 1
    assert json.loads(out) == [{"file": "a.cfg", "sound": False, "read_by_xl": False, "faults": [fault]}]


@pytest.mark.usefixtures("site", "without_compiler")
def test_two_guests_cannot_write_one_disk_nor_have_one_address(run: Run) -> None:
    Path("disk.raw").write_bytes(bytes(512))
    Path("cdrom.iso").write_bytes(bytes(512))
    text = GOOD.replace("format=qcow2", "format=raw").replace("/images/disk.qcow2", str(Path("disk.raw").absolute()))
    text = text.replace("00:16:3e:03:90:41", "00:16:3e:00:00:01")
    shared = f"disk += [ 'vdev=xvdd,access=ro,target={Path('cdrom.iso').absolute()}' ]\n"
    Path("a.cfg").write_text(text + shared)
    Path("b.cfg").write_text(text.replace("local01", "local02") + shared)

    code, out, _ = run("xen", "--lint", "a.cfg", "b.cfg")

    assert code == 1
    assert [line.split(" that of ")[1] for line in out.splitlines() if " that of " in line] == [
        "a.cfg:7:49 already",
        "a.cfg:8:14 already",
    ]


@pytest.mark.usefixtures("without_compiler")
def test_without_recipes_a_configuration_is_checked_by_itself(tmp_path: Path, run: Run) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(512))
    Path("a.cfg").write_text(
        GOOD.replace("qcow2", "raw").replace("/images/disk.raw", str(disk)).replace("xenbr0", "br7")
    )

    code, out, err = run("xen", "--lint", "a.cfg")

    assert (code, out) == (0, "a.cfg: sound\n")
    assert "there is no recipes/cluster.yaml in ." in err


@pytest.mark.usefixtures("site")
def test_a_file_that_is_not_there_cannot_be_checked(run: Run) -> None:
    code, _, err = run("xen", "--lint", "nothing.cfg")

    assert (code, err.splitlines()[-2]) == (2, "imgbuild: nothing.cfg: cannot be read: No such file or directory")


@pytest.mark.usefixtures("site")
def test_what_is_for_images_does_not_go_with_a_check_of_files(run: Run) -> None:
    code, _, err = run("xen", "--flat", "--lint", "a.cfg")

    assert (code, err.splitlines()[0]) == (
        2,
        "imgbuild: --lint checks files, and goes with no other option but --json",
    )
