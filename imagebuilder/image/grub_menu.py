"""What a menu of GRUB offers to boot."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

GRUB_MENU = PurePosixPath("/boot/grub/grub.cfg")


@dataclass(frozen=True, kw_only=True)
class BootEntry:
    """One way to boot: the kernel, the options on its command line, its initramfs archives; paths as in the menu."""

    kernel: PurePosixPath
    options: tuple[str, ...]
    archives: tuple[PurePosixPath, ...]

    def values(self, name: str) -> tuple[str, ...]:
        """What follows `NAME=`, each time that it is there."""
        return tuple(option.removeprefix(f"{name}=") for option in self.options if option.startswith(f"{name}="))


def boot_entries(menu: str) -> Iterator[BootEntry]:
    """The entries in the text of a grub.cfg that load a Linux kernel."""
    kernel: tuple[str, ...] = ()
    archives: list[PurePosixPath] = []
    for line in (*menu.splitlines(), "}"):
        match line.split():
            case [("linux" | "linux16" | "linuxefi"), *words] if words:
                kernel, archives = tuple(words), []
            case [("initrd" | "initrd16" | "initrdefi"), *words]:
                archives = [_in_menu(word) for word in words]
            case ["}", *_] if kernel:
                yield BootEntry(kernel=_in_menu(kernel[0]), options=kernel[1:], archives=tuple(archives))
                kernel = ()
            case _:
                pass


def _in_menu(word: str) -> PurePosixPath:
    """A path of GRUB, which may have a disk before it, as one from the root of a file system."""
    return PurePosixPath("/", re.sub(r"^\([^)]*\)", "", word))


def default_entry(menu: str) -> BootEntry | None:
    """The entry that boots unless somebody chooses another, None if there is none for Linux.

    A number in `set default=` is taken as pygrub takes it, as that of an entry; a title or a variable is not followed.
    """
    entries = tuple(boot_entries(menu))
    numbers = [int(number) for number in re.findall(r"""^\s*set\s+default=["']?(\d+)["']?\s*$""", menu, re.MULTILINE)]
    index = numbers[-1] if numbers and numbers[-1] < len(entries) else 0
    return entries[index] if entries else None
