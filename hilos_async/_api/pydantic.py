"""How pydantic, and with it FastAPI, reads, answers and describes a Model.

Imported only when pydantic asks a Model for its schema: the library itself does not need pydantic.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from typing import TYPE_CHECKING, Final, get_type_hints

import msgspec
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError, core_schema

from hilos_async._api.model import Model, as_plain
from hilos_async._api.problem import HilosProblem
from hilos_async.errors import HilosError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema
    from pydantic_core.core_schema import SerializationInfo, SerializerFunctionWrapHandler

_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_AT: Final = re.compile(r" - at `\$(.*)`$")
_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]")


def core_schema_of(cls: type[Model], handler: GetCoreSchemaHandler) -> CoreSchema:
    """How pydantic reads and answers a model."""
    # In JSON an error is a problem.
    hints = get_type_hints(cls, localns={"HilosError": HilosProblem}, include_extras=True)
    fields = {
        field.encode_name: core_schema.typed_dict_field(
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
    return handler(
        {f.encode_name: getattr(model, f.name) for f in msgspec.structs.fields(type(model))}
    )


def _read(cls: type[Model], value: object) -> Model:
    """What pydantic is given for a model: one, or the document of one."""
    if isinstance(value, cls):
        return value
    try:
        return msgspec.convert(value, cls)
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
