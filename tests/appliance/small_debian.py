"""Makes a small disk that looks like Debian to libguestfs and to planning: real ext4, no packages behind it."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from imagebuilder.edits import all_edits
from imagebuilder.programs import run_program

_DIRECTORIES = (
    *("bin", "boot", "dev", "etc/init.d", "etc/ssh", "etc/systemd/system/multi-user.target.wants", "home", "root"),
    *("usr/bin", "usr/lib/systemd/system", "var/lib/dbus", "var/lib/dpkg", "var/lib/systemd", "var/spool", "var/yp"),
)
_FILES = {
    "etc/debian_version": "12.12\n",
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "etc/hostname": "unnamed\n",
    "etc/fstab": "# kept\nLABEL=root / ext4 errors=remount-ro 0 1\n",
    "etc/nsswitch.conf": "passwd:         files systemd\ngroup: files\nshadow: files\nhosts:  files dns\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nsgeadmin:x:101:102::/var/lib/gridengine:/bin/false\n",
    "etc/group": "root:x:0:\nsgeadmin:x:102:\nshadow:x:42:\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\n",
    "etc/gshadow": "root:*::\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 AAAA of the base\n",
    "usr/lib/systemd/systemd": "not really\n",
}
_UNIT = "[Unit]\nDescription=a stand-in\n[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"


def make_small_debian(
    disk: Path,
    *,
    without: Iterable[str] = (),
    files: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> Path:
    """Make `disk`, a raw image of one ext4 file system, with every package that an edit requires but `without`."""
    tree = disk.with_suffix(".tree")
    for directory in _DIRECTORIES:
        (tree / directory).mkdir(parents=True)
    for name, text in {**_FILES, **(files or {})}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    for name, target in (links or {}).items():
        (tree / name).symlink_to(target)
    shutil.copy("/bin/true", tree / "bin/sh")  # libguestfs reads the architecture from a program
    packages = {package for edit in all_edits().values() for package in edit.packages} - set(without)
    status = "".join(_package(name) for name in sorted(packages))
    (tree / "var/lib/dpkg/status").write_text(status)
    for unit in {unit for edit in all_edits().values() for unit in (*edit.services, *edit.unwanted_services)}:
        stem, _, instance = unit.partition("@")
        name = f"{stem}@.service" if instance else unit
        if not unit.startswith("imgbuild-"):
            (tree / "usr/lib/systemd/system" / name).write_text(_UNIT)
    wants = tree / "etc/systemd/system/multi-user.target.wants"
    (wants / "openvpn.service").symlink_to("/usr/lib/systemd/system/openvpn.service")
    run_program(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", tree, disk, "48m"])
    shutil.rmtree(tree)
    return disk


def _package(name: str) -> str:
    return f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0-1\n\n"
