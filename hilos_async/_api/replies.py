"""What a reply means: pure functions of status, headers and body.

No I/O: the tests need no loop, no server and no mock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeVar

import msgspec
from yarl import URL

from hilos_async._api.objects import UNREADABLE, decode
from hilos_async._pace.fields import retry_after
from hilos_async.errors import (
    AuthenticationError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    StatusError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from hilos_async._api.endpoints import Endpoint

T = TypeVar("T")

_KEPT_BODY_BYTES: Final = 2_048  # of an error's body; enough for DRF's JSON and a proxy's page


class _ErrorBody(msgspec.Struct):
    detail: str


_ERROR_BODY = msgspec.json.Decoder(_ErrorBody)

_ERRORS: Final[dict[int, type[StatusError]]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}
_ADVICE: Final = {
    400: "the API refused what was sent; the error's body says which field and why",
    401: "the API refused the key; is it this account's, and is the base URL the key's own?",
    403: "the key may not do this",
    404: "no such {noun} in this account; is the id right?",
    429: "more requests than the account may send",
}


class Reader(Generic[T]):
    """Reads the replies of one endpoint for one session.

    ``conceal`` takes the key out of a body: an error keeps the beginning of what does not fit.
    """

    __slots__ = ("_conceal", "_parse", "endpoint")

    def __init__(self, endpoint: Endpoint[T], conceal: Callable[[bytes], bytes] = bytes) -> None:
        self.endpoint = endpoint
        self._parse = endpoint.reader()
        self._conceal = conceal

    def read(self, status: int, body: bytes, path: str, id: UUID | None) -> T:
        """What a successful reply holds. Raises ``DecodeError`` if that is not what was asked for."""
        if not body:
            raise DecodeError(f"the reply to {path} is empty (status {status})")
        found: T | None
        try:
            found = self._parse(body)
        except UNREADABLE:
            found = None
        if found is None:
            body = self._conceal(body)  # also from a traceback that shows this frame's variables
            found = self._explained(body, path)
        if id is None:
            return found
        got = self.endpoint.id_of(found)
        if got == id:
            return found
        if got is None:
            return self.endpoint.with_id(found, id)
        del found, body  # as above: no variable may show the key, or people's data
        noun = self.endpoint.noun
        raise DecodeError(f"asked for {path}, got the {noun} {got}", path="$.id")

    def _explained(self, body: bytes, path: str) -> T:
        """Read what does not fit once more, for an error that says where it does not."""
        try:
            return decode(body, self.endpoint.decoder)
        except DecodeError as error:
            error.args = (f"the reply to {path} is {error.args[0]}",)
            raise


def refuse(status: int, headers: Mapping[str, str], body: bytes, asked: str, noun: str) -> NoReturn:
    """Raise the error that a reply is; header names are lower-case.

    ``asked`` is the request's method and path, ``noun`` what was asked for.
    """
    body = body[:_KEPT_BODY_BYTES]
    detail = _detail(body)
    said = f" ({detail})" if detail else ""
    if 300 <= status < 400:
        said = f": a redirect to {_origin(headers.get('location', ''))}"
        advice = "redirects are not followed; is base_url right?"
    else:
        advice = _ADVICE.get(
            status, "the server failed" if status >= 500 else "the API refused the request"
        ).format(noun=noun)
        if status == 404 and not detail:  # the API would have said something
            advice = "that is not the API's answer; is base_url its full prefix?"
    kind = _ERRORS.get(status, ServerError if status >= 500 else StatusError)
    raise kind(
        f"{asked} got {status}{said}; {advice}",
        status=status,
        detail=detail,
        body=body,
        headers=headers,
        retry_after=retry_after(headers, detail),
    )


def _detail(body: bytes) -> str:
    try:
        return _ERROR_BODY.decode(body).detail
    except UNREADABLE:
        return ""  # a proxy's page, or a shape of another framework: .body has it


def _origin(location: str) -> str:
    try:
        target = URL(location)
        return str(target.origin()) if target.absolute else "the same origin"
    except ValueError:
        return "no URL"
