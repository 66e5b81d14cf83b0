"""oned, as far as imgbuild needs it: its pools, and what may be made, changed and removed there.

The calls are those of "XML-RPC API" in OpenNebula's documentation, without the session. Every method raises
RemoteError, or a class of it in `calls`.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from imagebuilder.errors import HostError, RemoteError, UsageError
from imagebuilder.opennebula.calls import AnswerLostError
from imagebuilder.opennebula.login import Login
from imagebuilder.opennebula.machines import Machine, Measured
from imagebuilder.opennebula.template import Template, Vector, write_template
from imagebuilder.opennebula.things import AddressRange, Drivers, Kind, Thing, as_xml, from_mapping
from imagebuilder.recipe.model import nearest

if TYPE_CHECKING:
    from imagebuilder.opennebula.rpc import Rpc

# oned asks a datastore's driver how large an image is before it answers; nothing else that is called here takes long.
CALL_TIMEOUT_S = 60.0

_OWN, _ALL, _EVERYTHING = -3, -2, -1  # filters of a pool: my objects, all that I may see; and "no page of it"
_ANY_STATE_BUT_DONE = -1
_REPLACE = 0
_DEFAULT_CLUSTER = -1
_IMAGE_DATASTORE = 0
_POOLS: Mapping[Kind, tuple[str, str]] = {
    "network": ("vnpool", "VNET"),
    "image": ("imagepool", "IMAGE"),
    "template": ("templatepool", "VMTEMPLATE"),
    "host": ("hostpool", "HOST"),
}
_METHODS: Mapping[Kind, str] = {"network": "vn", "image": "image", "template": "template", "host": "host"}
# include/Image.h, include/VirtualNetwork.h. A used image can be used again.
_IMAGE_STATES = (
    *("INIT", "READY", "READY", "DISABLED", "LOCKED", "ERROR", "LOCKED", "DELETE", "READY", "LOCKED", "LOCKED"),
)
_NETWORK_STATES = ("INIT", "READY", "LOCKED", "DELETE", "DELETE", "ERROR", "READY")


class Server:
    """oned, asked as one user; made by `open_server`."""

    def __init__(self, rpc: "Rpc", user: str) -> None:
        self._rpc = rpc
        self.endpoint = rpc.endpoint
        self.user = user

    def version(self) -> str:
        """The release of oned, such as 7.2.0."""
        return str(self._rpc.call("system.version"))

    def find_own(self, kind: Kind) -> tuple[Thing, ...]:
        """The user's objects, as the pool shows them: without leases. Hosts are nobody's, so all of them."""
        pool, tag = _POOLS[kind]
        arguments = () if kind == "host" else (_OWN, _EVERYTHING, _EVERYTHING)
        answer = self._rpc.call(f"{pool}.info", *arguments)
        return tuple(self._read(kind, one) for one in _all(answer, tag))

    def look(self, kind: Kind, thing_id: int) -> Thing:
        """One object, with all that oned knows of it."""
        return self._read(kind, self._rpc.call(f"{_METHODS[kind]}.info", thing_id))

    def find_datastore(self, word: str) -> int:
        """The id of the image datastore with this name or id. Raises UsageError if there is none."""
        stores = _all(self._rpc.call("datastorepool.info"), "DATASTORE")
        for_images = {str(one.NAME): int(one.ID) for one in stores if int(one.TYPE) == _IMAGE_DATASTORE}
        if word.isdecimal() and int(word) in for_images.values():
            return int(word)
        if word not in for_images:
            what = f"there is no datastore '{word}' for images.{nearest(word, for_images)}"
            raise UsageError(what, where=self.endpoint, fix=f"use --datastore {'|'.join(sorted(for_images)) or 'NAME'}")
        return for_images[word]

    def make_image(self, template: Template, datastore: int) -> int:
        """Have oned copy an image from a path on its machine; the id, while the copy is still being made."""
        return self._number("image.allocate", write_template(template), datastore)

    def make_template(self, template: Template) -> int:
        """Make a template of machines; its id."""
        return self._number("template.allocate", write_template(template))

    def make_network(self, template: Template) -> int:
        """Make a network in oned's default cluster; its id, while it may not be ready yet."""
        return self._number("vn.allocate", write_template(template), _DEFAULT_CLUSTER)

    def make_host(self, name: str, drivers: Drivers) -> int:
        """Make a host in oned's default cluster; its id."""
        return self._number("host.allocate", name, drivers.information, drivers.machines, _DEFAULT_CLUSTER)

    def update(self, kind: Kind, thing_id: int, template: Template) -> None:
        """Replace the whole template of an object."""
        self._rpc.call(f"{_METHODS[kind]}.update", thing_id, as_xml(template), _REPLACE)

    def delete(self, kind: Kind, thing_id: int) -> None:
        """Remove an object; of a template, nothing but itself."""
        self._rpc.call(f"{_METHODS[kind]}.delete", thing_id, *((False,) if kind == "template" else ()))

    def add_range(self, network: int, wanted: Vector) -> None:
        """Add an address range to a network."""
        self._rpc.call("vn.add_ar", network, write_template(Template(attributes=(wanted,))))

    def remove_range(self, network: int, range_id: int) -> None:
        """Remove an address range from a network."""
        self._rpc.call("vn.rm_ar", network, range_id)

    def instantiate(self, template: int, name: str) -> int:
        """Have oned start a machine from a template; its id. An empty name lets oned make one."""
        return self._number("template.instantiate", template, name)

    def machines(self) -> tuple[Machine, ...]:
        """All machines that the user may see and that have not ended, by id."""
        answer = self._rpc.call("vmpool.info", _ALL, _EVERYTHING, _EVERYTHING, _ANY_STATE_BUT_DONE)
        return tuple(sorted((_machine(one) for one in _all(answer, "VM")), key=lambda one: one.id))

    def machine(self, machine_id: int) -> Machine:
        """One machine, with all that oned knows of it."""
        return _machine(self._rpc.call("vm.info", machine_id))

    def _number(self, method: str, *arguments: str | int) -> int:
        answer = self._rpc.call(method, *arguments)
        if not isinstance(answer, int):
            raise AnswerLostError("the answer has no id", where=f"{self.endpoint}: one.{method}")
        return answer

    def _read(self, kind: Kind, answer: Any) -> Thing:
        try:
            return Thing(
                kind=kind,
                id=int(answer.ID),
                name=str(answer.NAME),
                template=from_mapping(answer.TEMPLATE or {}),
                state=_state(kind, answer),
                used_by=_users(kind, answer),
                is_persistent=kind == "image" and int(answer.PERSISTENT) != 0,
                ranges=tuple(map(_range, _all(answer.AR_POOL, "AR"))) if kind == "network" else (),
            )
        except (AttributeError, TypeError, ValueError, LookupError) as error:
            what = f"what oned says of a {kind} cannot be read: {error}"
            raise RemoteError(what, where=self.endpoint, fix="use OpenNebula 6 or 7") from error


def open_server(login: Login, *, timeout_s: float = CALL_TIMEOUT_S) -> Server:
    """oned at the endpoint of `login`; makes no call. Raises HostError if pyone is not installed."""
    if find_spec("pyone") is None:
        raise HostError("pyone is not installed", fix="pip install 'imgbuild[opennebula]'")
    from imagebuilder.opennebula.rpc import Rpc  # noqa: PLC0415 - pyone takes a fifth of a second

    return Server(Rpc(login, timeout_s=timeout_s), login.user)


def _all(answer: Any, tag: str) -> Sequence[Any]:
    return [] if answer is None else list(getattr(answer, tag) or [])


def _state(kind: Kind, answer: Any) -> str:
    states = {"image": _IMAGE_STATES, "network": _NETWORK_STATES}.get(kind)
    number = getattr(answer, "STATE", None)
    if states is None or number is None:  # a template has none, nor has a network before 6.4
        return "READY"
    return states[int(number)] if int(number) < len(states) else str(number)


def _users(kind: Kind, answer: Any) -> int:
    match kind:
        case "image":
            return int(answer.RUNNING_VMS)
        case "network":
            return int(answer.USED_LEASES)
        case _:
            return 0


def _range(answer: Any) -> AddressRange:
    return AddressRange(
        id=int(answer.AR_ID),
        type=str(answer.TYPE),
        ip=str(answer.IP or ""),
        mac=str(answer.MAC or ""),
        size=int(answer.SIZE),
        used=int(getattr(answer, "USED_LEASES", None) or 0),
    )


def _machine(answer: Any) -> Machine:
    records = _all(answer.HISTORY_RECORDS, "HISTORY")
    monitored = answer.MONITORING
    return Machine(
        id=int(answer.ID),
        uid=int(answer.UID),
        user=str(answer.UNAME),
        name=str(answer.NAME),
        state=int(answer.STATE),
        lcm_state=int(answer.LCM_STATE),
        deploy_id=str(answer.DEPLOY_ID or ""),
        host=str(records[-1].HOSTNAME) if records else "",
        last_poll=int(answer.LAST_POLL or 0),
        begun_at=int(answer.STIME),
        ended_at=int(answer.ETIME or 0),
        is_rescheduled=int(answer.RESCHED or 0) != 0,
        measured=_measured(monitored),
        template=_machine_template(answer.TEMPLATE),
        user_template=_machine_template(answer.USER_TEMPLATE),
    )


def _machine_template(content: Any) -> Template:
    return from_mapping(content) if isinstance(content, Mapping) else Template(attributes=())


def _measured(monitored: Any) -> Measured:
    def number(name: str) -> int | None:
        found = getattr(monitored, name, None)
        return None if found is None else int(found)

    cpu = getattr(monitored, "CPU", None)
    return Measured(
        cpu=None if cpu is None else str(cpu),
        memory_kib=number("MEMORY"),
        sent_bytes=number("NETTX"),
        received_bytes=number("NETRX"),
    )
