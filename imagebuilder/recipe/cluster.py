"""The description of the cluster: what `recipes/cluster.yaml` may say, and the address plan derived from it.

Everything that must agree across hosts is derived here, once. `ClusterRecipe` is the file as written; `Cluster`
has every host and worker by name, checked against each other.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal

from ClusterShell.NodeSet import NodeSet, NodeSetException
from pydantic import AfterValidator, Field

from imagebuilder.errors import Fault
from imagebuilder.recipe.model import Integer, Strict, nearest, refuse
from imagebuilder.recipe.source import Keys, Source
from imagebuilder.secret import Secret

# A host name as RFC 1123 (section 2.1) has it, without dots: Grid Engine and NIS compare the short name.
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")  # IFNAMSIZ is 16 with the final NUL
_NIS_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62})")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
# Methods of crypt(5) that Debian 12 both accepts and considers safe: yescrypt, SHA-512, SHA-256, bcrypt.
_CRYPT_HASH = re.compile(r"\$(y|6|5|2b)\$[./A-Za-z0-9$=,]{20,}")
_SSH_KEY = re.compile(
    r"(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+|ssh-rsa) [A-Za-z0-9+/]{40,}={0,3}( .*)?"
)
# Debian's adduser gives people ids from 1000 on; below are the base's own accounts, 65534 is nobody.
_FIRST_UID, _LAST_UID = 1000, 59999
_MOST_NAMES = 4096  # a typing error such as local[1-99999999] must not fill the memory


def expand_names(pattern: str) -> tuple[str, ...]:
    """The names in a ClusterShell pattern such as `local[01-16]`, in its order. Raises ValueError."""
    try:
        names = NodeSet(pattern)
    except NodeSetException as error:
        raise ValueError(f"'{pattern}' is no name or range of names: {error}") from error
    if not 0 < len(names) <= _MOST_NAMES:
        raise ValueError(f"'{pattern}' stands for {len(names)} names; expected 1 to {_MOST_NAMES}")
    return tuple(names)


def _host_pattern(text: str) -> str:
    try:
        names = expand_names(text)
    except ValueError as error:
        raise refuse(str(error), "write a name or a range such as local[01-16]") from error
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise refuse(
                f"'{name}' is no host name", "use a-z, 0-9 and '-' inside, 63 characters at the most, no dot"
            )
    return text


def _addresses(text: str) -> str:
    try:
        names = expand_names(text)
        for name in names:
            IPv4Address(name)
    except ValueError as error:
        raise refuse(
            f"'{text}' is no IPv4 address", "write one as 10.1.1.55, or a range as 10.1.1.[55-70]"
        ) from error
    return text


def _pool(text: str) -> str:
    try:
        first, last = (IPv4Address(part.strip()) for part in text.split("-"))
    except ValueError as error:
        raise refuse(f"'{text}' is no range of addresses", "write it as 10.1.1.100-10.1.1.254") from error
    if first > last:
        raise refuse(f"the pool '{text}' ends before it begins", f"write it as {last}-{first}")
    return text


def _ports(text: str) -> str:
    match = _PORTS.fullmatch(text)
    bounds = [int(group) for group in match.groups() if group] if match else []
    if not bounds or not all(0 < port < 65536 for port in bounds) or bounds != sorted(bounds):
        raise refuse(f"'{text}' is no port or range of ports", 'write it as "22" or "22-25"')
    return text


def _matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise refuse(f"'{text}' is no {expected}", f"it must match {pattern.pattern}")
        return text

    return AfterValidator(check)


def _crypt_hash(hashed: Secret) -> Secret:
    if not _CRYPT_HASH.fullmatch(hashed.reveal().decode(errors="replace")):
        raise refuse(
            "is not a password hash that this tool accepts; never write a clear password",
            "use what `mkpasswd -m yescrypt` prints",
        )
    return hashed


def _ssh_key(text: str) -> str:
    if "PRIVATE KEY" in text:
        raise refuse("holds a private key", "write the public key, the line in the file that ends in .pub")
    if not _SSH_KEY.fullmatch(text):
        raise refuse("is no ssh public key", "write one line as it stands in a .pub file")
    return text


HostPattern = Annotated[str, AfterValidator(_host_pattern)]
HostName = Annotated[str, _matching(_HOST_NAME, "host name")]
Addresses = Annotated[str, AfterValidator(_addresses)]
InterfaceName = Annotated[str, _matching(_INTERFACE_NAME, "interface name")]
Port = Annotated[Integer, Field(ge=1, le=65535)]
PortRange = Annotated[str, AfterValidator(_ports)]
AbsolutePath = Annotated[str, _matching(re.compile(r"(/[A-Za-z0-9._-]+)+"), "absolute path")]
Word = Annotated[str, _matching(re.compile(r"[A-Za-z0-9._=:@/+-]+"), "plain word")]
Days = Annotated[Integer, Field(ge=1, le=36500)]


class Network(Strict):
    """An IPv4 network that the cluster's machines are on."""

    subnet: IPv4Network
    """Its addresses, for example `10.1.1.0/24`."""
    gateway: IPv4Address | None = None
    """The router to other networks; the private network has none."""
    bridge: InterfaceName
    """The bridge in Xen's dom0 that machines on this network are attached to."""


class Hosts(Strict):
    """One machine, or a range of like ones."""

    role: str
    """The recipe that builds it: `node` for `recipes/node.yaml`."""
    addresses: dict[str, Addresses]
    """Its address on each network it is on; for a range of hosts as many, as in `10.1.1.[55-70]`."""


class Workers(Strict):
    """The machines that come and go: all of them run one and the same image."""

    role: str = "worker"
    """The recipe that builds their image."""
    names: HostPattern
    """Their names, one for each address of the VPN's pool, in order."""


class Vpn(Strict):
    """The VPN by which workers reach the private network."""

    pool: Annotated[str, AfterValidator(_pool)]
    """The addresses it gives to workers, first and last."""
    port: Port = 1194
    """The UDP port that the server listens on."""
    device: InterfaceName = "tap0"
    """The VPN's tap device, on the server and on workers."""
    certificate_days: Days = 3650
    """How long the certificates that `imgbuild pki` issues are valid."""


class Nis(Strict):
    """The directory of users and hosts."""

    domain: Annotated[str, _matching(_NIS_DOMAIN, "NIS domain name")]
    """The NIS domain; it has nothing to do with DNS."""


class User(Strict):
    """A person who logs in and submits jobs; known to every machine through NIS."""

    uid: Annotated[Integer, Field(ge=_FIRST_UID, le=_LAST_UID)]
    """User id, and group id of the group of the same name."""
    full_name: Annotated[str, _matching(re.compile(r"[^:\n,]*"), "name without ':' or ','")] = ""
    """The name shown for the account."""
    shell: AbsolutePath = "/bin/bash"
    """The login shell."""
    password_hash: Annotated[Secret, AfterValidator(_crypt_hash)] | None = None
    """A crypt(5) hash as `mkpasswd -m yescrypt` prints it; without one there is no login by password."""
    ssh_keys: tuple[Annotated[str, AfterValidator(_ssh_key)], ...] = ()
    """Public keys that may log in."""


class Export(Strict):
    """A directory of the server that every other machine mounts."""

    options: tuple[Word, ...] = ("rw", "sync", "no_subtree_check", "root_squash")
    """Options of exports(5)."""
    mount_options: tuple[Word, ...] = ("rw", "hard", "noatime", "proto=tcp", "vers=4.2")
    """Options of nfs(5) on the machines that mount it."""


class GridEngine(Strict):
    """The batch system."""

    cell: Annotated[str, _matching(re.compile(r"[A-Za-z0-9_-]+"), "cell name")] = "default"
    """The Grid Engine cell."""
    queue: Annotated[str, _matching(re.compile(r"[A-Za-z][A-Za-z0-9._-]*"), "queue name")] = "all.q"
    """The queue that every execution host is in."""
    slots: Annotated[Integer, Field(ge=1, le=9999)] = 1
    """Jobs that may run at once on one machine."""


class Firewall(Strict):
    """What answers on the public side beside the VPN."""

    server_ports: tuple[PortRange, ...] = ()
    """TCP ports open on the server's public side."""


class Ec2(Strict):
    """What workers on EC2 are started with; the names are those of OpenNebula's EC2 template section."""

    authorized_ports: PortRange = "22"
    """TCP ports open on a worker's public side (AUTHORIZED_PORTS)."""
    keypair: str | None = None
    """The EC2 key pair (KEYPAIR)."""
    instance_type: str = "t3.small"
    """The EC2 instance type (INSTANCETYPE)."""
    elastic_ip: IPv4Address | None = None
    """An elastic address for the instance (ELASTICIP)."""


class ClusterRecipe(Strict):
    """The cluster as `recipes/cluster.yaml` describes it."""

    name: HostName
    """The cluster's name; its certificates carry it."""
    networks: dict[Literal["private", "public"], Network]
    """The private network, reached from outside through the VPN only, and the public one."""
    server: HostName
    """The host that serves NIS, NFS, the VPN and Grid Engine."""
    hosts: dict[HostPattern, Hosts]
    """Every machine with an address of its own."""
    workers: Workers
    """The machines that come and go."""
    vpn: Vpn
    nis: Nis
    users: dict[Annotated[str, _matching(_USER_NAME, "user name")], User] = {}
    """Who may log in and submit jobs; their homes are /home/NAME on the server."""
    exports: dict[AbsolutePath, Export]
    """What the server exports by NFS to the private network."""
    grid_engine: GridEngine = GridEngine()
    firewall: Firewall = Firewall()
    ec2: Ec2 = Ec2()


@dataclass(frozen=True, kw_only=True)
class Host:
    """One machine with a name: its role and its address on each of its networks."""

    name: str
    role: str
    addresses: Mapping[str, IPv4Address]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The address plan: every host and every worker by name."""

    recipe: ClusterRecipe
    hosts: tuple[Host, ...]
    workers: Mapping[str, IPv4Address]

    @property
    def private(self) -> Network:
        """The network that is reached from outside through the VPN only."""
        return self.recipe.networks["private"]

    @property
    def public(self) -> Network:
        """The network that faces the world."""
        return self.recipe.networks["public"]

    @property
    def server(self) -> Host:
        """The host that serves NIS, NFS, the VPN and Grid Engine."""
        return next(host for host in self.hosts if host.name == self.recipe.server)

    @property
    def nodes(self) -> tuple[Host, ...]:
        """Every host but the server."""
        return tuple(host for host in self.hosts if host.name != self.recipe.server)

    @property
    def cell_directory(self) -> str:
        """The Grid Engine cell, which the server exports and every execution host mounts."""
        return f"/var/lib/gridengine/{self.recipe.grid_engine.cell}"


def make_cluster(recipe: ClusterRecipe, source: Source, roles: Iterable[str]) -> tuple[Cluster | None, list[Fault]]:
    """The address plan of `recipe`, and every way in which its parts contradict each other.

    `roles` are the names of the role recipes there are. With faults the plan may lack hosts; it is None if the
    server is not among them.
    """
    faults: list[Fault] = []
    hosts = list(_expand_hosts(recipe, source, faults))
    workers = _expand_workers(recipe, source, faults)
    faults += _network_faults(recipe, source)
    faults += _role_faults(recipe, source, sorted(roles))
    faults += _double_faults(recipe, source)
    faults += _server_faults(recipe, source, [host for host, _ in hosts])
    faults += _export_faults(recipe, source)
    faults += _user_faults(recipe, source)
    cluster = Cluster(recipe=recipe, hosts=tuple(host for host, _ in hosts), workers=workers)
    if not any(host.name == recipe.server for host in cluster.hosts):
        return None, faults
    return cluster, faults


def _expand_hosts(recipe: ClusterRecipe, source: Source, faults: list[Fault]) -> Iterator[tuple[Host, Keys]]:
    for pattern, entry in recipe.hosts.items():
        names = expand_names(pattern)
        keys: Keys = ("hosts", pattern, "addresses")
        columns: dict[str, tuple[IPv4Address, ...]] = {}
        for network, text in entry.addresses.items():
            addresses = tuple(IPv4Address(address) for address in expand_names(text))
            if network not in recipe.networks:
                known = list(recipe.networks)
                what = f"there is no network '{network}'.{nearest(network, map(str, known))}"
                faults.append(
                    Fault(
                        place=source.place_of_key((*keys, network)),
                        what=what,
                        fix=f"use one of {', '.join(known)}",
                    )
                )
            elif len(addresses) != len(names):
                what = f"'{pattern}' stands for {len(names)} hosts, '{text}' for {len(addresses)} addresses"
                faults.append(
                    Fault(
                        place=source.place_of((*keys, network)),
                        what=what,
                        fix="give as many addresses as hosts",
                    )
                )
            else:
                columns[network] = addresses
        if "private" not in entry.addresses:
            what = f"'{pattern}' has no address on the private network"
            faults.append(Fault(place=source.place_of_key(keys), what=what, fix="add a line `private: …`"))
        elif "private" in columns:
            for index, name in enumerate(names):
                own = {network: addresses[index] for network, addresses in columns.items()}
                yield Host(name=name, role=entry.role, addresses=own), (*keys,)


def _expand_workers(recipe: ClusterRecipe, source: Source, faults: list[Fault]) -> dict[str, IPv4Address]:
    first, last = pool_bounds(recipe)
    names = expand_names(recipe.workers.names)
    count = int(last) - int(first) + 1
    if count != len(names):
        what = f"{len(names)} worker names, but {count} addresses in the VPN's pool {recipe.vpn.pool}"
        fix = f"make it {count} names, such as workernode[0-{count - 1}]"
        faults.append(Fault(place=source.place_of(("workers", "names")), what=what, fix=fix))
    return {name: first + index for index, name in enumerate(names[:count])}


def pool_bounds(recipe: ClusterRecipe) -> tuple[IPv4Address, IPv4Address]:
    """First and last address of the VPN's pool."""
    first, last = (IPv4Address(part.strip()) for part in recipe.vpn.pool.split("-"))
    return first, last


def _network_faults(recipe: ClusterRecipe, source: Source) -> Iterator[Fault]:
    for needed in ("private", "public"):
        if needed not in recipe.networks:
            yield Fault(
                place=source.place_of_key(("networks",)),
                what=f"there is no network '{needed}'",
                fix=f"add `{needed}:`",
            )
    match recipe.networks:
        case {"private": private, "public": public} if private.subnet.overlaps(public.subnet):
            what = f"the networks overlap: private {private.subnet}, public {public.subnet}"
            yield Fault(
                place=source.place_of(("networks", "public", "subnet")), what=what, fix="use distinct subnets"
            )
    for name, network in recipe.networks.items():
        if network.gateway is not None and not _usable(network, network.gateway):
            what = f"the gateway {network.gateway} is outside of {network.subnet}"
            yield Fault(place=source.place_of(("networks", name, "gateway")), what=what, fix=_usable_range(network))
    inner = recipe.networks.get("private")
    if inner is not None:
        if inner.gateway is not None:
            what = "the private network has a gateway, but it must be reached through the VPN only"
            yield Fault(place=source.place_of_key(("networks", "private", "gateway")), what=what, fix="remove it")
        for address in pool_bounds(recipe):
            if not _usable(inner, address):
                what = f"the pool's address {address} is outside of the private network {inner.subnet}"
                yield Fault(place=source.place_of(("vpn", "pool")), what=what, fix=_usable_range(inner))


def _usable(network: Network, address: IPv4Address) -> bool:
    outer = (network.subnet.network_address, network.subnet.broadcast_address)
    return address in network.subnet and address not in outer


def _usable_range(network: Network) -> str:
    return f"use an address from {network.subnet.network_address + 1} to {network.subnet.broadcast_address - 1}"


def _role_faults(recipe: ClusterRecipe, source: Source, roles: list[str]) -> Iterator[Fault]:
    used: list[tuple[Keys, str]] = [
        (("hosts", pattern, "role"), entry.role) for pattern, entry in recipe.hosts.items()
    ]
    for keys, role in [*used, (("workers", "role"), recipe.workers.role)]:
        if role not in roles:
            what = f"there is no role '{role}' (no recipes/{role}.yaml).{nearest(role, roles)}"
            yield Fault(place=source.place_of(keys), what=what, fix=f"use one of {', '.join(roles)}")


def _double_faults(recipe: ClusterRecipe, source: Source) -> Iterator[Fault]:
    """Two machines with one name or address, an address outside its network or inside the pool."""
    first_pool, last_pool = pool_bounds(recipe)
    names: dict[str, str] = {
        name: f"the worker names '{recipe.workers.names}'" for name in expand_names(recipe.workers.names)
    }
    names["localhost"] = "the loopback address"
    owners: dict[IPv4Address, str] = {
        network.gateway: f"the gateway of '{name}'" for name, network in recipe.networks.items() if network.gateway
    }
    for pattern, entry in recipe.hosts.items():
        for name in expand_names(pattern):
            if name in names:
                what = f"the name '{name}' is taken already, by {names[name]}"
                yield Fault(
                    place=source.place_of_key(("hosts", pattern)),
                    what=what,
                    fix="give each machine a name of its own",
                )
            names.setdefault(name, f"'{pattern}'")
        for network_name, text in entry.addresses.items():
            place = source.place_of(("hosts", pattern, "addresses", network_name))
            network = recipe.networks.get(network_name)  # type: ignore[call-overload]
            for address in map(IPv4Address, expand_names(text)):
                if network is not None and not _usable(network, address):
                    what = f"{address} is outside of the {network_name} network {network.subnet}"
                    yield Fault(place=place, what=what, fix=_usable_range(network))
                elif address in owners:
                    what = f"the address {address} is taken already, by {owners[address]}"
                    yield Fault(place=place, what=what, fix="give each machine an address of its own")
                elif first_pool <= address <= last_pool:
                    what = f"the address {address} lies in the VPN's pool {recipe.vpn.pool}, which is for workers"
                    yield Fault(place=place, what=what, fix="choose one outside, or shrink vpn.pool")
                owners.setdefault(address, f"'{pattern}'")


def _server_faults(recipe: ClusterRecipe, source: Source, hosts: list[Host]) -> Iterator[Fault]:
    names = [name for pattern in recipe.hosts for name in expand_names(pattern)]
    place = source.place_of(("server",))
    if recipe.server not in names:
        what = f"the server '{recipe.server}' is not among the hosts.{nearest(recipe.server, names)}"
        yield Fault(place=place, what=what, fix=f"use one of {', '.join(names[:8])}")
    for host in hosts:
        if host.name == recipe.server and "public" not in host.addresses:
            what = f"the server '{host.name}' has no public address, so that no worker can reach its VPN"
            yield Fault(place=place, what=what, fix="add `public: …` to its addresses")


def _export_faults(recipe: ClusterRecipe, source: Source) -> Iterator[Fault]:
    cell = f"/var/lib/gridengine/{recipe.grid_engine.cell}"
    for needed, why in (("/home", "users' homes"), (cell, "the Grid Engine cell")):
        if needed not in recipe.exports:
            what = f"'{needed}' ({why}) is not exported.{nearest(needed, recipe.exports)}"
            yield Fault(place=source.place_of_key(("exports",)), what=what, fix=f"add `{needed}: {{}}`")


def _user_faults(recipe: ClusterRecipe, source: Source) -> Iterator[Fault]:
    owners: dict[int, str] = {}
    for name, user in recipe.users.items():
        if user.uid in owners:
            what = f"the uid {user.uid} is taken already, by '{owners[user.uid]}'"
            yield Fault(
                place=source.place_of(("users", name, "uid")),
                what=what,
                fix="give each user a uid of its own",
            )
        owners.setdefault(user.uid, name)
