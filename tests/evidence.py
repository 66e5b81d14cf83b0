"""Evidence of images that nobody built: a sound one, and others that differ from it in one thing."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from imagebuilder.ec2.boot_sectors import BIOS_BOOT, DiskLayout, Partition
from imagebuilder.ec2.evidence import Evidence, FileMark, RootFileSystem, is_read
from imagebuilder.ec2.marks import marks_in
from imagebuilder.pki.fingerprints import fingerprint_of_key
from imagebuilder.plan.listing import Entry, Kind, Listing

UUID = "8875a4c1-a61e-56f0-8a83-5b6ea92b5ce5"
VPN_KEY = "/etc/openvpn/client/client.key"

# Keys that were made for this file and are used for nothing.
PEM_KEY = """\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIDBV+4gzifXsqyW/sbdkBoN+Mgbkcu30Di50ZRR9OpLW
-----END PRIVATE KEY-----
"""
OTHER_PEM_KEY = """\
-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIFJOPIeTfnZBOW0mtit9RfiibQafoilkIJGpa73uUH8l
-----END PRIVATE KEY-----
"""
AWS_SECRET = "aws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY12\n"

MENU = f"""\
menuentry "Debian GNU/Linux" {{
	search --no-floppy --fs-uuid --set=root {UUID}
	linux /vmlinuz root=LABEL=cluster-root ro console=tty0 console=ttyS0,115200
	initrd /initrd.img
}}
"""

_FILES = {
    "/boot/grub/grub.cfg": MENU,
    "/boot/initrd.img-6.1.0-1-cloud-amd64": "(an initramfs)",
    "/boot/vmlinuz-6.1.0-1-cloud-amd64": "(a kernel)",
    "/etc/cloud/cloud.cfg": "users: [default]\n",
    "/etc/cloud/cloud.cfg.d/90_ec2.cfg": "datasource_list: [Ec2]\n",
    "/etc/fstab": "LABEL=cluster-root / ext4 defaults 0 1\noneserver:/home /home nfs rw 0 0\n",
    "/etc/machine-id": "",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\n+::::::\n",
    "/etc/shadow": "root:*:19675:0:99999:7:::\nsshd:!:19675::::::\n+::::::::\n",
    "/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nUsePAM yes\n",
    "/etc/ssh/sshd_config.d/cloud.conf": "PasswordAuthentication no\n",
    "/root/.bashrc": "# nothing\n",
    "/usr/lib/modules/6.1.0-1-cloud-amd64/modules.builtin": (
        "kernel/fs/ext4/ext4.ko\nkernel/drivers/nvme/host/nvme.ko\n"
    ),
    "/var/log/wtmp": "",
    VPN_KEY: PEM_KEY,
}
_LINKS = {
    "/initrd.img": "boot/initrd.img-6.1.0-1-cloud-amd64",
    "/lib": "usr/lib",
    "/vmlinuz": "boot/vmlinuz-6.1.0-1-cloud-amd64",
}
_MODES = {"/etc/shadow": 0o640, VPN_KEY: 0o600}
_DRIVERS = frozenset(map(PurePosixPath, ("/kernel/ena.ko", "/kernel/xen-blkfront.ko.xz")))


def sound_evidence(
    *,
    files: Mapping[str, str] | None = None,
    modes: Mapping[str, int] | None = None,
    without: Iterable[str] = (),
    drivers: frozenset[PurePosixPath] = _DRIVERS,
) -> Evidence:
    """What is known of an image with which all is well, but for these files, their modes, and those left out."""
    texts = {name: text for name, text in {**_FILES, **(files or {})}.items() if name not in set(without)}
    all_modes = {**_MODES, **(modes or {})}
    entries = {PurePosixPath(name): _file(text.encode(), all_modes.get(name, 0o644)) for name, text in texts.items()}
    entries |= {PurePosixPath(name): Entry(Kind.LINK, 0o777, 0, 0, target=target) for name, target in _LINKS.items()}
    directories = {parent for path in entries for parent in path.parents}
    listing = Listing({**{path: Entry(Kind.DIRECTORY, 0o755, 0, 0) for path in directories}, **entries})
    contents = {PurePosixPath(name): text.encode() for name, text in texts.items()}
    return Evidence(
        listing=listing,
        contents={path: content for path, content in contents.items() if is_read(path, listing[path])},
        root=RootFileSystem(kind="ext4", label="cluster-root", uuid=UUID),
        layout=DiskLayout(
            table="gpt",
            partitions=(Partition(number=14, first_sector=2048, sectors=2048, kind=BIOS_BOOT),),
            bios_trouble=None,
        ),
        initramfs={PurePosixPath("/boot/initrd.img-6.1.0-1-cloud-amd64"): drivers},
        marks=tuple(_marks(contents)),
        planned_secrets={PurePosixPath(VPN_KEY): hashlib.sha256(PEM_KEY.encode()).hexdigest()},
        size_bytes=4 << 30,
        sha256="5" * 64,
    )


def without_boot_loader(evidence: Evidence) -> Evidence:
    """The same image on a disk that no firmware can boot."""
    layout = replace(evidence.layout, bios_trouble="the first sector has no boot code")
    return replace(evidence, layout=layout)


def _file(content: bytes, mode: int) -> Entry:
    return Entry(Kind.FILE, mode, 0, 0, size=len(content), digest=hashlib.sha256(content).hexdigest())


def _marks(contents: Mapping[PurePosixPath, bytes]) -> Iterable[FileMark]:
    for path, content in contents.items():
        for mark in marks_in([content]):
            yield FileMark(path=path, mark=mark, fingerprint=fingerprint_of_key(mark.body.reveal()))
