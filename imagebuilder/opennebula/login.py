"""Where oned answers and who asks, from where OpenNebula's own tools have it.

ONE_XMLRPC, else ~/.one/one_endpoint, else http://localhost:2633/RPC2; the file ONE_AUTH, else ~/.one/one_auth, which
holds `user:password` or `user:token` (OpenNebula, "Managing Users", Shell Environment).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from imagebuilder.errors import HostError, UsageError
from imagebuilder.secret import Secret

_DEFAULT_ENDPOINT = "http://localhost:2633/RPC2"


@dataclass(frozen=True, kw_only=True)
class Login:
    """An endpoint and the session string that each call begins with."""

    endpoint: str
    user: str
    session: Secret


def find_login(environment: Mapping[str, str], home: Path) -> Login:
    """The login that the environment and the files in `home` describe.

    Raises HostError if there is no file with a user and a password, UsageError if the endpoint is no URL of one.
    """
    user, session = _read_session(Path(environment.get("ONE_AUTH") or home / ".one" / "one_auth"))
    return Login(endpoint=_checked_endpoint(_find_endpoint(environment, home)), user=user, session=session)


def _find_endpoint(environment: Mapping[str, str], home: Path) -> str:
    if endpoint := environment.get("ONE_XMLRPC", "").strip():
        return endpoint
    try:
        return (home / ".one" / "one_endpoint").read_text(encoding="utf-8").strip() or _DEFAULT_ENDPOINT
    except (OSError, UnicodeDecodeError):
        return _DEFAULT_ENDPOINT


def _checked_endpoint(endpoint: str) -> str:
    fix = f"set ONE_XMLRPC to the URL of oned, such as {_DEFAULT_ENDPOINT}"
    try:
        parts = urlsplit(endpoint)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_url = False
    if not is_url:
        raise UsageError(f"no URL of http or https: '{endpoint.rpartition('@')[2]}'", where="ONE_XMLRPC", fix=fix)
    if "@" in parts.netloc:
        raise UsageError("has a password in it", where="ONE_XMLRPC", fix="put user:password into the file ONE_AUTH")
    return endpoint


def _read_session(path: Path) -> tuple[str, Secret]:
    fix = "write user:password into ~/.one/one_auth, mode 0600, or set ONE_AUTH to such a file"
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise HostError(f"cannot read who you are for OpenNebula: {why}", where=path, fix=fix) from error
    if not (found := re.fullmatch(r"([^:\s]+):([^\n]+)", text)):
        raise HostError("holds no user:password", where=path, fix=fix)
    return found[1], Secret(text)
