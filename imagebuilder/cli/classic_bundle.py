"""The classic format of `imgbuild bundle`: parts and a manifest, in a directory or in S3."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from imagebuilder.cli.progress import show_steps
from imagebuilder.cli.settings import Settings
from imagebuilder.ec2.bucket import BucketPlace
from imagebuilder.ec2.bundle import Bundle, BundleRequest, check_request, write_bundle
from imagebuilder.ec2.bundle_directory import Existing, open_bundle_directory
from imagebuilder.ec2.ciphers import read_certificate, read_pair
from imagebuilder.ec2.publish_bundle import BundleOrder
from imagebuilder.errors import UsageError
from imagebuilder.image.disk_reader import open_disk
from imagebuilder.image.store import Image
from imagebuilder.pki import read_passphrase

T = TypeVar("T")

# The environment variables are those of Amazon's own tools.
Output = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="Classic: write parts and manifest into this directory.")
]
User = Annotated[
    str | None,
    typer.Option("--user", metavar="ACCOUNT", envvar="EC2_USER_ID", help="Classic: the account, 12 digits."),
]
Cert = Annotated[
    Path | None, typer.Option("--cert", metavar="FILE", envvar="EC2_CERT", help="Classic: your X.509 certificate.")
]
Key = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", envvar="EC2_PRIVATE_KEY", help="Classic: its key: RSA, in PEM, mode 0600."),
]
KeyPassphrase = Annotated[
    Path | None,
    typer.Option(
        "--key-passphrase-file", metavar="FILE", help="Classic: a file, mode 0600, whose first line opens the key."
    ),
]
Ec2Cert = Annotated[
    Path | None, typer.Option("--ec2cert", metavar="FILE", help="Classic: EC2's certificate for the region.")
]
BucketWord = Annotated[
    str | None,
    typer.Option("--bucket", metavar="BUCKET[/PREFIX]", help="Classic: where in S3, with --register."),
]
Small = Annotated[bool, typer.Option("--small", help="Classic: compress better, which takes five times as long.")]
Replace = Annotated[bool, typer.Option("--replace", help="Classic: replace a bundle of the same name.")]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the options of the classic format say."""

    output: Path | None
    user: str | None
    cert: Path | None
    key: Path | None
    key_passphrase_file: Path | None
    ec2cert: Path | None
    bucket: str | None
    is_small: bool
    may_replace: bool

    def given(self) -> list[str]:
        """The options that were given: for another format they are a mistake."""
        named = {"--output": self.output, "--bucket": self.bucket}
        return [name for name, value in named.items() if value is not None]


def make_request(image: Image, name: str | None, options: Options) -> BundleRequest:
    """What is to be bundled for whom. Raises UsageError if an option is missing, and HostError for an unfit key."""
    passphrase = None if options.key_passphrase_file is None else read_passphrase(options.key_passphrase_file)
    cert, key = _needed(options.cert, "--cert"), _needed(options.key, "--key")
    owner = read_pair(certificate=cert, key=key, passphrase=passphrase)
    fix = "Amazon's tools have it as cert-ec2.pem, and one more for each region that came later; give it by --ec2cert"
    return BundleRequest(
        name=name or image.name,
        user=_needed(options.user, "--user"),
        owner=owner,
        ec2=read_certificate(_needed(options.ec2cert, "--ec2cert", fix)),
        effort="small" if options.is_small else "fast",
    )


def make_order(request: BundleRequest, region: str, options: Options) -> BundleOrder:
    """Where the bundle goes in S3. Raises UsageError if that is not said."""
    bucket, _, prefix = _needed(options.bucket, "--bucket").partition("/")
    certificates = [_needed(options.cert, "--cert"), _needed(options.ec2cert, "--ec2cert")]
    identity = hashlib.sha256(b"\0".join(path.read_bytes() for path in certificates)).hexdigest()
    place = BucketPlace(bucket=bucket, prefix=prefix.strip("/"), region=region, account=request.user)
    return BundleOrder(request=request, place=place, identity=identity, may_replace=options.may_replace)


def write_to_directory(
    image: Image, request: BundleRequest, options: Options, settings: Settings, *, is_dry_run: bool
) -> Bundle | None:
    """The bundle, written into the directory that --output names; None of a dry run."""
    output = _needed(options.output, "--output", "or have it registered, with --register and --bucket")
    with open_disk(image.disk, image.format) as disk, show_steps(settings) as shown:
        check_request(request, disk.size_bytes)
        if is_dry_run:
            return None
        shown.begin(f"bundle {image.name}")
        existing: Existing = "replace" if options.may_replace else "refuse"
        with open_bundle_directory(output, request.name, existing=existing) as sink:
            return write_bundle(disk, request, sink, on_progress=lambda done, whole: shown.advance(part(done, whole)))


def part(done: int, whole: int) -> str:
    """How much of an image is done, in words."""
    return f"{done / whole if whole else 1:.0%}"


def _needed(value: T | None, option: str, fix: str | None = None) -> T:
    if value is None:
        raise UsageError(f"a classic bundle needs {option}", fix=fix or "see `imgbuild bundle --help`")
    return value
