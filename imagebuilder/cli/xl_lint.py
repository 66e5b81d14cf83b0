"""`imgbuild xen --lint`: checks xl configurations, whoever wrote them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from imagebuilder.cli.bench import say
from imagebuilder.cli.settings import Settings
from imagebuilder.errors import CheckError, Fault, HostError, UsageError
from imagebuilder.site import load_site
from imagebuilder.xen.disk_files import look_at
from imagebuilder.xen.lint import own_faults, with_words_of_xl
from imagebuilder.xen.rules_together import faults_together
from imagebuilder.xen.surroundings import Surroundings, surroundings_in
from imagebuilder.xen.xl import Xl, find_xl, is_dom0
from imagebuilder.xen.xl_cfg import XlFile, read_xl_file


def lint(paths: Sequence[Path], settings: Settings, *, json_output: bool) -> None:
    """Print what is wrong in each file; exits with 1 if anything is."""
    around = _surroundings(settings)
    xl = _find_xl(settings)
    checked = [_check(_read(path), around, xl) for path in dict.fromkeys(paths)]
    together = list(faults_together([one.file for one in checked]))
    for one in checked:
        one.faults += [fault for fault in together if fault.place.path == one.file.path]
        one.faults.sort(key=lambda fault: fault.place)
    if json_output:
        typer.echo(json.dumps(describe(checked), indent=2))
    else:
        _print(checked, settings)
    if any(one.faults for one in checked):
        raise typer.Exit(CheckError.exit_code)


@dataclass(kw_only=True)
class Checked:
    """A file with all that is wrong in it, and whether the real xl was asked."""

    file: XlFile
    faults: list[Fault]
    read_by_xl: bool


def describe(checked: Sequence[Checked]) -> list[dict[str, object]]:
    """The faults as plain values: the stable contract of `imgbuild xen --lint FILE --json`."""
    return [
        {
            "file": str(one.file.path),
            "sound": not one.faults,
            "read_by_xl": one.read_by_xl,
            "faults": [
                {
                    "line": fault.place.line,
                    "column": fault.place.column,
                    "what": fault.what,
                    "fix": fault.fix,
                }
                for fault in one.faults
            ],
        }
        for one in checked
    ]


def _print(checked: Sequence[Checked], settings: Settings) -> None:
    for one in checked:
        for fault in one.faults:
            typer.echo(str(fault))
        if not one.faults and settings.verbosity != "quiet":
            typer.echo(f"{one.file.path}: sound")


def _read(path: Path) -> XlFile:
    try:
        return read_xl_file(path, path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path, fix="name an xl configuration") from error


def _check(file: XlFile, around: Surroundings, xl: Xl | None) -> Checked:
    own = own_faults(file, around)
    if xl is None or file.faults:  # of a file that is no grammar xl says the same, without a column
        return Checked(file=file, faults=own, read_by_xl=False)
    return Checked(file=file, faults=with_words_of_xl(file, own, xl.read(file.path)), read_by_xl=True)


def _surroundings(settings: Settings) -> Surroundings:
    directory = settings.site_directory
    if not (directory / "recipes" / "cluster.yaml").exists():
        say(
            settings, f"there is no recipes/cluster.yaml in {directory}: bridges and addresses are not compared with it"
        )
        return Surroundings(look=look_at, is_dom0=is_dom0())
    return surroundings_in(load_site(directory), look=look_at, is_dom0=is_dom0())


def _find_xl(settings: Settings) -> Xl | None:
    try:
        return find_xl(settings.cache_directory)
    except HostError as error:
        say(settings, f"the real xl was not asked: {error.what}; to have it asked: {error.fix}")
        return None
