"""The description of the cluster: what `recipes/cluster.yaml` may say, and what it comes to.

`ClusterRecipe` is the file as written; `Cluster` has every host and worker by name, and is made by
`imagebuilder.recipe.address_plan`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated, Literal

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException
from pydantic import AfterValidator, BeforeValidator, Field

from imagebuilder.recipe.model import Integer, Strict, refuse
from imagebuilder.secret import Secret

# A host name as RFC 1123 (section 2.1) has it, without dots: Grid Engine and NIS compare the short name.
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+")  # no '.' or '..' on the way
_USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_INTERFACE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")  # IFNAMSIZ is 16 with the final NUL
_NIS_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62})")
_PORTS = re.compile(r"([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?")
_BRACKETS = re.compile(r"\[([^\]]*)\]")
# ClusterShell's operators, groups and wildcards: a recipe says its names itself, not where to look for them.
_OPERATORS = re.compile(r"[!&^@*?%\s]")
_COMMA = re.compile(r",(?![^\[]*\])")  # outside of brackets
# What EC2 allows, but for what a template cannot say: quotes, and a backslash at the end.
_KEY_PAIR = re.compile(r"([!#-~][ !#-~]{0,253})?[!#-\[\]-~]")
# Methods of crypt(5) that Debian 12 both accepts and considers safe: yescrypt, SHA-512, SHA-256, bcrypt.
_CRYPT_HASH = re.compile(r"\$(y|6|5|2b)\$[./A-Za-z0-9$=,]{20,}")
_SSH_KEY = re.compile(
    r"(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+|ssh-rsa) [A-Za-z0-9+/]{40,}={0,3}( .*)?"
)
# Of Debian's base and of the packages that the roles require: a user's line would take the place of theirs.
_SYSTEM_ACCOUNTS = """
    root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc nobody nogroup
    adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev
    staff users input kvm render sgx crontab netdev messagebus sshd _ssh _apt _rpc statd sgeadmin msmtp openvpn
    systemd-journal systemd-network systemd-resolve systemd-timesync
"""
# Debian's adduser gives people ids from 1000 on; below are the base's own accounts, 65534 is nobody.
_FIRST_UID, _LAST_UID = 1000, 59999
_LONGEST_PREFIX = 30  # a /31 has no address beside its own and that for broadcasts
_MOST_NAMES, _MOST_DIGITS = 4096, 9  # a typing error such as local[1-99999999] must not fill the memory


def is_host_name(text: str) -> bool:
    """Whether `text` can be the name of a machine."""
    return _HOST_NAME.fullmatch(text) is not None


def expand_names(pattern: str) -> tuple[str, ...]:
    """The names in a ClusterShell pattern such as `local[01-16]`, in the order written. Raises ValueError.

    Numbers in brackets must ascend, as ClusterShell would sort them: names and addresses are matched one by one.
    """
    for bracket in _BRACKETS.findall(pattern):
        numbers = re.findall(r"[0-9]+", bracket.partition("/")[0])
        if any(len(number) > _MOST_DIGITS for number in numbers):
            raise ValueError(f"'{pattern}' has a number of more than {_MOST_DIGITS} digits in its brackets")
        bounds = [int(number) for number in numbers]
        if bounds != sorted(bounds):
            raise ValueError(f"the numbers in the brackets of '{pattern}' do not ascend")
        if bounds and bounds[-1] - bounds[0] >= _MOST_NAMES:  # ClusterShell would write them all out first
            raise ValueError(f"'{pattern}' stands for more than {_MOST_NAMES} names")
    try:
        parts = [NodeSet(part, resolver=RESOLVER_NOGROUP) for part in _COMMA.split(pattern)]
    except NodeSetException as error:
        raise ValueError(f"'{pattern}' is no name or range of names") from error
    count = sum(map(len, parts))
    if _OPERATORS.search(pattern) or not all(parts):
        raise ValueError(f"'{pattern}' is no name or range of names")
    if count > _MOST_NAMES:
        raise ValueError(f"'{pattern}' stands for {count} names; {_MOST_NAMES} are allowed")
    names = tuple(str(name) for part in parts for name in part)
    if len(set(names)) < count:
        raise ValueError(f"'{pattern}' has a name twice")
    return names


def fold_names(names: Iterable[object]) -> str:
    """The names as one pattern: `local[01-16]`."""
    return str(NodeSet.fromlist([str(name) for name in names], resolver=RESOLVER_NOGROUP))


_HOST_NAME_FIX = "use a-z, 0-9 and '-' inside, 63 characters at the most, no dot"


def _host_pattern(text: str) -> str:
    try:
        names = expand_names(text)
    except ValueError as error:
        raise refuse(str(error), "write a name or a range such as local[01-16]") from error
    for name in names:
        if not is_host_name(name):
            raise refuse(f"'{name}' is no host name", _HOST_NAME_FIX)
    return text


def _addresses(text: str) -> str:
    try:
        for name in expand_names(text):
            IPv4Address(name)
    except AddressValueError as error:
        fix = "write one as 10.1.1.55, or a range as 10.1.1.[55-70]"
        raise refuse(f"'{text}' is no IPv4 address or range of them", fix) from error
    except ValueError as error:
        raise refuse(str(error), "write one address as 10.1.1.55, or a range as 10.1.1.[55-70]") from error
    return text


def _pool(text: str) -> str:
    try:
        first, last = (IPv4Address(part.strip()) for part in text.split("-"))
    except ValueError as error:
        raise refuse(f"'{text}' is no range of addresses", "write it as 10.1.1.100-10.1.1.254") from error
    if first > last:
        raise refuse(f"the pool '{text}' ends before it begins", f"write it as {last}-{first}")
    return text


def _subnet(value: object) -> object:
    if not isinstance(value, str):
        raise refuse("expected a network as text", 'write it in quotes, as "10.1.1.0/24"')
    try:
        network = IPv4Interface(value).network
    except ValueError as error:
        raise refuse(f"'{value}' is no IPv4 network", "write it as 10.1.1.0/24") from error
    if "/" not in value:
        raise refuse(f"'{value}' has no prefix length", f"write it as {value}/24, for example")
    if network.prefixlen > _LONGEST_PREFIX:
        raise refuse(f"'{value}' has no room for two machines", f"use a prefix of {_LONGEST_PREFIX} or less")
    if str(network) != value:
        raise refuse(f"'{value}' is not the first address of its network", f"write it as {network}")
    return network


def _address(value: object) -> object:
    if isinstance(value, str):
        try:
            return IPv4Address(value)
        except ValueError as error:
            raise refuse(f"'{value}' is no IPv4 address", "write it as 10.1.1.1") from error
    if value is None:
        return None
    raise refuse("expected an address as text", 'write it in quotes, as "10.1.1.1"')


def _ports(text: str) -> str:
    match = _PORTS.fullmatch(text)
    bounds = [int(group) for group in match.groups() if group] if match else []
    if not bounds or bounds[-1] > 65535 or bounds != sorted(bounds):
        raise refuse(f"'{text}' is no port or range of ports", 'write it as "22" or "22-25", at the most 65535')
    return text


def _matching(pattern: re.Pattern[str], expected: str, fix: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise refuse(f"'{text}' is no {expected}", fix)
        return text

    return AfterValidator(check)


def _user_name(text: str) -> str:
    if not _USER_NAME.fullmatch(text):
        fix = "begin with a-z or '_', go on with a-z, 0-9, '_' and '-', 32 characters at the most"
        raise refuse(f"'{text}' is no user name", fix)
    if text in _SYSTEM_ACCOUNTS.split():
        raise refuse(f"'{text}' is an account or group of the system", "choose another name")
    return text


def _crypt_hash(hashed: Secret) -> Secret:
    if not _CRYPT_HASH.fullmatch(hashed.reveal().decode(errors="replace")):
        what = "this is no hash by yescrypt, bcrypt, SHA-512 or SHA-256; never write a clear password"
        raise refuse(what, "use what `mkpasswd -m yescrypt` prints, in quotes")
    return hashed


def _ssh_key(text: str) -> str:
    if "PRIVATE KEY" in text:
        raise refuse(
            "this is a private key, which nobody but its owner may have",
            "write the public key, the line in the file that ends in .pub",
        )
    if not _SSH_KEY.fullmatch(text):
        raise refuse("this is no ssh public key", "write one line as it stands in a .pub file")
    return text


_NAME_CHARACTERS = "letters, digits, '.', '_' and '-'"

HostPattern = Annotated[str, AfterValidator(_host_pattern)]
HostName = Annotated[str, _matching(_HOST_NAME, "host name", _HOST_NAME_FIX)]
UserName = Annotated[str, AfterValidator(_user_name)]
Addresses = Annotated[str, AfterValidator(_addresses)]
Subnet = Annotated[IPv4Network, BeforeValidator(_subnet)]
Address = Annotated[IPv4Address, BeforeValidator(_address)]
InterfaceName = Annotated[
    str, _matching(_INTERFACE_NAME, "interface name", f"use {_NAME_CHARACTERS}, 15 characters at the most")
]
Port = Annotated[Integer, Field(ge=1, le=65535)]
PortRange = Annotated[str, AfterValidator(_ports)]
AbsolutePath = Annotated[
    str, _matching(_PATH, "absolute path", f"write it as /srv/scratch, with {_NAME_CHARACTERS} between the slashes")
]
Word = Annotated[
    str, _matching(re.compile(r"[A-Za-z0-9._=:@/+-]+"), "plain word", "use letters, digits and . _ = : @ / + -")
]
SshKey = Annotated[str, AfterValidator(_ssh_key)]
KeyPair = Annotated[
    str, _matching(_KEY_PAIR, "key pair name", "use ASCII without '\"', no blank at the ends, no backslash at the end")
]


class Network(Strict):
    """An IPv4 network that the cluster's machines are on."""

    subnet: Subnet
    """Its addresses, for example `10.1.1.0/24`."""
    gateway: Address | None = None
    """The router to other networks; the private network has none."""
    bridge: InterfaceName
    """The bridge in Xen's dom0 that machines on this network are attached to."""


class Hosts(Strict):
    """One machine, or a range of like ones."""

    role: Word
    """The recipe that builds it: `node` for `recipes/node.yaml`."""
    addresses: dict[Word, Addresses]
    """Its address on each network it is on; for a range of hosts as many, as in `10.1.1.[55-70]`."""


class Workers(Strict):
    """The machines that come and go: all of them run one and the same image."""

    role: Word = "worker"
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


class Nis(Strict):
    """The directory of users and hosts."""

    domain: Annotated[
        str, _matching(_NIS_DOMAIN, "NIS domain name", f"use {_NAME_CHARACTERS}, 63 characters at the most")
    ]
    """The NIS domain; it has nothing to do with DNS."""


class User(Strict):
    """A person who logs in and submits jobs; known to every machine through NIS."""

    uid: Annotated[Integer, Field(ge=_FIRST_UID, le=_LAST_UID)]
    """User id, and group id of the group of the same name."""
    full_name: Annotated[
        str, _matching(re.compile(r"[^:,\x00-\x1f\x7f]*"), "full name", "leave out ':', ',' and line breaks")
    ] = ""
    """The name shown for the account."""
    shell: AbsolutePath = "/bin/bash"
    """The login shell."""
    password_hash: Annotated[Secret, AfterValidator(_crypt_hash)] | None = None
    """A crypt(5) hash as `mkpasswd -m yescrypt` prints it; without one there is no login by password."""
    ssh_keys: tuple[SshKey, ...] = ()
    """Public keys that may log in."""


class Export(Strict):
    """A directory of the server that every other machine mounts."""

    options: tuple[Word, ...] = ("rw", "sync", "no_subtree_check", "root_squash")
    """Options of exports(5)."""
    mount_options: tuple[Word, ...] = ("rw", "hard", "noatime", "proto=tcp", "vers=4.2")
    """Options of nfs(5) on the machines that mount it."""


class GridEngine(Strict):
    """The batch system."""

    cell: Annotated[str, _matching(re.compile(r"[A-Za-z0-9_-]+"), "cell name", "use letters, digits, '_' and '-'")] = (
        "default"
    )
    """The Grid Engine cell."""
    queue: Annotated[
        str,
        _matching(
            re.compile(r"[A-Za-z][A-Za-z0-9._-]*"),
            "queue name",
            f"begin with a letter, go on with {_NAME_CHARACTERS}",
        ),
    ] = "all.q"
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
    keypair: KeyPair | None = None
    """The EC2 key pair (KEYPAIR)."""
    instance_type: Word = "t3.small"
    """The EC2 instance type (INSTANCETYPE)."""
    elastic_ip: Address | None = None
    """An elastic address for the instance (ELASTICIP)."""
    security_groups: tuple[Word, ...] = ()
    """Security groups for the instance (SECURITYGROUPS, which OpenNebula 1.0 does not know)."""
    cpu: Annotated[Integer, Field(ge=1, le=512)] = 1
    """The CPUs that OpenNebula's scheduler counts for a worker (CPU)."""
    memory_mib: Annotated[Integer, Field(ge=64)] = 1700
    """The memory in MiB that it counts (MEMORY); EC2's m1.small had 1700."""


class OpenNebula(Strict):
    """What a site chooses for its OpenNebula; see docs/opennebula.md."""

    hosts: tuple[HostPattern, ...] = ()
    """The machines that run the local guests."""
    ec2_host: Word = "ec2"
    """The name of the host that stands for EC2."""
    datastore: Word = "default"
    """The datastore that takes the images."""
    screens: Literal["local", "anywhere", "none"] = "local"
    """Who sees a guest's screen by VNC: its host only, all who reach the host (as Sunstone), or nobody (GRAPHICS)."""
    ssh_key: SshKey | None = None
    """The administrator's public key (SSH_PUBLIC_KEY); else that of the OpenNebula user who starts the guest."""


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
    users: dict[UserName, User] = {}
    """Who may log in and submit jobs; their homes are /home/NAME on the server."""
    exports: dict[AbsolutePath, Export]
    """What the server exports by NFS to the private network."""
    grid_engine: GridEngine = GridEngine()
    firewall: Firewall = Firewall()
    ec2: Ec2 = Ec2()
    opennebula: OpenNebula = OpenNebula()


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


def pool_bounds(recipe: ClusterRecipe) -> tuple[IPv4Address, IPv4Address]:
    """First and last address of the VPN's pool."""
    first, last = (IPv4Address(part.strip()) for part in recipe.vpn.pool.split("-"))
    return first, last
