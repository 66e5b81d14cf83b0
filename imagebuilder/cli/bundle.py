"""`imgbuild bundle`: makes a finished image ready for EC2, and registers it there."""

import json
import time
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from imagebuilder.cli.ami import Region
from imagebuilder.cli.bench import open_bench, say
from imagebuilder.cli.classic_bundle import (
    BucketWord,
    Cert,
    Ec2Cert,
    Key,
    KeyPassphrase,
    Options,
    Output,
    Replace,
    Small,
    User,
    make_order,
    make_request,
    part,
    write_to_directory,
)
from imagebuilder.cli.images import select_image
from imagebuilder.cli.progress import show_steps
from imagebuilder.cli.seals import Seal, seal_image
from imagebuilder.cli.settings import Settings
from imagebuilder.ec2.account import Account, open_account
from imagebuilder.ec2.ami import NOTHING, ami_name
from imagebuilder.ec2.block_sender import Coverage, Progress
from imagebuilder.ec2.bundle import Bundle
from imagebuilder.ec2.images import Encryption
from imagebuilder.ec2.preflight import price_words
from imagebuilder.ec2.publish import Order, Watch, publish_on_ebs
from imagebuilder.ec2.publish_bundle import BundleOrder, publish_as_bundle
from imagebuilder.ec2.records import Record, Records
from imagebuilder.ec2.retry import RetryBudget
from imagebuilder.errors import CheckError, UsageError
from imagebuilder.image.store import Image, Store
from imagebuilder.site import load_site

_FINDINGS = 1


class _Format(StrEnum):
    ebs = "ebs"
    instance_store = "instance-store"


def bundle(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    word: Annotated[str, typer.Argument(metavar="ROLE|NAME", help="Which finished image.")],
    *,
    register: Annotated[bool, typer.Option("--register", help="Upload the image, and register it as an AMI.")] = False,
    bundle_format: Annotated[
        _Format,
        typer.Option("--format", help="An EBS snapshot, or a classic bundle in S3 for old instance types."),
    ] = _Format.ebs,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The AMI's name.  [default: cluster, image and key]")
    ] = None,
    region: Region = None,
    full: Annotated[bool, typer.Option("--full", help="Send all blocks, whatever the account has already.")] = False,
    omit_zeros: Annotated[
        bool, typer.Option("--omit-zeros", help="Do not send blocks of zeros; never of an encrypted snapshot.")
    ] = False,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Encrypt the snapshot.")] = False,
    kms_key: Annotated[
        str | None, typer.Option("--kms-key", metavar="ARN", help="With this key; implies --encrypt.")
    ] = None,
    deprecate_after: Annotated[
        int | None,
        typer.Option("--deprecate-after", metavar="DAYS", min=1, help="Have EC2 call the AMI outdated after that."),
    ] = None,
    output: Output = None,
    user: User = None,
    cert: Cert = None,
    key: Key = None,
    key_passphrase_file: KeyPassphrase = None,
    ec2cert: Ec2Cert = None,
    bucket: BucketWord = None,
    small: Small = False,
    replace: Replace = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Inspect the image and ask what is allowed; make nothing.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Inspect a finished image for EC2, keep a signed report, and with --register make an AMI of it.

    The inspection takes one appliance, once for each build of an image. An image with a finding is not registered.

    The same image is registered once: again, the command prints the AMI that is there. A run that was killed is gone
    on with; one that fails or is interrupted removes what it has made, or exits with 7 and lists what it could not.
    See docs/ami.md.

    With --format instance-store the image becomes a classic bundle, as ec2-bundle-image makes it: written into a
    directory (--output), or registered from S3 (--register --bucket). See docs/bundle.md.
    """
    settings: Settings = ctx.obj
    classic = Options(
        output=output,
        user=user,
        cert=cert,
        key=key,
        key_passphrase_file=key_passphrase_file,
        ec2cert=ec2cert,
        bucket=bucket,
        is_small=small,
        may_replace=replace,
    )
    is_classic = bundle_format is _Format.instance_store
    if not is_classic and classic.given():
        raise UsageError(f"{classic.given()[0]} is of a classic bundle", fix="add --format instance-store")
    cluster = load_site(settings.site_directory).cluster.recipe
    image = select_image(Store(root=settings.store), word)
    request = make_request(image, name, classic) if is_classic else None  # a missing option is said at once
    account = open_account(region, RetryBudget()) if register else None
    seal = _seal(image, settings)
    if request is not None and seal.boot_mode == "uefi":
        raise UsageError("it boots by UEFI only, which an instance-store AMI cannot", where=image.name)
    if account is None:
        if request is None:
            _print_seal(seal, image, json_output=json_output)
            raise typer.Exit(_FINDINGS if seal.findings else 0)
        made = write_to_directory(image, request, classic, settings, is_dry_run=dry_run)
        _print_bundle(made, seal, classic, settings, json_output=json_output)
        return
    _refuse_findings(seal, image)
    default = ami_name(image, cluster) + ("-bundle" if is_classic else "")
    order = Order(
        image=image,
        cluster=cluster,
        name=name or default,
        boot_mode=seal.boot_mode,
        carries=", ".join(sorted({str(secret["kind"]) for secret in seal.secrets})) or NOTHING,
        coverage=_coverage(seal, omit_zeros=omit_zeros),
        encryption=Encryption(kms_key=kms_key) if encrypt or kms_key else None,
        is_full=full,
        is_dry_run=dry_run,
        deprecate_at=None if deprecate_after is None else datetime.now(UTC) + timedelta(days=deprecate_after),
    )
    bundling = None if request is None else make_order(request, account.region, classic)
    record = _publish(order, bundling, account, settings)
    if record is None:
        say(settings, f"nothing was made; would register {order.name}")
        return
    _print_record(record, settings, json_output=json_output)


def describe_record(record: Record) -> dict[str, object]:
    """What was registered, as plain values: the stable contract of `imgbuild bundle --register --json`.

    `bytes_sent` and `blocks_sent` are those of this run: 0 if the AMI was there already.
    """
    return {
        "ami": record.ami,
        "snapshot": record.snapshot,
        "name": record.name,
        "region": record.region,
        "bytes_sent": record.bytes_sent,
        "blocks_sent": record.blocks_sent,
        "seconds": record.seconds,
    }


def _seal(image: Image, settings: Settings) -> Seal:
    with open_bench(settings) as bench:
        return seal_image(image, bench, settings)


def _refuse_findings(seal: Seal, image: Image) -> None:
    if seal.findings:
        for finding in seal.findings:
            typer.echo(finding, err=True)
        fix = f"mend them in the recipes and build again; the whole report is {seal.path}"
        raise CheckError(f"{len(seal.findings)} findings: not registered", where=image.name, fix=fix)


def _coverage(seal: Seal, *, omit_zeros: bool) -> Coverage:
    """Which blocks to send. Only ext4 is known to be content with noise where nothing was written (docs/ami.md)."""
    if seal.root_file_system != "ext4":
        return "everything"
    return "nonzero" if omit_zeros else "allocated"


def _publish(order: Order, bundling: BundleOrder | None, account: Account, settings: Settings) -> Record | None:
    store = Store(root=settings.store)
    records = Records.of(store, account.region)
    with (
        store.locked([records.directory], on_wait=lambda _: say(settings, "wait for another run of this region")),
        show_steps(settings) as shown,
    ):
        began = time.monotonic()

        def tell(progress: Progress) -> None:
            seconds = time.monotonic() - began
            speed = progress.bytes_sent / 1e6 / seconds if seconds else 0.0
            sent = f"{progress.bytes_sent / 1e6:,.0f} MB sent, {speed:.0f} MB/s"
            shown.advance(f"{part(progress.done, progress.total)}, {sent}")

        watch = Watch(
            on_step=shown.begin,
            say=lambda sentence: say(settings, sentence),
            on_estimate=lambda costs: say(settings, f"to send: {price_words(costs)}"),
            on_progress=tell,
            on_bytes=lambda done, whole: shown.advance(part(done, whole)),
        )
        if bundling is None:
            return publish_on_ebs(order, account, records, watch)
        return publish_as_bundle(order, bundling, account, records, watch)


def _print_bundle(made: Bundle | None, seal: Seal, options: Options, settings: Settings, *, json_output: bool) -> None:
    for finding in seal.findings:
        say(settings, str(finding))
    if made is None:
        say(settings, "nothing was made")
        return
    manifest = options.output / made.manifest_file if options.output else made.manifest_file
    if json_output:
        row = {
            "manifest": str(manifest),
            "name": made.manifest.name,
            "parts": len(made.manifest.parts),
            "size_bytes": made.manifest.size_bytes,
            "bundled_bytes": made.manifest.bundled_bytes,
            "seal": str(seal.path),
        }
        typer.echo(json.dumps(row, indent=2))
        return
    typer.echo(manifest)
    say(settings, f"{len(made.manifest.parts)} parts, {made.manifest.bundled_bytes / 1e6:,.0f} MB")


def _print_seal(seal: Seal, image: Image, *, json_output: bool) -> None:
    if json_output:
        typer.echo(json.dumps(seal.report.content, indent=2))
        return
    for finding in seal.findings:
        typer.echo(finding)
    for secret in seal.secrets:
        typer.echo(f"carries  {secret['path']}  ({secret['kind']}, {secret['mode']}, {secret['fingerprint']})")
    outcome = f"{len(seal.findings)} findings" if seal.findings else "fit for EC2"
    typer.echo(f"{image.name}  {outcome}, boots by {seal.report.content['boot_mode']}; the report is {seal.path}")


def _print_record(record: Record, settings: Settings, *, json_output: bool) -> None:
    if json_output:
        typer.echo(json.dumps(describe_record(record), indent=2))
        return
    typer.echo(f"{record.ami}  {record.name}  {record.region}  {record.snapshot}")
    if record.bytes_sent:
        sent = f"{record.blocks_sent:,} blocks, {record.bytes_sent / 1e6:,.1f} MB in {record.seconds:.0f} s"
        say(settings, f"sent {sent}; next: `imgbuild ami list`, `imgbuild ami prune`")
    else:
        say(settings, "it was registered already, or all its blocks were there")
