"""Compares the body of a request to S3 with what its headers say of it; rclone looks at Content-MD5 only."""

import hashlib
import re
import zlib
from base64 import b64encode
from collections.abc import Iterator
from typing import Protocol

from imagebuilder.cloud.http_messages import Request
from imagebuilder.cloud.refusals import Refusal


class _Sum(Protocol):
    def update(self, piece: bytearray, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, piece: bytearray, /) -> None:
        self._value = zlib.crc32(piece, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def checked_pieces(request: Request) -> Iterator[bytearray]:
    """The body in pieces. Raises Refusal in place of the last one if the body is not what the headers say."""
    sums = _sums(request)
    left = request.body.length
    for piece in request.body.pieces():
        for one in sums.values():
            one.update(piece)
        left -= len(piece)
        if not left:
            _compare(request, sums)
        yield piece
    if not request.body.length:
        _compare(request, sums)


def _sums(request: Request) -> dict[str, _Sum]:
    headers = request.headers
    sums: dict[str, _Sum] = {}
    if re.fullmatch(r"[0-9a-f]{64}", headers.get("x-amz-content-sha256", "")):
        sums["x-amz-content-sha256"] = hashlib.sha256()
    if "x-amz-checksum-crc32" in headers:
        sums["x-amz-checksum-crc32"] = _Crc32()
    if "x-amz-checksum-sha1" in headers:
        sums["x-amz-checksum-sha1"] = hashlib.sha1(usedforsecurity=False)
    if "x-amz-checksum-sha256" in headers:
        sums["x-amz-checksum-sha256"] = hashlib.sha256()
    return sums


def _compare(request: Request, sums: dict[str, _Sum]) -> None:
    for name, one in sums.items():
        if name == "x-amz-content-sha256":
            if one.digest().hex() != request.headers[name]:
                message = "The provided 'x-amz-content-sha256' header does not match what was computed."
                raise Refusal(code="XAmzContentSHA256Mismatch", message=message)
        elif b64encode(one.digest()).decode() != request.headers[name]:
            algorithm = name.rpartition("-")[2].upper()
            message = f"The {algorithm} you specified did not match the calculated checksum."
            raise Refusal(code="BadDigest", message=message)
