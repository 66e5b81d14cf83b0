"""Shows the status of a cluster: as one table, refreshed in place on a terminal, again and again elsewhere."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import StringIO

import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from imagebuilder.errors import RemoteError
from imagebuilder.operate.grid import Job, QueueInstance
from imagebuilder.operate.status import ClusterStatus, HostStatus, to_json

# Wider than any row: what is not read on a terminal is neither cut nor wrapped.
_NO_LIMIT = 10_000
# Of thousands the first say what is next, and the table stays in sight.
_MOST_JOBS = 20
_MOST_NAMES = 6
_LONGEST_NAME = 24
_NOTHING = "-"
_COLOURS = {"joining": "yellow", "absent": "red"}

Show = Callable[[ClusterStatus, str], None]


def print_status(status: ClusterStatus, trouble: str = "") -> None:
    """Print the status, as wide as it is where nobody's terminal is in the way, and what keeps it from being newer."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(View(status, trouble))
        return
    page = Console(highlight=False, width=_NO_LIMIT, file=StringIO(), color_system=None)
    with page.capture() as captured:
        page.print(View(status, trouble))
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
            yield lambda status, trouble: live.update(View(status, trouble), refresh=True)
    else:
        yield print_status


def _print_json(status: ClusterStatus, trouble: str) -> None:
    typer.echo(json.dumps({"error": trouble} if trouble else to_json(status)))


@dataclass(frozen=True)
class View:
    """The status: one table, the jobs that wait, and a line that sums it up.

    Where the table would be too wide it only counts the jobs, and they follow in one of their own.
    """

    status: ClusterStatus
    trouble: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich draws, on a console of this width."""
        status = self.status
        table = _table(status, _listed)
        is_narrow = Measurement.get(console, options.update(max_width=_NO_LIMIT), table).maximum > options.max_width
        yield Text.assemble((status.cluster, "bold"), f" as {status.server} sees it, {status.time:%Y-%m-%d %H:%M:%S}")
        yield Text()
        yield _table(status, _counted_jobs) if is_narrow else table
        yield Text()
        running = [(job, instance.host) for instance in status.instances for job in instance.jobs]
        if is_narrow and running:
            yield from (_job_table("RUNNING", running, status.time), Text())
        if status.pending:
            yield from (_job_table("PENDING", [(job, "") for job in status.pending], status.time), Text())
        yield _totals(status)
        if self.trouble:
            yield Text(f"{self.trouble} (trying again)", "red")


Jobs = Callable[[QueueInstance, datetime], Text]


def _listed(instance: QueueInstance, now: datetime) -> Text:
    """The jobs on an instance, a line each."""
    return Text("\n").join(
        Text(f"{job.label} {_short(job.name)} {job.owner} {job.state} {_since(job, now)}") for job in instance.jobs
    )


def _counted_jobs(instance: QueueInstance, _now: datetime) -> Text:
    """How many jobs are on an instance."""
    return Text(str(len(instance.jobs) or ""))


def _table(status: ClusterStatus, jobs_of: Jobs) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("HOST", "QUEUE", "SLOTS", "LOAD", "STATE", "VPN ADDRESS", "EC2 ID", "JOBS"):
        # What one copies stays whole on a narrow terminal.
        table.add_column(title, no_wrap=title not in {"STATE", "JOBS"}, overflow="fold")
    for host in status.hosts:
        vpn_address = str(host.vpn_address) if host.is_on_vpn else _NOTHING
        instance_id = (host.worker.instance_id if host.worker else None) or _NOTHING
        for queue, slots, load, state in _rows(host):
            jobs = Text(_NOTHING) if queue is None else jobs_of(queue, status.time) or Text(_NOTHING)
            name = Text(queue.queue if queue else _NOTHING)
            table.add_row(Text(host.name), name, slots, load, state, vpn_address, instance_id, jobs)
    return table


def _rows(host: HostStatus) -> Iterator[tuple[QueueInstance | None, str, str, Text]]:
    """Of each queue on a host: its slots, load and state."""
    if not host.instances:
        yield None, _NOTHING, _NOTHING, Text(host.presence, _COLOURS[host.presence])
    for instance in host.instances:
        load = _NOTHING if instance.load is None else f"{instance.load:.2f}"
        state = Text(host.state_of(instance), "green" if host.is_well_on(instance) else "red")
        yield instance, f"{instance.used}/{instance.total}", load, state


def _job_table(title: str, jobs: Sequence[tuple[Job, str]], now: datetime) -> Table:
    """Jobs, each with where it is if that is known; of many the first."""
    table = Table(title, "NAME", "OWNER", "STATE", "SLOTS", "SINCE", box=None, pad_edge=False)
    if any(where for _, where in jobs):
        table.add_column("HOST")
    for job, where in jobs[:_MOST_JOBS]:
        words = (job.label, _short(job.name), job.owner, job.state, str(job.slots), _since(job, now), where)
        table.add_row(*map(Text, words[: len(table.columns)]))
    if len(jobs) > _MOST_JOBS:
        table.add_row(Text(f"and {len(jobs) - _MOST_JOBS} more"))
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
    names = ", ".join(not_well[:_MOST_NAMES])
    more = f" and {len(not_well) - _MOST_NAMES} more" if len(not_well) > _MOST_NAMES else ""
    verdict = Text(f"not well: {names}{more}", "red") if not_well else Text("all is well", "green")
    return Text.assemble(f"{', '.join(parts)}; ", verdict)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
