"""Makes docs/xen-transcript.md of the transcripts that `make test-xen` has left: `python -m tests.xen.transcript`."""

import re
from collections.abc import Iterator

from tests.machines import PROJECT
from tests.xen.conftest import BUILD

DOCUMENT = PROJECT / "docs/xen-transcript.md"

# Of the hypervisor and of both kernels only what says who they are, and what they say of disks, cards and consoles.
_KERNEL = re.compile(r"\| (\(XEN\)|\[ *\d+\.\d+\](?! systemd))")
_WORTH_READING = re.compile(
    r"Xen version|Command line|Linux version|Booting paravirtualized|Hypervisor detected|Xen: using"
    r"|blkfront|xvda|netfront|vif|enX|br0|xenbr|console \[|EXT4-fs"
)
_WIDTH = 116  # as all documents here

# What the table shows, and the words by which a line tells it.
_STEPS = {
    "dom0's first process runs": "dom0: Linux is up",
    "Xen's daemons run": "dom0: Xen is ready",
    "`xl create` has ended": "dom0: xl list",
    "login prompt": " login:",
    "answers ARP and ping": "dom0: every address has answered",
}

_HEAD = """\
# `xl create` under Xen: what was said

What `make test-xen` saw, made by `python -m tests.xen.transcript` after it passed. The machine is one that QEMU
7.2 emulates (TCG, no KVM), with Xen 4.17 and a dom0 of Debian 12, each time from power on until the guest shows its
login prompt and answers dom0 at its addresses. The disk is the qcow2 overlay on the base that `imgbuild build`
leaves in the store, at the path that the configuration names.

- **local01**: `xl create` on the very text that `imgbuild xen local01` prints: pv, pygrub.
- **local01-exported-pv**, **-pvh**: the folder that `imgbuild xen local01 --type pv --boot kernel --export` makes,
  brought into dom0 and started by its own script: with the image's kernel beside a raw disk.
- **oneserver-named-by-udev**: with three lines changed. Kernel and initial RAM disk are given to it directly,
  without `net.ifnames=0`, so that udev in the initial RAM disk makes enX0 of eth0, as on a base of one's own; and
  its two cards come in the other order. They have their names by MAC address
  (decisions/0016-cards-by-mac-address.md).

Seconds from power on, on two processors that had other work as well:

"""

_SECTION = """
In front of each line stand the seconds since power on, and who says it: dom0 is the machine's first serial line,
with Xen, dom0's kernel and tests/xen/dom0.sh; the guest's console is on the second. Left out is what Xen and the
kernels say of hardware, and the ends of long lines.
"""


def _trimmed(lines: list[str]) -> Iterator[str]:
    for line in lines:
        is_noise = _KERNEL.search(line) and not _WORTH_READING.search(line)
        if not is_noise and not line.endswith("|"):
            yield line[:_WIDTH]


def _table(transcripts: dict[str, list[str]]) -> Iterator[str]:
    yield f"| | {' | '.join(transcripts)} |"
    yield "|---|" + "---|" * len(transcripts)
    for step, words in _STEPS.items():
        times = [next(line.split()[0] for line in lines if words in line) for lines in transcripts.values()]
        yield f"| {step} | {' | '.join(f'{float(time):.0f}' for time in times)} |"


def main() -> None:
    """Write the document anew."""
    files = sorted(BUILD.glob("*.transcript"))
    transcripts = {file.stem: file.read_text(encoding="utf-8").splitlines() for file in files}
    text = _HEAD + "\n".join(_table(transcripts)) + "\n" + _SECTION
    for name, lines in transcripts.items():
        text += f"\n## {name}\n\n```text\n" + "\n".join(_trimmed(lines)) + "\n```\n"
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
