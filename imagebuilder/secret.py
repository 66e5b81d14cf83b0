"""A value that must not be shown: its text leaves only through `reveal`."""

import hashlib
import hmac
from typing import Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Secret:
    """Bytes that print as `<secret>` wherever they turn up: in a repr, a format, an error, a log.

    Equality takes constant time. `digest` identifies the value in keys and plans without giving it away as
    long as the secret itself is long: a password *hash* or a private key, never a clear password.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        self._value = value.encode() if isinstance(value, str) else value

    def reveal(self) -> bytes:
        """The secret itself, for the one place that writes it into an image or a 0600 file."""
        return self._value

    @property
    def digest(self) -> str:
        """SHA-256 of the value, in hex."""
        return hashlib.sha256(self._value).hexdigest()

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    @classmethod
    def _from_text(cls, value: str) -> Self:
        return cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.chain_schema(
            [core_schema.str_schema(min_length=1), core_schema.no_info_plain_validator_function(cls._from_text)]
        )
        return core_schema.json_or_python_schema(
            json_schema=text, python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text])
        )
