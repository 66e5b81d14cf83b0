"""`imgbuild pki`: the certificates of the cluster's VPN."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from imagebuilder.cli.settings import Settings
from imagebuilder.pki import (
    DEFAULT_DIRECTORY,
    Access,
    Authority,
    CertificateStatus,
    init_authority,
    list_troubles,
    open_authority,
    read_passphrase,
)
from imagebuilder.pki.authority import CA_DAYS, CERTIFICATE_DAYS
from imagebuilder.pki.status import WARNING_DAYS
from imagebuilder.secret import Secret

app = typer.Typer(
    name="pki",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Certificates of the VPN: who may join the cluster.

`imgbuild build` makes the CA and the certificates that the recipes need by itself. These commands are for the
rest of their life:

* an end is near: `renew NAME`, build, replace the machines, then `revoke NAME --superseded`, build the server;

* a machine or an image was lost: `renew NAME --revoke-old`, build, replace every machine with that name;

* a name is no longer used: `revoke NAME`, build the server.

A revocation counts where the server has the new list: build its image, or copy crl.pem to the running server;
OpenVPN reads it again at the next connection.

Back the directory up: without ca.key nothing can be renewed. Keep it to yourself: who has ca.key can join.
""",
)


class _PurposeChoice(StrEnum):
    server = "server"
    client = "client"


class _CurveChoice(StrEnum):
    p256 = "P-256"
    p384 = "P-384"


_Name = Annotated[str, typer.Argument(metavar="NAME", help="The host the certificate is for, such as oneserver.")]
_PkiDirectory = Annotated[
    Path | None,
    typer.Option(
        "--pki-dir",
        metavar="DIR",
        envvar="IMGBUILD_PKI_DIR",
        help=f"Where the PKI is.  [default: {DEFAULT_DIRECTORY} in the site directory]",
    ),
]
_PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="IMGBUILD_CA_PASSPHRASE_FILE",
        help="A file, mode 0600, whose first line opens the CA's key. Without it the key is not encrypted.",
    ),
]
_DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Check everything and say what would be done.")]
_CertificateDays = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=f"How long it is valid.  [default: {CERTIFICATE_DAYS}, or for as long as the CA]",
    ),
]


@app.command()
def init(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    *,
    cluster: Annotated[str, typer.Option(metavar="NAME", help="The name the CA gets.")] = "cluster",
    days: Annotated[int, typer.Option(min=1, help="How long the CA is valid.")] = CA_DAYS,
    curve: Annotated[_CurveChoice, typer.Option(help="The curve of all keys.")] = _CurveChoice.p256,
    pki_dir: _PkiDirectory = None,
    passphrase_file: _PassphraseFile = None,
    dry_run: _DryRun = False,
) -> None:
    """Make the CA, an empty revocation list and the tls-crypt key.

    Never overwrites one: every machine of the cluster trusts the CA it was built with.
    """
    authority = init_authority(
        _directory(context, pki_dir),
        cluster,
        now=datetime.now(UTC),
        days=days,
        curve=curve.value,
        passphrase=_passphrase(passphrase_file),
        access=_access(dry_run=dry_run),
    )
    until = authority.certificate.not_valid_after_utc
    _say(f"made the CA of {cluster}, valid until {until:%Y-%m-%d}, in {authority.directory.path}", dry_run=dry_run)


@app.command()
def issue(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    name: _Name,
    *,
    purpose: Annotated[_PurposeChoice, typer.Option("--for", help="Which end of the VPN it is; never both.")],
    days: _CertificateDays = None,
    pki_dir: _PkiDirectory = None,
    passphrase_file: _PassphraseFile = None,
    dry_run: _DryRun = False,
) -> None:
    """Make the first certificate and key of NAME.

    `imgbuild build` does this by itself for the names in the recipes.
    """
    authority = _open(context, pki_dir, passphrase_file, dry_run=dry_run)
    issued = authority.issue(name, purpose.value, now=datetime.now(UTC), days=days)
    _say(f"issued a {issued.purpose} certificate to {name}, valid until {issued.not_after:%Y-%m-%d}", dry_run=dry_run)


@app.command()
def renew(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    name: _Name,
    *,
    days: _CertificateDays = None,
    revoke_old: Annotated[
        bool,
        typer.Option("--revoke-old", help="Refuse the old one from now on; machines built with it drop out."),
    ] = False,
    pki_dir: _PkiDirectory = None,
    passphrase_file: _PassphraseFile = None,
    dry_run: _DryRun = False,
) -> None:
    """Make a new certificate and key for NAME; images get it with the next build.

    The old one stays good until it expires, so that the machines that run go on. When they are replaced, end it
    with `imgbuild pki revoke NAME --superseded`.
    """
    authority = _open(context, pki_dir, passphrase_file, dry_run=dry_run)
    renewed = authority.renew(name, now=datetime.now(UTC), days=days, superseded="revoke" if revoke_old else "keep")
    old = "the old one is revoked" if revoke_old else "the old one stays good until it expires"
    _say(
        f"renewed the {renewed.purpose} certificate of {name}, valid until {renewed.not_after:%Y-%m-%d}; {old}",
        dry_run=dry_run,
    )


@app.command()
def revoke(  # noqa: PLR0913 - one parameter an option
    context: typer.Context,
    name: _Name,
    *,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="Only those that `renew` has replaced; the one in use stays good.")
    ] = False,
    pki_dir: _PkiDirectory = None,
    passphrase_file: _PassphraseFile = None,
    dry_run: _DryRun = False,
) -> None:
    """Refuse every certificate that NAME ever got.

    All workers share one: revoking it shuts all of them out until they are built again after `imgbuild pki renew`.
    """
    authority = _open(context, pki_dir, passphrase_file, dry_run=dry_run)
    revoked = authority.revoke(name, now=datetime.now(UTC), which="superseded" if superseded else "all")
    for entry in revoked:
        _say(f"revoked the {entry.purpose} certificate {entry.serial} of {name}", dry_run=dry_run)
    _hint("It counts once the server has the new list: imgbuild build, or copy crl.pem to the running server.")


@app.command()
def status(
    context: typer.Context,
    *,
    warn_days: Annotated[int, typer.Option(min=0, help="How long before its end one is expiring.")] = WARNING_DAYS,
    need: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name that must have a certificate which is not revoked; repeatable."),
    ] = None,
    pki_dir: _PkiDirectory = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what there is, how long it is valid and what to do about it.

    Exits with 1 if anything in use is expired, expiring or not yet valid, or if a NAME given with --need has no
    certificate or a revoked one. Without --need a revoked one counts as retired on purpose.
    """
    authority = open_authority(_directory(context, pki_dir))
    statuses = authority.status(datetime.now(UTC), warning_days=warn_days)
    troubles = list_troubles(statuses, needed=need or [])
    if as_json:
        shown = {
            "directory": str(authority.directory.path),
            "certificates": [_as_json(row) for row in statuses],
            "troubles": troubles,
        }
        typer.echo(json.dumps(shown, indent=2))
    else:
        Console().print(_table(statuses))
        for trouble in troubles:
            _hint(trouble)
    if troubles:
        raise typer.Exit(1)


def _open(context: typer.Context, pki_dir: Path | None, passphrase_file: Path | None, *, dry_run: bool) -> Authority:
    directory, passphrase = _directory(context, pki_dir), _passphrase(passphrase_file)
    return open_authority(directory, passphrase=passphrase, access=_access(dry_run=dry_run))


def _directory(context: typer.Context, pki_dir: Path | None) -> Path:
    settings: Settings = context.obj
    return pki_dir or settings.pki_directory


def _passphrase(path: Path | None) -> Secret | None:
    return None if path is None else read_passphrase(path)


def _access(*, dry_run: bool) -> Access:
    return "rehearse" if dry_run else "write"


def _table(statuses: tuple[CertificateStatus, ...]) -> Table:
    table = Table("NAME", "PURPOSE", "STATE", "EXPIRES", "DAYS", "SERIAL", box=None, pad_edge=False)
    for row in statuses:
        state = f"{row.state}, superseded" if row.superseded else row.state
        table.add_row(row.name, row.purpose, state, f"{row.not_after:%Y-%m-%d}", str(row.days_left), row.serial[:12])
    return table


def _as_json(status: CertificateStatus) -> dict[str, object]:
    times = {"not_before": status.not_before.isoformat(), "not_after": status.not_after.isoformat()}
    return {**asdict(status), **times}


def _say(text: str, *, dry_run: bool) -> None:
    typer.echo(f"would have {text}" if dry_run else text)


def _hint(text: str) -> None:
    typer.echo(text, err=True)
