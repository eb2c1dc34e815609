"""Clients that generators write for the contract: made in a temporary folder, used from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.speed_clients.contract import contract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from benchmarks.speed_clients import Get

# The packages they are told to write; on sys.path by the time a client is opened.
_ATTRS, _PYDANTIC = "hilos_by_openapi_python_client", "hilos_by_openapi_generator"


def generate(name: str, folder: Path) -> str:
    """Have one client written; what the generator said if it failed, otherwise nothing."""
    document = folder / "contract.json"
    document.write_text(json.dumps(contract()), encoding="utf-8")
    if name == "openapi-python-client":
        made = folder / _ATTRS
        command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
        command += ["--path", str(document), "--output-path", str(made), "--overwrite"]
    else:
        made = folder / _PYDANTIC
        start = "import openapi_generator_cli; openapi_generator_cli.cli()"
        command = [sys.executable, "-c", start, "generate", "-g", "python"]
        command += ["-i", str(document), "--library", "asyncio", "--package-name", _PYDANTIC]
        command += ["-o", str(folder)]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    return "" if ran.returncode == 0 and made.is_dir() else ran.stdout.strip()[-400:] or "no output"


@asynccontextmanager
async def openapi_python_client(base_url: str) -> AsyncIterator[Get]:
    """Httpx and attrs."""
    from hilos_by_openapi_python_client import (  # type: ignore[import-not-found]
        AuthenticatedClient,
    )
    from hilos_by_openapi_python_client.api.default import (  # type: ignore[import-not-found]
        get_flow_execution,
    )

    async with AuthenticatedClient(
        base_url, token="benchmark", raise_on_unexpected_status=True
    ) as client:

        async def get(execution_id: UUID) -> object:
            return await get_flow_execution.asyncio(execution_id, client=client)

        yield get


@asynccontextmanager
async def openapi_generator(base_url: str) -> AsyncIterator[Get]:
    """Aiohttp and pydantic."""
    import hilos_by_openapi_generator as made  # type: ignore[import-not-found]

    async with made.ApiClient(made.Configuration(host=base_url)) as client:
        yield made.DefaultApi(client).get_flow_execution
