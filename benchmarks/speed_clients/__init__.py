"""The clients that are compared: what each is called, where it stands and how it asks for many.

Knows their names. Refuses to import any of them before it is used: a peer may not be installed.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

CONCURRENCY = 50
CAMPAIGNS = 40

Get: TypeAlias = "Callable[[UUID], Awaitable[Any]]"
Open: TypeAlias = "Callable[[str], AbstractAsyncContextManager[Get]]"


def execution_id(number: int) -> UUID:
    """The id of one execution; neighbours belong to different campaigns."""
    return UUID(f"{number % CAMPAIGNS:02x}000000-0000-4000-8000-{number:012}")


@dataclass(frozen=True, slots=True)
class Client:
    """One of the compared.

    ``open``: module and function; the function takes the base URL and gives, as an async context
    manager, a coroutine function that looks up one id. ``many``: how it is asked for many at once:
    by gather and a semaphore, by a pool of workers, or in a way of its own.
    """

    title: str
    open: str
    needs: tuple[str, ...]
    many: Literal["gather", "pool", "own"] = "gather"
    uvloop: bool = False
    generated: bool = False
    keeps: bool = True

    def missing(self) -> list[str]:
        """The modules that it needs and that are not installed."""
        needs = (*self.needs, "uvloop") if self.uvloop else self.needs
        return [name for name in needs if importlib.util.find_spec(name) is None]

    def function(self, name: str | None = None) -> Any:
        """The function that opens it, or another of its module."""
        module, _, opening = self.open.partition(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), name or opening)


CLIENTS = {
    "bare": Client(
        "bare asyncio protocol + httptools + msgspec", "fast:bare", ("httptools",), "pool"
    ),
    "pyreqwest": Client("pyreqwest (Rust) + msgspec", "fast:pyreqwest", ("pyreqwest",), "pool"),
    "lean": Client(
        "aiohttp, `read()` only, every useful knob", "with_aiohttp:lean", (), "pool", keeps=False
    ),
    "floor": Client(
        "aiohttp, `read()` only, default session", "with_aiohttp:floor", (), "pool", keeps=False
    ),
    "hilos-uvloop": Client("**hilos_async**, uvloop", "with_hilos:hilos", (), "own", uvloop=True),
    "hilos": Client("**hilos_async**", "with_hilos:hilos", (), "own"),
    "naive-uvloop": Client("naive aiohttp, uvloop", "with_aiohttp:naive", (), uvloop=True),
    "naive": Client("naive aiohttp: gather, semaphore, `resp.json()`", "with_aiohttp:naive", ()),
    "aiohttp-retry": Client(
        "aiohttp-retry + `json()`", "with_aiohttp:aiohttp_retry", ("aiohttp_retry",)
    ),
    "openapi-generator": Client(
        "openapi-generator, asyncio",
        "generated:openapi_generator",
        ("openapi_generator_cli", "pydantic", "dateutil"),
        generated=True,
    ),
    "openai-aiohttp": Client(
        "openai's client core, aiohttp transport", "with_httpx:openai_on_aiohttp", ("openai",)
    ),
    "openapi-python-client": Client(
        "openapi-python-client",
        "generated:openapi_python_client",
        ("openapi_python_client", "httpx", "dateutil"),
        generated=True,
    ),
    "openai": Client("openai's client core", "with_httpx:openai_core", ("openai",)),
    "httpx": Client("httpx + pydantic", "with_httpx:httpx_pydantic", ("httpx", "pydantic")),
}
