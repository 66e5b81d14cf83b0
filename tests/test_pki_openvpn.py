import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imagebuilder.edits.edit import VpnCredentials
from imagebuilder.pki import Authority, init_authority

DAY = timedelta(days=1)
# Debian keeps openvpn in /usr/sbin, which is not on a plain user's PATH.
OPENVPN = shutil.which("openvpn", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

pytestmark = pytest.mark.skipif(OPENVPN is None, reason="openvpn is not installed (apt-get install openvpn)")


def make_credentials(directory: Path, *, issued: datetime, days: int = 1000) -> Authority:
    authority = init_authority(directory, "cluster", now=issued)
    authority.issue("oneserver", "server", now=issued)
    authority.issue("worker", "client", now=issued, days=days)
    return authority


def test_openvpn_accepts_a_worker(tmp_path: Path) -> None:
    authority = make_credentials(tmp_path / "pki", issued=datetime.now(UTC))

    verdict = handshake(tmp_path, authority.vpn_credentials("oneserver"), authority.vpn_credentials("worker"))

    assert verdict == "Peer Connection Initiated"


def test_openvpn_refuses_a_revoked_worker_and_accepts_its_renewal(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = make_credentials(tmp_path / "pki", issued=now)
    revoked = authority.vpn_credentials("worker")
    authority.renew("worker", now=now, superseded="revoke")
    server = authority.vpn_credentials("oneserver")

    first = handshake(tmp_path, server, revoked)
    second = handshake(tmp_path, server, authority.vpn_credentials("worker"))

    assert "error=certificate revoked" in first
    assert second == "Peer Connection Initiated"


def test_openvpn_refuses_an_expired_worker(tmp_path: Path) -> None:
    authority = make_credentials(tmp_path / "pki", issued=datetime.now(UTC) - 30 * DAY, days=29)

    verdict = handshake(tmp_path, authority.vpn_credentials("oneserver"), authority.vpn_credentials("worker"))

    assert "error=certificate has expired" in verdict


def test_openvpn_refuses_a_worker_of_another_ca_of_the_same_name(tmp_path: Path) -> None:
    authority = make_credentials(tmp_path / "pki", issued=datetime.now(UTC))
    other = make_credentials(tmp_path / "other", issued=datetime.now(UTC))
    server, stranger = authority.vpn_credentials("oneserver"), other.vpn_credentials("worker")

    verdict = handshake(tmp_path, server, replace(stranger, ca=server.ca, tls_crypt=server.tls_crypt))

    assert "VERIFY ERROR" in verdict


def test_openvpn_refuses_a_worker_that_poses_as_the_server(tmp_path: Path) -> None:
    authority = make_credentials(tmp_path / "pki", issued=datetime.now(UTC))
    worker = authority.vpn_credentials("worker")

    verdict = handshake(tmp_path, worker, worker)

    assert "error=unsuitable certificate purpose" in verdict


def handshake(directory: Path, server: VpnCredentials, client: VpnCredentials) -> str:
    """What decided: the server's word that a peer is connected, or the error of the end that refused the other."""
    port = free_port()
    with ExitStack() as ends:
        listening = ends.enter_context(
            openvpn(directory / "server", server, f"--tls-server --dh none --local 127.0.0.1 --lport {port}", "client")
        )
        connecting = ends.enter_context(
            openvpn(directory / "client", client, f"--tls-client --nobind --remote 127.0.0.1 {port}", "server")
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            time.sleep(0.05)
            said = listening.read_text() + connecting.read_text()
            if found := re.search(r"VERIFY \w* ?ERROR.*", said):
                return found[0]
            if "Peer Connection Initiated" in listening.read_text():
                return "Peer Connection Initiated"
    pytest.fail(f"no verdict in 20 s:\n{said}")


@contextmanager
def openvpn(directory: Path, credentials: VpnCredentials, options: str, peer: str) -> Iterator[Path]:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    parts = {
        "ca": credentials.ca.encode(),
        "cert": credentials.certificate.encode(),
        "key": credentials.key.reveal(),
        "tls-crypt": credentials.tls_crypt.reveal(),
        "crl-verify": credentials.crl.encode(),
    }
    argv = [str(OPENVPN), "--dev", "null", "--proto", "udp4", "--cipher", "AES-256-GCM", "--ifconfig-noexec"]
    argv += ["--verb", "3", "--remote-cert-tls", peer, *options.split()]
    for option, content in parts.items():
        (directory / option).write_bytes(content)
        (directory / option).chmod(0o600)
        argv += [f"--{option}", str(directory / option)]
    log = directory / "log"
    with log.open("wb") as stream, subprocess.Popen(argv, stdout=stream, stderr=stream) as process:
        try:
            yield log
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
