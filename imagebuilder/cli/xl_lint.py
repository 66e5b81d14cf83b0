"""`imgbuild xen --lint`: checks xl configurations, whoever wrote them."""

import json
from collections.abc import Mapping, Sequence
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
    files = [_read(path) for path in dict.fromkeys(paths)]
    faults = {file.path: _faults(file, around, xl) for file in files}
    for fault in faults_together(files):
        faults[fault.place.path] = sorted([*faults[fault.place.path], fault], key=lambda one: one.place)
    if json_output:
        typer.echo(json.dumps(describe(faults, xl), indent=2))
    else:
        _print(faults, settings)
    if any(faults.values()):
        raise typer.Exit(CheckError.exit_code)


def describe(faults: Mapping[Path, Sequence[Fault]], xl: Xl | None) -> list[dict[str, object]]:
    """The faults as plain values: the stable contract of `imgbuild xen --lint FILE --json`."""
    return [
        {
            "file": str(path),
            "sound": not found,
            "read_by_xl": xl is not None,
            "faults": [
                {"line": one.place.line, "column": one.place.column, "what": one.what, "fix": one.fix} for one in found
            ],
        }
        for path, found in faults.items()
    ]


def _print(faults: Mapping[Path, Sequence[Fault]], settings: Settings) -> None:
    for path, found in faults.items():
        for fault in found:
            typer.echo(str(fault))
        if not found and settings.verbosity != "quiet":
            typer.echo(f"{path}: sound")


def _read(path: Path) -> XlFile:
    try:
        return read_xl_file(path, path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=path, fix="name an xl configuration") from error


def _faults(file: XlFile, around: Surroundings, xl: Xl | None) -> list[Fault]:
    own = own_faults(file, around)
    # Of a file that is no grammar xl says the same, without a column.
    return own if xl is None or file.faults else with_words_of_xl(file, own, xl.read(file.path))


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
