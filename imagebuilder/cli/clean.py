"""`imgbuild clean`: frees what earlier builds take up."""

from typing import Annotated

import typer

from imagebuilder.cli.bench import say
from imagebuilder.cli.settings import Settings
from imagebuilder.image.store import Store
from imagebuilder.xen.boot_files import superseded_boot_files


def clean(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be removed.")] = False,
) -> None:
    """Remove from the store every build that is not the current one, the bases that no current image needs, and kernels
    that no Xen guest is started with.

    A build that a machine has run on, and that was then built anew, stays: what the machine wrote is in it.
    """
    settings: Settings = ctx.obj
    store = Store(root=settings.store)
    homes = [*store.root.glob("images/*/*"), *store.root.glob("bases"), *store.root.glob("artifacts/xen/boot")]
    with store.locked(homes, on_wait=lambda home: say(settings, f"wait for the build of {home.name}")):
        superseded = [*superseded_boot_files(store), *store.superseded()]
        for directory in superseded:
            size = sum(file.stat().st_blocks for file in directory.iterdir()) * 512
            typer.echo(f"{'would remove' if dry_run else 'removed'} {directory} ({size / (1 << 20):.1f} MiB)")
            if not dry_run:
                store.remove(directory)
