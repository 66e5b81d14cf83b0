"""Runs the cases in `cases/EDIT/*.yaml`: one edit on a machine, and all that the plan then holds.

    machine: local01        on which machine; this one if not said
    cluster: {…}            laid over `cases/cluster.yaml`; null takes a key away
    options: {…}            the edit's options
    beside: {…}             further edits of the role, with their options
    context: {…}            likewise, but what they change is left out
    credentials: none       the VPN's keys do not exist yet
    base: {/etc/fstab: …}   files of the base in place of Debian's, as text or {link: target}; null takes one away
    directories: […]        further directories of the base
    expect: {/etc/fstab: …} every change of the plan
    expect_among: {…}       or only some of them
    error: …                or the message of the error
    instance: alone         of the workers' image: the one that runs by itself; otherwise the first worker
    checks: {name: {…}}     every check of the edit on the instance:
      command: …            what runs, as one would type it
      prints: …             what it must print,
      matches: […]          or the patterns that must match
      needs: cluster        if it needs more than the machine
      passes: …             what a machine prints that is well, in the form in which a real one did,
      fails: […]            and what it could print if things were otherwise

A file that the edit's overlay has just so shows as `overlay`, without its text.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from imagebuilder.edits import all_edits
from imagebuilder.edits.edit import Machine
from imagebuilder.errors import ImgbuildError
from imagebuilder.plan.changes import Change
from imagebuilder.plan.check import Check, Instance, Matches, Prints, Scope
from imagebuilder.plan.make_plan import make_plan
from imagebuilder.plan.target import Target
from imagebuilder.site import Site, load_site
from tests.machines import CREDENTIALS, PROJECT, TESTS, debian, described, machine_of

CASES = TESTS / "cases"
ROLES = ("server", "node", "worker")
_OTHER_ROLES: Mapping[str, Mapping[str, object]] = {"server": {}, "node": {"gridengine_execd": {}}, "worker": {}}
ROLE_OF_MACHINE = {"oneserver": "server", "worker": "worker"}


class CheckCase(BaseModel):
    """One check as a case states it."""

    model_config = ConfigDict(extra="forbid")

    command: str
    prints: str | None = None
    matches: list[str] | None = None
    needs: Scope = "machine"
    passes: str
    fails: Annotated[list[str], Field(min_length=1)]

    @property
    def stated(self) -> tuple[tuple[str, ...], Prints | Matches, Scope]:
        """Command, expectation and need, for a comparison with those of a `Check`."""
        expects = Prints(text=self.prints) if self.prints is not None else Matches(patterns=tuple(self.matches or ()))
        return tuple(shlex.split(self.command)), expects, self.needs


class Case(BaseModel):
    """One case as its file states it."""

    model_config = ConfigDict(extra="forbid")

    edit: str
    machine: str = "local01"
    cluster: dict[str, object] = {}
    options: dict[str, object] | None = None
    beside: dict[str, object] = {}
    context: dict[str, object] = {}
    credentials: str = ""
    base: dict[str, str | dict[str, str] | None] = {}
    directories: list[str] = []
    expect: dict[str, dict[str, str]] | None = None
    expect_among: dict[str, dict[str, str]] | None = None
    error: Annotated[str, Field(min_length=1)] | None = None
    instance: Literal["alone"] | None = None
    checks: dict[str, CheckCase] | None = None


def read_case(file: Path) -> Case:
    """The case in `file`; its directory names the edit."""
    return Case.model_validate({"edit": file.parent.name, **_read(file)})


def outcome_of(case: Case, directory: Path) -> dict[str, dict[str, str]] | str:
    """All that the plan holds, or those paths that the case asks for; or the error, without `directory`."""
    try:
        found = _plan(case, directory)
    except ImgbuildError as error:
        return f"{str(error).replace(f'{directory}/', '')}\n"
    return {path: change for path, change in found.items() if case.expect_among is None or path in case.expect_among}


def checks_of(case: Case, directory: Path) -> dict[str, Check]:
    """Every check of the case's edit, by its name alone."""
    site, machine = _site(case, directory)
    checks = site.checks(machine, instance_of(machine, alone=case.instance == "alone"))
    prefix = f"{case.edit}."
    return {name.removeprefix(prefix): check for name, check in checks.items() if name.startswith(prefix)}


def instance_of(machine: Machine, *, alone: bool = False) -> Instance:
    """The one running copy of a host's image, or the first worker, or the workers' image before it is any."""
    if machine.host is not None:
        return Instance(name=machine.name, address=machine.host.addresses["private"])
    [(name, address), *_] = machine.cluster.workers.items()
    return Instance(name=machine.name, address=None) if alone else Instance(name=name, address=address)


def _site(case: Case, directory: Path) -> tuple[Site, Machine]:
    edits = {case.edit: case.options, **case.beside}
    cluster = _merged(_read(CASES / "cluster.yaml"), case.cluster)
    recipes = directory / "recipes"
    recipes.mkdir()
    (recipes / "base.yaml").write_text('suite: "bookworm"\n', encoding="utf-8")
    (recipes / "cluster.yaml").write_text(json.dumps(cluster, indent=1), encoding="utf-8")
    own_role = ROLE_OF_MACHINE.get(case.machine, "node")
    for role in ROLES:
        recipe = {"edits": {**edits, **case.context} if role == own_role else _OTHER_ROLES[role]}
        (recipes / f"{role}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    site = load_site(directory)
    return site, machine_of(site, case.machine, None if case.credentials == "none" else CREDENTIALS)


def _plan(case: Case, directory: Path) -> dict[str, dict[str, str]]:
    site, machine = _site(case, directory)
    edits = {case.edit, *case.beside}
    intents = {name: wanted for name, wanted in site.intents(machine).items() if name in edits}
    plan = make_plan(machine.name, machine.role, intents, _base(case))
    overlay = PROJECT / "overlays" / all_edits()[case.edit].overlay / "rootfs"
    return {str(change.path): _shown(change, overlay) for change in plan.changes}


def _shown(change: Change, overlay: Path) -> dict[str, str]:
    found = described(change)
    file = overlay / str(change.path).lstrip("/")
    if "file" in found and file.is_file() and file.read_text(encoding="utf-8") == found["text"]:
        return {"overlay": found["file"]}
    return found


def _base(case: Case) -> Target:
    return debian(
        files={path: text for path, text in case.base.items() if isinstance(text, str)},
        links={path: entry["link"] for path, entry in case.base.items() if isinstance(entry, dict)},
        directories=case.directories,
        without=[path for path, entry in case.base.items() if entry is None],
    )


def _merged(under: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    merged = {**under}
    for key, value in over.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            merged[key] = _merged(known, value)
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


def _read(file: Path) -> dict[str, object]:
    value: dict[str, object] = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) or {}
    return value
