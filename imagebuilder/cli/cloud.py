"""`imgbuild cloud`: a stand-in for AWS on this machine."""

import json
import shlex
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from imagebuilder.cli.settings import Settings
from imagebuilder.cloud import Fault, RunningCloud, Tuning, find_cloud, running_cloud, start_cloud, stop_cloud
from imagebuilder.errors import HostError, UsageError

app = typer.Typer(
    name="cloud",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""A strict stand-in for EC2, EBS and S3 on this machine, to try the way to an AMI on.

* `eval "$(imgbuild cloud start)"` starts it and has every AWS client of this shell use it;

* `imgbuild cloud stop` ends it; what was made in it stays, for the next start.
""",
)
fault_app = typer.Typer(name="fault", no_args_is_help=True, help="Have calls fail, to see what becomes of that.")
app.add_typer(fault_app)

_State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        envvar="IMGBUILD_CLOUD",
        help="Where it keeps all that is made in it.  [default: cloud/ in the store]",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_Port = Annotated[int | None, typer.Option(min=0, max=65535, help="The port.  [default: a free one, then the same]")]
_Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A delay or a quota, such as snapshot_completes_after_s=0; repeatable."
    ),
]


@app.command()
def start(
    context: typer.Context, *, state: _State = None, port: _Port = None, settings: _Set = None, as_json: _Json = False
) -> None:
    """Start it, or find it running, and print the settings that make AWS clients use it."""
    directory = _directory(context, state)
    cloud = find_cloud(directory)
    if cloud is None:
        _tuning(settings)
        arguments = [word for value in settings or () for word in ("--set", value)]
        cloud = start_cloud(directory, arguments if port is None else [*arguments, "--port", str(port)])
        _say(context, f"the cloud of {directory} answers at {cloud.endpoint}")
    elif settings or port is not None:
        fix = "end it first, with `imgbuild cloud stop`"
        raise UsageError(f"runs already, at {cloud.endpoint}: as it was started", where=directory, fix=fix)
    else:
        _say(context, f"the cloud of {directory} runs already, at {cloud.endpoint}")
    if as_json:
        typer.echo(json.dumps(cloud.environment, indent=2))
    else:
        for name, value in cloud.environment.items():
            typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def serve(context: typer.Context, *, state: _State = None, port: _Port = None, settings: _Set = None) -> None:
    """Run it in the foreground, until it is interrupted: what `start` does behind your back."""
    directory = _directory(context, state)
    with running_cloud(directory, tuning=_tuning(settings), port=port) as cloud, suppress(KeyboardInterrupt):
        _say(context, f"the cloud of {directory} answers at {cloud.endpoint}")
        threading.Event().wait()


@app.command()
def stop(context: typer.Context, *, state: _State = None) -> None:
    """End it, and wait until it has ended."""
    directory = _directory(context, state)
    ended = stop_cloud(directory)
    _say(context, f"the cloud of {directory} {'has ended' if ended else 'did not run'}")


@app.command()
def status(context: typer.Context, *, state: _State = None, as_json: _Json = False) -> None:
    """Show whether it runs, and what there is in it. Exits with 1 if it does not run."""
    directory = _directory(context, state)
    cloud = find_cloud(directory)
    if as_json:
        shown: dict[str, object] = {"running": cloud is not None}
        if cloud is not None:
            shown |= {"endpoint": cloud.endpoint, "ec2_certificate": str(cloud.ec2_certificate())}
            shown["state"] = cloud.state()
        typer.echo(json.dumps(shown, indent=2))
    elif cloud is None:
        _say(context, f"the cloud of {directory} does not run")
    else:
        Console().print(_table(cloud))
    if cloud is None:
        raise typer.Exit(1)


@fault_app.command(name="add")
def add_fault(
    context: typer.Context,
    rule: Annotated[
        list[str],
        typer.Argument(metavar="NAME=VALUE…", help="Such as kind=throttle action=PutSnapshotBlock nth=3 count=5."),
    ],
    *,
    state: _State = None,
) -> None:
    """Have calls fail; docs/cloud.md has all names and kinds."""
    fields = dict(_pair(word) for word in rule)
    try:
        fault = Fault.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise UsageError(f"{name}: {first['msg']}", where="cloud fault add", fix="see docs/cloud.md") from error
    _running(context, state).add_fault(fault)


@fault_app.command(name="list")
def list_faults(context: typer.Context, *, state: _State = None) -> None:
    """Show the faults in force as JSON, with how many calls each has seen and hit."""
    typer.echo(json.dumps(_running(context, state).faults(), indent=2))


@fault_app.command(name="clear")
def clear_faults(context: typer.Context, *, state: _State = None) -> None:
    """Have no more calls fail."""
    _running(context, state).clear_faults()


def _directory(context: typer.Context, state: Path | None) -> Path:
    settings: Settings = context.obj
    return (state or settings.store / "cloud").absolute()


def _running(context: typer.Context, state: Path | None) -> RunningCloud:
    directory = _directory(context, state)
    cloud = find_cloud(directory)
    if cloud is None:
        raise HostError("no cloud runs there", where=directory, fix="imgbuild cloud start")
    return cloud


def _tuning(settings: list[str] | None) -> Tuning:
    try:
        return Tuning.model_validate(dict(_pair(word) for word in settings or ()))
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(Tuning.model_fields)
        raise UsageError(f"{first['msg']}", where=f"--set {first['loc'][0]}", fix=f"use one of {known}") from error


def _pair(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not sign:
        raise UsageError("is no NAME=VALUE", where=word)
    return name, value


def _table(cloud: RunningCloud) -> Table:
    table = Table("REGION", "IMAGES", "SNAPSHOTS", "OF THEM PENDING", box=None, pad_edge=False, title=cloud.endpoint)
    regions = cloud.state()["regions"]
    if isinstance(regions, dict):
        for name, region in regions.items():
            table.add_row(name, *(str(len(region[what])) for what in ("images", "snapshots", "pending_snapshots")))
    return table


def _say(context: typer.Context, text: str) -> None:
    settings: Settings = context.obj
    if settings.verbosity != "quiet":
        typer.echo(text, err=True)
