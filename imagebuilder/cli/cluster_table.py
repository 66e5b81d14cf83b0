"""Shows the status of a cluster: as one table, refreshed in place on a terminal, again and again elsewhere."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from io import StringIO

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imagebuilder.errors import RemoteError
from imagebuilder.operate.grid import Job
from imagebuilder.operate.status import ClusterStatus, HostStatus, to_json

# Wider than any row: what is not read on a terminal is neither cut nor wrapped.
_NO_LIMIT = 10_000
# Of thousands the first say what is next, and the table stays in sight.
_MOST_PENDING = 20
_LONGEST_NAME = 24
_NOTHING = "-"
_COLOURS = {"in the queue": "red", "joining": "yellow", "absent": "red", "left the VPN": "red"}

Show = Callable[[ClusterStatus, str], None]


def print_status(status: ClusterStatus, trouble: str = "") -> None:
    """Print the status, as wide as it is where nobody's terminal is in the way, and what keeps it from being newer."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(view_of(status, trouble))
        return
    page = Console(highlight=False, width=_NO_LIMIT, file=StringIO(), color_system=None)
    with page.capture() as captured:
        page.print(view_of(status, trouble))
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def watch_status(look: Callable[[], ClusterStatus], every_s: float, *, json_output: bool) -> None:
    """Show what `look` gives, every so many seconds, until KeyboardInterrupt. Raises RemoteError if it fails at first.

    A later failure is shown beside what was seen before, and `look` is called again in its time.
    """
    status, trouble = look(), ""
    with _screen(json_output=json_output) as show:
        while True:
            show(status, trouble)
            time.sleep(every_s)
            try:
                status, trouble = look(), ""
            except RemoteError as error:
                trouble = f"{error.where}: {error.what}" if error.where else error.what


@contextmanager
def _screen(*, json_output: bool) -> Iterator[Show]:
    console = Console(highlight=False)
    if json_output:
        yield _print_json
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda status, trouble: live.update(view_of(status, trouble), refresh=True)
    else:
        yield print_status


def _print_json(status: ClusterStatus, trouble: str) -> None:
    typer.echo(json.dumps({"error": trouble} if trouble else to_json(status)))


def view_of(status: ClusterStatus, trouble: str = "") -> Group:
    """The status: one table, the jobs that wait, and a line that sums it up."""
    title = Text.assemble((status.cluster, "bold"), f" as {status.server} sees it, {status.time:%Y-%m-%d %H:%M:%S}")
    parts: list[Text | Table] = [title, Text(), _table(status), Text()]
    if status.pending:
        parts += [_pending(status), Text()]
    parts.append(_totals(status))
    if trouble:
        parts.append(Text(f"{trouble} (trying again)", "red"))
    return Group(*parts)


def _table(status: ClusterStatus) -> Table:
    titles = ("HOST", "QUEUE", "SLOTS", "LOAD", "STATE", "VPN ADDRESS", "EC2 ID", "JOBS")
    table = Table(*titles, box=None, pad_edge=False)
    for host in status.hosts:
        vpn_address = str(host.vpn_address) if host.is_on_vpn else _NOTHING
        instance_id = (host.worker.instance_id if host.worker else None) or _NOTHING
        for queue, slots, load, state, jobs in _rows(host, status.time):
            table.add_row(Text(host.name), Text(queue), Text(slots), Text(load), state, vpn_address, instance_id, jobs)
    return table


def _rows(host: HostStatus, now: datetime) -> Iterator[tuple[str, str, str, Text, Text]]:
    """Of each queue on a host: its name, slots, load, state and jobs."""
    if not host.instances:
        yield _NOTHING, _NOTHING, _NOTHING, Text(host.presence, _COLOURS[host.presence]), Text(_NOTHING)
    for instance in host.instances:
        load = _NOTHING if instance.load is None else f"{instance.load:.2f}"
        state = Text(host.state_of(instance), "green" if host.is_well_on(instance) else "red")
        jobs = Text("\n").join(Text(_line(job, now)) for job in instance.jobs) or Text(_NOTHING)
        yield instance.queue, f"{instance.used}/{instance.total}", load, state, jobs


def _line(job: Job, now: datetime) -> str:
    return f"{job.label} {_short(job.name)} {job.owner} {job.state} {_since(job, now)}"


def _pending(status: ClusterStatus) -> Table:
    table = Table("PENDING", "NAME", "OWNER", "STATE", "SLOTS", "SINCE", box=None, pad_edge=False)
    for job in status.pending[:_MOST_PENDING]:
        words = (job.label, _short(job.name), job.owner, job.state, str(job.slots), _since(job, status.time))
        table.add_row(*map(Text, words))
    more = len(status.pending) - _MOST_PENDING
    if more > 0:
        table.add_row(Text(f"and {more} more"))
    return table


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _since(job: Job, now: datetime) -> str:
    """The time of the day, or the date if it is another one."""
    try:
        since = datetime.fromisoformat(job.since)
    except ValueError:
        return job.since or _NOTHING
    return f"{since:%H:%M:%S}" if since.date() == now.date() else f"{since:%Y-%m-%d %H:%M}"


def _totals(status: ClusterStatus) -> Text:
    used = sum(instance.used for instance in status.instances)
    total = sum(instance.total for instance in status.instances)
    on_vpn = sum(host.is_on_vpn for host in status.hosts)
    parts = [
        f"{used} of {total} slots in use",
        f"{_counted(status.running, 'job')} running",
        f"{len(status.pending)} pending",
        f"{_counted(on_vpn, 'worker')} on the VPN",
    ]
    not_well = [host.name for host in status.hosts if not host.is_well]
    verdict = Text(f"not well: {', '.join(not_well)}", "red") if not_well else Text("all is well", "green")
    return Text.assemble(f"{', '.join(parts)}; ", verdict)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
