"""The command line: the only place that prints and that chooses exit codes."""

import errno
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from imagebuilder import __version__
from imagebuilder.cli import (
    ami,
    build,
    bundle,
    clean,
    cloud,
    cluster,
    diff,
    doctor,
    images,
    one_group,
    pki,
    plan,
    recipes,
    rehearse,
    unbundle,
    verify,
    xen,
)
from imagebuilder.cli.settings import Settings
from imagebuilder.errors import HostError, ImgbuildError
from imagebuilder.pki import DEFAULT_DIRECTORY

_INTERRUPTED = 130  # what a shell reports for a command that SIGINT ended
_WAS_INTERRUPTED = "interrupted; what was begun is cleaned up"

app = typer.Typer(
    name="imgbuild",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""From one description of a hybrid cluster, the disk images of its server, Xen nodes and EC2 workers.

* `imgbuild init DIR` makes a site: recipes to start from.
* `imgbuild -C DIR validate` checks them, without touching anything.
* `imgbuild -C DIR plan node` shows what would be written into the node's image.
* `imgbuild -C DIR build` makes all images; what has not changed costs nothing.
* `imgbuild -C DIR diff node worker` shows what two images differ in.
* `imgbuild -C DIR rehearse` boots them together and proves that the cluster works.

Exit codes: 0 done, or the same · 1 different, or a check failed · 2 wrong usage · 3 recipes invalid ·
4 this machine lacks something (see `imgbuild doctor`) · 5 build failed, nothing published ·
6 a cloud or a dom0 failed, nothing is left there · 7 a cloud failed, what is left there is listed ·
130 interrupted, cleaned up.
""",
    epilog="Run `imgbuild COMMAND --help` for what each command does.",
)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"imgbuild {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    directory: Annotated[
        Path,
        typer.Option(
            "-C",
            "--directory",
            metavar="DIR",
            envvar="IMGBUILD_DIRECTORY",
            help="The site: has recipes/ and overlays/.",
        ),
    ] = Path(),
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", metavar="DIR", envvar="IMGBUILD_STORE", help="Where images are kept.  [default: ./.imgbuild]"
        ),
    ] = None,
    pki_dir: Annotated[
        Path | None,
        typer.Option(
            "--pki-dir",
            metavar="DIR",
            envvar="IMGBUILD_PKI_DIR",
            help=f"Where the VPN's keys are.  [default: {DEFAULT_DIRECTORY} in the site]",
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="IMGBUILD_CA_PASSPHRASE_FILE",
            help="A file, mode 0600, whose first line opens the CA's key, if it is encrypted.",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say more; libguestfs's own messages go to the log.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but results and errors.")] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=lambda wanted: _print_version(wanted=wanted),
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    ctx.obj = Settings(
        site_directory=directory,
        store=(store or Path(".imgbuild")).absolute(),
        pki_directory=pki_dir or directory / DEFAULT_DIRECTORY,
        ca_passphrase_file=passphrase_file,
        cache_directory=Path(os.environ.get("IMGBUILD_CACHE") or caches / "imgbuild"),
        verbosity="quiet" if quiet else "verbose" if verbose else "normal",
    )


app.command()(recipes.init)
app.command()(recipes.validate)
app.command()(recipes.schema)
app.command()(plan.plan)
app.command()(plan.why)
app.command()(build.build)
app.command(name="list")(images.list_images)
app.command()(images.show)
app.command()(xen.xen)
app.add_typer(one_group.app)
app.command()(diff.diff)
app.command()(verify.verify)
app.command(name="rehearse")(rehearse.rehearse_cluster)
app.command(name="bundle")(bundle.bundle)
app.command(name="unbundle")(unbundle.unbundle_image)
app.add_typer(pki.app)
app.add_typer(ami.app)
app.add_typer(cloud.app)
app.add_typer(cluster.app)
app.command()(doctor.doctor)
app.command()(clean.clean)


def main() -> NoReturn:
    """Run `imgbuild` and exit with its code; every error is one clear message, never a traceback."""
    # A terminated run cleans up just as an interrupted one.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            _fail(_WAS_INTERRUPTED, code)
    except (typer.Abort, KeyboardInterrupt):
        code = _fail(_WAS_INTERRUPTED, _INTERRUPTED)
    except typer.TyperException as error:
        code = _fail(f"{error.format_message()}\n  fix: see `imgbuild --help`, or `imgbuild COMMAND --help`", 2)
    except BrokenPipeError:
        # Whoever read our output has seen enough, as in `imgbuild plan | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except ImgbuildError as error:
        code = _fail(str(error), error.exit_code)
    except OSError as error:
        code = _fail(str(_host_error(error)), HostError.exit_code)
    sys.exit(code)


def _host_error(error: OSError) -> HostError:
    if error.errno == errno.ENOSPC:
        fix = "make room, or choose another store with --store or IMGBUILD_STORE"
        return HostError("the disk is full", where=error.filename, fix=fix)
    return HostError(error.strerror or str(error), where=error.filename)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> int:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text("imgbuild: ", "bold red"), Text(message), sep="")
    return code
