"""Guests that Xen starts with the kernel of their image: it is copied out of the finished image, and only once."""

import json
from pathlib import Path

import pytest

from tests.appliance.conftest import make_site
from tests.appliance.small_debian import make_small_debian
from tests.command import Outcome, imgbuild

pytestmark = pytest.mark.appliance

MENU = """\
menuentry "Debian GNU/Linux" {
\tsearch --no-floppy --fs-uuid --set=root 8a1f
\tlinux /vmlinuz root=LABEL=root ro net.ifnames=0 console=ttyS0
\tinitrd /boot/microcode /initrd.img
}
"""


def site_with(directory: Path, menu: str) -> Path:
    """A site whose Xen machines boot by `kernel`, on a base with this menu."""
    base = make_small_debian(
        directory / "debian.img",
        files={
            "boot/grub/grub.cfg": menu,
            "boot/vmlinuz-6.1": "a kernel",
            "boot/microcode": "microcode, ",
            "boot/initrd.img-6.1": "an initramfs",
        },
        links={"vmlinuz": "boot/vmlinuz-6.1", "initrd.img": "/boot/initrd.img-6.1"},
    )
    site = make_site(directory / "site", base)
    for role in ("node", "server"):
        recipe = site / f"recipes/{role}.yaml"
        recipe.write_text(recipe.read_text().replace("  type: pv\n", "  type: pvh\n  boot: kernel\n"))
    return site


def values_of(site: Path, name: str) -> dict[str, str]:
    """The single values of a machine's configuration, as `imgbuild build` has kept it."""
    text = (site / f"store/artifacts/xen/{name}.cfg").read_text()
    rows = [line.partition(" = ") for line in text.splitlines()]
    return {key: value.strip('"') for key, _, value in rows}


def launches(outcome: Outcome) -> int:
    return outcome.err.count("start the appliance")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    site = site_with(tmp_path_factory.mktemp("by-kernel"), MENU)
    outcome = imgbuild(site, "build")
    assert outcome.code == 0, outcome.err
    return site, outcome


def test_both_guests_boot_by_one_copy_of_the_kernel_with_the_options_of_the_menu(built: tuple[Path, Outcome]) -> None:
    site, _ = built
    node, server = values_of(site, "local01"), values_of(site, "oneserver")

    assert Path(node["kernel"]).read_text() == "a kernel"
    assert Path(node["ramdisk"]).read_text() == "microcode, an initramfs"
    assert node["cmdline"] == "root=LABEL=root ro net.ifnames=0 console=ttyS0 console=hvc0"
    assert (node["kernel"], node["ramdisk"]) == (server["kernel"], server["ramdisk"])
    assert [path.parent for path in (site / "store/artifacts/xen/boot").rglob("vmlinuz")] == [
        Path(node["kernel"]).parent
    ]


def test_a_build_with_nothing_new_starts_no_appliance(built: tuple[Path, Outcome]) -> None:
    site, _ = built
    before = Path(values_of(site, "local01")["kernel"]).stat()

    again = imgbuild(site, "build")

    assert (again.code, launches(again)) == (0, 0)
    assert Path(values_of(site, "local01")["kernel"]).stat() == before


def test_an_image_built_anew_of_the_same_base_needs_no_other_copy(built: tuple[Path, Outcome]) -> None:
    site, _ = built
    recipe = site / "recipes/node.yaml"
    kernel = values_of(site, "local01")["kernel"]
    recipe.write_text(recipe.read_text().replace("  identity:\n", "  identity:\n  timezone: {zone: Europe/Madrid}\n"))

    again = imgbuild(site, "build", "node", "--json")

    assert [row["outcome"] for row in json.loads(again.out)] == ["built"]
    assert (launches(again), values_of(site, "local01")["kernel"]) == (1, kernel)


def test_an_image_without_a_menu_cannot_boot_by_its_kernel(tmp_path: Path) -> None:
    site = site_with(tmp_path, "set timeout=1\n")

    outcome = imgbuild(site, "build", "node")

    assert outcome.code == 5
    assert "/boot/grub/grub.cfg boots no Linux kernel with an initramfs" in outcome.err
    assert list((site / "store/artifacts").rglob("*.cfg")) == []
    assert list((site / "store/artifacts").rglob(".new-*")) == []
