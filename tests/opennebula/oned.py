"""oned as its clients see it: the calls that this project makes, each checked as the reference of the API documents it.

Sources: "XML-RPC API" of OpenNebula's documentation (arguments, error codes), src/rm, src/image, src/vnm and src/vm of
its repository (what is checked, the words of the errors). A call that another release would forgive is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.opennebula.images import ImageCalls
from tests.opennebula.language import TemplateError
from tests.opennebula.machines import MachineCalls
from tests.opennebula.networks import NetworkCalls
from tests.opennebula.pools import Thing
from tests.opennebula.state import API, AUTHENTICATION, INTERNAL, NAMES, RefusalError, User, pool_xml

# s a string, i an int, b a boolean; behind '|' what may be left out. The first is the session.
SIGNATURES = {
    "one.system.version": "s",
    "one.datastorepool.info": "s",
    "one.hostpool.info": "s",
    **dict.fromkeys(("one.imagepool.info", "one.templatepool.info", "one.vnpool.info"), "siii"),
    "one.vmpool.info": "siiii|s",
    **dict.fromkeys(("one.image.info", "one.vn.info", "one.vm.info", "one.host.info"), "si|b"),
    "one.template.info": "si|bb",
    "one.image.allocate": "ssi|b",
    "one.template.allocate": "ss",
    "one.vn.allocate": "ssi",
    "one.host.allocate": "ssssi",
    **dict.fromkeys(("one.image.update", "one.template.update", "one.vn.update", "one.host.update"), "sisi"),
    "one.image.delete": "si|b",
    "one.template.delete": "si|b",
    "one.vn.delete": "si",
    "one.host.delete": "si",
    "one.vn.add_ar": "sis",
    "one.vn.rm_ar": "sii|b",
    "one.template.instantiate": "sis|bsb",
}
_TYPES: Mapping[str, type] = {"s": str, "i": int, "b": bool}


class SignatureError(Exception):
    """The arguments are not those of the method: a fault of XML-RPC, not an answer of oned."""


class Oned(ImageCalls, NetworkCalls, MachineCalls):
    """A running oned."""

    def answer(self, method: str, arguments: Sequence[Any]) -> tuple[bool, Any, int]:
        """What oned answers to a call: whether it went well, the value or what was wrong, the code of the error.

        Raises SignatureError for a call that its XML-RPC library would refuse.
        """
        check_signature(method, arguments)
        session, *rest = arguments
        with self.lock:
            self.calls.append((method, tuple(rest)))
            try:
                user = self._authenticate(session)
                call: Callable[..., Any] = getattr(self, method.removeprefix("one.").replace(".", "_"))
                return True, call(user, *rest), 0
            except TemplateError as error:
                return False, f"[{method}] Parse error: {error}", INTERNAL
            except RefusalError as error:
                return False, f"[{method}] {error.what}", error.code

    def things(self) -> list[tuple[str, str]]:
        """All that is there, kind and name, to compare before and after."""
        pools: tuple[Mapping[int, Thing], ...] = (self.images, self.templates, self.networks, self.hosts, self.machines)
        return [(NAMES[type(one)][0], one.name) for pool in pools for one in pool.values()]

    def _authenticate(self, session: str) -> User:
        if session not in self.users:
            raise RefusalError(AUTHENTICATION, "User couldn't be authenticated, aborting call.")
        return self.users[session]

    def system_version(self, _user: User) -> str:
        return "7.2.0"

    def datastorepool_info(self, _user: User) -> str:
        return pool_xml("DATASTORE_POOL", self.datastores.values())

    def hostpool_info(self, _user: User) -> str:
        return pool_xml("HOST_POOL", self.hosts.values())

    def imagepool_info(self, user: User, filter_: int, start: int, end: int) -> str:
        return self._own_pool("IMAGE_POOL", self.images, user, filter_, (start, end))

    def templatepool_info(self, user: User, filter_: int, start: int, end: int) -> str:
        return self._own_pool("VMTEMPLATE_POOL", self.templates, user, filter_, (start, end))

    def vnpool_info(self, user: User, filter_: int, start: int, end: int) -> str:
        return self._own_pool("VNET_POOL", self.networks, user, filter_, (start, end))

    def vmpool_info(self, user: User, filter_: int, start: int, end: int, state: int, _: str = "") -> str:
        if state not in range(-2, 12):
            raise RefusalError(API, "Incorrect filter_flag, state must be -2, -1 or a state")
        xml = self._own_pool("VM_POOL", self.machines, user, filter_, (start, end))
        for machine in self.machines.values():
            machine.go_on()
        return xml


def check_signature(method: str, arguments: Sequence[Any]) -> None:
    """Raise SignatureError if the method does not exist, or these are not its arguments."""
    if method not in SIGNATURES:
        raise SignatureError(f"Method '{method}' not defined")
    needed, _, optional = SIGNATURES[method].partition("|")
    types = needed + optional
    if not len(needed) <= len(arguments) <= len(types):
        raise SignatureError(f"{method} takes {len(needed)} to {len(types)} parameters, not {len(arguments)}")
    for number, (argument, letter) in enumerate(zip(arguments, types, strict=False)):
        if type(argument) is not _TYPES[letter]:
            raise SignatureError(f"parameter {number} of {method} is not of type {_TYPES[letter].__name__}")
