"""The certificates of the cluster's VPN: one CA, one certificate for each end, one list of the revoked.

A build asks `ensure_credentials` for what the cluster needs, `open_authority` for the credentials of one host, and
`list_troubles` for what to warn of. docs/decisions/0004-pki.md says why it is made this way.
"""

from imagebuilder.pki.authority import (
    Authority,
    ensure_credentials,
    init_authority,
    open_authority,
)
from imagebuilder.pki.certificates import Curve, Purpose
from imagebuilder.pki.directory import DEFAULT_DIRECTORY, Access, read_passphrase, read_private
from imagebuilder.pki.impostors import Impostor, make_expired, make_foreigner, make_revoked
from imagebuilder.pki.index import IssuedCertificate
from imagebuilder.pki.signing import SigningKey, VerifyingKey, ensure_signing_key, read_verifying_key
from imagebuilder.pki.status import CertificateStatus, State, list_troubles

__all__ = [
    "DEFAULT_DIRECTORY",
    "Access",
    "Authority",
    "CertificateStatus",
    "Curve",
    "Impostor",
    "IssuedCertificate",
    "Purpose",
    "SigningKey",
    "State",
    "VerifyingKey",
    "ensure_credentials",
    "ensure_signing_key",
    "init_authority",
    "list_troubles",
    "make_expired",
    "make_foreigner",
    "make_revoked",
    "open_authority",
    "read_passphrase",
    "read_private",
    "read_verifying_key",
]
