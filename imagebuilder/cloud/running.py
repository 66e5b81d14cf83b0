"""A cloud that runs: in this process for a test, or in one of its own for as long as nobody stops it."""

import fcntl
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from imagebuilder.cloud.control import PREFIX, SECRET_HEADER
from imagebuilder.cloud.credentials import Credentials, keep_credentials
from imagebuilder.cloud.faults import Fault
from imagebuilder.cloud.tuning import Tuning
from imagebuilder.errors import HostError
from imagebuilder.programs import start_daemon
from imagebuilder.whole_files import is_locked, write_whole

_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 10.0
# For how long one who looks whether the lock is held may hold it himself.
_LOCK_LIMIT_S = 1.0
DEFAULT_REGION = "us-east-1"
_ROW = TypeAdapter(dict[str, object])
_ROWS = TypeAdapter(list[dict[str, object]])


@dataclass(frozen=True, kw_only=True)
class RunningCloud:
    """Where a cloud answers, with which key, and what one can order of it beside AWS's calls."""

    endpoint: str
    credentials: Credentials
    region: str = DEFAULT_REGION

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that make every AWS client work on it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret.reveal().decode(),
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
        }

    def add_fault(self, *faults: Fault) -> None:
        """Have calls fail."""
        self._ask("POST", "faults", [fault.model_dump() for fault in faults])

    def clear_faults(self) -> None:
        """Have no more calls fail."""
        self._ask("DELETE", "faults")

    def faults(self) -> Sequence[Mapping[str, object]]:
        """The faults in force, with how many calls each has `seen` and `hit`."""
        return _ROWS.validate_json(self._ask("GET", "faults"))

    def requests(self, *, since: int = 0) -> Sequence[Mapping[str, object]]:
        """The calls since it was started, after the first `since`, as the request log has them."""
        return _ROWS.validate_json(self._ask("GET", f"requests?since={since}"))

    def state(self) -> Mapping[str, object]:
        """What there is: images, snapshots and objects."""
        return _ROW.validate_json(self._ask("GET", "state"))

    def ec2_certificate(self) -> Path:
        """The file with the certificate to encrypt instance-store bundles for: EC2's own, in this cloud."""
        return Path(str(_ROW.validate_json(self._ask("GET", "ec2-certificate"))["file"]))

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            self._ask("GET", "health")
        except (OSError, HostError):
            return False
        return True

    def _ask(self, method: str, what: str, document: object = None) -> bytes:
        address = urlsplit(self.endpoint)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        body = None if document is None else json.dumps(document)
        headers = {SECRET_HEADER: self.credentials.secret.reveal().decode()}
        try:
            connection.request(method, PREFIX + what, body=body, headers=headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise HostError(said.decode(errors="replace"), where=self.endpoint)
        return said


@contextmanager
def running_cloud(state: Path, *, tuning: Tuning | None = None, port: int | None = None) -> Iterator[RunningCloud]:
    """Run the cloud whose state is in `state` in this process, while the block runs.

    Without a port it takes the one that it had the last time, if that is free. Raises HostError if the cloud of this
    state runs already, or something that it needs is not installed.
    """
    from imagebuilder.cloud.cloud import open_cloud  # noqa: PLC0415 - the server, which no other command needs

    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    liked_port = _last_port(state)
    with _locked(state), open_cloud(state, tuning=tuning or Tuning(), port=port, liked_port=liked_port) as cloud:
        write_whole(state / "endpoint", cloud.endpoint.encode(), survives="kill")
        yield RunningCloud(endpoint=cloud.endpoint, credentials=cloud.credentials)


def find_cloud(state: Path) -> RunningCloud | None:
    """The cloud of this state, if it runs."""
    if not is_locked(state / "lock") or not (state / "endpoint").is_file():
        return None
    endpoint = (state / "endpoint").read_text(encoding="utf-8")
    cloud = RunningCloud(endpoint=endpoint, credentials=keep_credentials(state))
    return cloud if cloud.answers() else None


def start_cloud(state: Path, arguments: Sequence[str]) -> RunningCloud:
    """Run the cloud of this state in a process of its own, by `imgbuild cloud serve`, and wait until it answers.

    `arguments` are further ones of that command. Raises HostError, with what it said, if it ends or does not answer.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = state / "cloud.log"
    said_before = log.stat().st_size if log.exists() else 0
    program = "from imagebuilder.cli import main; main()"
    argv = [sys.executable, "-c", program, "cloud", "serve", "--state", str(state.absolute()), *arguments]
    daemon = start_daemon(argv, log=log)
    until = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < until:
        if (cloud := find_cloud(state)) is not None:
            return cloud
        if daemon.exit_code is not None:
            said = log.read_bytes()[said_before:].decode(errors="replace").strip()
            raise HostError(f"the cloud ended: {said or 'it said nothing'}", where=state, fix=f"read {log}")
        time.sleep(0.02)
    raise HostError(f"the cloud does not answer within {_START_LIMIT_S:g} s", where=state, fix=f"read {log}")


def stop_cloud(state: Path) -> bool:
    """End the cloud of this state and wait until it has ended; False if it did not run."""
    if not is_locked(state / "lock"):
        return False
    pid = int((state / "lock").read_text(encoding="utf-8"))
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + _STOP_LIMIT_S
    while time.monotonic() < until:
        if not is_locked(state / "lock"):
            return True
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True


def _last_port(state: Path) -> int:
    try:
        return urlsplit((state / "endpoint").read_text(encoding="utf-8")).port or 0
    except (OSError, ValueError):
        return 0


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Hold the lock of a state, which has the number of this process in it."""
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, state)
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, state: Path) -> None:
    until = time.monotonic() + _LOCK_LIMIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                fix = "use that one, or end it with `imgbuild cloud stop`"
                raise HostError("the cloud of this state runs already", where=state, fix=fix) from error
            time.sleep(0.02)
        else:
            return
