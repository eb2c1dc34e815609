"""Compressed bodies, unpacked piece by piece up to a bound."""

from __future__ import annotations

import zlib
from typing import Final

import aiohttp

# What servers write where nothing is compressed: some name a character set, S3's proxies a framing.
_PLAIN: Final = frozenset({"", "identity", "none", "utf-8", "utf8", "binary", "aws-chunked"})


def unpacker(encoding: str, max_bytes: int) -> Unpack | None:
    """What unpacks a body of that ``Content-Encoding``; ``None`` where it is not compressed.

    Raises ``aiohttp.ClientPayloadError`` for an encoding that was not asked for.
    """
    names = [name for part in encoding.split(",") if (name := part.strip().lower()) not in _PLAIN]
    if not names:
        return None
    if len(names) > 1 or names[0] not in ("gzip", "x-gzip", "deflate"):
        raise aiohttp.ClientPayloadError(f"Content-Encoding {encoding!r} was not asked for")
    return Unpack(is_deflate=names[0] == "deflate", max_bytes=max_bytes)


class Unpack:
    """Unpacks gzip and deflate piece by piece, never more than one byte over the bound."""

    def __init__(self, *, is_deflate: bool, max_bytes: int) -> None:
        self._is_deflate = is_deflate
        self._zlib = zlib.decompressobj()
        self._has_begun = False
        self._max_bytes = max_bytes

    def __call__(self, part: bytes, so_far: int) -> bytes:
        unpacked = b""
        try:
            while part and so_far + len(unpacked) <= self._max_bytes:
                if not self._has_begun or self._zlib.eof:  # gzip may have several members
                    self._zlib = zlib.decompressobj(wbits=self._wbits(part[0]))
                    self._has_begun = True
                unpacked += self._zlib.decompress(
                    part, self._max_bytes + 1 - so_far - len(unpacked)
                )
                part = self._zlib.unused_data
            return unpacked
        except zlib.error as error:
            raise aiohttp.ClientPayloadError(f"the compressed body is corrupt: {error}") from error

    def _wbits(self, first: int) -> int:
        # Some servers send deflate without the zlib header that RFC 9110 wants.
        if self._is_deflate and first & 0xF != 8:
            return -zlib.MAX_WBITS
        return zlib.MAX_WBITS | 32  # gzip or zlib, as it begins

    def finish(self) -> None:
        """Raise unless the compressed body, if there was one, has come to its end."""
        if self._has_begun and not self._zlib.eof:
            raise aiohttp.ClientPayloadError("the compressed body ends too early")
