"""How pydantic, and with it FastAPI, reads, answers and describes a Model.

Imported only when pydantic asks a Model for its schema: the library itself does not need pydantic.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from typing import TYPE_CHECKING, Any, Final, cast, get_args, get_type_hints

import msgspec
from pydantic import TypeAdapter
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError, core_schema

from hilos_async._api.model import Model, as_plain
from hilos_async._api.problem import HilosProblem
from hilos_async.errors import HilosError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema, SchemaSerializer
    from pydantic_core.core_schema import SerializationInfo, SerializerFunctionWrapHandler

_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_AT: Final = re.compile(r" - at `\$(.*)`$")
_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]")


def core_schema_of(cls: type[Model], source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
    """How pydantic reads and answers a model; ``source`` says of what, as in ``Page[T]``."""
    filled = dict(zip(getattr(cls, "__parameters__", ()), get_args(source), strict=False))
    kind = cast("type[Model]", source) if filled else cls
    # In JSON an error is a problem.
    hints = get_type_hints(cls, localns={"HilosError": HilosProblem}, include_extras=True)
    fields = {
        field.encode_name: core_schema.typed_dict_field(
            handler.generate_schema(_filled(hints[field.name], filled)), required=field.required
        )
        for field in _shown(cls)
    }
    # The fields are only there to be described: msgspec alone decides what is valid.
    return core_schema.no_info_wrap_validator_function(
        lambda value, _: _read(cls, kind, value),
        core_schema.typed_dict_schema(fields),
        ref=_ref(cls) + (f"[{','.join(map(_ref, filled.values()))}]" if filled else ""),
        serialization=core_schema.wrap_serializer_function_ser_schema(_write, info_arg=True),
    )


@functools.cache
def serializer_of(cls: type[Model]) -> SchemaSerializer:
    """How pydantic answers a model where no annotation tells that it is one."""
    return TypeAdapter(cls).serializer


def json_schema_of(
    cls: type[Model], schema: CoreSchema, handler: GetJsonSchemaHandler
) -> JsonSchemaValue:
    """How pydantic describes a model."""
    reference = handler(schema)
    described = handler.resolve_ref_schema(reference)
    summary = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0]
    described["description"] = summary.replace("``", "`")  # OpenAPI's text is Markdown
    if handler.mode == "serialization":
        described["required"] = list(described["properties"])  # all of them are always written
        for field in msgspec.structs.fields(cls):
            if type(field.default) is int:  # a count: null is read as 0, and never written
                described["properties"][field.encode_name] = {"type": "integer"}
    return reference


def _write(
    value: object, handler: SerializerFunctionWrapHandler, info: SerializationInfo
) -> object:
    """What pydantic answers for a model: in one step, unless it is to leave something out."""
    if info.include is None and info.exclude is None and not info.exclude_none:
        return msgspec.to_builtins(value, enc_hook=as_plain)
    model = HilosProblem.of(value) if isinstance(value, HilosError) else value
    if not isinstance(model, Model):
        return as_plain(model)
    return handler({field.encode_name: getattr(model, field.name) for field in _shown(type(model))})


def _shown(cls: type[Model]) -> list[msgspec.structs.FieldInfo]:
    """The fields that are written; one with an underscore only reads another name of the API's."""
    return [field for field in msgspec.structs.fields(cls) if not field.name.startswith("_")]


def _filled(hint: Any, filled: Mapping[Any, Any]) -> Any:
    """A type with its type variables filled in."""
    wanted = getattr(hint, "__parameters__", ())
    return hint[tuple(filled[name] for name in wanted)] if wanted and filled else hint


def _ref(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}:{id(kind)}"


def _read(cls: type[Model], kind: type[Model], value: object) -> Model:
    """What pydantic is given for a model: one, or the document of one."""
    if isinstance(value, cls):
        return value
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _explained(cls, value, str(error)) from error
    except TypeError as error:  # msgspec reads no HilosError: a Lookup or a batch is made, not read
        name = {"name": cls.__name__}
        raise PydanticCustomError("answer_only", "{name} is answered, never read", name) from error


def _explained(cls: type[Model], value: object, reason: str) -> ValidationError:
    """The reason msgspec gives, as a pydantic error at the place in the document where it arose."""
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
