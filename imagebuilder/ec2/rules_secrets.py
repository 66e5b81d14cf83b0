"""The rules by which an AMI gives no secret away, and lets nobody in who knows a password. Pure."""

import fnmatch
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from imagebuilder.compare.contents import secrecy_of
from imagebuilder.ec2.evidence import Evidence, FileMark
from imagebuilder.ec2.marks import MarkKind
from imagebuilder.ec2.rule import Rule
from imagebuilder.secret import Secret

# In a home directory, relative to it.
_CREDENTIALS = re.compile(
    r".*/(\.aws/credentials|\.aws/(sso|cli)/cache/.+|\.boto|\.s3cfg|\.passwd-s3fs|\.config/gcloud/.+|\.azure/.+\.json"
    r"|\.kube/config|\.docker/config\.json|\.oci/.+|\.netrc|\.git-credentials|\.pgpass|\.my\.cnf|\.vault-token"
    r"|\.config/rclone/rclone\.conf|\.one/one_auth)"
)
_CREDENTIALS_IN_ETC = {PurePosixPath("/etc/boto.cfg"), PurePosixPath("/etc/passwd-s3fs")}
_HOMES = ("/root", "/home", "/var/lib", "/srv", "/opt")

_SHADOW, _PASSWD = PurePosixPath("/etc/shadow"), PurePosixPath("/etc/passwd")
_PRIVATE_BY_NAME = re.compile(r"/etc/g?shadow-?|/etc/security/opasswd|.*/ssh_host_\w+_key|.*/\.(netrc|pgpass)")

_SSHD = PurePosixPath("/etc/ssh/sshd_config")
_SSHD_DIRECTORY = PurePosixPath("/etc/ssh")
# What sshd takes if nothing is said, sshd_config(5); and what each must be.
_SSHD_DEFAULTS = {"passwordauthentication": "yes", "kbdinteractiveauthentication": "yes", "permitemptypasswords": "no"}
_SSHD_ALIASES = {"challengeresponseauthentication": "kbdinteractiveauthentication"}


def _own_marks(evidence: Evidence) -> Iterator[FileMark]:
    """The secrets that are not those of a Debian package: examples and tests, also where Python has compiled them."""
    known = {_without_blanks(one) for one in evidence.marks if one.path in evidence.published}
    return (one for one in evidence.marks if _without_blanks(one) not in known)


def _without_blanks(one: FileMark) -> Secret:
    return Secret(b"".join(one.mark.body.reveal().split()))


def _is_planned(path: PurePosixPath, evidence: Evidence) -> bool:
    entry = evidence.listing.get(path)
    return entry is not None and evidence.planned_secrets.get(path) == entry.digest


def _cloud_credentials(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for path, entry in evidence.files():
        in_home = any(path.is_relative_to(home) for home in _HOMES)
        if entry.size and ((in_home and _CREDENTIALS.fullmatch(str(path))) or path in _CREDENTIALS_IN_ETC):
            yield str(path), "is where credentials are kept"
    for one in _own_marks(evidence):
        if one.mark.kind is MarkKind.AWS_SECRET:
            yield str(one.path), f"has an {one.mark.kind.value}"


def _authority_key(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for one in evidence.marks:
        is_authority = one.fingerprint is not None and one.fingerprint in evidence.authorities
        if is_authority or (one.mark.kind is MarkKind.PRIVATE_KEY and one.path.name == "ca.key"):
            yield str(one.path), "is the key of the CA: whoever starts an instance could let anybody into the VPN"


def _unplanned_keys(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for one in _own_marks(evidence):
        if one.mark.kind is not MarkKind.AWS_SECRET and not _is_planned(one.path, evidence):
            yield str(one.path), f"has a secret ({one.mark.kind.value}) that the image was not built to carry"


def _readable_secrets(evidence: Evidence) -> Iterator[tuple[str, str]]:
    private = {path for path, _ in evidence.files() if _PRIVATE_BY_NAME.fullmatch(str(path))}
    marked = {one.path for one in _own_marks(evidence)}
    for path in sorted(private | marked | set(evidence.planned_secrets)):
        if path in evidence.listing and secrecy_of(path, evidence.listing) == "open":
            yield str(path), f"every user may read this secret (mode {evidence.listing[path].mode:04o})"


def _deleted(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for mark in evidence.strays:
        yield f"byte {mark.offset} of the disk", f"has a secret ({mark.kind.value}) that is in no file any more"


def _root_locked(evidence: Evidence) -> Iterator[tuple[str, str]]:
    passwords = dict(_passwords(evidence))
    if "root" not in passwords:
        yield str(_SHADOW), "has no line for root"
    elif not _is_locked(passwords["root"]):
        yield str(_SHADOW), "root has a password"


def _user_passwords(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for name, password in _passwords(evidence):
        if name != "root" and not _is_locked(password):
            yield str(_SHADOW), f"{name} has a password" if password else f"{name} needs no password"
    for line in (evidence.text(_PASSWD) or "").splitlines():
        name, password, *_ = [*line.split(":"), ""]
        # A line of NIS begins with + or -, and has its password there.
        if password not in ("x", "*", "!") and line.count(":") >= 6 and not name.startswith(("+", "-")):
            yield str(_PASSWD), f"{name} has its password here, or none"


def _passwords(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for line in (evidence.text(_SHADOW) or "").splitlines():
        name, colon, rest = line.partition(":")
        if colon and not name.startswith(("+", "-")):
            yield name, rest.partition(":")[0]


def _is_locked(password: str) -> bool:
    """Whether no password fits, shadow(5)."""
    return password.startswith(("!", "*"))


def _sshd(evidence: Evidence) -> Iterator[tuple[str, str]]:
    if _SSHD not in evidence.listing:
        return
    said: dict[str, tuple[PurePosixPath, str]] = {}
    for path, word, value in _sshd_lines(evidence, _SSHD):
        said.setdefault(word, (path, value))  # sshd_config(5): the first one counts
    for word, default in _SSHD_DEFAULTS.items():
        where, value = said.get(word, (_SSHD, default))
        if value != "no":
            yield str(where), f"sshd lets users log in by password: {word} is {value}"
    where, value = said.get("permitrootlogin", (_SSHD, "prohibit-password"))
    if value == "yes":
        yield str(where), "sshd lets root log in by password"


def _sshd_lines(evidence: Evidence, path: PurePosixPath) -> Iterator[tuple[PurePosixPath, str, str]]:
    """File, keyword and value of each line that is for all users, in the order in which sshd reads them."""
    for line in (evidence.text(path) or "").splitlines():
        match line.replace("=", " ", 1).split():
            case [word, *_] if word.startswith("#"):
                continue
            case [word, *values] if word.lower() == "include":
                # An included file may not include others without end; sshd stops at 16, one is what there is.
                for included in _included(evidence, values) if path == _SSHD else ():
                    yield from _sshd_lines(evidence, included)
            case [word, *_] if word.lower() == "match":
                return
            case [word, value, *_]:
                key = word.lower()
                yield path, _SSHD_ALIASES.get(key, key), value.strip('"').lower()
            case _:
                continue


def _included(evidence: Evidence, patterns: list[str]) -> Iterator[PurePosixPath]:
    for pattern in patterns:
        whole = str(_SSHD_DIRECTORY / pattern)  # an absolute pattern stays as it is
        yield from sorted(
            path for path in evidence.files_below(_SSHD_DIRECTORY) if fnmatch.fnmatchcase(str(path), whole)
        )


RULES = (
    Rule(
        name="cloud-credentials",
        proves="no credentials of a cloud or another service are in the image",
        fix="remove them from the base or the overlay; give the instance an IAM role instead",
        troubles=_cloud_credentials,
    ),
    Rule(
        name="ca-key",
        proves="the key of the VPN's CA is not in the image",
        fix="remove it, and renew the CA if anybody else has had the image",
        troubles=_authority_key,
    ),
    Rule(
        name="unplanned-key",
        proves="the only private keys are those that the image was built to carry, and those of Debian's own tests",
        fix="remove it from the base or the overlay that brings it; build the image again if it was changed by hand",
        troubles=_unplanned_keys,
    ),
    Rule(
        name="readable-secret",
        proves="no secret may be read by every user of an instance",
        fix="give the file mode 0600",
        troubles=_readable_secrets,
    ),
    Rule(
        name="deleted-data",
        proves="no secret is left where a deleted file was",
        fix="build the image again, from a base that never had it",
        troubles=_deleted,
    ),
    Rule(
        name="root-locked",
        proves="root has no password",
        fix="lock it in the base: passwd --lock root",
        troubles=_root_locked,
    ),
    Rule(
        name="user-passwords",
        proves="no local user has a password, or can do without one",
        fix="lock the user in the base: passwd --lock NAME",
        troubles=_user_passwords,
    ),
    Rule(
        name="sshd",
        proves="ssh lets nobody in by password",
        fix="use the edit `cloud_identity`, or set PasswordAuthentication and KbdInteractiveAuthentication to no",
        troubles=_sshd,
    ),
)
