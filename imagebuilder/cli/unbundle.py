"""`imgbuild unbundle`: the image of a classic EC2 bundle."""

import json
from pathlib import Path
from typing import Annotated

import typer

from imagebuilder.cli.bench import say
from imagebuilder.cli.progress import show_steps
from imagebuilder.cli.settings import Settings
from imagebuilder.ec2.ciphers import read_certificate, read_private_key
from imagebuilder.ec2.unbundle import OpenedManifest, check_parts, open_manifest, unbundle
from imagebuilder.errors import UsageError
from imagebuilder.pki import read_passphrase


def unbundle_image(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="NAME.manifest.xml, with the parts of the bundle beside it.")
    ],
    *,
    key: Annotated[
        Path, typer.Option(metavar="FILE", help="The private key of who made the bundle: RSA, in PEM, mode 0600.")
    ],
    cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The certificate of who signed the manifest.  [default: the owner of the key]"
        ),
    ] = None,
    key_passphrase_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file, mode 0600, whose first line opens the key, if it is encrypted."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The image to write.  [default: NAME.raw, here]"),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Check the manifest and that all parts are there; write nothing.")
    ] = False,
) -> None:
    """Check a classic EC2 bundle and give its image back, raw and with its holes.

    Checked are the signature of the manifest, the SHA-1 of every part, that of the archive in them, and all sizes. The
    image appears when all is right. Any tool's bundle will do, such as one by ec2-bundle-image.
    """
    settings: Settings = ctx.obj
    passphrase = None if key_passphrase_file is None else read_passphrase(key_passphrase_file)
    owner = read_private_key(key, passphrase)
    opened = open_manifest(manifest, owner, None if cert is None else read_certificate(cert))
    image = (output or Path(f"{opened.manifest.name}.raw")).absolute()
    if image.exists():
        raise UsageError("is there already", where=image, fix="choose another name with --output, or remove it")
    with show_steps(settings) as shown:
        if dry_run:
            check_parts(opened)
        else:
            shown.begin(f"open the bundle {opened.manifest.name}")
            unbundle(opened, image)
    if json_output:
        typer.echo(json.dumps(describe(opened, image), indent=2))
    elif dry_run:
        say(settings, f"would open {len(opened.manifest.parts)} parts and write {image}")
    else:
        typer.echo(image)


def describe(opened: OpenedManifest, image: Path) -> dict[str, object]:
    """A bundle as plain values: the stable contract of `imgbuild unbundle --json`; nothing in it is secret."""
    manifest = opened.manifest
    return {
        "manifest": str(opened.path),
        "name": manifest.name,
        "user": manifest.user,
        "architecture": manifest.architecture,
        "tar_sha1": manifest.tar_sha1,
        "size_bytes": manifest.size_bytes,
        "bundled_bytes": manifest.bundled_bytes,
        "parts": [{"file_name": part.file_name, "sha1": part.sha1} for part in manifest.parts],
        "image": str(image),
    }
