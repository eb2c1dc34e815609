"""What all tests share: asyncio as the loop, and no key from the environment of whoever runs them."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HILOS_API_KEY", "HILOS_API_TOKEN", "HILOS_ACCOUNT", "HILOS_BASE_URL", "HILOS_LOG")
    for name in names:
        monkeypatch.delenv(name, raising=False)
