"""`imgbuild cluster`: what a cluster that runs is doing."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from imagebuilder.cli.cluster_table import print_status, watch_status
from imagebuilder.cli.settings import Settings
from imagebuilder.errors import UsageError
from imagebuilder.image.store import Store
from imagebuilder.operate.asking import Shell, read_status
from imagebuilder.operate.ssh import SshShell, server_address
from imagebuilder.operate.status import ClusterStatus, Expected, compare, to_json
from imagebuilder.rehearse.inside import GuestShell
from imagebuilder.rehearse.leavings import newest_kept
from imagebuilder.site import Site, load_site

_NOT_WELL = 1

app = typer.Typer(
    name="cluster",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at a cluster that runs.",
)


@app.callback()
def _group() -> None:
    """Look at a cluster that runs."""


@app.command()
def status(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    *,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="[USER@]SERVER",
            help="Where ssh finds the server, as in `ssh HOST`.  [default: its address in cluster.yaml]",
        ),
    ] = None,
    rehearsal: Annotated[
        bool, typer.Option("--rehearsal", help="The cluster that `imgbuild rehearse --keep` has left running.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    every_s: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.1, help="With --watch: how long between two looks.")
    ] = 5,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="How long to wait for an answer.")
    ] = 30,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print a JSON object; with --watch one a line, again and again.")
    ] = False,
) -> None:
    """Show the queue instances, their load and jobs, and the workers with their VPN address and EC2 id.

    Asks the server's Grid Engine and VPN over one ssh connection, with your ssh configuration and keys; any user of
    the cluster will do. Hosts that the recipes name and Grid Engine does not have are listed as absent.

    Exits with 0 if all is well, 1 if a host is absent or a queue instance takes no jobs, 6 if the server cannot be
    reached or Grid Engine does not answer. --watch ends by Ctrl-C, with 0. See docs/status.md.
    """
    settings: Settings = context.obj
    if rehearsal and host is not None:
        raise UsageError("a rehearsal is not reached by ssh", fix="leave out --host or --rehearsal")
    site = load_site(settings.site_directory)
    with _open_shell(site, settings, host, timeout_s, rehearsal=rehearsal) as shell:

        def look() -> ClusterStatus:
            return compare(_expected(site), read_status(shell))

        if watch:
            with suppress(KeyboardInterrupt):
                watch_status(look, every_s, json_output=json_output)
            return
        now = look()
    if json_output:
        typer.echo(json.dumps(to_json(now), indent=2))
    else:
        print_status(now)
    if not now.is_well:
        raise typer.Exit(_NOT_WELL)


@contextmanager
def _open_shell(
    site: Site, settings: Settings, host: str | None, timeout_s: float, *, rehearsal: bool
) -> Iterator[Shell]:
    """A shell on the cluster's server: by ssh, or in a rehearsal that was kept."""
    if rehearsal:
        kept = newest_kept(Store(root=settings.store))
        if kept is None:
            raise UsageError("no rehearsal runs on", where=settings.store, fix="run `imgbuild rehearse --keep`")
        yield GuestShell(kept, site.cluster.server.name, timeout_s=timeout_s)
        return
    destination = str(server_address(site.cluster)) if host is None else host
    if not destination or destination.startswith("-"):
        raise UsageError(f"'{destination}' is no host", fix="write --host SERVER, or --host USER@SERVER")
    with SshShell(destination, timeout_s=timeout_s) as shell:
        yield shell


def _expected(site: Site) -> Expected:
    cluster = site.cluster
    executing = {name for machine in site.machines() for name in machine.execution_hosts}
    return Expected(
        cluster=cluster.recipe.name,
        server=cluster.server.name,
        hosts=tuple(host.name for host in cluster.hosts if host.name in executing),
        workers=cluster.workers,
    )
