"""A netrc file is not for this client: its password reaches no server, and no lookup fails over it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import aiohttp
import pytest

from hilos_async import HilosSession
from tests.faults import KEY, expected, session
from tests.raw_server import RawServer, ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

IDS = ids(3)
PASSWORD = "hunter2"
SPELLINGS = (PASSWORD, base64.b64encode(f"me:{PASSWORD}".encode()).decode())
ENTRIES = [
    f"default login me password {PASSWORD}\n",
    f"machine 127.0.0.1 login me password {PASSWORD}\n",
    f"machine api.hilos.io login x password y\ndefault login me password {PASSWORD}\n",
]
HEADERS = ["Authorization", "Api-Token", "Token"]


@pytest.fixture(params=ENTRIES, ids=["default", "host", "both"], autouse=True)
def _netrc(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text(request.param)
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with RawServer() as server:
        yield server
    assert server.requests
    for asked in server.requests:
        for spelling in SPELLINGS:
            assert spelling.encode() not in asked.head


async def look_up(hilos: HilosSession) -> None:
    assert await hilos.get_execution(IDS[0]) == expected(IDS[0])
    assert await hilos.gather_executions(IDS)


def assert_carries_the_key(server: RawServer, header: str) -> None:
    value = KEY if header == "Api-Token" else f"Token {KEY}"
    assert {asked.header(header) for asked in server.requests} == {value}
    if header != "Authorization":
        assert {asked.header("Authorization") for asked in server.requests} == {None}


@pytest.mark.parametrize("header", HEADERS)
async def test_a_session_that_trusts_the_environment_sends_the_key_and_nothing_of_netrc(
    server: RawServer, header: str
) -> None:
    async with session(server.url, trust_env=True, auth_header=header) as hilos:
        await look_up(hilos)
    assert_carries_the_key(server, header)


@pytest.mark.parametrize("header", HEADERS)
async def test_a_given_session_that_trusts_the_environment_does_neither(
    server: RawServer, header: str
) -> None:
    async with (
        aiohttp.ClientSession(trust_env=True) as given,
        session(server.url, session=given, auth_header=header) as hilos,
    ):
        await look_up(hilos)
    assert_carries_the_key(server, header)


@pytest.mark.parametrize("header", HEADERS)
async def test_the_own_headers_of_a_given_session_are_sent_along(
    server: RawServer, header: str
) -> None:
    own = {"authorization": "Bearer of-a-gateway", "X-Tenant": "7"}
    async with (
        aiohttp.ClientSession(headers=own) as given,
        session(server.url, session=given, auth_header=header) as hilos,
    ):
        await look_up(hilos)
    key = KEY if header == "Api-Token" else f"Token {KEY}"
    for asked in server.requests:
        assert asked.header(header) == key
        assert asked.header("X-Tenant") == "7"
        if header != "Authorization":
            assert asked.header("Authorization") == "Bearer of-a-gateway"


async def test_a_given_session_over_which_aiohttp_would_fail_is_refused_at_construction() -> None:
    own = {"authorization": "Bearer of-a-gateway"}
    async with aiohttp.ClientSession(trust_env=True, headers=own) as given:
        with pytest.raises(ValueError, match="trust_env and an Authorization header"):
            session("https://a.example/api", session=given, auth_header="Api-Token")


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
async def test_a_given_session_with_a_login_is_refused_at_construction() -> None:
    login = aiohttp.BasicAuth("me", PASSWORD)
    async with aiohttp.ClientSession(auth=login) as given:
        with pytest.raises(ValueError, match="has auth=") as caught:
            session("https://a.example/api", session=given)
        assert PASSWORD not in str(caught.value)


async def test_a_given_sessions_other_requests_still_read_netrc(server: RawServer) -> None:
    async with RawServer() as other, aiohttp.ClientSession(trust_env=True) as given:
        async with session(server.url, session=given) as hilos:
            await look_up(hilos)
        async with given.get(f"{other.url}/flow-execution/{IDS[0]}"):
            pass
        assert other.requests[0].header("Authorization") == f"Basic {SPELLINGS[1]}"
