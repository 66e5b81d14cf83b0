"""`imgbuild ami`: the AMIs that were registered, and what can be done with them."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from imagebuilder.cli.bench import say
from imagebuilder.cli.progress import show_steps
from imagebuilder.cli.settings import Settings
from imagebuilder.ec2.account import Account, open_account
from imagebuilder.ec2.ami import CARRIES, IMAGE, NOTHING, Ami, is_own
from imagebuilder.ec2.copy_ami import copy_everywhere
from imagebuilder.ec2.download import read_snapshot
from imagebuilder.ec2.images import (
    Encryption,
    deregister,
    find_ami,
    find_amis,
    share_ami,
    shared_with,
    uses_of,
)
from imagebuilder.ec2.prune import PrunePlan, PruneRules, plan_prune
from imagebuilder.ec2.publish_bundle import remove_bundle
from imagebuilder.ec2.records import Records
from imagebuilder.ec2.retry import RetryBudget
from imagebuilder.ec2.services import open_services
from imagebuilder.ec2.snapshots import find_snapshot, find_snapshots
from imagebuilder.ec2.undo import remove
from imagebuilder.errors import LeftoversError, RemoteError, UsageError
from imagebuilder.image.store import Store
from imagebuilder.recipe.model import nearest
from imagebuilder.site import load_site

app = typer.Typer(
    name="ami",
    no_args_is_help=True,
    help="The AMIs of the cluster's images: list, show, prune, copy, share.",
)

Region = Annotated[
    str | None,
    typer.Option("--region", metavar="REGION", help="The region of AWS.  [default: AWS_REGION, or the profile's]"),
]
_JsonOutput = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]
_AmiWord = Annotated[str, typer.Argument(metavar="AMI|NAME", help="Which one.")]

_ACCOUNT = re.compile(r"[0-9]{12}")


@app.command(name="list")
def list_amis(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Every AMI of the account, not only the cluster's.")
    ] = False,
    region: Region = None,
    json_output: _JsonOutput = False,
) -> None:
    """List the cluster's AMIs, oldest first, a line each; then the snapshots that no AMI has.

    The columns are those of ec2-describe-images: id, name, owner, state, who may use it, architecture and type. A
    snapshot without an AMI is of an upload that is at work, or was killed: the same `imgbuild bundle` goes on with it,
    and `imgbuild ami prune` removes it.
    """
    settings: Settings = ctx.obj
    cluster = _cluster(settings)
    account = open_account(region, RetryBudget())
    amis = find_amis(account, filters={})
    known = {snapshot_id for ami in amis for snapshot_id in ami.snapshot_ids}
    shown = sorted(
        (ami for ami in amis if everything or is_own(ami.tags, cluster)), key=lambda ami: (ami.created_at, ami.id)
    )
    snapshots = [one for one in find_snapshots(account, filters={}) if is_own(one.tags, cluster)]
    unfinished = [one for one in snapshots if one.id not in known]
    if json_output:
        rows = [{"id": one.id, "state": one.state, "image": one.tags[IMAGE]} for one in unfinished]
        typer.echo(json.dumps({"amis": [describe(ami) for ami in shown], "unfinished": rows}, indent=2))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for ami in shown:
        visibility = "public" if ami.is_public else "private"
        machine = ("machine", ami.root_device_type, "hvm")
        table.add_row("IMAGE", ami.id, ami.name, ami.owner_id, ami.state, visibility, ami.architecture, *machine)
    for one in unfinished:
        table.add_row("SNAPSHOT", one.id, one.tags[IMAGE], "", one.state, "no AMI")
    Console(highlight=False, soft_wrap=True, width=200).print(table)


@app.command()
def show(name: _AmiWord, region: Region = None, json_output: _JsonOutput = False) -> None:
    """Show one AMI: its snapshots, its tags, and who may start instances of it."""
    account = open_account(region, RetryBudget())
    ami = _find(account, name)
    accounts = shared_with(account, ami.id)
    if json_output:
        typer.echo(json.dumps({**describe(ami), "shared_with": accounts}, indent=2))
        return
    for key, value in {**describe(ami), "shared_with": accounts}.items():
        match value:
            case dict():
                texts = [f"{tag} = {text}" for tag, text in sorted(value.items())]
            case list() | tuple():
                texts = [str(one) for one in value]
            case _:
                texts = [str(value)]
        for text in texts:
            typer.echo(f"{key.replace('_', ' '):18}{text}")


@app.command()
def fetch(
    ctx: typer.Context,
    name: _AmiWord,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The image to write.  [default: NAME.raw]")
    ] = None,
    region: Region = None,
    dry_run: _DryRun = False,
) -> None:
    """Rebuild the image of an AMI from the blocks of its snapshot: raw, with its holes, each block's SHA-256 checked.

    Blocks that the snapshot lacks are zeros. `qemu-img compare` says whether it is the image that was registered.
    """
    settings: Settings = ctx.obj
    account = open_account(region, RetryBudget())
    ami = _find(account, name)
    path = (output or Path(f"{ami.name}.raw")).absolute()
    if path.exists():
        raise UsageError("is there already", where=path, fix="choose another name with --output, or remove it")
    if len(ami.snapshot_ids) != 1:
        raise UsageError("has no snapshot, or several", where=ami.id, fix="of a classic bundle use `imgbuild unbundle`")
    [snapshot_id] = ami.snapshot_ids
    snapshot = find_snapshot(account, snapshot_id)
    if snapshot is None:
        raise RemoteError("cannot be seen by this account", where=snapshot_id)
    if dry_run:
        typer.echo(f"would write {path}, {snapshot.volume_bytes} bytes")
        return
    client = open_services(account).client
    with show_steps(settings) as shown:
        shown.begin(f"fetch {snapshot_id}")
        read_snapshot(
            client,
            snapshot_id,
            path,
            size_bytes=snapshot.volume_bytes,
            on_progress=lambda progress: shown.advance(f"{progress.done:,} of {progress.total:,} blocks"),
        )
    typer.echo(path)


@app.command()
def prune(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    *,
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=0, help="How many AMIs of each image stay.")] = 3,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also snapshots of uploads begun less than an hour ago.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    region: Region = None,
    dry_run: _DryRun = False,
    json_output: _JsonOutput = False,
) -> None:
    """Remove the cluster's earlier AMIs with their snapshots, and snapshots that a killed run has left.

    Says first what goes and what stays, and asks. Never touches an AMI that an instance or a launch template uses, nor
    anything that imgbuild has not made for this cluster, which its tags say.
    """
    settings: Settings = ctx.obj
    cluster = _cluster(settings)
    account = open_account(region, RetryBudget())
    amis = find_amis(account, filters={})
    uses = uses_of(account, [ami.id for ami in amis if is_own(ami.tags, cluster)])
    rules = PruneRules(cluster=cluster, keep=keep, unfinished=unfinished)
    plan = plan_prune(amis, find_snapshots(account, filters={}), rules, uses=uses, now=datetime.now(UTC))
    if json_output:
        typer.echo(json.dumps(describe_prune(plan), indent=2))
    else:
        _print_prune(plan)
    if dry_run or not (plan.removals or plan.orphans):
        return
    if not yes:
        _confirm("Remove these?")
    _prune(account, plan, settings)


def _prune(account: Account, plan: PrunePlan, settings: Settings) -> None:
    records = Records.of(Store(root=settings.store), account.region)
    uses = uses_of(account, [removal.ami.id for removal in plan.removals])  # somebody may have started one meanwhile
    for removal in plan.removals:
        if removal.ami.id in uses:
            say(settings, f"{removal.ami.id} stays: now used by {uses[removal.ami.id]}")
            continue
        deregister(account, removal.ami.id)
        _remove_snapshots(account, removal.snapshot_ids, f"{removal.ami.id} is gone, but not all of its snapshots")
        if removal.has_bundle:
            remove_bundle(removal.ami, account)
        records.forget(removal.ami.id)
    _remove_snapshots(account, [one.id for one in plan.orphans], "not all snapshots could be removed")


def _remove_snapshots(account: Account, ids: Sequence[str], trouble: str) -> None:
    leftovers = remove(account, ids)
    if leftovers:
        raise LeftoversError(trouble, leftovers=leftovers)


@app.command()
def copy(  # noqa: PLR0913 - one parameter an option
    ctx: typer.Context,
    name: _AmiWord,
    *,
    to: Annotated[list[str], typer.Option("--to", metavar="REGION", help="Where to; may be given several times.")],
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Encrypt the copy's snapshot.")] = False,
    kms_key: Annotated[
        str | None, typer.Option("--kms-key", metavar="KEY", help="With this key; implies --encrypt.")
    ] = None,
    region: Region = None,
    dry_run: _DryRun = False,
    json_output: _JsonOutput = False,
) -> None:
    """Copy an AMI to other regions, with its name and tags, and wait until instances can be started of the copies.

    If one copy fails, the others that this run began are removed again.
    """
    settings: Settings = ctx.obj
    account = open_account(region, RetryBudget())
    ami = _find(account, name)
    encryption = Encryption(kms_key=kms_key) if encrypt or kms_key else None
    targets = [account.in_region(one) for one in dict.fromkeys(to)]
    for target in targets:
        if target.region == account.region and encryption is None:
            raise UsageError(f"{ami.id} is in {account.region} already", fix="name another region with --to")
        if find_amis(target, filters={"name": [ami.name]}):
            fix = "it may be a copy made before; remove it first to make it anew"
            raise UsageError(f"there is an AMI named '{ami.name}' in {target.region}", fix=fix)
    if dry_run:
        for target in targets:
            typer.echo(f"would copy {ami.id} to {target.region}")
        return
    copies = copy_everywhere(ami, targets, encryption, on_step=lambda step: say(settings, step))
    if json_output:
        typer.echo(json.dumps([describe(one) for one in copies], indent=2))
        return
    for one in copies:
        typer.echo(f"{one.region}  {one.id}  {one.name}")


@app.command()
def share(  # noqa: PLR0913 - one parameter an option
    name: _AmiWord,
    accounts: Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]…", help="12 digits each.")] = None,
    *,
    public: Annotated[bool, typer.Option("--public", help="With everybody.")] = False,
    remove_: Annotated[bool, typer.Option("--remove", help="No longer, rather than from now on.")] = False,
    region: Region = None,
    dry_run: _DryRun = False,
) -> None:
    """Let other accounts start instances of an AMI, or everybody.

    An AMI with a secret in it, such as a worker's with the cluster's VPN key, is never shared: who can start an
    instance of it has the key. To no longer share one is always allowed.
    """
    wanted = [*(accounts or []), *(["all"] if public else [])]
    for one in accounts or []:
        if not _ACCOUNT.fullmatch(one):
            raise UsageError(f"'{one}' is no account of AWS", fix="write its 12 digits")
    if not wanted:
        raise UsageError("with whom?", fix="name accounts, or use --public")
    account = open_account(region, RetryBudget())
    ami = _find(account, name)
    carries = ami.tags.get(CARRIES)
    if carries != NOTHING and not remove_:
        what = f"carries {carries}" if carries else "may carry secrets: it has no tag that says it does not"
        raise UsageError(what, where=ami.id, fix="share an image that has no edit with secrets")
    change: Literal["Add", "Remove"] = "Remove" if remove_ else "Add"
    if not dry_run:
        share_ami(account, ami.id, wanted, change=change)
    done = {"Add": "shared with", "Remove": "no longer shared with"}[change]
    typer.echo(f"{'would be ' if dry_run else ''}{ami.id} {done} {', '.join(wanted)}")


def describe(ami: Ami) -> dict[str, object]:
    """An AMI as plain values: the stable contract of `imgbuild ami show --json`."""
    return {**asdict(ami), "snapshot_ids": list(ami.snapshot_ids)}


def describe_prune(plan: PrunePlan) -> dict[str, object]:
    """What goes and what stays, as plain values: the stable contract of `imgbuild ami prune --json`."""
    return {
        "remove": [
            {
                "ami": removal.ami.id,
                "name": removal.ami.name,
                "snapshots": list(removal.snapshot_ids),
                "has_bundle": removal.has_bundle,
            }
            for removal in plan.removals
        ],
        "orphans": [snapshot.id for snapshot in plan.orphans],
        "keep": [asdict(kept) for kept in plan.kept],
    }


def _print_prune(plan: PrunePlan) -> None:
    for kept in plan.kept:
        typer.echo(f"keep    {kept.id}  ({kept.why})")
    for removal in plan.removals:
        things = [*removal.snapshot_ids, *([f"the bundle {removal.ami.location}"] if removal.has_bundle else [])]
        with_them = f" with {', '.join(things)}" if things else ""
        typer.echo(f"remove  {removal.ami.id}  {removal.ami.name}, of {removal.ami.created_at}{with_them}")
    for snapshot in plan.orphans:
        typer.echo(f"remove  {snapshot.id}  (no AMI has it; begun {snapshot.started_at.isoformat(timespec='seconds')})")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("there is nobody to ask", fix="look with --dry-run, then use --yes")
    typer.confirm(question, abort=True, err=True)


def _cluster(settings: Settings) -> str:
    return load_site(settings.site_directory).cluster.recipe.name


def _find(account: Account, word: str) -> Ami:
    """The AMI that `word` names by its id or by its name. Raises UsageError if there is none."""
    if word.startswith("ami-"):
        return find_ami(account, word)
    found = find_amis(account, filters={"name": [word]})
    if not found:
        known = [ami.name for ami in find_amis(account, filters={})]
        what = f"there is no AMI '{word}' in {account.region}.{nearest(word, known)}"
        raise UsageError(what, fix="see `imgbuild ami list`")
    return found[0]
