"""The CA of the cluster's VPN: makes, renews and revokes certificates, and hands a build what a host needs."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from imagebuilder.edits.edit import VpnCredentials
from imagebuilder.errors import HostError, UsageError
from imagebuilder.pki.certificates import (
    CURVES,
    Curve,
    Purpose,
    certify,
    certify_authority,
    key_from_pem,
    key_to_pem,
    make_revocation_list,
    make_tls_crypt_key,
    revocation_number,
    revocations,
)
from imagebuilder.pki.credentials import (
    RESTORE,
    read_authority_certificate,
    read_certificate,
    read_revocation_list,
    read_vpn_credentials,
    to_pem,
)
from imagebuilder.pki.directory import (
    CA_CERTIFICATE,
    CA_KEY,
    INDEX,
    REVOCATION_LIST,
    TLS_CRYPT_KEY,
    Access,
    PkiDirectory,
)
from imagebuilder.pki.index import Index, IssuedCertificate
from imagebuilder.pki.status import (
    NEW_AUTHORITY,
    WARNING_DAYS,
    CertificateStatus,
    days_until,
    status_of_authority,
    status_of_issued,
    status_of_revocation_list,
)
from imagebuilder.secret import Secret

# A new CA means new images everywhere at once; ten years outlive the machines of a cluster.
CA_DAYS = 3650
# An AMI is used for years without anybody looking; a lost one must still come to an end. `status` warns in time.
CERTIFICATE_DAYS = 1095

_MOST_DAYS = 36_500  # X.509 ends with the year 9999

# A host name: it becomes a DNS name, a file name and a subject, which ends at 64 characters (X.520).
_LABEL = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,64}}\Z){_LABEL}(\.{_LABEL})*")
# " VPN CA" follows it in the subject.
_CLUSTER = re.compile(r"[^\W_][\w .-]{0,55}")


@dataclass(frozen=True, kw_only=True)
class Authority:
    """The CA in a PKI directory. Made by `open_authority` and `init_authority`.

    `certificate` is the CA's own. Its key is read only to sign, so that the file `ca.key` may be kept elsewhere
    between one `issue`, `renew` or `revoke` and the next; `passphrase` opens it if it is encrypted.
    """

    directory: PkiDirectory
    certificate: x509.Certificate
    passphrase: Secret | None = None

    def issue(self, name: str, purpose: Purpose, *, now: datetime, days: int | None = None) -> IssuedCertificate:
        """Make the first certificate and key of `name`.

        They end `days` after `now`; by default CERTIFICATE_DAYS, or earlier with the CA. Raises UsageError if
        `name` has a certificate already.
        """
        with self.directory.lock():
            known = self.directory.read_index().current(name)
            if known is not None:
                what = f"{name} has a {known.purpose} certificate already"
                raise UsageError(what, where=self.directory.path, fix=f"imgbuild pki renew {name}")
            return self._issue(name, purpose, now=now, days=days)

    def ensure(self, needs: Mapping[str, Purpose], *, now: datetime) -> None:
        """Make the certificates in `needs`, by name, that are missing; what is there stays as it is."""
        with self.directory.lock():
            index = self.directory.read_index()
            for name, purpose in sorted(needs.items()):
                known = index.current(name)
                if known is None:
                    self._issue(name, purpose, now=now)
                elif known.purpose != purpose:
                    what = f"{name} is needed as {purpose}, but has a {known.purpose} certificate"
                    raise HostError(what, where=self.directory.path, fix="give one of the two another name")

    def renew(
        self,
        name: str,
        *,
        now: datetime,
        days: int | None = None,
        superseded: Literal["keep", "revoke"] = "keep",
    ) -> IssuedCertificate:
        """Make a new certificate and key for a `name` that has one, for the same purpose.

        The old one stays good until it expires, so that machines built with it go on; with superseded="revoke" it
        ends at once.
        """
        with self.directory.lock():
            renewed = self._issue(name, self._current(name).purpose, now=now, days=days)
            if superseded == "revoke":
                self._revoke(self.directory.read_index().all_of(name)[:-1], now=now)
            return renewed

    def revoke(
        self, name: str, *, now: datetime, which: Literal["all", "superseded"] = "all"
    ) -> tuple[IssuedCertificate, ...]:
        """Put the certificates of `name` into a new revocation list and return them.

        With which="superseded" the one in use stays good. Raises UsageError if there is nothing left to revoke.
        """
        with self.directory.lock():
            self._current(name)
            entries = self.directory.read_index().all_of(name)
            revoked = self._revoke(entries if which == "all" else entries[:-1], now=now)
        if not revoked:
            kind = "certificate" if which == "all" else "superseded certificate"
            what = f"{name} has no {kind} that is not revoked already"
            raise UsageError(what, where=self.directory.path, fix="imgbuild pki status shows what there is")
        return revoked

    def status(self, now: datetime, *, warning_days: int = WARNING_DAYS) -> tuple[CertificateStatus, ...]:
        """How everything stands: the CA, the revocation list, then all that was issued, by name, the newest first.

        The certificates in use are checked with their keys, as for `vpn_credentials`.
        """
        index = self.directory.read_index()
        crl = read_revocation_list(self.directory, self.certificate)
        revoked, superseded = revocations(crl).keys(), index.superseded()
        for entry in index.issued:
            if entry.serial_number not in revoked and entry not in superseded:
                read_certificate(self.directory, entry, self.certificate)
        return (
            status_of_authority(self.certificate, now, warning_days=warning_days),
            status_of_revocation_list(crl, self.certificate, now, warning_days=warning_days),
            *status_of_issued(index, revoked, now, warning_days=warning_days),
        )

    def vpn_credentials(self, name: str) -> VpnCredentials:
        """What goes into the image of `name`: every part checked against the others.

        Raises HostError if a file is missing, damaged, readable by others or does not belong to the rest, or if the
        certificate is revoked. An expired one is no error: `list_troubles` tells of it.
        """
        entry = self._current(name)
        if entry.serial_number in revocations(read_revocation_list(self.directory, self.certificate)):
            what = f"the {entry.purpose} certificate of {name} is revoked"
            raise HostError(what, where=self.directory.path, fix=f"imgbuild pki renew {name}")
        return read_vpn_credentials(self.directory, entry, self.certificate)

    def _issue(self, name: str, purpose: Purpose, *, now: datetime, days: int | None = None) -> IssuedCertificate:
        if not _NAME.fullmatch(name):
            what = f"{name!r} is no host name of at most 64 lower case letters, digits, '-' and '.'"
            raise UsageError(what, fix="give the name of the host, for example oneserver")
        index = self.directory.read_index()
        not_after = self._end_of_validity(now, days)
        issuer_key = self.signing_key()
        key = ec.generate_private_key(issuer_key.curve)
        certificate = certify(
            key.public_key(),
            name,
            purpose,
            now=now,
            not_after=not_after,
            issuer=self.certificate,
            issuer_key=issuer_key,
        )
        generation = len(index.all_of(name)) + 1
        entry = IssuedCertificate.of(certificate, name=name, purpose=purpose, generation=generation)
        self.directory.write(
            {
                entry.key_file: key_to_pem(key),
                entry.certificate_file: to_pem(certificate).encode(),
                INDEX: index.with_entry(entry).to_json(),
            }
        )
        return entry

    def _revoke(self, entries: Iterable[IssuedCertificate], *, now: datetime) -> tuple[IssuedCertificate, ...]:
        crl = read_revocation_list(self.directory, self.certificate)
        known = revocations(crl)
        fresh = {entry.serial_number: entry for entry in entries if entry.serial_number not in known}
        if fresh:
            newer = make_revocation_list(
                known | dict.fromkeys(fresh, now),
                number=revocation_number(crl) + 1,
                now=now,
                issuer=self.certificate,
                issuer_key=self.signing_key(),
            )
            self.directory.write({REVOCATION_LIST: to_pem(newer).encode()})
        return tuple(fresh.values())

    def _current(self, name: str) -> IssuedCertificate:
        index = self.directory.read_index()
        entry = index.current(name)
        if entry is None:
            near = get_close_matches(name, {entry.name for entry in index.issued}, n=1)
            what = f"no certificate was issued to {name}" + "".join(f". Did you mean {other}?" for other in near)
            fix = f"imgbuild pki issue {name} --for server|client"
            raise UsageError(what, where=self.directory.path, fix=fix)
        return entry

    def signing_key(self) -> ec.EllipticCurvePrivateKey:
        """The CA's private key. Raises HostError if it is not here, or cannot be opened."""
        where = self.directory.path / CA_KEY
        pem = self.directory.read_secret(CA_KEY, if_missing="put the key of the CA back for this command")
        try:
            key = key_from_pem(pem, self.passphrase)
        except TypeError as error:
            what, fix = (
                ("is encrypted", "give --passphrase-file or IMGBUILD_CA_PASSPHRASE_FILE")
                if self.passphrase is None
                else ("is not encrypted, but a passphrase was given", "leave the passphrase file out")
            )
            raise HostError(what, where=where, fix=fix) from error
        except ValueError as error:
            what, fix = (
                ("is not a private key", RESTORE)
                if self.passphrase is None
                else ("cannot be opened with this passphrase", "give the one it was made with")
            )
            raise HostError(what, where=where, fix=fix) from error
        if key.public_key() != self.certificate.public_key():
            raise HostError(f"does not belong to {CA_CERTIFICATE}", where=where, fix=RESTORE)
        return key

    def _end_of_validity(self, now: datetime, days: int | None) -> datetime:
        end = self.certificate.not_valid_after_utc
        if end <= now:
            what = f"the CA expired on {end:%Y-%m-%d}"
            raise HostError(what, where=self.directory.path / CA_CERTIFICATE, fix=NEW_AUTHORITY)
        if days is None:
            return min(now + timedelta(days=CERTIFICATE_DAYS), end)
        asked = now + _validity(days)
        if asked > end:
            what = f"a certificate of {days} days would outlive the CA, which ends on {end:%Y-%m-%d}"
            raise UsageError(what, fix=f"ask for at most {days_until(end, now)} days")
        return asked


def init_authority(  # noqa: PLR0913 - what a CA is made of
    directory: Path,
    cluster: str,
    *,
    now: datetime,
    days: int = CA_DAYS,
    curve: Curve = "P-256",
    passphrase: Secret | None = None,
    access: Access = "write",
) -> Authority:
    """Make the CA of `cluster`, an empty revocation list and the tls-crypt key in `directory`, all or nothing.

    Raises UsageError if `directory` holds anything already: the key of a CA is never overwritten.
    """
    place = PkiDirectory(path=directory.absolute(), access=access)
    with place.lock():
        return _create(place, cluster, now=now, days=days, curve=curve, passphrase=passphrase)


def open_authority(directory: Path, *, passphrase: Secret | None = None, access: Access = "write") -> Authority:
    """The CA in `directory`; HostError if there is none. With access="rehearse" its methods write nothing."""
    place = PkiDirectory(path=directory.absolute(), access=access)
    return Authority(directory=place, certificate=read_authority_certificate(place), passphrase=passphrase)


def ensure_credentials(
    directory: Path,
    cluster: str,
    needs: Mapping[str, Purpose],
    now: datetime,
    *,
    passphrase: Secret | None = None,
) -> None:
    """Make what is missing of the CA and of the certificates in `needs`, by name; what is there stays as it is."""
    place = PkiDirectory(path=directory.absolute())
    with place.lock():
        if not place.holds_anything():
            _create(place, cluster, now=now, passphrase=passphrase)
    open_authority(directory, passphrase=passphrase).ensure(needs, now=now)


def _create(  # noqa: PLR0913 - as init_authority
    place: PkiDirectory,
    cluster: str,
    *,
    now: datetime,
    days: int = CA_DAYS,
    curve: Curve = "P-256",
    passphrase: Secret | None,
) -> Authority:
    if place.holds_anything():
        fix = "imgbuild pki status shows what there is; for a new CA move the directory away"
        raise UsageError("is not empty, and a CA is never overwritten", where=place.path, fix=fix)
    if not _CLUSTER.fullmatch(cluster):
        fix = "use up to 56 letters, digits, spaces and '.', '-', '_', a letter or digit first"
        raise UsageError(f"{cluster!r} is no name for a cluster", fix=fix)
    key = ec.generate_private_key(CURVES[curve])
    certificate = certify_authority(key, cluster, now=now, not_after=now + _validity(days))
    crl = make_revocation_list({}, number=1, now=now, issuer=certificate, issuer_key=key)
    place.create(
        {
            CA_KEY: key_to_pem(key, passphrase),
            CA_CERTIFICATE: to_pem(certificate).encode(),
            REVOCATION_LIST: to_pem(crl).encode(),
            TLS_CRYPT_KEY: make_tls_crypt_key(),
            INDEX: Index().to_json(),
        }
    )
    return Authority(directory=place, certificate=certificate, passphrase=passphrase)


def _validity(days: int) -> timedelta:
    if not 1 <= days <= _MOST_DAYS:
        raise UsageError(f"{days} days is no validity", fix=f"give 1 to {_MOST_DAYS} days")
    return timedelta(days=days)
