"""Whether the private network is closed: seen from a stranger on the public one, and by impostors of the VPN."""

import asyncio
import re
from collections.abc import Collection
from datetime import datetime

from imagebuilder.edits.firewall import Firewall
from imagebuilder.errors import HostError
from imagebuilder.pki import Authority, Impostor, make_expired, make_foreigner, make_revoked
from imagebuilder.programs import run_program
from imagebuilder.rehearse.guest import Guest
from imagebuilder.rehearse.packets import beside_vpn, count_packets, scan, scan_command
from imagebuilder.rehearse.record import Skip, Trial, require
from imagebuilder.rehearse.running import RunningCluster

PROVES = {
    "isolation.tcp": "Of the server's TCP ports none answers the public network but those that the recipe lists.",
    "isolation.udp": "NIS, NFS, Grid Engine and all else that listens for UDP is silent on the public network.",
    "isolation.worker": "A worker's public side answers on its authorized ports only.",
    "isolation.routing": "No packet for the private network is routed, neither by the server nor by a worker.",
    "isolation.wire": "Nothing of the private network can be read on the public one: workers talk through the VPN.",
    "isolation.foreign": "A client with a certificate of another CA is refused.",
    "isolation.expired": "A client whose certificate has expired is refused.",
    "isolation.revoked": "A client whose certificate was revoked is refused.",
}

_EVERY_PORT = ("-sS", "-p-", "--max-retries", "1", "--min-rate", "3000")
_SOME_PORTS = ("-sS", "-p", "1-10000", "--max-retries", "1", "--min-rate", "3000")
# OpenVPN tries again and again; this is long enough for several times, also where it is emulated.
_REFUSAL_S = 40
_RPC_PORTS = {111, 2049}


async def prove_isolation(cluster: RunningCluster, worker: Guest, authority: Authority | None) -> None:
    """All checks of the isolation, with the first worker as the one to look at and to come from."""
    await _prove_ports(cluster, worker)
    await _prove_routing(cluster, worker)
    await _prove_wire(cluster, worker)
    await _prove_refusals(cluster, worker, authority)


async def _prove_ports(cluster: RunningCluster, worker: Guest) -> None:
    address = cluster.topology.public_address(cluster.server.plan)
    server_ports = Firewall().open_ports(cluster.server.plan.machine)
    async with cluster.record.check("isolation.tcp") as trial:
        inside = await _listening(trial, cluster.server, "-Hltn")
        require(inside, "nothing listens on the server at all, so that silence outside proves nothing")
        await _require_silence(cluster, trial, _EVERY_PORT, address, _named(server_ports.tcp, "tcp"))
    async with cluster.record.check("isolation.udp") as trial:
        inside = await _listening(trial, cluster.server, "-Hlun")
        ports = ",".join(map(str, sorted(inside | _RPC_PORTS)))
        options = ("-sU", "-p", ports, "--max-retries", "1")
        await _require_silence(cluster, trial, options, address, _named(server_ports.udp, "udp"))
    async with cluster.record.check("isolation.worker") as trial:
        authorized = _named(Firewall().open_ports(worker.plan.machine).tcp, "tcp")
        inside = await _listening(trial, worker, "-Hltn")
        address = cluster.topology.public_address(worker.plan)
        found = await _require_silence(cluster, trial, _SOME_PORTS, address, authorized)
        # ssh listens, and is authorized in most clusters: then the scan is seen to find what there is to find.
        for port in inside & {int(port.partition("/")[0]) for port in authorized}:
            require(f"{port}/tcp" in found, f"port {port} listens and is authorized, but does not answer")


async def _listening(trial: Trial, guest: Guest, options: str) -> set[int]:
    """The ports on which a guest listens for others than itself, by ss(8)."""
    ran = await trial.run(guest, "ss", options, "not", "src", "127.0.0.0/8")
    return {int(port) for port in re.findall(r"^\S+\s+\S+\s+\S+\s+\S*:(\d+)\s", ran.output, re.MULTILINE)}


async def _require_silence(
    cluster: RunningCluster, trial: Trial, options: Collection[str], address: object, allowed: set[str]
) -> set[str]:
    """Scan an address from outside. Raises CheckFailure if a port answers that is not allowed to; the open ports."""
    found = await scan(cluster.networks.enter, options, address, log=cluster.log)
    trial.show("stranger", " ".join(scan_command(options, address)), found.text)
    wrong = [line for line in found.answering if line.split()[0] not in allowed]
    require(not wrong, f"answers: {', '.join(wrong[:5])}")
    require(found.unlisted <= len(allowed), f"{found.unlisted} ports answer that they are closed")
    return found.open


def _named(ranges: Collection[range], protocol: str) -> set[str]:
    """Every port of the ranges, as nmap names it."""
    return {f"{port}/{protocol}" for ports in ranges for port in ports}


async def _prove_routing(cluster: RunningCluster, worker: Guest) -> None:
    """Send packets for the private network to each machine on the public one, as if it were their router."""
    topology = cluster.topology
    async with cluster.record.check("isolation.routing") as trial:
        targets = [str(host.addresses["private"]) for host in cluster.site.cluster.hosts][:4]
        for router in (cluster.server, worker):
            route = f"route replace {topology.private} via {topology.public_address(router.plan)} dev public"
            await _in_namespace(cluster, trial, "ip", *route.split())
            for target in targets:
                text = await _in_namespace(
                    cluster, trial, "nmap", "-n", "-sn", "-PE", "-PS22,111", "-PU111", "--max-retries", "1", target
                )
                require("0 hosts up" in text, f"{target} answers through {router.name}")
        await _in_namespace(cluster, trial, "ip", "route", "del", str(topology.private), "dev", "public")
        captures = [capture for guest in cluster.guests for capture in guest.captures("private")]
        strangers = f"ip and not src net {topology.private} and not src host 0.0.0.0"
        total, _ = await count_packets(captures, "ip")
        found, first = await count_packets(captures, strangers)
        trial.show("host", f"tcpdump -r <all on the private network> '{strangers}'", f"{found} of {total}\n{first}")
        require(total, "no packet was captured on the private network, so that none of a stranger proves nothing")
        require(not found, f"{found} packets on the private network come from elsewhere")


async def _in_namespace(cluster: RunningCluster, trial: Trial, *argv: str) -> str:
    text = await asyncio.to_thread(run_program, [*cluster.networks.enter, *argv], log=cluster.log, timeout_s=120)
    trial.show("stranger", " ".join(argv), text)
    return text


async def _prove_wire(cluster: RunningCluster, worker: Guest) -> None:
    topology = cluster.topology
    port = cluster.site.cluster.recipe.vpn.port
    address, server = topology.public_address(worker.plan), topology.public_address(cluster.server.plan)
    async with cluster.record.check("isolation.wire") as trial:
        captures = list(worker.captures("public"))
        vpn = f"host {address} and host {server} and udp port {port}"
        clear = beside_vpn(address, server, port=port, private=topology.private, stranger=topology.stranger)
        tunnelled, _ = await count_packets(captures, vpn)
        found, first = await count_packets(captures, clear)
        trial.show("host", f"tcpdump -r <{worker.name} on the public network> '{vpn}'", f"{tunnelled} packets")
        trial.show("host", f"tcpdump -r <{worker.name} on the public network> '{clear}'", f"{found} packets\n{first}")
        require(tunnelled, "no packet of the VPN was captured")
        require(not found, f"{found} packets pass beside the VPN")


async def _prove_refusals(cluster: RunningCluster, worker: Guest, authority: Authority | None) -> None:
    record = cluster.record
    name = cluster.site.cluster.recipe.name
    async with record.check("isolation.foreign") as trial:
        await _require_refusal(cluster, trial, worker, make_foreigner(name, cluster.now), "issuer certificate")
    async with record.check("isolation.expired") as trial:
        expired = make_expired(*_signing(authority, cluster))
        await _require_refusal(cluster, trial, worker, expired, "certificate has expired")
    async with record.check("isolation.revoked") as trial:
        revoked, revocation_list = make_revoked(*_signing(authority, cluster))
        target = "/etc/openvpn/server/crl.pem"
        await trial.run(cluster.server, "tee", target, stdin=revocation_list.encode())
        await _require_refusal(cluster, trial, worker, revoked, "certificate revoked")


def _signing(authority: Authority | None, cluster: RunningCluster) -> tuple[Authority, datetime]:
    """The CA with its key at hand, and the time. Raises Skip if the key is elsewhere."""
    if authority is None:
        raise Skip("there is no CA here")
    try:
        authority.signing_key()
    except HostError as error:
        raise Skip(f"the key of the CA is needed to make such a certificate: {error.what}") from error
    return authority, cluster.now


async def _require_refusal(
    cluster: RunningCluster, trial: Trial, worker: Guest, impostor: Impostor, cause: str
) -> None:
    """Connect as an impostor, from a worker's public side; the server must say that it refuses, and why."""
    configuration = impostor_configuration(cluster, impostor).encode()
    command = ("timeout", str(_REFUSAL_S), "openvpn", "--config", "stdin")
    ran = await worker.run(*command, stdin=configuration, limit_s=_REFUSAL_S * 2)
    trial.show(worker.name, f"{' '.join(command)}  # as {impostor.name}", ran.said, ran.code)
    require("Initialization Sequence Completed" not in ran.output, "the server let it in")
    unit = ("journalctl", "-u", "openvpn-server@cluster", "-o", "cat", "--no-pager", "-g", impostor.name)
    said = await trial.run(cluster.server, *unit)
    require(f"CN={impostor.name}" in said.output, "the server's journal does not mention it")
    require(cause in said.output, f"the server does not say '{cause}'")


def impostor_configuration(cluster: RunningCluster, impostor: Impostor) -> str:
    """A client of the VPN that has everything of a worker but its certificate, and makes no device."""
    server = cluster.site.cluster.server.addresses["public"]
    lines = [
        "client",
        "dev null",
        "ifconfig-noexec",
        "route-noexec",
        "proto udp4",
        f"remote {server} {cluster.site.cluster.recipe.vpn.port}",
        "nobind",
        "connect-retry-max 1",
        "hand-window 20",
        "remote-cert-tls server",
        "ca /etc/openvpn/client/ca.crt",
        "tls-crypt /etc/openvpn/client/tls-crypt.key",
        f"<cert>\n{impostor.certificate.strip()}\n</cert>",
        f"<key>\n{impostor.key.reveal().decode().strip()}\n</key>",
    ]
    return "\n".join(lines) + "\n"
