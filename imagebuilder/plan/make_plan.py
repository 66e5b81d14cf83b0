"""Folds the intents of all edits onto the facts of a base: the one place where they meet."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Literal

from imagebuilder.errors import BuildError
from imagebuilder.plan.changes import (
    ROOT,
    AddWord,
    Change,
    DisableService,
    EnableService,
    Intent,
    MakeDirectory,
    MakeLink,
    MaskService,
    RemoveLines,
    RemovePath,
    SetLine,
    WriteFile,
)
from imagebuilder.plan.lines import EditLine, fold_lines, joined, line_conflict, lines_of
from imagebuilder.plan.listing import parents
from imagebuilder.plan.plan import Plan
from imagebuilder.plan.target import OWN_UNITS, Target, accounts_in, groups_in
from imagebuilder.plan.units import disabling_changes, enabling_changes
from imagebuilder.secret import Secret

PASSWD, GROUP = PurePosixPath("/etc/passwd"), PurePosixPath("/etc/group")


def make_plan(name: str, role: str, intents: Mapping[str, Iterable[Intent]], target: Target) -> Plan:
    """The plan for the image `name` of `role`: the `intents` of each edit, by its name, folded onto `target`.

    Raises BuildError, naming both edits, if two want different things of one path; and if an intent cannot be
    honoured on this base.
    """
    folding = _Folding(name, target)
    for edit in sorted(intents):
        for intent in intents[edit]:
            folding.add(edit, intent)
    changes = folding.changes()
    uids, gids = _numbers(name, changes, target)
    return Plan(
        name=name,
        role=role,
        base_digest=target.digest,
        changes=tuple(changes[path] for path in sorted(changes, key=lambda path: path.parts)),
        uids=uids,
        gids=gids,
        origins={path: tuple(sorted(folding.origins[path])) for path in changes},
    )


class _Folding:
    """The intents of one plan while they are gathered."""

    def __init__(self, name: str, target: Target) -> None:
        self.name = name
        self.target = target
        self.origins: dict[PurePosixPath, set[str]] = defaultdict(set)
        self._changes: dict[PurePosixPath, Change] = {}
        self._lines: dict[PurePosixPath, list[EditLine]] = defaultdict(list)
        self._services: dict[str, tuple[str, EnableService | DisableService | MaskService]] = {}

    def add(self, edit: str, intent: Intent) -> None:
        match intent:
            case EnableService() | DisableService() | MaskService():
                self._add_service(edit, intent)
            case SetLine() | RemoveLines() | AddWord():
                path = self._resolve(edit, intent.path, last="followed")
                self._lines[path].append((edit, replace(intent, path=path)))
            case MakeDirectory():
                # Where the base has a link to a directory, that directory is meant.
                path = self._resolve(edit, intent.path, last="followed")
                path = path if path in self.target.directories else self._resolve(edit, intent.path)
                self._add_change(edit, replace(intent, path=path))
            case WriteFile() | MakeLink() | RemovePath():
                self._add_change(edit, replace(intent, path=self._resolve(edit, intent.path)))

    def changes(self) -> dict[PurePosixPath, Change]:
        """All intents as one change a path, with the directories that they need."""
        for path in sorted(self._lines):
            self._fold_lines(path)
        # What is to start comes first: a unit stays on if one that starts brings it along.
        for unit in sorted(self._services, key=lambda unit: (not self._starts(unit), unit)):
            self._fold_service(unit)
        self._add_parents()
        self._check_shapes()
        return {path: change for path, change in self._changes.items() if not self._is_already_so(change)}

    def _starts(self, unit: str) -> bool:
        return isinstance(self._services[unit][1], EnableService)

    def _resolve(self, edit: str, path: PurePosixPath, *, last: Literal["kept", "followed"] = "kept") -> PurePosixPath:
        try:
            return self.target.resolve(path, last=last)
        except ValueError as error:
            raise BuildError(str(error), where=f"{self.name}: {edit}") from error

    def _add_change(self, edit: str, change: Change) -> None:
        known = self._changes.get(change.path)
        if known is not None and known != change:
            others = ", ".join(sorted(self.origins[change.path]))
            raise BuildError(
                f"the edits {others} and {edit} want different things of {change.path}",
                where=self.name,
                fix="drop one of them from the recipe, or make them agree",
            )
        self._changes[change.path] = change
        self.origins[change.path].add(edit)

    def _add_service(self, edit: str, intent: EnableService | DisableService | MaskService) -> None:
        other, known = self._services.setdefault(intent.unit, (edit, intent))
        if known != intent:
            what = f"the edits {other} and {edit} disagree on whether '{intent.unit}' starts at boot"
            raise BuildError(what, where=self.name, fix="drop one of them from the recipe")

    def _fold_lines(self, path: PurePosixPath) -> None:
        intents = self._lines[path]
        edits = ", ".join(sorted({edit for edit, _ in intents}))
        if path in self._changes:
            others = ", ".join(sorted(self.origins[path]))
            what = f"{edits} edits lines of {path}, which {others} writes or removes whole"
            raise BuildError(what, where=self.name, fix="drop one of them from the recipe")
        if path in self.target.unread:
            what = f"{edits} edits lines of {path}, which is not a UTF-8 text of a usual size in the base"
            raise BuildError(what, where=self.name, fix="mend the file in the base image")
        base = self.target.text(path)
        before = lines_of(base.content) if base else []
        if (conflict := line_conflict(before, intents)) is not None:
            what = f"the edits {' and '.join(conflict)} want different things of a line in {path}"
            raise BuildError(what, where=self.name, fix="drop one of them from the recipe, or make them agree")
        after = fold_lines(before, intents)
        secret = any(isinstance(line, Secret) for line in after) or (base is not None and not base.mode & 0o004)
        owner, group = self._owners_of(base.uid, base.gid) if base else (ROOT, ROOT)
        change = WriteFile(
            path=path,
            content=Secret(joined(after)) if secret else joined(after),
            mode=base.mode if base else 0o600 if secret else 0o644,
            owner=owner,
            group=group,
        )
        for edit, _ in intents:
            self._add_change(edit, change)

    def _owners_of(self, uid: int, gid: int) -> tuple[str, str]:
        accounts, numbers = accounts_in(self._base_text(PASSWD)), groups_in(self._base_text(GROUP))
        users = {account.uid: user for user, account in reversed(accounts.items())}
        groups = {number: group for group, number in reversed(numbers.items())}
        return users.get(uid, ROOT), groups.get(gid, ROOT)

    def _base_text(self, path: PurePosixPath) -> str:
        text = self.target.text(path)
        return text.content if text else ""

    def _fold_service(self, unit: str) -> None:
        edit, intent = self._services[unit]
        match intent:
            case EnableService():
                try:
                    links = list(enabling_changes(unit, self._text_at))
                except LookupError as error:
                    raise BuildError(str(error.args[0]), where=f"{self.name}: {edit}") from error
                if self.target.links.get(OWN_UNITS / unit) == "/dev/null" and OWN_UNITS / unit not in self._changes:
                    links.append(RemovePath(path=OWN_UNITS / unit))
            case DisableService():
                links = [change for change in disabling_changes(unit, self.target) if change.path not in self._changes]
            case MaskService():
                links = [MakeLink(path=OWN_UNITS / unit, target="/dev/null")]
        for link in links:
            self._add_change(edit, link)

    def _text_at(self, path: PurePosixPath) -> str | None:
        path = self.target.resolve(path)
        match self._changes.get(path):
            case WriteFile() as change:
                return change.payload.decode(errors="replace")
            case RemovePath() | MakeLink() | MakeDirectory():
                return None
            case None:
                text = self.target.text(path)
                return text.content if text else None

    def _add_parents(self) -> None:
        written = [path for path, change in self._changes.items() if not isinstance(change, RemovePath)]
        for parent in parents(written) - {PurePosixPath("/")} - self.target.directories:
            if parent not in self._changes:
                self._changes[parent] = MakeDirectory(path=parent)
                self.origins[parent] = set().union(
                    *(self.origins[path] for path in written if path.is_relative_to(parent))
                )

    def _check_shapes(self) -> None:
        """No file where the base has a directory, no directory where it has a file, nothing inside what goes."""
        for path, change in self._changes.items():
            edits = ", ".join(sorted(self.origins[path]))
            fix = "choose another path in the recipe, or another base"
            if isinstance(change, WriteFile | MakeLink) and path in self.target.directories:
                what = f"{edits} writes {path}, which is a directory in the base"
                raise BuildError(what, where=self.name, fix=fix)
            if isinstance(change, MakeDirectory) and self.target.has_file(path):
                what = f"{edits} makes the directory {path}, which is no directory in the base"
                raise BuildError(what, where=self.name, fix=fix)
            gone = self._gone_above(path)
            if gone is not None and not isinstance(change, RemovePath):
                others = ", ".join(sorted(self.origins[gone]))
                what = f"{edits} writes {path}, but {others} leaves no directory at {gone}"
                raise BuildError(what, where=self.name, fix="drop one of them from the recipe")

    def _gone_above(self, path: PurePosixPath) -> PurePosixPath | None:
        """The directory above `path` that the plan leaves no directory, if any."""
        ends = RemovePath | WriteFile | MakeLink
        return next((parent for parent in path.parents if isinstance(self._changes.get(parent), ends)), None)

    def _is_already_so(self, change: Change) -> bool:
        """Whether the base, or another change, makes it so already, and nothing needs to be written."""
        match change:
            case MakeLink():
                known = self.target.links.get(change.path)
                return known is not None and self._leads_to(change.path, known) == self._leads_to(
                    change.path, change.target
                )
            case WriteFile():
                text = self.target.text(change.path)
                return (
                    text is not None
                    and text.content.encode() == change.payload
                    and text.mode == change.mode
                    and self._owners_of(text.uid, text.gid) == (change.owner, change.group)
                )
            case RemovePath():
                return self._gone_above(change.path) is not None or not (
                    change.path.parent in self.target.directories or change.path.parent == PurePosixPath("/")
                )
            case MakeDirectory():
                return False

    def _leads_to(self, link: PurePosixPath, target: str) -> PurePosixPath | str:
        """Where a link leads: systemctl(1) of Debian 12 writes /lib, which is a link to usr/lib itself."""
        try:
            return self.target.resolve(link.parent / target)
        except ValueError:
            return target


def _numbers(
    name: str, changes: Mapping[PurePosixPath, Change], target: Target
) -> tuple[dict[str, int], dict[str, int]]:
    """The numbers of all owners, from the account files as they will be."""
    uids = {user: account.uid for user, account in accounts_in(_text_after(PASSWD, changes, target)).items()}
    gids = groups_in(_text_after(GROUP, changes, target))
    uids.setdefault(ROOT, 0)
    gids.setdefault(ROOT, 0)
    owned = [change for change in changes.values() if isinstance(change, WriteFile | MakeDirectory)]
    for change in owned:
        if change.owner not in uids or change.group not in gids:
            what = f"{change.path} is to belong to {change.owner}:{change.group}, which the base does not have"
            raise BuildError(what, where=name, fix="use a base with the packages that the role requires")
    users, groups = {change.owner for change in owned}, {change.group for change in owned}
    return {user: uids[user] for user in sorted(users)}, {group: gids[group] for group in sorted(groups)}


def _text_after(path: PurePosixPath, changes: Mapping[PurePosixPath, Change], target: Target) -> str:
    match changes.get(path):
        case WriteFile() as change:
            return change.payload.decode(errors="replace")
        case _:
            text = target.text(path)
            return text.content if text else ""


def missing_packages(required: Iterable[str], target: Target) -> Iterator[str]:
    """Those of the `required` packages that the base does not have; `a | b` is met by either."""
    for package in sorted(set(required)):
        if not any(option.strip() in target.packages for option in package.split("|")):
            yield package
