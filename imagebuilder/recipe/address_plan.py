"""Makes the address plan: every host and worker by name, checked against each other.

Everything that must agree across hosts is derived here, once.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address

from imagebuilder.errors import Fault
from imagebuilder.recipe.cluster import Cluster, ClusterRecipe, Host, Network, expand_names, fold_names, pool_bounds
from imagebuilder.recipe.model import nearest
from imagebuilder.recipe.source import Keys, Source

_NETWORKS = ("private", "public")


def make_cluster(recipe: ClusterRecipe, source: Source, roles: Iterable[str]) -> tuple[Cluster | None, list[Fault]]:
    """The address plan of `recipe`, and every way in which its parts contradict each other.

    `roles` are the names of the role recipes there are. `recipe` may lack what was found faulty in `source`
    already; that is no second fault. With faults the plan may lack hosts; it is None without both networks or
    without the server on both.
    """
    faults = [
        *_network_faults(recipe, source),
        *_pool_faults(recipe, source),
        *_role_faults(recipe, source, sorted(roles)),
        *_column_faults(recipe, source),
        *_name_faults(recipe, source),
        *_address_faults(recipe, source),
        *_server_faults(recipe, source),
        *_export_faults(recipe, source),
        *_user_faults(recipe, source),
    ]
    first, last = pool_bounds(recipe)
    names = expand_names(recipe.workers.names)[: int(last) - int(first) + 1]
    workers = {name: first + index for index, name in enumerate(names)}
    cluster = Cluster(recipe=recipe, hosts=tuple(_expand_hosts(recipe, source)), workers=workers)
    server = next((host for host in cluster.hosts if host.name == recipe.server), None)
    if server is None or not server.addresses.keys() >= set(_NETWORKS):
        return None, faults
    return cluster, faults


def _expand_hosts(recipe: ClusterRecipe, source: Source) -> Iterator[Host]:
    """The hosts whose addresses are all sound."""
    for pattern, entry in recipe.hosts.items():
        names = expand_names(pattern)
        columns = {network: expand_names(text) for network, text in entry.addresses.items()}
        written = set(source.names_at(("hosts", pattern, "addresses")))
        sound = written == columns.keys() <= recipe.networks.keys() and "private" in columns
        if sound and all(len(column) == len(names) for column in columns.values()):
            for index, name in enumerate(names):
                own = {network: IPv4Address(column[index]) for network, column in columns.items()}
                yield Host(name=name, role=entry.role, addresses=own)


def _column_faults(recipe: ClusterRecipe, source: Source) -> Iterator[Fault]:
    """Addresses that do not match the hosts one by one."""
    for pattern, entry in recipe.hosts.items():
        keys: Keys = ("hosts", pattern, "addresses")
        count = len(expand_names(pattern))
        for network, text in entry.addresses.items():
            given = len(expand_names(text))
            if network not in _NETWORKS:
                what = f"there is no network '{network}'.{nearest(network, _NETWORKS)}"
                fix = f"use one of {', '.join(_NETWORKS)}"
                yield Fault(place=source.place_of_key((*keys, network)), what=what, fix=fix)
            elif given != count:
                what = f"'{pattern}' stands for {_counted(count, 'host')}, '{text}' for {_counted(given, 'address')}"
                place = source.place_of((*keys, network))
                yield Fault(place=place, what=what, fix="give as many addresses as hosts")
        written = source.names_at(keys)
        if "private" not in written and set(_NETWORKS).issuperset(written):
            what = f"'{pattern}' has no address on the private network"
            yield Fault(place=source.place_of_key(keys), what=what, fix="add `private: …` to its addresses")


def _counted(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def _network_faults(recipe: ClusterRecipe, source: Source) -> Iterator[Fault]:
    written = source.names_at(("networks",))
    for needed in _NETWORKS if set(_NETWORKS).issuperset(written) else ():
        if needed not in written:
            place = source.place_of_key(("networks",))
            yield Fault(place=place, what=f"there is no network '{needed}'", fix=f"add `{needed}:` below it")
    match recipe.networks:
        case {"private": private, "public": public} if private.subnet.overlaps(public.subnet):
            what = f"the networks overlap: private {private.subnet}, public {public.subnet}"
            place = source.place_of(("networks", "public", "subnet"))
            yield Fault(place=place, what=what, fix="use distinct subnets")
    for name, network in recipe.networks.items():
        keys: Keys = ("networks", name, "gateway")
        if network.gateway is not None and name == "private":
            what = "the private network has a gateway, but it must be reached through the VPN only"
            yield Fault(place=source.place_of_key(keys), what=what, fix="remove the line")
        elif network.gateway is not None and (why := _unusable(name, network, network.gateway)):
            what = f"the gateway {network.gateway} {why}"
            yield Fault(place=source.place_of(keys), what=what, fix=_usable_range(network))


def _pool_faults(recipe: ClusterRecipe, source: Source) -> Iterator[Fault]:
    first, last = pool_bounds(recipe)
    if (private := recipe.networks.get("private")) is not None:
        for address in dict.fromkeys((first, last)):
            if why := _unusable("private", private, address):
                what = f"the pool's address {address} {why}"
                yield Fault(place=source.place_of(("vpn", "pool")), what=what, fix=_usable_range(private))
    names = expand_names(recipe.workers.names)
    count = int(last) - int(first) + 1
    if count != len(names):
        given = f"{_counted(len(names), 'worker name')} for {_counted(count, 'address')}"
        what = f"{given} in the VPN's pool {recipe.vpn.pool}"
        fix = f"make it {count} names, such as workernode[0-{count - 1}]" if count > 1 else "make it one name"
        yield Fault(place=source.place_of(("workers", "names")), what=what, fix=fix)


def _unusable(name: str, network: Network, address: IPv4Address) -> str | None:
    """Why no machine can have `address` on the network of this name."""
    if address not in network.subnet:
        return f"lies outside of the {name} network {network.subnet}"
    if address == network.subnet.network_address:
        return f"is the address of the {name} network {network.subnet} itself"
    if address == network.subnet.broadcast_address:
        return f"is the broadcast address of the {name} network {network.subnet}"
    return None


def _usable_range(network: Network) -> str:
    return f"use an address from {network.subnet.network_address + 1} to {network.subnet.broadcast_address - 1}"


def _role_faults(recipe: ClusterRecipe, source: Source, roles: list[str]) -> Iterator[Fault]:
    used: list[tuple[Keys, str]] = [(("hosts", pattern, "role"), entry.role) for pattern, entry in recipe.hosts.items()]
    for keys, role in [*used, (("workers", "role"), recipe.workers.role)]:
        if role not in roles:
            what = f"there is no role '{role}': no recipes/{role}.yaml.{nearest(role, roles)}"
            fix = f"use one of {', '.join(roles)}" if roles else f"make recipes/{role}.yaml"
            yield Fault(place=source.place_of(keys), what=what, fix=fix)


def _name_faults(recipe: ClusterRecipe, source: Source) -> Iterator[Fault]:
    """Two machines with one name, or a machine with a name that stands for something else."""
    owners = dict.fromkeys(("localhost", "ip6-localhost", "ip6-loopback"), "the loopback address")
    # Every machine's /etc/hosts has the public address under this name.
    for pattern, entry in recipe.hosts.items():
        if "public" in entry.addresses:
            owners |= {f"{name}-public": f"the public address of '{name}'" for name in expand_names(pattern)}
    claims = [(source.place_of(("workers", "names")), "the workers", recipe.workers.names)]
    claims += [(source.place_of_key(("hosts", pattern)), f"'{pattern}'", pattern) for pattern in recipe.hosts]
    for place, owner, pattern in claims:
        taken: dict[str, list[str]] = {}
        for name in expand_names(pattern):
            if name in owners:
                taken.setdefault(owners[name], []).append(name)
            owners.setdefault(name, owner)
        for other, names in taken.items():
            what = f"the name '{fold_names(names)}' is taken already, by {other}"
            yield Fault(place=place, what=what, fix="give each machine a name of its own")
    for pattern in recipe.hosts:
        if recipe.workers.role in expand_names(pattern):
            what = f"a host cannot be called '{recipe.workers.role}': so is the image that all workers share"
            fix = "rename the host, or the workers' role"
            yield Fault(place=source.place_of_key(("hosts", pattern)), what=what, fix=fix)


def _address_faults(recipe: ClusterRecipe, source: Source) -> Iterator[Fault]:
    """Two machines with one address, an address outside its network or inside the pool."""
    first, last = pool_bounds(recipe)
    owners = {
        network.gateway: f"the gateway of the {name} network"
        for name, network in recipe.networks.items()
        if network.gateway
    }
    for pattern, entry in recipe.hosts.items():
        for name, text in entry.addresses.items():
            network = recipe.networks.get(name)  # type: ignore[call-overload]
            faulty: dict[tuple[str, str], list[IPv4Address]] = {}
            for address in map(IPv4Address, expand_names(text)):
                if network is not None and (why := _unusable(name, network, address)):
                    faulty.setdefault((why, _usable_range(network)), []).append(address)
                elif address in owners:
                    key = f"is taken already, by {owners[address]}", "give each machine an address of its own"
                    faulty.setdefault(key, []).append(address)
                elif first <= address <= last:
                    key = f"lies in the VPN's pool {recipe.vpn.pool}", "choose one outside, or shrink vpn.pool"
                    faulty.setdefault(key, []).append(address)
                owners.setdefault(address, f"'{pattern}'")
            for (why, fix), addresses in faulty.items():
                place = source.place_of(("hosts", pattern, "addresses", name))
                yield Fault(place=place, what=f"the address {fold_names(addresses)} {why}", fix=fix)


def _server_faults(recipe: ClusterRecipe, source: Source) -> Iterator[Fault]:
    patterns = {name: pattern for pattern in recipe.hosts for name in expand_names(pattern)}
    pattern = patterns.get(recipe.server)
    if pattern is None and len(recipe.hosts) == len(source.names_at(("hosts",))):
        what = f"the server '{recipe.server}' is not among the hosts.{nearest(recipe.server, patterns)}"
        fix = f"use one of {', '.join(recipe.hosts)}" if recipe.hosts else "add it to the hosts"
        yield Fault(place=source.place_of(("server",)), what=what, fix=fix)
    keys: Keys = ("hosts", pattern or "", "addresses")
    if pattern is not None and "public" not in source.names_at(keys):
        what = f"the server '{recipe.server}' has no public address, so that no worker can reach its VPN"
        yield Fault(place=source.place_of_key(keys), what=what, fix="add `public: …` to its addresses")


def _export_faults(recipe: ClusterRecipe, source: Source) -> Iterator[Fault]:
    cell = f"/var/lib/gridengine/{recipe.grid_engine.cell}"
    written = source.names_at(("exports",))
    for needed, why in (("/home", "the users' homes"), (cell, "the Grid Engine cell")):
        if needed not in written and len(written) == len(recipe.exports):
            place = source.place_of_key(("exports",))
            yield Fault(place=place, what=f"{why}, {needed}, must be exported", fix=f'add `"{needed}": {{}}` below it')


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
