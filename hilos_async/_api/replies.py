"""What a reply means: pure functions of status, headers and body.

No I/O: the tests need no loop, no server and no mock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

import msgspec
from yarl import URL

from hilos_async._api.objects import UNREADABLE, FlowExecution, decode
from hilos_async._api.parts import read_execution
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

_KEPT_BODY_BYTES: Final = 2_048  # of an error's body; enough for DRF's JSON and a proxy's page
_EXECUTION = msgspec.json.Decoder(FlowExecution)


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
    401: "the API refused the key; is it this account's, and is the base URL the key's own?",
    403: "the key may not read this execution",
    404: "no such execution in this account; is the id right?",
    429: "more requests than the account may send",
}


def interpret(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    execution_id: UUID,
    conceal: Callable[[bytes], bytes] = bytes,
) -> FlowExecution:
    """The execution that a reply holds, or the error that it is; header names are lower-case.

    A success that does not fit is concealed before an error keeps the beginning of it.
    """
    if not 200 <= status < 300:
        _refuse(status, headers, body, execution_id)
    if not body:
        raise DecodeError(f"the reply to flow-execution/{execution_id} is empty (status {status})")
    try:
        execution = read_execution(body)
    except UNREADABLE:
        execution = None
    if execution is None:
        body = conceal(body)  # also from a traceback that shows the variables of this frame
        execution = _explain(body, execution_id)
    if execution.id == execution_id:
        return execution
    if execution.id is not None:
        got, execution, body = execution.id, None, b""  # as above: no variable may show the key
        raise DecodeError(f"asked for {execution_id}, got the execution {got}", path="$.id")
    return msgspec.structs.replace(execution, id=execution_id)


def _explain(body: bytes, execution_id: UUID) -> FlowExecution:
    """Read what does not fit once more, for an error that says where, names the id, hides the key."""
    try:
        return decode(body, _EXECUTION)
    except DecodeError as error:
        error.args = (f"the reply to flow-execution/{execution_id} is {error.args[0]}",)
        raise


def _refuse(status: int, headers: Mapping[str, str], body: bytes, execution_id: UUID) -> NoReturn:
    body = body[:_KEPT_BODY_BYTES]
    detail = _detail(body)
    said = f" ({detail})" if detail else ""
    if 300 <= status < 400:
        said = f": a redirect to {_origin(headers.get('location', ''))}"
        advice = "redirects are not followed; is base_url right?"
    else:
        advice = _ADVICE.get(
            status, "the server failed" if status >= 500 else "the API refused the request"
        )
        if status == 404 and not detail:  # the API would have said something
            advice = "that is not the API's answer; is base_url its full prefix?"
    kind = _ERRORS.get(status, ServerError if status >= 500 else StatusError)
    raise kind(
        f"GET flow-execution/{execution_id} got {status}{said}; {advice}",
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
