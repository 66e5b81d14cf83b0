"""Inspects finished images before they go to EC2, and keeps the signed reports."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from imagebuilder.cli.settings import Settings
from imagebuilder.ec2.ami import BootMode
from imagebuilder.ec2.inspect_image import inspect_image
from imagebuilder.ec2.seal import Finding
from imagebuilder.ec2.seal_report import REPORT, SealReport, make_report, read_report, write_report
from imagebuilder.errors import BuildError, HostError
from imagebuilder.image.bases import Bench
from imagebuilder.image.store import Image, make_directory
from imagebuilder.pki import ensure_signing_key, read_verifying_key


@dataclass(frozen=True, kw_only=True)
class Seal:
    """What the signed report of an image says, and where it is."""

    path: Path
    report: SealReport

    @property
    def boot_mode(self) -> BootMode:
        """What the image is registered with. Raises BuildError if it boots by no firmware."""
        for mode in get_args(BootMode):
            if self.report.content["boot_mode"] == mode:
                return mode  # type: ignore[no-any-return]
        raise BuildError("boots neither by BIOS nor by UEFI", where=self.path, fix="give the base a boot loader")

    @property
    def root_file_system(self) -> str:
        """Its type, as `mount -t` names it."""
        return str(self.report.content["root_file_system"])

    @property
    def secrets(self) -> Sequence[Mapping[str, object]]:
        """The secrets that the image carries because it was built to."""
        return self.report.content["secrets"]  # type: ignore[return-value]

    @property
    def findings(self) -> list[Finding]:
        """What speaks against the image."""
        return [
            Finding(rule=rule["name"], **finding)
            for rule in self.report.content["rules"]  # type: ignore[attr-defined]
            for finding in rule["findings"]
        ]


def seal_image(image: Image, bench: Bench, settings: Settings) -> Seal:
    """Inspect the image, and keep the report; one that was inspected since it was built is not inspected again."""
    directory = bench.store.root / "artifacts" / "seal" / f"{image.name}-{image.key[:12]}"
    known = _known_report(image, directory, settings)
    if known is not None:
        return Seal(path=directory / REPORT, report=known)
    evidence = inspect_image(image, bench)
    key = ensure_signing_key(settings.pki_directory)
    make_directory(directory)
    report = make_report(image, evidence, audience="private", now=datetime.now(UTC), signer=key.verifying)
    path = write_report(directory, report, key)
    return Seal(path=path, report=read_report(directory, key.verifying))


def _known_report(image: Image, directory: Path, settings: Settings) -> SealReport | None:
    """The report of just this image, if it is the site's own, and nobody has written to the image since."""
    with suppress(BuildError, HostError):  # no report, or not one of this site
        report = read_report(directory, read_verifying_key(settings.pki_directory))
        is_later = image.disk.stat().st_mtime <= (directory / REPORT).stat().st_mtime
        if report.image_key == image.key and report.audience == "private" and is_later:
            return report
    return None
