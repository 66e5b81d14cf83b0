"""`imgbuild one vm`: the virtual machines of a running OpenNebula, as `onevm` lists, shows and creates them."""

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from imagebuilder.cli.bench import say
from imagebuilder.cli.images import JsonOutput
from imagebuilder.cli.settings import Settings
from imagebuilder.errors import UsageError
from imagebuilder.opennebula.login import find_login
from imagebuilder.opennebula.machines import Machine, describe, list_row, show_lines
from imagebuilder.opennebula.server import Server, open_server
from imagebuilder.opennebula.things import cluster_of
from imagebuilder.recipe.model import nearest
from imagebuilder.site import load_site

app = typer.Typer(
    name="vm",
    no_args_is_help=True,
    help="Virtual machines in OpenNebula: list, show, create. Needs ONE_XMLRPC and ONE_AUTH as onevm does.",
)


def connect() -> Server:
    """oned, where OpenNebula's own tools find it."""
    return open_server(find_login(os.environ, Path.home()))


@app.command(name="list")
def list_machines(json_output: JsonOutput = False) -> None:
    """List the machines that have not ended, oldest first: ID NAME STAT CPU MEM HOSTNAME TIME.

    CPU and MEM are what a machine was given, TIME is how long ago it was created.
    """
    machines = connect().machines()
    now = int(time.time())
    if json_output:
        typer.echo(json.dumps([_row(machine, now) for machine in machines], indent=2))
        return
    table = Table("ID", "NAME", "STAT", "CPU", "MEM", "HOSTNAME", "TIME", box=None, pad_edge=False)
    for machine in machines:
        table.add_row(*list_row(machine, now))
    Console(highlight=False, soft_wrap=True, width=200).print(table)


@app.command()
def show(
    machine_id: Annotated[int, typer.Argument(metavar="ID", min=0, help="Which one; `list` says the ids.")],
    json_output: JsonOutput = False,
) -> None:
    """Show one machine: its states, what it uses, and its template.

    Of what onevm showed in 2008 there is no AID and no PRIORITY any more. Times are UTC.
    """
    machine = connect().machine(machine_id)
    if json_output:
        typer.echo(json.dumps({_key(name): value for name, value in describe(machine).items()}, indent=2))
        return
    for line in show_lines(machine):
        typer.echo(line)


@app.command()
def create(
    ctx: typer.Context,
    template: Annotated[str, typer.Argument(metavar="TEMPLATE", help="One that `imgbuild one --apply` has made.")],
    *,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The machine's name.  [default: the template's, and the id]")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")] = False,
    json_output: JsonOutput = False,
) -> None:
    """Have OpenNebula start a machine from a template of the cluster, and print its id."""
    settings: Settings = ctx.obj
    cluster = load_site(settings.site_directory).cluster.recipe.name
    server = connect()
    own = {one.name: one.id for one in server.find_own("template") if cluster_of(one.template) == cluster}
    if template not in own:
        what = f"the cluster {cluster} has no template '{template}' there.{nearest(template, own)}"
        raise UsageError(what, where=server.endpoint, fix="run `imgbuild one --apply`")
    if dry_run:
        say(settings, f"would start a machine from the template {template} (id {own[template]})")
        return
    machine_id = server.instantiate(own[template], name)
    if json_output:
        typer.echo(json.dumps({"id": machine_id, "template": template, "template_id": own[template]}, indent=2))
        return
    typer.echo(f"ID: {machine_id}")
    say(settings, f"next: `imgbuild one vm list`, `imgbuild one vm show {machine_id}`")


def _row(machine: Machine, now: int) -> dict[str, object]:
    names = ("id", "name", "stat", "cpu", "mem", "hostname", "time")
    row = dict(zip(names, list_row(machine, now), strict=True))
    return {**row, "id": machine.id, "start_time": machine.begun_at}


def _key(name: str) -> str:
    return name.lower().replace(" ", "_")
