"""What the outside sees: a model as JSON and as a schema, an error as a problem.

Knows how a Struct is written, how pydantic (and with it FastAPI) reads and describes one, and what a
stranger may hear of an error. Refuses to need pydantic: it is imported only when pydantic asks.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import re
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self, get_type_hints

import msgspec

from hilos_async.errors import (
    AttemptTimeoutError,
    DeadlineExceededError,
    HilosError,
    InvalidIdError,
    NotFoundError,
    RateLimitError,
    ServerError,
    SessionClosedError,
    StatusError,
)

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema, SchemaSerializer, ValidationError
    from pydantic_core.core_schema import SerializationInfo, SerializerFunctionWrapHandler

_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_AT: Final = re.compile(r" - at `\$(.*)`$")
_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]")


class Model(msgspec.Struct, frozen=True):
    """A Struct that pydantic and FastAPI take for one of their own models.

    As a return type it is answered as ``to_json`` writes it, as a body it is read as the API's own
    document would be, and both are described in full.
    """

    def to_json(self) -> bytes:
        """Write it as JSON; an error in it as a problem (RFC 9457) that says no more than a status."""
        return to_json(self)

    @property
    def __pydantic_serializer__(self) -> SchemaSerializer:
        """What pydantic looks for on a value of which no annotation told: in a field of type ``Any``."""
        return _serializer(type(self))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema

        # In JSON an error is a problem.
        hints = get_type_hints(cls, localns={"HilosError": HilosProblem}, include_extras=True)
        fields = {
            field.name: core_schema.typed_dict_field(
                handler.generate_schema(hints[field.name]), required=field.required
            )
            for field in msgspec.structs.fields(cls)
        }
        # The fields are only there to be described: msgspec alone decides what is valid.
        return core_schema.no_info_wrap_validator_function(
            lambda value, _: _read(cls, value),
            core_schema.typed_dict_schema(fields),
            ref=f"{cls.__module__}.{cls.__qualname__}:{id(cls)}",
            serialization=core_schema.wrap_serializer_function_ser_schema(_write, info_arg=True),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        reference = handler(schema)
        described = handler.resolve_ref_schema(reference)
        summary = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0]
        described["description"] = summary.replace("``", "`")  # OpenAPI's text is Markdown
        if handler.mode == "serialization":
            described["required"] = list(described["properties"])  # all of them are always written
            for field in msgspec.structs.fields(cls):
                if type(field.default) is int:  # a count: null is read as 0, and never written
                    described["properties"][field.name] = {"type": "integer"}
        return reference


@cache
def _serializer(cls: type[Model]) -> SchemaSerializer:
    from pydantic import TypeAdapter

    return TypeAdapter(cls).serializer


class HilosProblem(Model, frozen=True, kw_only=True):
    """What a stranger may hear of an error: a problem as RFC 9457 has them.

    ``status`` and ``title`` are HTTP's, ``detail`` is a sentence for people, the same for all errors
    of a kind: no word of the API's, no address and no key. ``execution_id`` is the id asked for.
    ``retry_after`` is in seconds, there if asking again helps and ``status`` is 503.
    """

    # No defaults: then it is described the same way whether it is read or written, under one name.
    type: str
    title: str
    status: int
    detail: str
    execution_id: str | None
    retry_after: int | None

    @classmethod
    def of(cls, error: HilosError, pause: float = 0.0) -> Self:
        """The problem that an error is; ``pause``: the seconds that its session still waits."""
        given = None if error.execution_id is None else str(error.execution_id)
        late = isinstance(error, DeadlineExceededError)
        cause = error.__cause__ if late else error
        if _asks_to_wait(cause) or (late and pause > 0):
            asked = cause.retry_after if isinstance(cause, StatusError) else None
            wait = min(_LONGEST_WAIT, max(1.0, pause, asked or 0.0))
            return cls._say(503, _BUSY, given, math.ceil(wait))
        if isinstance(error, SessionClosedError):
            return cls._say(503, _CLOSED, given, 1)
        for kinds, status, detail in _PROBLEMS:
            if isinstance(error, kinds):
                return cls._say(status, detail, given)
        return cls._say(502, _USELESS, given)

    @classmethod
    def of_many(cls, errors: list[HilosError], pause: float = 0.0) -> Self:
        """The problem that several errors are together: theirs if they agree, otherwise a 502."""
        problems = [cls.of(error, pause) for error in errors]
        if len({problem.status for problem in problems}) > 1:
            return cls._say(502, _USELESS, None)
        longest = max(problems, key=lambda problem: problem.retry_after or 0)
        return longest if len(errors) == 1 else msgspec.structs.replace(longest, execution_id=None)

    @classmethod
    def _say(
        cls, status: int, detail: str, execution_id: str | None, retry_after: int | None = None
    ) -> Self:
        return cls(
            type="about:blank",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            execution_id=execution_id,
            retry_after=retry_after,
        )


_LONGEST_WAIT: Final = 604_800.0  # seconds, a week: what an API asks beyond it is no time any more
_BUSY: Final = "Hilos takes no more requests for now. Ask again later."
_CLOSED: Final = "This service is shutting down. Ask again."
_USELESS: Final = "Hilos could not be asked, or gave no usable answer."
_PROBLEMS: Final = (
    (
        InvalidIdError,
        400,
        "This is no execution id; one looks like a1b2c3d4-0000-4000-8000-1234567890ab.",
    ),
    (NotFoundError, 404, "There is no such flow execution."),
    ((DeadlineExceededError, AttemptTimeoutError), 504, "Hilos did not answer in time."),
)


def _asks_to_wait(error: BaseException | None) -> bool:
    return isinstance(error, RateLimitError) or (
        isinstance(error, ServerError) and error.retry_after is not None
    )


def _as_problem(value: object) -> HilosProblem:
    if isinstance(value, HilosError):
        return HilosProblem.of(value)
    raise NotImplementedError(f"{type(value).__name__} has no JSON here")


to_json = msgspec.json.Encoder(enc_hook=_as_problem).encode

# JSON may hold them as they are, but Python's str.splitlines, and so many a client, ends a line there.
_SEPARATORS: Final = [
    (character.encode(), f"\\u{ord(character):04x}".encode()) for character in "\x85\u2028\u2029"
]


def to_line(value: object) -> bytes:
    """Write it as JSON and a newline, the only one that any reader can find in it."""
    line = to_json(value)
    for separator, escaped in _SEPARATORS:
        line = line.replace(separator, escaped)
    return line + b"\n"


def _write(
    value: object, handler: SerializerFunctionWrapHandler, info: SerializationInfo
) -> object:
    """What pydantic answers for a model: in one step, unless it is to leave something out."""
    if info.include is None and info.exclude is None and not info.exclude_none:
        return msgspec.to_builtins(value, enc_hook=_as_problem)
    model = HilosProblem.of(value) if isinstance(value, HilosError) else value
    if not isinstance(model, Model):
        return _as_problem(model)
    return handler(msgspec.structs.asdict(model))


def _read(cls: type[Model], value: object) -> Model:
    """What pydantic is given for a model: one, or the document of one."""
    if isinstance(value, cls):
        return value
    from pydantic_core import PydanticCustomError

    try:
        return msgspec.convert(value, cls)
    except msgspec.ValidationError as error:
        raise _explained(cls, value, str(error)) from error
    except TypeError as error:  # msgspec reads no HilosError: a Lookup or a batch is made, not read
        name = {"name": cls.__name__}
        raise PydanticCustomError("answer_only", "{name} is answered, never read", name) from error


def _explained(cls: type[Model], value: object, reason: str) -> ValidationError:
    """The reason msgspec gives, as a pydantic error at the place in the document where it arose."""
    from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

    at = _AT.search(reason)
    loc = tuple(int(i) if i else name for name, i in _STEP.findall(at.group(1) if at else ""))
    for step in loc:
        # mypy: whatever value is, it had this item for msgspec.
        with contextlib.suppress(LookupError, TypeError):
            value = value[step]  # type: ignore[index]
    if missing := _MISSING.match(reason):
        details = InitErrorDetails(type="missing", loc=(*loc, missing[1]), input=value)
    else:
        message = _AT.sub("", reason)
        # Without a context it is no template, so it need not be a literal.
        what = PydanticCustomError("hilos_document", message)  # pyright: ignore[reportArgumentType]
        details = InitErrorDetails(type=what, loc=loc, input=value)
    return ValidationError.from_exception_data(cls.__name__, [details])
