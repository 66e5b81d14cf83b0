"""Does what a plan of changes says, all of it or nothing."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from imagebuilder.errors import RemoteError
from imagebuilder.opennebula.calls import AnswerLostError, NotThereError, WrongStateError
from imagebuilder.opennebula.change_plan import ORDER, Change, ChangePlan, plan_changes
from imagebuilder.opennebula.server import Server
from imagebuilder.opennebula.template import vector
from imagebuilder.opennebula.things import TOOLS, AddressRange, Drivers, Kind, Thing, Wanted, marked, run_of, updated
from imagebuilder.opennebula.undo import Deeds, undone_on_failure


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often to look whether something is ready, and how long; in seconds."""

    poll_s: float = 2.0
    image_s: float = 3600.0  # oned copies images one after another, each of some GiB
    network_s: float = 120.0
    undo_s: float = 30.0
    lost_s: float = 5.0  # how long after a lost answer its call may still be done


@dataclass(frozen=True, kw_only=True)
class Order:
    """A plan, and what is needed to do it; `run` is chance, and `say` hears of each step."""

    plan: ChangePlan
    cluster: str
    run: str
    datastore: str
    say: Callable[[str], None]
    patience: Patience = Patience()


def make_plan(wanted: Sequence[Wanted], server: Server, *, cluster: str) -> ChangePlan:
    """What must be done so that oned has what is wanted; changes nothing."""
    kinds = [kind for kind in ORDER if any(one.kind == kind for one in wanted)]
    own = [thing for kind in kinds for thing in server.find_own(kind)]
    return plan_changes(wanted, own, server.look, cluster=cluster)


def apply_plan(order: Order, server: Server) -> dict[tuple[Kind, str], int]:
    """Do what the plan says, and return the id of each object.

    Raises RemoteError if something fails, when all that was done is undone, and LeftoversError if that failed too.
    """
    with undone_on_failure() as deeds:
        return _Run(order, server, deeds).all()


class _Run:
    def __init__(self, order: Order, server: Server, deeds: Deeds) -> None:
        self._order = order
        self._server = server
        self._deeds = deeds
        self._ids: dict[tuple[Kind, str], int] = {}

    def all(self) -> dict[tuple[Kind, str], int]:
        changes = self._order.plan.changes
        needs_store = any(one.action == "create" and one.wanted.kind == "image" for one in changes)
        datastore = self._server.find_datastore(self._order.datastore) if needs_store else -1
        for kind in ORDER:
            for change in (one for one in changes if one.wanted.kind == kind):
                self._do(change, datastore)
            for change in (one for one in changes if one.wanted.kind == kind):
                self._wait(change)
        return self._ids

    def _do(self, change: Change, datastore: int) -> None:
        wanted = change.wanted
        if change.thing is not None:
            self._ids[wanted.kind, wanted.name] = change.thing.id
            if change.action == "update":
                self._order.say(f"update {wanted.kind} {wanted.name}")
                self._wait(change)
                self._update(change, change.thing)
        else:
            self._order.say(f"create {wanted.kind} {wanted.name}")
            self._ids[wanted.kind, wanted.name] = self._make(wanted, datastore)

    def _make(self, wanted: Wanted, datastore: int) -> int:
        server = self._server
        deed = self._deeds.begin(
            partial(self._remove_if_made, wanted),
            what=f"perhaps {wanted.kind} {wanted.name}: the answer to its making was lost",
            command=f"{TOOLS[wanted.kind]} delete {wanted.name}",
        )
        try:
            made = self._allocate(wanted, datastore)
        except AnswerLostError:
            raise
        except RemoteError:  # oned has refused: nothing was made
            self._deeds.done.remove(deed)
            raise
        thing = Thing(kind=wanted.kind, id=made, name=wanted.name, template=wanted.template)
        self._deeds.begin(partial(self._remove, thing), what=f"{wanted.kind} {wanted.name}", command=thing.removal)
        self._deeds.done.remove(deed)
        if wanted.kind == "host":  # its call takes no template
            found = server.look("host", made)
            server.update("host", made, updated(wanted, found, cluster=self._order.cluster, run=self._order.run))
        return made

    def _allocate(self, wanted: Wanted, datastore: int) -> int:
        template = marked(wanted.template, cluster=self._order.cluster, run=self._order.run)
        match wanted:
            case Wanted(kind="image"):
                return self._server.make_image(template, datastore)
            case Wanted(kind="template"):
                return self._server.make_template(template)
            case Wanted(kind="network"):
                return self._server.make_network(template)
            case Wanted(kind="host", drivers=Drivers() as drivers):
                return self._server.make_host(wanted.name, drivers)
            case _:
                raise ValueError(f"the host {wanted.name} has no drivers")

    def _update(self, change: Change, thing: Thing) -> None:
        wanted, server = change.wanted, self._server
        what = f"{thing.kind} {thing.name}, changed already"
        command = f"{TOOLS[thing.kind]} update {thing.id}"
        self._deeds.begin(partial(server.update, thing.kind, thing.id, thing.template), what=what, command=command)
        template = updated(wanted, thing, cluster=self._order.cluster, run=self._order.run)
        server.update(thing.kind, thing.id, template)
        for old in change.old_ranges:
            back = partial(self._add_range_again, thing.id, old)
            self._deeds.begin(back, what=f"the range of {old.ip}, gone from {thing.name}", command=_addar(thing, old))
            server.remove_range(thing.id, old.id)
        for new in change.new_ranges:
            address = new.get("IP") or ""
            gone = partial(self._remove_range, thing.id, address)
            command = f"{TOOLS['network']} show {thing.id}"
            self._deeds.begin(gone, what=f"the range of {address}, new in {thing.name}", command=command)
            server.add_range(thing.id, new)

    def _add_range_again(self, network: int, old: AddressRange) -> None:
        if all(one.ip != old.ip for one in self._server.look("network", network).ranges):
            again = vector("AR", TYPE=old.type, IP=old.ip or None, MAC=old.mac or None, SIZE=old.size)
            self._server.add_range(network, again)

    def _remove_range(self, network: int, address: str) -> None:
        for one in self._server.look("network", network).ranges:
            if one.ip == address:
                self._server.remove_range(network, one.id)

    def _remove_if_made(self, wanted: Wanted) -> None:
        """Remove an object that was perhaps made: one of this name whose mark is this run's."""
        until = time.monotonic() + self._order.patience.lost_s
        while not (found := [one for one in self._server.find_own(wanted.kind) if one.name == wanted.name]):
            if time.monotonic() > until:
                return
            time.sleep(self._order.patience.poll_s)
        for one in found:
            if wanted.kind == "host":
                raise RemoteError("a host cannot say who made it", where=wanted.name)
            if run_of(self._server.look(one.kind, one.id).template) == self._order.run:
                self._remove(one)

    def _remove(self, thing: Thing) -> None:
        until = time.monotonic() + self._order.patience.undo_s
        while True:
            try:
                self._server.delete(thing.kind, thing.id)
            except NotThereError:
                return
            except (AnswerLostError, WrongStateError):
                if self._is_gone(thing):
                    return
                if time.monotonic() > until:
                    raise
                time.sleep(self._order.patience.poll_s)
            else:
                return

    def _is_gone(self, thing: Thing) -> bool:
        try:
            self._server.look(thing.kind, thing.id)
        except NotThereError:
            return True
        return False

    def _wait(self, change: Change) -> None:
        """Wait until an image is copied, or a network made, by this run or by one before."""
        kind, name = change.wanted.kind, change.wanted.name
        if kind not in {"image", "network"} or (change.thing and change.thing.state == "READY"):
            return
        thing_id = self._ids[kind, name]
        patience = self._order.patience
        limit_s = patience.image_s if kind == "image" else patience.network_s
        until = time.monotonic() + limit_s
        is_told = False
        while (thing := self._server.look(kind, thing_id)).state != "READY":
            where = f"{self._server.endpoint}: {kind} {name} (id {thing_id})"
            if thing.state != "LOCKED":
                why = thing.template.get("ERROR") or f"it is in the state {thing.state}"
                fix = "the path must be one that oned may read: SAFE_DIRS of the datastore; docs/opennebula-apply.md"
                raise RemoteError(why, where=where, fix=fix)
            if time.monotonic() > until:
                raise RemoteError(f"was not ready after {limit_s:g} s", where=where, fix="see oned.log")
            if not is_told:
                self._order.say(f"wait until {kind} {name} is ready")
                is_told = True
            time.sleep(patience.poll_s)


def _addar(network: Thing, lost: AddressRange) -> str:
    return f"{TOOLS['network']} addar {network.id} --ip {lost.ip} --mac {lost.mac} --size {lost.size}"
