"""What all tests share: asyncio as the loop, and no key from the environment of whoever runs them."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HILOS_API_KEY", "HILOS_API_TOKEN", "HILOS_ACCOUNT", "HILOS_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
