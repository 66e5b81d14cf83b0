"""The people who use the cluster."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import Intent, MakeDirectory, SetLine, WriteFile
from imagebuilder.plan.check import Check, Instance, Prints
from imagebuilder.recipe.cluster import User
from imagebuilder.secret import Secret

_ETC = PurePosixPath("/etc")


class Users(Edit):
    """Makes the accounts of the cluster description on the server, with their homes; NIS carries them further.

    Without a password hash an account has no login by password; ssh keys go into the home's authorized_keys.
    """

    def intents(self, machine: Machine) -> Iterator[Intent]:
        for name, user in sorted(machine.cluster.recipe.users.items()):
            yield from _account(name, user)
            yield from _home(name, user)

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        users = dict(sorted(machine.cluster.recipe.users.items()))
        if not users:
            return
        yield Check(
            name="accounts",
            proves="each user's account is as described",
            command=("getent", "passwd", *users),
            expects=Prints(text="\n".join(passwd_line(name, user) for name, user in users.items())),
        )
        private = [(change, name) for name, user in users.items() for change in _home(name, user)]
        yield Check(
            name="homes",
            proves="each user's home, and the keys in it, are that user's alone",
            command=("stat", "--format=%n %a %U:%G", *(str(change.path) for change, _ in private)),
            expects=Prints(text="\n".join(f"{change.path} {change.mode:o} {name}:{name}" for change, name in private)),
        )


def passwd_line(name: str, user: User) -> str:
    """The account as passwd(5) has it."""
    return f"{name}:x:{user.uid}:{user.uid}:{user.full_name}:/home/{name}:{user.shell}"


def group_line(name: str, user: User) -> str:
    """The group of the account as group(5) has it."""
    return f"{name}:x:{user.uid}:"


def _account(name: str, user: User) -> Iterator[Intent]:
    own_line = re.compile(rf"^{re.escape(name)}:")
    yield SetLine(path=_ETC / "passwd", line=passwd_line(name, user), replaces=own_line)
    yield SetLine(path=_ETC / "group", line=group_line(name, user), replaces=own_line)
    yield SetLine(path=_ETC / "gshadow", line=f"{name}:!::", replaces=own_line)
    password = user.password_hash.reveal() if user.password_hash else b"!"
    # No date of the last change: the account has no ageing, and two builds have the same line.
    shadow = Secret(name.encode() + b":" + password + b"::0:99999:7:::")
    yield SetLine(path=_ETC / "shadow", line=shadow, replaces=own_line)


def _home(name: str, user: User) -> Iterator[MakeDirectory | WriteFile]:
    home = PurePosixPath("/home") / name
    yield MakeDirectory(path=home, mode=0o700, owner=name, group=name)
    if user.ssh_keys:
        keys = "".join(f"{key}\n" for key in user.ssh_keys)
        yield MakeDirectory(path=home / ".ssh", mode=0o700, owner=name, group=name)
        yield WriteFile(path=home / ".ssh/authorized_keys", content=keys.encode(), mode=0o600, owner=name, group=name)
