from pathlib import PurePosixPath

import pytest

from imagebuilder.image.grub_menu import default_entry

# Shortened from what Debian's update-grub writes.
DEBIAN = """\
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="0"
fi
menuentry 'Debian GNU/Linux' --class debian {
\tsearch --no-floppy --fs-uuid --set=root 8a1f
\techo\t'Loading Linux 6.1.0-57-cloud-amd64 ...'
\tlinux\t/boot/vmlinuz-6.1.0-57-cloud-amd64 root=UUID=8a1f ro  net.ifnames=0
\tinitrd\t/boot/initrd.img-6.1.0-57-cloud-amd64
}
submenu 'Advanced options for Debian GNU/Linux' {
\tmenuentry 'Debian GNU/Linux, with Linux 6.1.0-50-cloud-amd64' {
\t\tlinux\t/boot/vmlinuz-6.1.0-50-cloud-amd64 root=UUID=8a1f ro
\t\tinitrd\t/boot/initrd.img-6.1.0-50-cloud-amd64
\t}
}
"""


def test_the_first_entry_boots_with_the_options_of_its_line() -> None:
    entry = default_entry(DEBIAN)

    assert entry is not None
    assert entry.kernel == PurePosixPath("/boot/vmlinuz-6.1.0-57-cloud-amd64")
    assert entry.options == ("root=UUID=8a1f", "ro", "net.ifnames=0")
    assert entry.archives == (PurePosixPath("/boot/initrd.img-6.1.0-57-cloud-amd64"),)


@pytest.mark.parametrize(
    ("default", "kernel"),
    [("1", "6.1.0-50"), ("7", "6.1.0-57"), ("saved", "6.1.0-57")],
    ids=["another", "one that is not there", "one that only GRUB knows"],
)
def test_another_entry_boots_if_the_menu_says_its_number(default: str, kernel: str) -> None:
    entry = default_entry(DEBIAN.replace('default="0"', f'default="{default}"'))

    assert entry is not None
    assert entry.kernel == PurePosixPath(f"/boot/vmlinuz-{kernel}-cloud-amd64")


@pytest.mark.parametrize("menu", ["", "set timeout=1\n", "menuentry 'Windows' {\n\tchainloader +1\n}\n"])
def test_a_menu_may_boot_no_linux(menu: str) -> None:
    assert default_entry(menu) is None
