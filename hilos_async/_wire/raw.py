"""The reply as it came, beside what was read from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from hilos_async._wire.call import SINGLE, Call, Sending

if TYPE_CHECKING:
    from uuid import UUID

    from hilos_async._api.replies import Reader
    from hilos_async._wire.client import Client

T = TypeVar("T")


@dataclass(frozen=True, slots=True, repr=False)
class Response(Generic[T]):
    """A whole reply: ``value`` is what was read from it.

    ``headers`` have lower-case names; ``body`` is unpacked. Where a server echoes the API key, it is
    ``***`` in both. ``attempts`` is the number of requests sent, ``elapsed`` the seconds since the
    call began, waiting included.
    """

    value: T
    status: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int
    elapsed: float

    def __repr__(self) -> str:
        return (
            f"<Response {self.status} of {len(self.body)} bytes, {self.attempts} attempts in "
            f"{self.elapsed:.3f} s>"
        )


async def whole_reply(
    client: Client, reader: Reader[T], path: str, id: UUID, timeout: float | None
) -> Response[T]:
    """Ask by itself for one object, and give its reply as it came."""
    sending = Sending(keeps_reply=True)
    started = client.clock()
    call = Call(reader, path, id, SINGLE, client.bounds, started, timeout, sending)
    value = await client.answer(call)
    assert sending.reply is not None
    status, headers, body = sending.reply
    transport = client.transport
    return Response(
        value,
        status,
        transport.plain(headers),
        transport.without_key(body),
        call.attempts,
        client.clock() - started,
    )
