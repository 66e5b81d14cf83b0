"""The texts in the folder that goes into a dom0: xl configuration, the script that starts it, what to read first."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

# Stands in a configuration for the directory that the folder will lie in, which nobody knows yet.
FOLDER = PurePosixPath("@FOLDER@")

_START = Path(__file__).parent / "scripts" / "start.sh"


def folder_texts(name: str, role: str, configuration: str, *, disk_name: str) -> Mapping[str, str]:
    """The texts of the folder of a machine, by file name.

    `configuration` is its xl configuration, with FOLDER as the directory of each file that is in the folder; the
    disk is there as `disk_name`.

    xl would look for a relative disk in /dev (xl-disk-configuration(5), target), and for a relative kernel in the
    directory that it is called from, which the process that waits for the guest to reboot has left. So the file has
    names that hold in the folder, and the script gives xl absolute ones: "key=value" on the command line of
    `xl create` is read after the file, and wins (xl(1), create).
    """
    settings = [
        f"name={_in_double_quotes(name)}",
        f"disk={_in_double_quotes(disk_name)}",
        *_absolute_names([line for line in configuration.splitlines() if str(FOLDER) in line]),
    ]
    relative = configuration.replace(f"{FOLDER}/", "")
    return {
        f"{name}.cfg": f"# Start it by ./start, which gives xl absolute names.\n{relative}",
        "start": _START.read_text(encoding="utf-8").replace("@SETTINGS@", "\n".join(settings)),
        "README": _readme(name, role, disk_name),
    }


def _absolute_names(lines: list[str]) -> list[str]:
    """Shell that prints `lines` with its first argument in the place of FOLDER, and the names of their keys."""
    keys = [line.partition(" = ")[0] for line in lines]
    printed = [f"    printf '%s\\n' {_in_double_quotes(line).replace(str(FOLDER), '$1')}" for line in lines]
    return [f"absolute_keys={_in_double_quotes('|'.join(keys))}", "absolute_names() {", *printed, "}"]


def _in_double_quotes(text: str) -> str:
    """`text` as one word of sh, in the quotes that leave the single ones of xl.cfg readable."""
    return '"' + re.sub(r'([\\"$`])', r"\\\1", text) + '"'


def _readme(name: str, role: str, disk_name: str) -> str:
    return f"""{name}, role {role}: all that a Xen dom0 needs to run it. Made by `imgbuild xen --export`.

  ./start             starts it, as root; the folder may lie anywhere
  ./start --verify    the same, after a check of all files
  ./start --config    prints a configuration with absolute names, for /etc/xen/auto
  xl console {name}   its console; Ctrl-] leaves it
  xl shutdown {name}  ends it

{disk_name} is the machine's disk: it is written to as soon as the machine runs, and then no longer what SHA256SUMS
says. It has keys of the cluster in it: leave this folder readable to root only.
"""
