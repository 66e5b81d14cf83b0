"""What a stand-in for oned knows, and what its calls have in common: names, rights, updates, answers of a pool."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.opennebula.language import Attributes, read_template
from tests.opennebula.pools import Datastore, Host, Image, Machine, Network, Template, Thing, owned_by

AUTHENTICATION, AUTHORIZATION, NO_EXISTS, ACTION, API, INTERNAL, ALLOCATE = (
    *(0x0100, 0x0200, 0x0400, 0x0800, 0x1000),
    *(0x2000, 0x4000),
)
PASSWORD = "opennebula-Pa55word"
User = tuple[int, str]

NAMES = {
    Image: ("image", "IMAGE"),
    Template: ("VM template", "TEMPLATE"),
    Network: ("virtual network", "NET"),
    Host: ("host", "HOST"),
    Machine: ("virtual machine", "VM"),
}


class _InPool(Protocol):
    def pool_xml(self) -> str: ...


class RefusalError(Exception):
    """oned answers with an error of this code."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(what)
        self.code = code
        self.what = what


@dataclass
class State:
    """The pools of an oned with two users, an image datastore and a system datastore."""

    polls_until_ready: int = 2
    copying_fails: bool = False
    users: dict[str, tuple[int, str]] = field(
        default_factory=lambda: {f"oneadmin:{PASSWORD}": (0, "oneadmin"), "alice:wonderland": (2, "alice")}
    )

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.last_id = -1
        self.images: dict[int, Image] = {}
        self.templates: dict[int, Template] = {}
        self.networks: dict[int, Network] = {}
        self.hosts: dict[int, Host] = {}
        self.machines: dict[int, Machine] = {}
        names = (("system", 1), ("default", 0), ("files", 2))
        self.datastores = {
            number: Datastore(id=number, uid=0, user="oneadmin", name=name, attributes=[], type=type_)
            for number, (name, type_) in enumerate(names)
        }
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def _own_pool(self, tag: str, pool: Mapping[int, Any], user: User, filter_: int, interval: tuple[int, int]) -> str:
        if filter_ < -4:
            raise RefusalError(API, "Incorrect filter_flag, must be -4, -3, -2, -1 or user_id")
        if interval != (-1, -1):
            raise RefusalError(API, "the stand-in knows no pages")
        uid = user[0] if filter_ in {-3, -4, -1} else filter_
        found: Iterable[Any] = pool.values() if filter_ == -2 else owned_by(pool, uid)
        return pool_xml(tag, found)

    def _new(self, user: User, attributes: Attributes, kind: type, pool: Mapping[int, Thing]) -> Thing:
        name, type_name = NAMES[kind]
        thing = Thing(id=self.last_id + 1, uid=user[0], user=user[1], name="", attributes=attributes)
        thing.name = thing.take("NAME")
        failed = f"Error allocating a new {name}."
        if not thing.name or len(thing.name) > 128 or set("&|:;\\\"'<>/") & set(thing.name):
            raise RefusalError(ALLOCATE, f"{failed} Invalid NAME.")
        taken = [one for one in pool.values() if (one.name, one.uid) == (thing.name, thing.uid)]
        if taken:
            raise RefusalError(ALLOCATE, f"{failed} NAME is already taken by {type_name} {taken[0].id}.")
        self.last_id += 1
        return thing

    @staticmethod
    def _get(user: User, pool: Mapping[int, Any], kind: type, id_: int, right: str) -> Any:
        name, type_name = NAMES[kind]
        if id_ not in pool:
            raise RefusalError(NO_EXISTS, f"Error getting {name} [{id_}].")
        if user[0] not in {0, pool[id_].uid}:
            what = f"Not authorized to perform {right} {type_name} [{id_}]."
            raise RefusalError(AUTHORIZATION, f"User [{user[0]}] : {what}")
        return pool[id_]

    def _update(self, user: User, pool: Mapping[int, Any], kind: type, id_: int, *change: Any) -> int:
        text, how = change
        if how not in {0, 1}:
            raise RefusalError(API, "Wrong update type")
        thing = self._get(user, pool, kind, id_, "ADMIN" if kind is Host else "MANAGE")
        new = read_template(text)
        names = {key for key, _ in new}
        thing.attributes = [(key, one) for key, one in thing.attributes if how == 1 and key not in names] + new
        return id_


def pool_xml(tag: str, things: Iterable[_InPool]) -> str:
    return f"<{tag}>{''.join(one.pool_xml() for one in things)}</{tag}>"
