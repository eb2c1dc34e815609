"""Every number of the fake that looks random: a hash of what it is about.

Nothing is drawn in sequence and no generator keeps a state, so a number depends neither on the
order of requests nor on the process or the Python version that asks for it.
"""

from hashlib import blake2b
from struct import unpack
from uuid import UUID


def draws(*about: object) -> tuple[float, ...]:
    """Give sixteen numbers in [0, 1) that belong to `about`."""
    digest = blake2b("\0".join(map(str, about)).encode(), digest_size=64).digest()
    return tuple(word / 2**32 for word in unpack("<16I", digest))


def uuid_about(*about: object) -> str:
    """Give the text of the version 4 UUID that belongs to `about`."""
    digest = blake2b("\0".join(map(str, about)).encode(), digest_size=16).digest()
    return str(UUID(bytes=digest, version=4))
