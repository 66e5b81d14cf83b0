"""`imgbuild diff`: says what two images differ in."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated

import typer
from rich.console import Console

from imagebuilder.cli.bench import open_reading_bench, say
from imagebuilder.cli.differences import describe_entry, print_line, summary_line
from imagebuilder.cli.settings import Settings
from imagebuilder.compare.contents import (
    ContentDifference,
    SecretDifference,
    TextDifference,
    UnshownDifference,
    printable,
)
from imagebuilder.compare.difference import Aspect
from imagebuilder.compare.images import Comparison, ContentChoice, compare_images
from imagebuilder.compare.sides import Side, find_side
from imagebuilder.errors import ImgbuildError, UsageError

_DIFFERENT = 1

_IMAGE_HELP = "A role or name in the store; one build of it as NAME@KEY; or an image file, raw or qcow2."


class DiffError(ImgbuildError):
    """Two images cannot be compared, for whatever reason: 2, as diff(1) has it, since 1 means that they differ."""

    exit_code = 2


def diff(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help=_IMAGE_HELP)],
    b: Annotated[str, typer.Argument(metavar="B", help=_IMAGE_HELP)],
    paths: Annotated[
        list[PurePosixPath] | None,
        typer.Argument(metavar="PATH", help="Compare only these paths in the images, and what is below them."),
    ] = None,
    *,
    unified: Annotated[
        bool, typer.Option("--unified", "-u", help="Also show how texts differ; of secrets only the digest.")
    ] = False,
    new_file: Annotated[
        bool, typer.Option("--new-file", "-N", help="Like -u, and show texts too that only one image has.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what two images differ in: paths, types, modes, owners, targets of links, contents; not times.

    Images in the store are compared as they were built, at once. To compare what is on a disk now, name its file:
    that, and -u, start libguestfs's appliance.

    A line begins with - for a path that only the first image has, + for the second, ~ for one that differs. Exits
    with 0 if the images are the same, 1 if they differ, 2 if they cannot be compared.
    """
    contents: ContentChoice = "all" if new_file else "changed" if unified else "none"
    comparison = _compare(ctx.obj, a, b, paths or [], contents)
    if json_output:
        typer.echo(json.dumps(describe(comparison), indent=2))
    else:
        _print(comparison)
        say(ctx.obj, _summary(comparison))
    if comparison.differences:
        raise typer.Exit(_DIFFERENT)


def describe(comparison: Comparison) -> dict[str, object]:
    """A comparison as plain values: the stable contract of `imgbuild diff --json`.

    `differences` has an object a path, in the order of the paths' parts. `aspects` is one of "only in a", "only in
    b" and "type", or any of "mode", "owner", "link" and "content". `a` and `b` are what is there, or null. Their
    `sha256` is null where nothing had to be hashed: sizes that differ say enough. `content` is null unless texts
    were asked for.
    """
    return {
        "same": not comparison.differences,
        "a": _describe_side(comparison.a),
        "b": _describe_side(comparison.b),
        "differences": [
            {
                "path": str(difference.path),
                "aspects": [aspect.value for aspect in difference.aspects],
                "a": describe_entry(difference.a),
                "b": describe_entry(difference.b),
                "content": _describe_content(comparison.contents.get(difference.path)),
            }
            for difference in comparison.differences
        ],
    }


def _compare(settings: Settings, a: str, b: str, paths: Sequence[PurePosixPath], contents: ContentChoice) -> Comparison:
    """The comparison; every error that stops it is a DiffError."""
    try:
        if relative := [path for path in paths if not path.is_absolute()]:
            raise UsageError(f"{relative[0]} is no path in an image", fix=f"begin it with a slash: /{relative[0]}")
        with open_reading_bench(settings, "diff") as bench:
            sides = find_side(a, bench.store), find_side(b, bench.store)
            return compare_images(*sides, bench, limits=paths, contents=contents)
    except ImgbuildError as error:
        raise DiffError(error.what, where=error.where, fix=error.fix) from error
    except OSError as error:
        raise DiffError(error.strerror or str(error), where=error.filename) from error


def _describe_side(side: Side) -> dict[str, object]:
    key = None if side.build is None else side.build.key
    return {"image": side.name, "path": str(side.disk), "format": side.format, "key": key}


def _describe_content(content: ContentDifference | None) -> dict[str, object] | None:
    match content:
        case TextDifference():
            return {"kind": "text", "unified": content.unified}
        case SecretDifference():
            return {"kind": "secret", "sha256_a": content.digest_a, "sha256_b": content.digest_b}
        case UnshownDifference():
            return {"kind": "not shown", "why": content.why}
        case None:
            return None


def _print(comparison: Comparison) -> None:
    console = Console(highlight=False)
    for difference in comparison.differences:
        print_line(console, *summary_line(difference))
        for line in _content_lines(comparison.contents.get(difference.path)):
            print_line(console, line, _style_of(line))


def _content_lines(content: ContentDifference | None) -> list[str]:
    match content:
        case TextDifference():
            return content.unified.split("\n")[:-1]
        case SecretDifference(digest_a=str(a), digest_b=str(b)):
            return [f"secret: differs (sha256 {a[:12]} → {b[:12]})"]
        case SecretDifference():
            return ["secret: not shown"]
        case UnshownDifference():
            return [f"{content.why}: not shown"]
        case None:
            return []


def _style_of(line: str) -> str:
    """The colour of a line below a summary line."""
    match line[:3]:
        case "---" | "+++":
            return "bold"
        case "@@ ":
            return "cyan"
        case start:
            return {"-": "red", "+": "green"}.get(start[:1], "none")


def _summary(comparison: Comparison) -> str:
    a, b = printable(comparison.a.name), printable(comparison.b.name)
    if not comparison.differences:
        return f"{a} and {b} are the same"
    count = Counter(difference.aspects[0] for difference in comparison.differences)
    only_a, only_b = count[Aspect.ONLY_IN_A], count[Aspect.ONLY_IN_B]
    both = len(comparison.differences) - only_a - only_b
    return f"{only_a} paths only in {a}, {only_b} only in {b}, {both} different in both"
