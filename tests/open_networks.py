"""Opens the networks of a rehearsal without guests: `python -m tests.open_networks DIRECTORY once|wait|keep`.

Notes their holder in DIRECTORY, prints what `ip -br link` says in there and an empty line, and then ends, or waits to
be killed, or ends and leaves them.
"""

import sys
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from imagebuilder.programs import run_program
from imagebuilder.rehearse.leavings import HOLDER
from imagebuilder.rehearse.networks import open_networks
from imagebuilder.rehearse.topology import Topology

EMPTY = Topology(
    private=IPv4Network("10.1.1.0/24"),
    public=IPv4Network("147.96.1.0/24"),
    hosts=(),
    workers=(),
    stranger=IPv4Address("147.96.1.254"),
    leases=(),
)


def main() -> None:
    directory, afterwards = Path(sys.argv[1]), sys.argv[2]
    with open_networks(EMPTY, directory=directory, log=directory / "log") as networks:
        (directory / HOLDER).write_text(networks.holder.to_json(), encoding="utf-8")
        sys.stdout.write(f"{run_program([*networks.enter, 'ip', '-br', 'link'])}\n")
        sys.stdout.flush()
        match afterwards:
            case "wait":
                time.sleep(60)
            case "keep":
                networks.keep()


if __name__ == "__main__":
    main()
