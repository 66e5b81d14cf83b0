"""one.vn.*, as src/rm and src/vnm of OpenNebula have them."""

from ipaddress import IPv4Address
from typing import Any

from tests.opennebula.language import read_template
from tests.opennebula.pools import READY, VN_LOCKED, Network, Range
from tests.opennebula.state import ACTION, ALLOCATE, AUTHORIZATION, INTERNAL, NO_EXISTS, RefusalError, State, User


class NetworkCalls(State):
    """Networks with address ranges, and addresses on hold."""

    def vn_allocate(self, user: User, text: str, cluster: int) -> int:
        if cluster not in {-1, 0}:
            raise RefusalError(NO_EXISTS, f"Error getting cluster [{cluster}].")
        if user[0] != 0:
            raise RefusalError(AUTHORIZATION, f"User [{user[0]}] : Not authorized to perform CREATE NET .")
        thing = self._new(user, read_template(text), Network, self.networks)
        failed = "Error allocating a new virtual network."
        if not thing.single("VN_MAD"):
            raise RefusalError(ALLOCATE, f"{failed} No VN_MAD in template for Virtual Network.")
        if thing.single("VN_MAD") in {"bridge", "fw", "dummy", "ebtables"} and not thing.single("BRIDGE"):
            what = f"BRIDGE is mandatory for driver {thing.single('VN_MAD')}"
            raise RefusalError(ALLOCATE, f"{failed} {what}")
        ranges = [self._range(number, one) for number, one in enumerate(thing.vectors("AR"))]
        thing.attributes = [(key, value) for key, value in thing.attributes if key != "AR"]
        if not thing.single("SECURITY_GROUPS"):
            thing.put("SECURITY_GROUPS", "0")
        polls = self.polls_until_ready
        self.networks[thing.id] = Network(**vars(thing), ranges=ranges, state=VN_LOCKED, polls_left=polls)
        return thing.id

    def vn_info(self, user: User, id_: int, _: bool = False) -> str:
        network: Network = self._get(user, self.networks, Network, id_, "USE")
        network.polls_left -= 1
        if network.polls_left < 0:
            network.state = READY
        return network.xml()

    def vn_update(self, user: User, id_: int, text: str, kind: int) -> int:
        self._ready_network(user, id_)
        return self._update(user, self.networks, Network, id_, text, kind)

    def vn_delete(self, user: User, id_: int) -> int:
        network: Network = self._get(user, self.networks, Network, id_, "MANAGE")
        if network.state != READY:
            raise RefusalError(ACTION, "Cannot delete virtual network. It is not in a state in which this can be done")
        if network.used():
            raise RefusalError(
                ACTION, "Cannot delete virtual network. Can not remove a virtual network with leases in use"
            )
        del self.networks[id_]
        return id_

    def vn_add_ar(self, user: User, id_: int, text: str) -> int:
        network = self._ready_network(user, id_)
        [(name, value)] = read_template(text)
        if name != "AR" or isinstance(value, str):
            raise RefusalError(INTERNAL, "Wrong AR definition. AR vector attribute is missing.")
        network.ranges.append(self._range(max([one.id for one in network.ranges], default=-1) + 1, value))
        return id_

    def vn_rm_ar(self, user: User, id_: int, ar_id: int, _force: bool = False) -> int:
        network = self._ready_network(user, id_)
        range_ = self._range_of(network, ar_id)
        if range_.holders:
            raise RefusalError(ACTION, "Address Range has leases in use")
        network.ranges.remove(range_)
        return id_

    def _ready_network(self, user: User, id_: int) -> Network:
        network: Network = self._get(user, self.networks, Network, id_, "MANAGE")
        if network.state != READY:
            raise RefusalError(ACTION, "Could not perform action: the virtual network is not in READY state")
        return network

    @staticmethod
    def _range_of(network: Network, ar_id: int) -> Range:
        found = [one for one in network.ranges if one.id == ar_id]
        if not found:
            raise RefusalError(ACTION, "Address Range does not exist")
        return found[0]

    @staticmethod
    def _range(number: int, value: Any) -> Range:
        if isinstance(value, str):
            raise RefusalError(ALLOCATE, "Error allocating a new virtual network. Wrong AR definition.")
        if value.get("TYPE") not in {"IP4", "IP4_6", "ETHER"} or not value.get("SIZE", "").isdecimal():
            raise RefusalError(ALLOCATE, "Error allocating a new virtual network. Wrong TYPE or SIZE for address range")
        ip = str(IPv4Address(value["IP"]))
        mac = value.get("MAC") or "02:00:" + ":".join(f"{part:02x}" for part in IPv4Address(ip).packed)
        others = {key: one for key, one in value.items() if key not in {"TYPE", "SIZE", "IP", "MAC"}}
        return Range(id=number, ip=ip, mac=mac, size=int(value["SIZE"]), type=value["TYPE"], others=others)
