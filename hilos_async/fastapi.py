"""At home in FastAPI: a session for the app's lifetime, errors as problems, results as they come.

An edge room: it knows FastAPI and a session's public side. Refuses to know how a model is written or
what an error tells a stranger (``_api/model.py``), and how a lookup goes.
"""

from __future__ import annotations

import copy
import logging
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Annotated, Final, cast
from uuid import UUID

import anyio

from hilos_async._api.model import to_json, to_line
from hilos_async._api.problem import HilosProblem
from hilos_async._wire.options import SHARED
from hilos_async.errors import HilosError, StatusError
from hilos_async.session import HilosSession

try:
    from fastapi import Depends, WebSocket, WebSocketDisconnect
    from fastapi.requests import HTTPConnection
    from fastapi.responses import Response, StreamingResponse
except ImportError as error:
    from hilos_async._extras import install_command

    raise ImportError(
        f"hilos_async.fastapi needs FastAPI: install the extra, {install_command('fastapi')}"
    ) from error

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from fastapi import FastAPI
    from starlette.background import BackgroundTask
    from starlette.types import ExceptionHandler, Receive, Scope, Send

    from hilos_async._many.stream import Lookup, Stream
    from hilos_async._many.watch import Change

__all__ = [
    "EventsResponse",
    "HilosDep",
    "HilosProblem",
    "ModelResponse",
    "NDJSONResponse",
    "hilos_lifespan",
    "hilos_session",
    "install_exception_handlers",
    "problem_for",
    "problem_responses",
    "session_named",
    "session_of",
]

_DEFAULT: Final = "factory"
_SESSIONS: Final = "hilos_sessions"  # in the app's state and in that of the lifespan
_ASKED: Final = "hilos_async.sessions"  # in a request's scope: the sessions it was given
_KEEP_ALIVE: Final = 15.0  # seconds; proxies cut what is silent for 30 or 60

_log = logging.getLogger(__name__)


# --- the session


def _shared_session() -> HilosSession:
    return HilosSession(pace=SHARED)


def hilos_lifespan(
    factory: Callable[[], HilosSession] = _shared_session, **named: Callable[[], HilosSession]
) -> Callable[[FastAPI], AbstractAsyncContextManager[dict[str, object]]]:
    """Open a session with the app and close it with the app: ``FastAPI(lifespan=hilos_lifespan())``.

    ``factory`` makes the session that ``HilosDep`` gives, each of ``named`` one more, which
    ``session_named`` gives. By default it is a session with ``pace="machine"``, so that the workers of
    ``uvicorn --workers 4`` keep one limit together. Within a lifespan of your own, write
    ``async with hilos_lifespan(...)(app) as state:`` and yield ``state``, or more with it; only
    mounted apps need what you yield. What a factory raises ends the start of the app.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, object], None]:
        async with AsyncExitStack() as stack:
            sessions = {
                name: await stack.enter_async_context(make())
                for name, make in {_DEFAULT: factory, **named}.items()
            }
            around: dict[str, HilosSession] = getattr(app.state, _SESSIONS, {})
            setattr(app.state, _SESSIONS, around | sessions)
            stack.callback(setattr, app.state, _SESSIONS, around)  # a closed one is no wiring
            yield {_SESSIONS: around | sessions}

    return lifespan


async def hilos_session(connection: HTTPConnection) -> HilosSession:
    """The app's session: what ``HilosDep`` depends on, and the key for ``app.dependency_overrides``.

    Raises ``RuntimeError`` if no ``hilos_lifespan`` has opened one.
    """
    return _session(connection, _DEFAULT)


@cache  # the same name is the same dependency, so it can be overridden
def session_named(name: str) -> Callable[[HTTPConnection], Awaitable[HilosSession]]:
    """The dependency that gives the session of that name: ``Depends(session_named("archive"))``.

    It raises ``RuntimeError`` if ``hilos_lifespan`` was given no factory of that name.
    """

    async def session(connection: HTTPConnection) -> HilosSession:
        return _session(connection, name)

    return session


HilosDep = Annotated[HilosSession, Depends(hilos_session)]
"""The app's session, as the type of an endpoint's parameter: ``hilos: HilosDep``."""


def session_of(app: FastAPI, name: str | None = None) -> HilosSession:
    """The app's session where there is no request: in a lifespan of your own, for a task that you start.

    ``name`` is one of those that ``hilos_lifespan`` was given a factory for. Raises ``RuntimeError``
    unless the app's ``hilos_lifespan`` is open.
    """
    return _found(getattr(app.state, _SESSIONS, None), name or _DEFAULT)


def _session(connection: HTTPConnection, name: str) -> HilosSession:
    sessions: dict[str, HilosSession] | None = None
    # A mounted app is not the one whose lifespan was run, but it sees that one's lifespan state.
    for state in (connection.app.state, connection.state):
        sessions = sessions or getattr(state, _SESSIONS, None)
    session = _found(sessions, name)
    connection.scope.setdefault(_ASKED, []).append(session)
    return session


def _found(sessions: dict[str, HilosSession] | None, name: str) -> HilosSession:
    if not sessions:
        raise RuntimeError(
            "this app has no Hilos session: add FastAPI(lifespan=hilos_lifespan()), or in a lifespan "
            "of your own `async with hilos_lifespan()(app) as state: yield state` (a mounted app sees "
            "only what is yielded); in tests, run the lifespan with `with TestClient(app)`, or set "
            "app.dependency_overrides[hilos_session]"
        )
    if name not in sessions:
        known = ", ".join(sorted(sessions.keys() - {_DEFAULT})) or "none"
        raise RuntimeError(
            f"there is no Hilos session named {name!r} (named: {known}): add "
            f"hilos_lifespan(..., {name}=...)"
        )
    return sessions[name]


# --- errors


def install_exception_handlers(app: FastAPI) -> None:
    """Answer errors of this library that leave an endpoint as problems (RFC 9457).

    The same for an ``ExceptionGroup`` with nothing else in it. A WebSocket is closed instead: with
    1013 where a request would get a 503, otherwise with 1011. A handler of your own for one of the
    errors goes first. Mounted apps have handlers of their own: install them there too.
    """
    # Starlette's type has one kind of connection or the other, its code hands over either.
    handler = cast("ExceptionHandler", _answer)
    app.add_exception_handler(HilosError, handler)
    app.add_exception_handler(ExceptionGroup, handler)


class _Documented(dict[str, object]):
    """A response as OpenAPI has it, of which FastAPI takes a copy for each route."""

    def copy(self) -> dict[str, object]:
        """All of it: older FastAPIs write each route's own type into what is below."""
        return copy.deepcopy(dict(self))


class _Content(dict[str, dict[str, object]]):
    """The types of an answer in OpenAPI: a problem, whatever type the route itself has."""

    def setdefault(self, key: str, default: dict[str, object] | None = None) -> dict[str, object]:
        """What FastAPI writes the reference to the model into: it alone knows the model's name.

        An app may have a ``HilosProblem`` of its own, and then neither is called that.
        """
        return super().setdefault("application/problem+json", default or {})


_DOCUMENTED: Final = _Documented(model=HilosProblem, content=_Content())
_WAIT: Final = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
problem_responses: Final[dict[int | str, dict[str, object]]] = {
    400: _DOCUMENTED,
    404: _DOCUMENTED,
    502: _DOCUMENTED,
    503: _Documented(_DOCUMENTED, headers=_WAIT),
    504: _DOCUMENTED,
}
"""What ``install_exception_handlers`` answers, for the schema: ``FastAPI(responses=problem_responses)``.

It suits an ``APIRouter`` and a single endpoint as well.
"""


def problem_for(connection: HTTPConnection, error: HilosError) -> HilosProblem:
    """What to answer an error with, for a handler of your own; it says nothing confidential.

    ``retry_after`` takes the pause into account of the sessions that this request was given.
    """
    return HilosProblem.of(error, _pause(connection))


def _pause(connection: HTTPConnection) -> float:
    asked: list[HilosSession] = connection.scope.get(_ASKED, [])
    return max((session.stats.paused_for for session in asked), default=0.0)


async def _answer(connection: HTTPConnection, error: Exception) -> Response | None:
    errors = _leaves(error)
    if errors is None:
        raise error
    problem = HilosProblem.of_many(errors, _pause(connection))
    if problem.status >= 500:
        for each in errors:
            _tell(each, problem)
    if isinstance(connection, WebSocket):
        # It may be closed already, or the client gone.
        with suppress(RuntimeError, WebSocketDisconnect):
            await connection.close(1013 if problem.status == 503 else 1011, problem.title)
        return None
    wait = problem.retry_after
    return Response(
        problem.to_json(),
        problem.status,
        None if wait is None else {"Retry-After": str(wait)},
        media_type="application/problem+json",
    )


def _leaves(error: BaseException) -> list[HilosError] | None:
    """The errors of ours in a group of groups; ``None`` if there is another one."""
    if isinstance(error, HilosError):
        return [error]
    if not isinstance(error, ExceptionGroup):
        return None
    parts = [_leaves(each) for each in cast("ExceptionGroup[Exception]", error).exceptions]
    ours = [part for part in parts if part is not None]
    return [each for part in ours for each in part] if len(ours) == len(parts) else None


def _tell(error: HilosError, problem: HilosProblem) -> None:
    """Log what the answer hides; nothing of the reply, which may hold people's data."""
    name = type(error).__name__
    if isinstance(error, StatusError):
        name += f" {error.status}"
    # What is no id may be anything that a stranger wrote: lines of a log, an address.
    known = error.execution_id if isinstance(error.execution_id, UUID) else "(no id)"
    _log.warning(
        "flow-execution/%s: answered %d for %s after %d attempts in %.1f s",
        known,
        problem.status,
        name,
        error.attempts,
        error.elapsed,
        extra={"hilos_event": "answered", "hilos_status": problem.status, "hilos_error": name},
    )


# --- answers


class ModelResponse(Response):
    """The quickest answer: what it is given goes to JSON in one step, with no copy in between.

    It takes a model, a batch, or lists and dictionaries of models. Return it from an endpoint that
    has ``response_model=`` for the documentation.
    """

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Write the content as JSON."""
        return to_json(content)


class _ResultsResponse(StreamingResponse):
    """A stream's results as they come, until it ends or the client is gone."""

    _patience: float | None = None  # seconds of silence before a keep-alive

    def __init__(
        self,
        results: Stream[Lookup] | Stream[Change],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        super().__init__((), status_code, headers, background=background)
        self.headers.setdefault("Cache-Control", "no-cache")
        self.headers.setdefault("X-Accel-Buffering", "no")  # nginx would hold results back
        # So would a middleware that compresses: Starlette's GZipMiddleware leaves what has a coding.
        self.headers.setdefault("Content-Encoding", "identity")
        self._results = results

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not StreamingResponse's way: where a server tells of a lost client only whoever sends, a
        # quiet watch would go on, and what a generator holds open waits for the garbage collector.
        try:
            async with anyio.create_task_group() as tasks:

                async def stop_when_gone() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    tasks.cancel_scope.cancel()

                tasks.start_soon(stop_when_gone)
                await self.stream_response(send)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:  # out of a task group even a single error is one
            raise group.exceptions[0] from None
        if self.background is not None:
            await self.background()

    async def stream_response(self, send: Send) -> None:
        async def write(body: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        problem: HilosProblem | None = None
        try:
            async with self._results as results:
                while True:
                    body = b": still here\n\n"
                    with anyio.move_on_after(self._patience):
                        try:
                            body = self._item(await anext(results))
                        except StopAsyncIteration:
                            break
                    await write(body)
        except HilosError as error:
            _tell(error, problem := HilosProblem.of(error))
            await write(self._item({"id": None, "error": problem}))
        await write(self._end(problem), more=False)

    def _item(self, result: object) -> bytes:
        """The bytes of one result."""
        return to_line(result)

    def _end(self, problem: HilosProblem | None) -> bytes:
        """The bytes after the last result."""
        return b""


class NDJSONResponse(_ResultsResponse):
    """The results of ``stream_executions`` or ``watch_executions``, one JSON object to a line.

    Each line is a ``Lookup`` or a ``Change``, its ``error`` a ``HilosProblem``. If the stream ends in
    an error (the key was refused, the session closed), a last line has that ``error``, and null as
    ``id``. A client that leaves ends the lookups.
    """

    media_type = "application/x-ndjson"


class EventsResponse(_ResultsResponse):
    """The results of ``watch_executions`` or ``stream_executions`` as server-sent events.

    The data of each event is a line of ``NDJSONResponse``. After the last comes an event ``end``: close
    the ``EventSource`` then, as it would connect again. There is none if the session was closed:
    there the browser is to come back. After 15 seconds of silence, a comment keeps proxies awake. A
    client that leaves ends the lookups.
    """

    media_type = "text/event-stream"
    _patience = _KEEP_ALIVE

    def _item(self, result: object) -> bytes:
        return b"data: " + super()._item(result) + b"\n"

    def _end(self, problem: HilosProblem | None) -> bytes:
        if problem is None or problem.retry_after is None:
            return b"event: end\ndata: {}\n\n"
        return b"retry: %d\n\n" % (1000 * problem.retry_after)
