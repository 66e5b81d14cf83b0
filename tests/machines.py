"""Bases, sites and plans for tests: real facts about Debian 12, no image behind them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePosixPath

import yaml

from imagebuilder.edits.edit import Machine, VpnCredentials
from imagebuilder.plan.changes import Change, Intent, MakeDirectory, MakeLink, RemovePath, WriteFile
from imagebuilder.plan.make_plan import make_plan
from imagebuilder.plan.plan import Plan
from imagebuilder.plan.target import Target, Text
from imagebuilder.secret import Secret
from imagebuilder.site import Site, load_site

TESTS = Path(__file__).parent
PROJECT = TESTS.parent

# Nothing here is a certificate or a key: images of a test are never booted.
CREDENTIALS = VpnCredentials(
    ca="(the CA's certificate)\n",
    certificate="(the certificate of this end)\n",
    key=Secret("(the key of this end)\n"),
    tls_crypt=Secret("(the key that both ends share)\n"),
    crl="(the revocation list)\n",
)


@cache
def _debian12() -> Target:
    facts = yaml.load((TESTS / "debian12.yaml").read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    texts = {
        PurePosixPath(path): Text(content=text["content"], mode=int(text["mode"], 8), uid=text["uid"], gid=text["gid"])
        for path, text in facts.pop("texts").items()
    }
    links = {PurePosixPath(path): target for path, target in facts.pop("links").items()}
    directories = frozenset(map(PurePosixPath, facts.pop("directories")))
    return Target(digest="d" * 64, texts=texts, links=links, directories=directories, **facts)


def debian(
    *,
    files: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    directories: Iterable[str] = (),
    unread: Iterable[str] = (),
    without: Iterable[str] = (),
) -> Target:
    """A base of Debian 12 with the packages of all roles, some of its files changed and some left out.

    A file in place of one that the base has keeps its mode and owner; another is root's, mode 0644.
    """
    plain = _debian12()
    absent = set(map(PurePosixPath, without))
    texts = {path: text for path, text in plain.texts.items() if path not in absent}
    for name, content in (files or {}).items():
        known = plain.texts.get(PurePosixPath(name), Text(content="", mode=0o644, uid=0, gid=0))
        texts[PurePosixPath(name)] = replace(known, content=content)
    own_links = {PurePosixPath(name): target for name, target in (links or {}).items()}
    return replace(
        plain,
        texts={path: text for path, text in texts.items() if path not in own_links},
        links={**{path: target for path, target in plain.links.items() if path not in absent}, **own_links},
        directories=plain.directories - absent | set(map(PurePosixPath, directories)),
        unread=frozenset(map(PurePosixPath, unread)),
    )


def machine_of(site: Site, name: str, credentials: VpnCredentials | None = CREDENTIALS) -> Machine:
    """The machine with this name, with what it needs for the VPN."""
    [machine] = (machine for machine in site.machines() if machine.name == name)
    return site.with_credentials(machine, credentials)


@cache
def shipped_site() -> Site:
    """The recipes and overlays of this project."""
    return load_site(PROJECT)


def shipped_plan(name: str, target: Target | None = None) -> Plan:
    """The plan of one of this project's machines."""
    machine = machine_of(shipped_site(), name)
    return make_plan(machine.name, machine.role, shipped_site().intents(machine), target or debian())


def plan_of(intents: Mapping[str, Iterable[Intent]], target: Target | None = None) -> Plan:
    """The plan of a machine whose edits want these things."""
    return make_plan("local01", "node", intents, target or debian())


def change_at(plan: Plan, path: str) -> Change:
    """What the plan does at `path`."""
    [change] = (change for change in plan.changes if change.path == PurePosixPath(path))
    return change


def paths_in(plan: Plan) -> list[str]:
    """Every path that the plan changes, in its order."""
    return [str(change.path) for change in plan.changes]


def text_of(plan: Plan, path: str) -> str:
    """The text that the plan writes to `path`, secret or not."""
    change = change_at(plan, path)
    assert isinstance(change, WriteFile)
    return change.payload.decode()


def described(change: Change) -> dict[str, str]:
    """A change as the cases and golden trees write it down."""
    match change:
        case WriteFile():
            kind = "secret" if change.is_secret else "file"
            return {kind: _ownership(change), "text": change.payload.decode()}
        case MakeDirectory():
            return {"directory": _ownership(change)}
        case MakeLink():
            return {"link": change.target}
        case RemovePath():
            return {"removed": "entirely"}


def _ownership(change: WriteFile | MakeDirectory) -> str:
    return f"{change.mode:04o} {change.owner}:{change.group}"
