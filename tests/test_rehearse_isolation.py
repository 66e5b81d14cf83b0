import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imagebuilder.pki import Authority, ensure_credentials, make_foreigner, open_authority
from imagebuilder.programs import RunningProgram, start_program
from imagebuilder.rehearse import isolation
from imagebuilder.rehearse.outcome import CheckOutcome
from imagebuilder.rehearse.qmp import Ran
from imagebuilder.rehearse.record import Trial
from imagebuilder.rehearse.topology import make_topology
from tests.guests import ScriptedGuest, cluster_of
from tests.machines import machine_of, shipped_site

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPOLOGY = make_topology(shipped_site(), [machine_of(shipped_site(), "oneserver")], 1)

NOTHING = Ran(code=0, output="", trouble="")
REFUSED = Ran(code=1, output="TLS Error: TLS handshake failed\nSIGTERM[soft,connection-failed] received\n", trouble="")
LET_IN = Ran(code=124, output="Initialization Sequence Completed\n", trouble="")
SEES_FOREIGN = Ran(
    code=0,
    output="VERIFY ERROR: depth=0, error=unable to get local issuer certificate: O=squirrel, CN=impostor-foreign\n",
    trouble="",
)
SEES_EXPIRED = Ran(
    code=0,
    output="VERIFY ERROR: depth=0, error=certificate has expired: O=squirrel, CN=impostor-expired\n",
    trouble="",
)
SEES_REVOKED = Ran(
    code=0,
    output="VERIFY ERROR: depth=0, error=certificate revoked: O=squirrel, CN=impostor-revoked\n",
    trouble="",
)

# What ss prints.
TCP = """\
LISTEN 0      128    0.0.0.0:22   0.0.0.0:*
LISTEN 0      128      [::1]:6010    [::]:*
LISTEN 0      128          *:6444       *:*
"""
UDP = """\
UNCONN 0      0      0.0.0.0:1194 0.0.0.0:*
UNCONN 0      0            *:111        *:*
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    ensure_credentials(tmp_path / "pki", "squirrel", {"oneserver": "server", "worker": "client"}, NOW)
    return open_authority(tmp_path / "pki")


@pytest.fixture
def program(tmp_path: Path) -> Iterator[RunningProgram]:
    running = start_program(["true"], directory=tmp_path, log=tmp_path / "log")
    yield running
    running.end()


def server_that(*sees: Ran) -> ScriptedGuest:
    return ScriptedGuest("oneserver", TOPOLOGY.hosts[0], journalctl=sees, tee=[NOTHING])


def worker_that(*ends: Ran) -> ScriptedGuest:
    return ScriptedGuest("workernode0", TOPOLOGY.workers[0], timeout=ends)


def refusals(
    server: ScriptedGuest, worker: ScriptedGuest, authority: Authority | None, program: RunningProgram, directory: Path
) -> list[CheckOutcome]:
    """What comes of the checks with impostors."""

    async def course() -> list[CheckOutcome]:
        cluster = cluster_of([server], TOPOLOGY, isolation.PROVES, program, directory)
        await isolation._prove_refusals(cluster, worker, authority)
        return cluster.record.outcomes

    return asyncio.run(course())


def verdicts(outcomes: list[CheckOutcome]) -> list[tuple[str, str]]:
    return [(one.name, one.verdict) for one in outcomes]


def test_impostors_that_the_server_refuses_for_the_right_reason_pass(
    authority: Authority, program: RunningProgram, tmp_path: Path
) -> None:
    server, worker = server_that(SEES_FOREIGN, SEES_EXPIRED, SEES_REVOKED), worker_that(REFUSED, REFUSED, REFUSED)

    outcomes = refusals(server, worker, authority, program, tmp_path)

    assert verdicts(outcomes) == [
        ("isolation.foreign", "passed"),
        ("isolation.expired", "passed"),
        ("isolation.revoked", "passed"),
    ]


def test_keys_of_impostors_go_in_by_standard_input_and_are_shown_nowhere(
    authority: Authority, program: RunningProgram, tmp_path: Path
) -> None:
    server, worker = server_that(SEES_FOREIGN, SEES_EXPIRED, SEES_REVOKED), worker_that(REFUSED, REFUSED, REFUSED)

    outcomes = refusals(server, worker, authority, program, tmp_path)

    assert [text.count(b"PRIVATE KEY") for text in worker.inputs] == [2, 2, 2]
    assert "PRIVATE KEY" not in str([*worker.commands, *server.commands, *server.inputs, *outcomes])
    assert worker.commands[0] == ("timeout", "40", "openvpn", "--config", "stdin")


def test_an_impostor_that_is_let_in_fails(authority: Authority, program: RunningProgram, tmp_path: Path) -> None:
    server, worker = server_that(SEES_EXPIRED, SEES_REVOKED), worker_that(LET_IN, REFUSED, REFUSED)

    [foreign, *_] = refusals(server, worker, authority, program, tmp_path)

    assert (foreign.verdict, foreign.reason) == ("failed", "the server let it in")


def test_a_refusal_for_another_reason_fails(authority: Authority, program: RunningProgram, tmp_path: Path) -> None:
    other = Ran(code=0, output=SEES_EXPIRED.output.replace("expired:", "unsuitable:"), trouble="")
    server, worker = server_that(SEES_FOREIGN, other, SEES_REVOKED), worker_that(REFUSED, REFUSED, REFUSED)

    [_, expired, _] = refusals(server, worker, authority, program, tmp_path)

    assert (expired.verdict, expired.reason) == ("failed", "the server does not say 'certificate has expired'")


def test_a_silence_that_the_server_knows_nothing_of_proves_nothing(
    authority: Authority, program: RunningProgram, tmp_path: Path
) -> None:
    server, worker = server_that(NOTHING, SEES_EXPIRED, SEES_REVOKED), worker_that(REFUSED, REFUSED, REFUSED)

    [foreign, *_] = refusals(server, worker, authority, program, tmp_path)

    assert (foreign.verdict, foreign.reason) == ("failed", "the server's journal does not mention it")


def test_without_a_ca_there_is_a_foreigner_only(program: RunningProgram, tmp_path: Path) -> None:
    outcomes = refusals(server_that(SEES_FOREIGN), worker_that(REFUSED), None, program, tmp_path)

    assert verdicts(outcomes) == [
        ("isolation.foreign", "passed"),
        ("isolation.expired", "skipped"),
        ("isolation.revoked", "skipped"),
    ]
    assert outcomes[1].reason == "there is no CA here"


def test_without_the_key_of_the_ca_there_is_a_foreigner_only(
    authority: Authority, program: RunningProgram, tmp_path: Path
) -> None:
    (tmp_path / "pki/ca.key").unlink()

    outcomes = refusals(server_that(SEES_FOREIGN), worker_that(REFUSED), authority, program, tmp_path)

    assert [one.verdict for one in outcomes] == ["passed", "skipped", "skipped"]
    assert outcomes[1].reason.startswith("the key of the CA is needed to make such a certificate: ")


def test_an_impostor_has_everything_of_a_worker_but_its_certificate(program: RunningProgram, tmp_path: Path) -> None:
    impostor = make_foreigner("squirrel", NOW)

    async def configuration() -> str:
        cluster = cluster_of([server_that()], TOPOLOGY, isolation.PROVES, program, tmp_path)
        return isolation.impostor_configuration(cluster, impostor)

    text = asyncio.run(configuration())

    assert text == (
        "client\n"
        "dev null\n"
        "ifconfig-noexec\n"
        "route-noexec\n"
        "proto udp4\n"
        "remote 147.96.1.100 1194\n"
        "nobind\n"
        "connect-retry-max 1\n"
        "hand-window 20\n"
        "remote-cert-tls server\n"
        "ca /etc/openvpn/client/ca.crt\n"
        "tls-crypt /etc/openvpn/client/tls-crypt.key\n"
        f"<cert>\n{impostor.certificate}</cert>\n"
        f"<key>\n{impostor.key.reveal().decode()}</key>\n"
    )


@pytest.mark.parametrize(("text", "ports"), [(TCP, {22, 6010, 6444}), (UDP, {111, 1194}), ("", set())])
def test_ports_on_which_a_guest_listens_are_read_whatever_their_address(text: str, ports: set[int]) -> None:
    guest = ScriptedGuest("oneserver", ss=[Ran(code=0, output=text, trouble="")])

    assert asyncio.run(isolation._listening(Trial(began_s=0), guest, "-Hltn")) == ports


def test_ports_are_named_as_nmap_does() -> None:
    assert isolation._named([range(22, 25), range(80, 81)], "tcp") == {"22/tcp", "23/tcp", "24/tcp", "80/tcp"}
