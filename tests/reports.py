"""Reports of rehearsals for tests: of any size, with every verdict, and with what a guest had better not have said."""

from collections.abc import Iterator
from dataclasses import replace

from imagebuilder.rehearse.outcome import (
    Attachment,
    CheckOutcome,
    Evidence,
    GuestOutcome,
    NetworkOutcome,
    Report,
)

SERVER_IMAGE = "53009276ff32b0a4d1f0c8e7a6b5948372615049382716a5b4c3d2e1f0a9b8c7"
NODE_IMAGE = "23f2f7bc49d0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f607182939"
WORKER_IMAGE = "b35530d3c4519f8e7d6c5b4a39281706f5e4d3c2b1a0998877665544332211ff"

SERIAL_LOG = """\
[    0.000000] Linux version 6.1.0-28-cloud-amd64 (debian-kernel@lists.debian.org)
[    0.000000] Command line: root=/dev/vda1 ro console=ttyS0,115200 net.ifnames=0
[    2.114031] systemd[1]: Detected virtualization qemu.
[    2.131877] systemd[1]: Hostname set to <{name}>.
[  OK  ] Reached target imgbuild-private.target - The private network.
[  OK  ] Started ypbind.service - NIS client.
[  OK  ] Started ssh.service - OpenBSD Secure Shell server.
[  OK  ] Reached target multi-user.target - Multi-User System.

Debian GNU/Linux 12 {name} ttyS0

{name} login: \
"""


def make_report(*, nodes: int = 1, workers: int = 2) -> Report:
    """A rehearsal that failed: the last worker has no tunnel, so a check failed and what needs it was not reached."""
    guests = (server(), *(node(number) for number in range(nodes)), *(worker(number) for number in range(workers)))
    lost = worker(workers - 1, tunnel=None)
    guests = (*guests[:-1], lost)
    return Report(
        cluster="squirrel",
        started_at="2026-11-22T14:20:08+00:00",
        took_s=611.4,
        accelerator="tcg",
        imgbuild="0.1.0",
        networks=(
            NetworkOutcome(name="private", subnet="10.1.1.0/24"),
            NetworkOutcome(name="public", subnet="147.96.1.0/24", stranger="147.96.1.66"),
        ),
        guests=guests,
        checks=(
            *networks_checks(),
            *cluster_checks(lost.name),
            *(check for one in guests for check in guest_checks(one)),
        ),
        queue=queue([guest.name for guest in guests[1:-1]]),
    )


def make_passed_report() -> Report:
    """A rehearsal in which all went well."""
    guests = (server(), node(0), worker(0))
    return Report(
        cluster="squirrel",
        started_at="2026-11-22T14:20:08+00:00",
        took_s=212.6,
        accelerator="kvm",
        imgbuild="0.1.0",
        networks=(
            NetworkOutcome(name="private", subnet="10.1.1.0/24"),
            NetworkOutcome(name="public", subnet="147.96.1.0/24", stranger="147.96.1.66"),
        ),
        guests=guests,
        checks=networks_checks(),
        queue=queue(["local01", "workernode0"]),
    )


def make_hostile_report(output: str) -> Report:
    """A rehearsal of one guest and one check that failed, with `output` wherever a guest has a say."""
    report = make_report()
    guest = replace(report.guests[0], serial_log=output, boot_time=output, slowest_units=(output,))
    evidence = (Evidence(where=output, command=output, output=output),)
    check = CheckOutcome(name="jobs.one", proves=output, verdict="failed", reason=output, evidence=evidence)
    return replace(report, guests=(guest,), checks=(check,), queue=output, cluster=output)


def server() -> GuestOutcome:
    return GuestOutcome(
        name="oneserver",
        role="server",
        image=SERVER_IMAGE,
        attachments=(
            Attachment(device="eth0", network="private", mac="00:16:3e:51:0c:01", address="10.1.1.99"),
            Attachment(device="eth1", network="public", mac="00:16:3e:51:0c:02", address="147.96.1.100"),
        ),
        started_s=0.4,
        prompt_s=88.2,
        boot_time="Startup finished in 11.302s (kernel) + 1min 9.881s (userspace) = 1min 21.183s\n"
        "graphical.target reached after 1min 9.120s in userspace.",
        slowest_units=(
            "21.480s imgbuild-nis-maps.service",
            "18.072s gridengine-master.service",
            " 9.314s networking.service",
            " 6.990s openvpn-server@cluster.service",
        ),
        serial_log=SERIAL_LOG.format(name="oneserver"),
    )


def node(number: int) -> GuestOutcome:
    name = f"local{number + 1:02}"
    return GuestOutcome(
        name=name,
        role="node",
        image=NODE_IMAGE,
        attachments=(
            Attachment(
                device="eth0", network="private", mac=f"00:16:3e:03:90:{number:02x}", address=f"10.1.1.{55 + number}"
            ),
        ),
        started_s=1.2 + 4 * number,
        prompt_s=94.7 + 3 * number,
        boot_time="Startup finished in 10.844s (kernel) + 1min 17.020s (userspace) = 1min 27.864s",
        slowest_units=("31.007s ypbind.service", "12.411s networking.service", " 7.300s gridengine-exec.service"),
        serial_log=SERIAL_LOG.format(name=name),
    )


def worker(number: int, *, tunnel: str | None = "10.1.1.") -> GuestOutcome:
    name = f"workernode{number}"
    return GuestOutcome(
        name=name,
        role="worker",
        image=WORKER_IMAGE,
        attachments=(
            Attachment(
                device="eth0", network="public", mac=f"00:16:3e:77:01:{number:02x}", address=f"147.96.1.{10 + number}"
            ),
        ),
        vpn_address=f"{tunnel}{100 + number}" if tunnel else None,
        started_s=95.0 + 5 * number,
        prompt_s=101.6 + 2 * number if tunnel else None,
        boot_time="Startup finished in 11.019s (kernel) + 1min 22.500s (userspace) = 1min 33.519s" if tunnel else "",
        slowest_units=("24.871s openvpn-client@cluster.service",) if tunnel else (),
        serial_log=SERIAL_LOG.format(name=name) if tunnel else "[    0.000000] Linux version 6.1.0-28-cloud-amd64\n",
    )


def networks_checks() -> tuple[CheckOutcome, ...]:
    return (
        CheckOutcome(
            name="isolation.nis",
            proves="nobody outside can read the NIS maps",
            verdict="passed",
            evidence=(
                Evidence(
                    where="host",
                    command="rpcinfo -T tcp 147.96.1.100 ypserv",
                    output="rpcinfo: RPC: Timed out\nprogram 100004 is not available\n",
                    code=1,
                ),
            ),
            at_s=204.1,
            took_s=15.2,
        ),
        CheckOutcome(
            name="isolation.ping",
            proves="the server answers a ping on its public side",
            verdict="passed",
            evidence=(
                Evidence(
                    where="host",
                    command="ping -c 1 -W 5 147.96.1.100",
                    output="64 bytes from 147.96.1.100: icmp_seq=1 ttl=64 time=1.22 ms\n",
                ),
            ),
            at_s=206.0,
            took_s=1.1,
        ),
        CheckOutcome(
            name="isolation.nfs_over_udp",
            proves="nobody outside can mount /home by UDP",
            verdict="skipped",
            reason="the kernel of this machine has no NFS over UDP",
            at_s=206.1,
        ),
    )


def cluster_checks(lost: str) -> tuple[CheckOutcome, ...]:
    return (
        CheckOutcome(
            name="vpn.all_joined",
            proves="each worker gets an address of the pool",
            verdict="failed",
            reason=f"{lost} did not join within 240 s",
            evidence=(
                Evidence(
                    where="oneserver",
                    command="cat /run/openvpn-server/status-cluster.log",
                    output="TITLE,OpenVPN 2.6.3 x86_64-pc-linux-gnu\nCLIENT_LIST,worker,147.96.1.10:49152,10.1.1.100\n",
                ),
                Evidence(
                    where=lost, command="systemctl is-active openvpn-client@cluster", output="activating\n", code=3
                ),
            ),
            at_s=446.3,
            took_s=240.0,
        ),
        CheckOutcome(
            name="jobs.spread",
            proves="as many jobs as machines run at the same time, one on each",
            verdict="not reached",
            reason="needs vpn.all_joined",
            at_s=446.3,
        ),
        CheckOutcome(
            name="jobs.one",
            proves="a job of clouduser runs, and its output is in the home directory",
            verdict="passed",
            evidence=(
                Evidence(where="oneserver", command="su - clouduser -c 'qsub -sync y -b y hostname'", output=JOB),
                Evidence(where="local01", command="cat /home/clouduser/hostname.o1", output="local01\n"),
            ),
            at_s=512.8,
            took_s=31.7,
        ),
    )


JOB = 'Your job 1 ("hostname") has been submitted\nJob 1 exited with exit code 0.\n'


def guest_checks(guest: GuestOutcome) -> Iterator[CheckOutcome]:
    """What the edits check on each machine."""
    came_up = guest.prompt_s is not None
    at_s = guest.started_s + (guest.prompt_s or 0) + 8
    for number, (name, proves, command, output) in enumerate(EDIT_CHECKS):
        yield CheckOutcome(
            name=f"{guest.name}.{name}",
            proves=proves,
            verdict="passed" if came_up else "not reached",
            reason="" if came_up else f"{guest.name} never showed a login prompt",
            evidence=(Evidence(where=guest.name, command=command, output=output),) if came_up else (),
            at_s=at_s + 3.5 * number if came_up else 440,
            took_s=1.3 + number if came_up else 0,
        )


EDIT_CHECKS = (
    ("hostname.set", "the machine has its name", "hostname", "local01\n"),
    ("nis_client.bound", "the machine is bound to the NIS server", "ypwhich", "oneserver\n"),
    (
        "nis_client.users",
        "users come by NIS",
        "getent passwd clouduser",
        "clouduser:x:2000:2000:Cloud user:/home/clouduser:\n",
    ),
    ("nfs_mounts.home", "/home is the server's", "findmnt -no SOURCE /home", "systemd-1\noneserver:/home\n"),
    (
        "firewall.loaded",
        "the firewall's rules are in force",
        "nft list ruleset",
        "table inet filter {\n\tchain input {\n\t}\n}\n",
    ),
)


def queue(names: list[str]) -> str:
    """What `qstat -f` prints while a job runs on each machine."""
    rows = ["queuename                      qtype resv/used/tot. load_avg arch          states"]
    for number, name in enumerate(names, start=2):
        rows += [
            "-" * 81,
            f"{'all.q@' + name:<30} BIP   0/1/1          0.{number:02}     lx-amd64      ",
            f"     {number:2} 0.50000 rehearsal  clouduser    r     11/22/2026 14:29:02     1        ",
        ]
    return "\n".join(rows) + "\n"
