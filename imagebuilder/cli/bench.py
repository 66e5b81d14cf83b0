"""Sets up what a run works with: the store, libguestfs's back end, the log, the VPN's credentials."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from rich.console import Console

from imagebuilder.cli.progress import show_steps
from imagebuilder.cli.settings import Settings
from imagebuilder.edits.edit import Machine, VpnCredentials
from imagebuilder.host.accelerator import Accelerator, appliance_environment, probe_accelerator
from imagebuilder.image.bases import Bench
from imagebuilder.image.store import Store, make_directory
from imagebuilder.pki import (
    Authority,
    Purpose,
    ensure_credentials,
    list_troubles,
    open_authority,
    read_passphrase,
)
from imagebuilder.site import Site

_MOST_LOG_BYTES = 8 << 20


@contextmanager
def open_bench(settings: Settings) -> Iterator[Bench]:
    """What the effects of one run need; its steps are shown as they begin."""
    log = _open_log(settings.store / "log")
    with show_steps(settings) as shown:
        yield Bench(
            store=Store(root=settings.store),
            environment=_environment_chooser(settings),
            log=log,
            on_step=shown.begin,
            verbose=settings.verbosity == "verbose",
        )


@contextmanager
def open_reading_bench(settings: Settings, verb: str) -> Iterator[Bench]:
    """What a verb works with that only reads: it writes nothing into the store, which may be another user's."""
    settings.cache_directory.mkdir(parents=True, exist_ok=True)
    log = settings.cache_directory / f"{verb}.log"
    log.write_bytes(b"")
    with show_steps(settings) as shown:
        yield Bench(
            store=Store(root=settings.store),
            environment=lambda: appliance_environment(probe_accelerator(settings.cache_directory)),
            log=log,
            on_step=shown.begin,
            verbose=settings.verbosity == "verbose",
        )


def _environment_chooser(settings: Settings) -> Callable[[], Mapping[str, str]]:
    """libguestfs's environment; KVM is tried when the first appliance is about to start, and its lack said once."""

    @cache
    def choose() -> Mapping[str, str]:
        return appliance_environment(find_accelerator(settings))

    return choose


def find_accelerator(settings: Settings) -> Accelerator:
    """How guests run on this machine; says it if they are emulated."""
    accelerator = probe_accelerator(settings.cache_directory)
    if accelerator.name == "tcg":
        say(settings, f"{accelerator.reason}; guests are emulated, which is slower")
    return accelerator


def _open_log(directory: Path) -> Path:
    make_directory(directory)
    log = directory / "imgbuild.log"
    if log.exists() and log.stat().st_size > _MOST_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    return log


def say(settings: Settings, message: str) -> None:
    """Tell the user something beside the result, on standard error."""
    if settings.verbosity != "quiet":
        Console(stderr=True, highlight=False, markup=False).print(f"imgbuild: {message}", soft_wrap=True)


def vpn_needs(site: Site, machines: Sequence[Machine]) -> dict[str, Purpose]:
    """The certificates that the machines need: name and purpose."""
    return {machine.name: purpose for machine in machines if (purpose := site.vpn_purpose(machine)) is not None}


def make_credentials(site: Site, machines: Sequence[Machine], settings: Settings) -> dict[str, VpnCredentials]:
    """The credentials of each machine on the VPN, made if they are missing; warns of what ends soon."""
    needs = vpn_needs(site, machines)
    directory = settings.pki_directory
    now = datetime.now(UTC)
    if needs:
        passphrase = read_passphrase(settings.ca_passphrase_file) if settings.ca_passphrase_file else None
        ensure_credentials(directory, site.cluster.recipe.name, needs, now, passphrase=passphrase)
    return _read_credentials(directory, needs, now, settings) if needs else {}


def known_credentials(site: Site, machines: Sequence[Machine], settings: Settings) -> dict[str, VpnCredentials]:
    """The credentials that exist already; a verb that only reads makes none."""
    needs = vpn_needs(site, machines)
    directory = settings.pki_directory
    now = datetime.now(UTC)
    if not needs or not directory.is_dir():
        return {}
    issued = {status.name for status in open_authority(directory).status(now)}
    return _read_credentials(directory, {name: needs[name] for name in needs if name in issued}, now, settings)


def _read_credentials(
    directory: Path, needs: Mapping[str, Purpose], now: datetime, settings: Settings
) -> dict[str, VpnCredentials]:
    authority: Authority = open_authority(directory)
    for trouble in list_troubles(authority.status(now), needed=needs):
        say(settings, trouble)
    return {name: authority.vpn_credentials(name) for name in needs}
