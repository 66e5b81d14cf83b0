"""`imgbuild xen --export`: folders for a dom0, copied there and started."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from imagebuilder.cli.bench import open_reading_bench, say
from imagebuilder.cli.settings import Settings
from imagebuilder.errors import UsageError
from imagebuilder.image.appliance import DiskFormat
from imagebuilder.image.bases import Bench
from imagebuilder.xen.dom0 import Copied, Dom0, copy_to_dom0, parse_dom0, start_in_dom0
from imagebuilder.xen.export import Export, export, is_exported
from imagebuilder.xen.exported_guest import is_ready, make_contents
from imagebuilder.xen.guests import Guest


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Where folders go: a directory here, and perhaps a dom0, in which their machines are perhaps started."""

    directory: Path
    disk_format: DiskFormat
    dom0: Dom0 | None
    starts: bool


def make_options(
    directory: Path | None, disk_format: DiskFormat, host: str | None, ssh_config: Path | None, *, start: bool
) -> ExportOptions | None:
    """What the options ask for; None if nothing is to be exported. Raises UsageError for what does not go together."""
    if directory is None and (host or ssh_config or start):
        raise UsageError("--host, --ssh-config and --start go on with what --export makes", fix="add --export DIR")
    if start and not host:
        raise UsageError("--start is for a machine in a dom0", fix="add --host USER@DOM0, or run DIR/NAME/start there")
    if directory is None:
        return None
    dom0 = parse_dom0(host, ssh_config) if host else None
    return ExportOptions(directory=directory.absolute(), disk_format=disk_format, dom0=dom0, starts=start)


def foresee_exports(guests: Sequence[Guest], options: ExportOptions, settings: Settings, *, json_output: bool) -> None:
    """Say what would be exported, copied and started; asks no other host."""
    with open_reading_bench(settings, "xen") as bench:
        same = {guest.image.name: is_ready(guest, bench) and _is_there(guest, options, bench) for guest in guests}
    outcomes = {name: "unchanged" if is_same else "would be exported" for name, is_same in same.items()}
    if json_output:
        rows = [
            {"name": name, "path": str(options.directory / name), "outcome": outcome}
            for name, outcome in outcomes.items()
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for name, outcome in outcomes.items():
        typer.echo(f"{name}: {outcome}, {options.directory / name}")
        if options.dom0:
            also = " and started" if options.starts else ""
            typer.echo(f"{name}: would be copied{also}, {options.dom0}/{name}")


def export_guests(guests: Sequence[Guest], options: ExportOptions, settings: Settings, *, json_output: bool) -> None:
    """Export the guests; then copy them all; then start them all: none is started unless all are there."""
    with open_reading_bench(settings, "xen") as bench:
        exports = _export(guests, options, bench)
        copies: dict[str, Copied] = {}
        answers: dict[str, str] = {}
        if options.dom0:
            for one in exports:
                bench.on_step(f"copy {one.name} to {options.dom0.login}")
                copies[one.name] = copy_to_dom0(one, options.dom0)
        if options.dom0 and options.starts:
            for one in exports:
                bench.on_step(f"start {one.name}")
                answers[one.name] = start_in_dom0(one.name, options.dom0)
    if json_output:
        typer.echo(json.dumps([_row(one, copies.get(one.name), options, answers) for one in exports], indent=2))
    elif settings.verbosity != "quiet":
        for one in exports:
            _print(one, copies.get(one.name), options, answers)
    for one in exports:
        _say_what_is_kept(one, copies.get(one.name), options, settings)


def _is_there(guest: Guest, options: ExportOptions, bench: Bench) -> bool:
    [content] = make_contents([guest], bench, options.disk_format)
    return is_exported(content, options.directory)


def _export(guests: Sequence[Guest], options: ExportOptions, bench: Bench) -> list[Export]:
    contents = make_contents(guests, bench, options.disk_format)
    exports = []
    for content in contents:
        bench.on_step(f"export {content.image.name}")
        exports.append(
            export(
                content,
                options.directory,
                on_wait=lambda directory: bench.on_step(f"wait for another export into {directory}"),
            )
        )
    return exports


def _row(one: Export, copied: Copied | None, options: ExportOptions, answers: dict[str, str]) -> dict[str, object]:
    there = None
    if copied and options.dom0:
        there = {
            "host": options.dom0.login,
            "path": copied.folder,
            "outcome": copied.outcome,
            "kept": copied.kept,
            "started": one.name in answers,
        }
    return {
        "name": one.name,
        "path": str(one.folder),
        "key": one.key,
        "outcome": one.outcome,
        "kept": str(one.kept) if one.kept else None,
        "dom0": there,
    }


def _print(one: Export, copied: Copied | None, options: ExportOptions, answers: dict[str, str]) -> None:
    typer.echo(f"{one.outcome:9}  {one.name:12}  {one.key[:12]}  {one.folder}")
    if copied and options.dom0:
        host = f"{options.dom0.user}{options.dom0.host}"
        typer.echo(f"{copied.outcome:9}  {one.name:12}  {one.key[:12]}  {host}:{copied.folder}")
    if one.name in answers:
        typer.echo(f"{'started':9}  {answers[one.name]}")


def _say_what_is_kept(one: Export, copied: Copied | None, options: ExportOptions, settings: Settings) -> None:
    if one.kept:
        say(settings, f"{one.name} had run on the earlier disk, which is kept: {one.kept}")
    if copied and copied.kept and options.dom0:
        say(settings, f"{one.name} had run on the earlier disk there, which is kept: {copied.kept}")
