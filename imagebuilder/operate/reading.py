"""What a cluster's server is asked, and how its answer is read. Pure.

The question is a shell script, so that one connection gives all of one moment. The sections of the answer begin with a
mark that nobody can foresee: what a job or a worker calls itself then passes for no section.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import AddressValueError, IPv4Address
from pathlib import PurePosixPath

from imagebuilder.errors import RemoteError
from imagebuilder.operate.grid import Grid, parse_grid, printable

# What note-worker of the overlay openvpn-server leaves: a file with the worker's name, one line in it.
_WORKERS, _SESSIONS, _INSTANCES = (f"/run/imgbuild/{kind}" for kind in ("workers", "sessions", "instances"))
_INSTANCE_ID = re.compile(r"i-([0-9a-f]{8}|[0-9a-f]{17})", re.ASCII)

# Read by a shell that goes on reading afterwards: nothing in the braces may read its input. `read` starts no program.
_SCRIPT = f"""{{
echo '@MARK@ time'
date +%Y-%m-%dT%H:%M:%S
echo '@MARK@ notes'
for file in {_WORKERS}/* {_SESSIONS}/* {_INSTANCES}/*; do
[ ! -f "$file" ] || {{ IFS= read -r line <"$file" && printf '%s %s\\n' "$file" "$line"; }}
done
echo '@MARK@ grid'
SGE_LONG_QNAMES=-1 qstat -f -u '*' -xml
code=$?
printf '\\n@MARK@ trouble\\n'
[ "$code" = 0 ] || qstat -f 2>&1 >/dev/null
printf '\\n@MARK@ end %s\\n' "$code"
}} </dev/null 2>/dev/null
"""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A worker that the VPN's server has noted."""

    name: str
    is_connected: bool
    """Whether it is on the VPN; else it was, and the server waits for it to come back, or has given it up."""
    public_address: IPv4Address | None = None
    """Where its last connection came from: its own address on the public side, or that of a NAT gateway."""
    instance_id: str | None = None
    """Its id in EC2, as it says itself."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the server said at one moment."""

    time: datetime
    """The server's local time, which is also that of its jobs."""
    grid: Grid
    workers: Mapping[str, Worker]
    """By name."""


def question(mark: str) -> str:
    """The script for the server's shell; `last_line` begins the end of the answer."""
    return _SCRIPT.replace("@MARK@", mark)


def last_line(mark: str) -> str:
    """What the last line of an answer begins with."""
    return f"{mark} end "


def parse_answer(answer: str, mark: str) -> Reading:
    """What the server said. Raises RemoteError if Grid Engine does not answer there, or if this is no answer."""
    sections = _sections(answer, mark)
    code = sections["end"].strip()
    if code != "0":
        lines = [printable(line) for line in sections["trouble"].split("\n") if line.strip()]
        what = f"Grid Engine does not answer: {'; '.join(lines[:3]) or f'qstat ends with {code}'}"
        raise RemoteError(what, fix="on the server, see `systemctl status gridengine-master`")
    try:
        time = datetime.fromisoformat(sections["time"].strip())
    except ValueError as error:
        raise _no_answer("it does not say its time") from error
    workers = {worker.name: worker for worker in _workers(sections["notes"])}
    return Reading(time=time, grid=parse_grid(sections["grid"]), workers=workers)


def _sections(answer: str, mark: str) -> Mapping[str, str]:
    """The text of each section, by its name; the last is what stands on the line of the end."""
    sections: dict[str, str] = {}
    # What comes before is said by a login that talks.
    for part in f"\n{answer}".split(f"\n{mark} ")[1:]:
        name, _, text = part.partition(" " if part.startswith("end ") else "\n")
        sections[name] = text.partition("\n")[0] if name == "end" else text
    missing = [name for name in ("time", "notes", "grid", "trouble", "end") if name not in sections]
    if missing:
        raise _no_answer(f"it lacks {', '.join(missing)}")
    return sections


def _workers(notes: str) -> Iterator[Worker]:
    noted: dict[tuple[str, str], str] = {}
    # Not splitlines: a worker chooses what it is called, and that would take other characters for ends of lines, too.
    for line in notes.split("\n"):
        path, _, text = line.partition(" ")
        noted[str(PurePosixPath(path).parent), PurePosixPath(path).name] = text.strip()
    for (kind, name), text in noted.items():
        if kind == _WORKERS:
            yield Worker(
                name=name,
                is_connected=text.startswith("here "),
                public_address=_address(noted.get((_SESSIONS, name), "")),
                instance_id=_instance_id(noted.get((_INSTANCES, name), "")),
            )


def _address(session: str) -> IPv4Address | None:
    """The address of a connection, which is noted as `ADDRESS:PORT`."""
    try:
        return IPv4Address(session.rpartition(":")[0])
    except AddressValueError:
        return None


def _instance_id(text: str) -> str | None:
    return text if _INSTANCE_ID.fullmatch(text) else None


def _no_answer(why: str) -> RemoteError:
    what = f"what the server says is no answer: {why}"
    return RemoteError(what, fix="see that it is the cluster's server, and was built with this version of imgbuild")
