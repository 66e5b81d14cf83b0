import os
from pathlib import Path, PurePosixPath

import pytest

from imagebuilder.errors import Fault
from imagebuilder.plan.changes import Intent, MakeDirectory, MakeLink, WriteFile
from imagebuilder.plan.overlay import Overlay, read_overlay

FOLDER = Path("overlays/site")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (FOLDER / "rootfs/etc/site").mkdir(parents=True)
    return FOLDER


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / "rootfs/etc/site" / name).write_text(text, encoding="utf-8")


def read(folder: Path, recipe: str = "") -> Overlay:
    (folder / "overlay.yaml").write_text(recipe, encoding="utf-8")
    overlay, faults = read_overlay(folder)
    assert faults == []
    return overlay


def rendered(overlay: Overlay, **variables: object) -> list[Intent]:
    intents, faults = overlay.render(variables)
    assert faults == []
    return intents


def faults_of(folder: Path, recipe: str) -> list[Fault]:
    (folder / "overlay.yaml").write_text(recipe, encoding="utf-8")
    return read_overlay(folder)[1]


def test_files_land_where_they_stand_and_belong_to_root(folder: Path) -> None:
    write(folder, motd="Welcome\n")

    intents = rendered(read(folder))

    assert intents == [WriteFile(path=PurePosixPath("/etc/site/motd"), content=b"Welcome\n", mode=0o644)]


def test_bytes_that_are_no_text_land_as_they_are(folder: Path) -> None:
    (folder / "rootfs/etc/site/motd").write_bytes(b"\xff\0\n{{ x }}")

    intents = rendered(read(folder))

    assert intents == [WriteFile(path=PurePosixPath("/etc/site/motd"), content=b"\xff\0\n{{ x }}")]


def test_a_template_lands_filled_in_and_without_its_ending(folder: Path) -> None:
    (folder / "rootfs/etc/site/site.conf.j2").write_text("name {{ name }}\n", encoding="utf-8")

    intents = rendered(read(folder), name="demo")

    assert intents == [WriteFile(path=PurePosixPath("/etc/site/site.conf"), content=b"name demo\n")]


def test_a_link_lands_as_a_link_wherever_it_leads(folder: Path) -> None:
    (folder / "rootfs/etc/site/motd").symlink_to("/run/motd")

    intents = rendered(read(folder))

    assert intents == [MakeLink(path=PurePosixPath("/etc/site/motd"), target="/run/motd")]


def test_the_most_specific_mode_and_owner_count(folder: Path) -> None:
    write(folder, key="k", note="n", other="o")
    recipe = """
modes: {"/**": "0444", "/etc/site/**": "0640", "/etc/site/key": "0600"}
owners: {"/etc/**": "sgeadmin:staff", "/etc/site/note": "root:adm"}
"""

    intents = rendered(read(folder, recipe))

    etc = PurePosixPath("/etc/site")
    assert intents == [
        WriteFile(path=etc / "key", content=b"k", mode=0o600, owner="sgeadmin", group="staff"),
        WriteFile(path=etc / "note", content=b"n", mode=0o640, owner="root", group="adm"),
        WriteFile(path=etc / "other", content=b"o", mode=0o640, owner="sgeadmin", group="staff"),
    ]


def test_the_root_stands_for_all_files(folder: Path) -> None:
    write(folder, motd="m")

    intents = rendered(read(folder, 'modes: {"/**": "0440"}\n'))

    assert intents == [WriteFile(path=PurePosixPath("/etc/site/motd"), content=b"m", mode=0o440)]


def test_directories_are_made_with_their_mode(folder: Path) -> None:
    recipe = (
        'directories: ["/srv/data", "/srv/open"]\nmodes: {"/srv/open": "01777"}\nowners: {"/srv/**": "root:users"}\n'
    )

    intents = rendered(read(folder, recipe))

    assert intents == [
        MakeDirectory(path=PurePosixPath("/srv/data"), mode=0o755, group="users"),
        MakeDirectory(path=PurePosixPath("/srv/open"), mode=0o1777, group="users"),
    ]


def test_digests_change_with_content_link_and_mode(folder: Path) -> None:
    write(folder, motd="m")
    (folder / "rootfs/etc/site/link").symlink_to("a")
    before = read(folder, 'modes: {"/etc/site/motd": "0600"}\n').digests()
    write(folder, motd="n")
    (folder / "rootfs/etc/site/link").unlink()
    (folder / "rootfs/etc/site/link").symlink_to("b")

    after = read(folder, 'modes: {"/etc/site/motd": "0640"}\n').digests()

    assert set(before) == {"/etc/site/link", "/etc/site/motd", "overlay.yaml"}
    assert [name for name in before if before[name] == after[name]] == []


def test_digests_do_not_depend_on_comments_in_overlay_yaml(folder: Path) -> None:
    write(folder, motd="m")

    plain = read(folder, 'modes: {"/etc/site/motd": "0600"}\n').digests()

    assert read(folder, '# why\nmodes:\n  "/etc/site/motd": "0600"\n').digests() == plain


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ('modes: {"/etc/site/motd": 420}', "1:27: '/etc/site/motd': expected text"),
        ('modes: {"/etc/site/motd": "0888"}', "1:27: '/etc/site/motd': '0888' is no file mode"),
        ('modes: {"/etc/site/motd": "u=rw"}', "1:27: '/etc/site/motd': 'u=rw' is no file mode"),
        ('modes: {"/etc/site": "0755"}', "1:9: '/etc/site' is no file or directory of this overlay."),
        ('modes: {"/srv/**": "0755"}', "1:9: '/srv/**' is no file or directory of this overlay."),
        ('modes: {"/etc/site/link": "0755"}', "1:9: '/etc/site/link' is no file or directory of this overlay."),
        ('owners: {"/etc/site/motd.j2": "a:b"}', "1:10: '/etc/site/motd.j2' is no file or directory of this overlay."),
        ('owners: {"/etc/site/motd": "1000:1000"}', "1:28: '/etc/site/motd': '1000:1000' is no owner and group"),
        ('directories: ["/srv/../etc"]', "1:15: item 1 of 'directories': '/srv/../etc' is no path in the image"),
        ('directories: ["/srv/"]', "1:15: item 1 of 'directories': '/srv/' is no path in the image"),
        ('directories: ["/"]', "1:15: item 1 of 'directories': '/' is no path in the image"),
        ('directories: ["//srv"]', "1:15: item 1 of 'directories': '//srv' is no path in the image"),
        ('mode: {"/etc/site/motd": "0600"}', "1:1: unknown key 'mode'. Did you mean 'modes'?"),
        ("modes: [", "1:9: is not valid YAML: did not find expected node content while parsing a flow node\n"),
    ],
)
def test_what_overlay_yaml_cannot_say_is_a_fault_with_a_place(folder: Path, recipe: str, said: str) -> None:
    write(folder, motd="m")
    (folder / "rootfs/etc/site/link").symlink_to("motd")

    [fault] = faults_of(folder, recipe)

    assert str(fault).startswith(f"overlays/site/overlay.yaml:{said}")


def test_a_file_and_a_template_for_one_path_are_a_fault(folder: Path) -> None:
    (folder / "rootfs/etc/site/motd").write_text("a", encoding="utf-8")
    (folder / "rootfs/etc/site/motd.j2").write_text("b", encoding="utf-8")

    [fault] = faults_of(folder, "")

    assert str(fault) == (
        "overlays/site/rootfs/etc/site/motd.j2:1:1: lands at /etc/site/motd, and so does motd beside it\n"
        "  fix: keep one of the two"
    )


def test_what_is_no_file_is_a_fault(folder: Path) -> None:
    os.mkfifo(folder / "rootfs/etc/site/pipe")

    [fault] = faults_of(folder, "")

    assert str(fault).startswith("overlays/site/rootfs/etc/site/pipe:1:1: is no file, directory or link")


def test_an_overlay_with_nothing_in_it_is_a_fault(folder: Path) -> None:
    _, [fault] = read_overlay(folder)

    assert str(fault) == (
        "overlays/site:1:1: there is nothing in overlays/site/rootfs\n  fix: put files there, or remove the overlay"
    )


def test_each_template_says_what_it_lacks(folder: Path) -> None:
    (folder / "rootfs/etc/site/a.j2").write_text("{{ x }}", encoding="utf-8")
    (folder / "rootfs/etc/site/b.j2").write_text("\n {{ y }}", encoding="utf-8")

    _, faults = read(folder).render({"name": "demo"})

    assert [str(fault.place) for fault in faults] == [
        "overlays/site/rootfs/etc/site/a.j2:1:4",
        "overlays/site/rootfs/etc/site/b.j2:2:5",
    ]
