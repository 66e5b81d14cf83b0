"""The index of a PKI directory: what the CA issued, and which of it is in use. Pure."""

from typing import Annotated, Literal, Self

from cryptography import x509
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from imagebuilder.pki.certificates import Purpose


def serial_text(serial: int) -> str:
    """`serial` as 40 hexadecimal digits: it has at most 20 octets (RFC 5280, 4.1.2.2)."""
    return f"{serial:040x}"


class IssuedCertificate(BaseModel):
    """One line of the index: a certificate that was issued and the stem of its two files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    purpose: Purpose
    generation: int
    serial: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
    not_before: AwareDatetime
    not_after: AwareDatetime

    @classmethod
    def of(cls, certificate: x509.Certificate, *, name: str, purpose: Purpose, generation: int) -> Self:
        """The line for `certificate`."""
        return cls(
            name=name,
            purpose=purpose,
            generation=generation,
            serial=serial_text(certificate.serial_number),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )

    @property
    def serial_number(self) -> int:
        """Its serial as a revocation list has it."""
        return int(self.serial, 16)

    @property
    def certificate_file(self) -> str:
        """Its certificate, relative to the PKI directory."""
        return f"issued/{self.name}-{self.generation}.crt"

    @property
    def key_file(self) -> str:
        """Its private key, relative to the PKI directory."""
        return f"issued/{self.name}-{self.generation}.key"


class Index(BaseModel):
    """Every certificate the CA issued, oldest first; the last one of a name is the one in use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    issued: tuple[IssuedCertificate, ...] = ()

    def all_of(self, name: str) -> tuple[IssuedCertificate, ...]:
        """What was issued to `name`, oldest first."""
        return tuple(entry for entry in self.issued if entry.name == name)

    def current(self, name: str) -> IssuedCertificate | None:
        """The certificate that `name` uses, None if it never got one."""
        return next(reversed(self.all_of(name)), None)

    def superseded(self) -> frozenset[IssuedCertificate]:
        """What a newer certificate of the same name took the place of."""
        return frozenset(self.issued) - frozenset({entry.name: entry for entry in self.issued}.values())

    def with_entry(self, entry: IssuedCertificate) -> Self:
        """This index and, last, `entry`."""
        return self.model_copy(update={"issued": (*self.issued, entry)})

    def to_json(self) -> bytes:
        """What `index.json` holds."""
        return (self.model_dump_json(indent=2) + "\n").encode()
