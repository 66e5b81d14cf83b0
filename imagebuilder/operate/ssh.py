"""A shell on a server, by ssh: with the user's own configuration, keys and known hosts, and without a question."""

from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

from imagebuilder.errors import RemoteError
from imagebuilder.programs import Conversation, start_conversation
from imagebuilder.recipe.cluster import Cluster

_PORT = 22

# What of the user's configuration is meant for a person at a terminal, and would be in the way here.
_OPTIONS = ("BatchMode=yes", "ClearAllForwardings=yes", "ForwardAgent=no", "RemoteCommand=none")
# A server that vanishes is noticed between two questions, and a new connection made for the next.
_ALIVE = ("ServerAliveInterval=10", "ServerAliveCountMax=2")


def server_address(cluster: Cluster) -> IPv4Address:
    """Where ssh finds the server: its public address if the firewall lets ssh in there, else its private one."""
    bounds = [ports.partition("-") for ports in cluster.recipe.firewall.server_ports]
    is_open = any(int(first) <= _PORT <= int(last or first) for first, _, last in bounds)
    return cluster.server.addresses["public" if is_open else "private"]


def ssh_command(destination: str, timeout_s: float) -> list[str]:
    """The program that runs what it is told in a shell at `destination`, which is `[USER@]HOST` or an ssh:// URI."""
    options = [*_OPTIONS, *_ALIVE, f"ConnectTimeout={max(1, round(timeout_s))}"]
    # sh, whatever the user's own shell is: it reads commands as they come, so that nothing has to be quoted for two.
    return ["ssh", "-T", *(word for option in options for word in ("-o", option)), "--", destination, "sh"]


class SshShell:
    """A shell that is kept for as long as it is asked, so that there is one login; made anew if it has gone."""

    def __init__(self, destination: str, *, timeout_s: float) -> None:
        self._destination = destination
        self._timeout_s = timeout_s
        self._talk: Conversation | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hang_up()

    def run(self, script: str, last_line: str) -> str:
        """What the script prints, to a line that begins with `last_line`.

        Raises RemoteError if ssh does not get there, or if the answer takes longer than the time that was given.
        """
        if self._talk is None:
            self._talk = start_conversation(ssh_command(self._destination, self._timeout_s))
        try:
            return self._talk.ask(script, last_line=last_line, within_s=self._timeout_s)
        except TimeoutError as error:
            self._hang_up()
            fix = "see that it is up, and give it longer by --timeout"
            what = f"does not answer within {self._timeout_s:g} s"
            raise RemoteError(what, where=self._destination, fix=fix) from error
        except EOFError as error:
            raise _explain(self._destination, *self._hang_up()) from error

    def _hang_up(self) -> tuple[int, str]:
        talk, self._talk = self._talk, None
        return talk.end() if talk is not None else (0, "")


def _explain(destination: str, exit_code: int, said: str) -> RemoteError:
    """Why ssh has ended. It says it in English, and ends with 255 for each reason of its own (ssh(1))."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # One that was lost while it was asked may have nothing to say.
    what = "; ".join(lines[-2:]) or f"the connection has ended (ssh: {exit_code})"
    if "Host key verification failed" in said or "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        what = "ssh does not know its host key, or knows another"
        fix = f"run `ssh {destination}` once, and compare the key with what the server's console says"
    elif "Permission denied" in said:
        fix = "have a key of yours in `users.NAME.ssh_keys` of the cluster, and name that user: --host NAME@SERVER"
    else:
        fix = "see that it is up and lets ssh in from here (`firewall.server_ports`), or name another way by --host"
    return RemoteError(what, where=destination, fix=fix)
