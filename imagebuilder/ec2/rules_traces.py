"""The rules by which each instance becomes a machine of its own, and tells nothing of those before it. Pure."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from imagebuilder.ec2.evidence import Evidence
from imagebuilder.ec2.rule import Rule
from imagebuilder.plan.listing import Kind

_HOST_KEY = re.compile(r"ssh_host_\w+_key(\.pub)?")
_MACHINE_ID = PurePosixPath("/etc/machine-id")
_MACHINE_IDS_BESIDE = (PurePosixPath("/var/lib/dbus/machine-id"), PurePosixPath("/var/db/dbus/machine-id"))
_SEEDS = (
    PurePosixPath("/var/lib/systemd/random-seed"),
    PurePosixPath("/var/lib/urandom/random-seed"),
    PurePosixPath("/boot/loader/random-seed"),
    PurePosixPath("/var/lib/systemd/credential.secret"),  # encrypts what systemd-creds keeps: one for each machine
)

_HOMES = (PurePosixPath("/root"), PurePosixPath("/home"))
_HISTORY = re.compile(r"\.\w*_?history|\.viminfo|\.lesshst|\.wget-hsts|\.sqlite_history|\.rediscli_history")

_LOGS = PurePosixPath("/var/log")
# What a login or a boot writes, in files that are there, and empty, from the beginning.
_LOGIN_LOGS = {"wtmp", "btmp", "lastlog", "auth.log", "syslog", "kern.log", "messages", "secure", "boot.log"}
_JOURNAL = PurePosixPath("/var/log/journal")
_LEASES = (PurePosixPath("/var/lib/dhcp"), PurePosixPath("/var/lib/dhclient"), PurePosixPath("/var/lib/NetworkManager"))

_CLOUD_INIT = PurePosixPath("/var/lib/cloud")
_CLOUD_INIT_LOGS = re.compile(r"cloud-init.*\.log(\..*)?")
_CLOUD_CONFIG = PurePosixPath("/etc/cloud/cloud.cfg")
_CLOUD_DROP_INS = PurePosixPath("/etc/cloud/cloud.cfg.d")
_CLOUD_OFF = PurePosixPath("/etc/cloud/cloud-init.disabled")
_DATASOURCES = re.compile(r"^datasource_list:\s*\[([^\]]*)\]\s*(?:#.*)?$", re.MULTILINE)


def _host_keys(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for path in evidence.files_below(PurePosixPath("/etc/ssh")):
        if _HOST_KEY.fullmatch(path.name):
            yield str(path), "every instance would have this host key"


def _authorized_keys(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for path, _ in evidence.files():
        if path.name.startswith("authorized_keys") and path.parent.name == ".ssh":
            yield str(path), "whoever has one of these keys could log in to every instance"


def _machine_id(evidence: Evidence) -> Iterator[tuple[str, str]]:
    entry = evidence.listing.get(_MACHINE_ID)
    if entry is None:
        # machine-id(5): systemd then enables every unit by preset.
        yield str(_MACHINE_ID), "is not there, so that systemd would enable every unit at the first boot"
    elif entry.kind is not Kind.FILE or entry.size:
        yield str(_MACHINE_ID), "is not empty: every instance would have this id"
    for path in _MACHINE_IDS_BESIDE:
        beside = evidence.listing.get(path)
        if beside is not None and beside.kind is Kind.FILE and beside.size:
            yield str(path), "is not empty: every instance would have this id"


def _random_seed(evidence: Evidence) -> Iterator[tuple[str, str]]:
    return ((str(path), "every instance would begin with it") for path in _SEEDS if path in evidence.listing)


def _history(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for home in _HOMES:
        for path in evidence.files_below(home):
            if _HISTORY.fullmatch(path.name) or (path.parent.name == ".ssh" and path.name.startswith("known_hosts")):
                yield str(path), "tells what somebody did on this machine"


def _past_boots(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for path in evidence.files_below(_LOGS):
        entry = evidence.listing[path]
        is_log = path.name.partition(".")[0] in _LOGIN_LOGS or path.name in _LOGIN_LOGS
        if path.is_relative_to(_JOURNAL) or (is_log and path.parent == _LOGS and entry.size):
            yield str(path), "is from a machine that ran: the image is not as it was built"
    for directory in _LEASES:
        for path in evidence.files_below(directory):
            if path.name.endswith((".lease", ".leases")) and evidence.listing[path].size:
                yield str(path), "has the address of a machine that ran"


def _cloud_init_state(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for path in evidence.files_below(_CLOUD_INIT):
        yield str(path), "cloud-init would take the instance for one that it has set up already"
    for path in evidence.files_below(_LOGS):
        if _CLOUD_INIT_LOGS.fullmatch(path.name):
            yield str(path), "is of another instance"


def _datasource(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """cloud-init reads cloud.cfg, then its drop-ins by name: the last that says it counts."""
    if _CLOUD_CONFIG not in evidence.listing or _CLOUD_OFF in evidence.listing:
        return
    drop_ins = sorted(path for path in evidence.files_below(_CLOUD_DROP_INS) if path.suffix == ".cfg")
    said = [
        (path, match.group(1))
        for path in (_CLOUD_CONFIG, *drop_ins)
        for match in _DATASOURCES.finditer(evidence.text(path) or "")
    ]
    where, names = said[-1] if said else (_CLOUD_CONFIG, "")
    listed = {name.strip(" \"'") for name in names.split(",")} - {""}
    if not listed or listed - {"Ec2", "None"}:
        asks = ", ".join(sorted(listed)) or "whatever it finds"
        yield str(where), f"cloud-init takes orders from {asks}: on EC2 only EC2 has any to give"


RULES = (
    Rule(
        name="host-keys",
        proves="no ssh host key is in the image: each instance makes its own",
        fix="use the edit `identity`, which removes them",
        troubles=_host_keys,
    ),
    Rule(
        name="authorized-keys",
        proves="nobody can log in by ssh but with the key that the instance is started with",
        fix="remove the file from the base or the overlay that brings it",
        troubles=_authorized_keys,
    ),
    Rule(
        name="machine-id",
        proves="each instance makes its own machine id",
        fix="use the edit `identity`, which empties /etc/machine-id",
        troubles=_machine_id,
    ),
    Rule(
        name="random-seed",
        proves="no two instances begin with the same random numbers or the same key",
        fix="use the edit `identity`, which removes the seed; remove the others from the base",
        troubles=_random_seed,
    ),
    Rule(
        name="history",
        proves="no shell or editor has left in a home directory what was done",
        fix="remove the file from the base or the overlay that brings it",
        troubles=_history,
    ),
    Rule(
        name="past-boots",
        proves="no machine has run from this image: there is no journal, no login and no lease",
        fix="build the image again",
        troubles=_past_boots,
    ),
    Rule(
        name="cloud-init-state",
        proves="cloud-init takes each instance for a new one",
        fix="run `cloud-init clean --logs` in the base, or build the image again",
        troubles=_cloud_init_state,
    ),
    Rule(
        name="datasource",
        proves="cloud-init, if there is one, listens to EC2 alone",
        fix="use the edit `cloud_identity`, or write datasource_list: [Ec2] to a file in /etc/cloud/cloud.cfg.d",
        troubles=_datasource,
    ),
)
