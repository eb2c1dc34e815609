"""The proxy that the environment names: it is used and told, and nothing of a .netrc goes with it."""

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hilos_async.testing import FakeHilos
from tests.test_cli import in_process

pytestmark = pytest.mark.anyio

KEY = "a-key-that-nobody-may-see"
ONE = "3f2b6c1e-0000-4000-8000-000000000001"
FAR = "http://hilos.localhost:9/api"  # plain HTTP is for this machine alone, and so is that name
NO = b'{"detail":"No FlowExecution matches the given query."}'


@dataclass
class Proxy:
    """A proxy that notes what it is asked, and answers for whoever was meant."""

    port: int = 0
    status: str = "404 Not Found"
    heads: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.decode())
                writer.write(
                    f"HTTP/1.1 {self.status}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(NO)}\r\n\r\n".encode()
                    + NO
                )
        writer.close()

    @property
    def asked(self) -> list[str]:
        return [head.splitlines()[0] for head in self.heads]


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Proxy]:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HILOS_API_KEY", KEY)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("default login me password of-the-netrc\n")
    found = Proxy()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()


@pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}", " http://127.0.0.1:{}/ "])
async def test_http_goes_through_it_and_check_says_so(
    form: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTP_PROXY", form.format(proxy.port))
    ended = await in_process(capsys, "check", "--base-url", FAR)
    assert (ended.code, ended.err) == (0, "")
    assert f"via  the proxy http://127.0.0.1:{proxy.port} (from HTTP_PROXY)\n" in ended.out
    assert proxy.asked == [f"GET {FAR}/flow-execution/{'0' * 8}-0000-0000-0000-{'0' * 12} HTTP/1.1"]
    assert f"Authorization: Token {KEY}" in proxy.heads[0]
    assert "Proxy-Authorization" not in proxy.heads[0]
    for command in (["get", ONE], ["gather", ONE]):
        assert (await in_process(capsys, *command, "--base-url", FAR)).code == 1
    assert len(proxy.heads) == 3


@pytest.mark.parametrize("login", ["", "me:hunter2@"])
async def test_https_is_tunnelled_with_the_proxys_password_and_no_other(
    login: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.status = "407 Proxy Authentication Required"
    monkeypatch.setenv("https_proxy", f"http://{login}127.0.0.1:{proxy.port}")
    monkeypatch.setenv("HTTP_PROXY", "http://another.example")
    ended = await in_process(capsys, "check")
    assert ended.code == 4
    assert f"via  the proxy http://127.0.0.1:{proxy.port} (from https_proxy)\n" in ended.out
    assert "and the proxy (from https_proxy)?" in ended.out
    assert set(proxy.asked) == {"CONNECT api.hilos.io:443 HTTP/1.1"}
    told = ended.out + ended.err
    for head in proxy.heads:
        password = f"Proxy-Authorization: Basic {b64encode(b'me:hunter2').decode()}"
        assert head.count("Authorization") == head.count(password) == bool(login)
        assert KEY not in head
    assert "hunter2" not in told
    assert "of-the-netrc" not in "".join(proxy.heads)


@pytest.mark.parametrize("excepted", ["hilos.localhost", ".localhost", "*", "hilos.localhost:9"])
async def test_a_host_that_no_proxy_names_is_asked_without_it(
    excepted: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", excepted)
    ended = await in_process(capsys, "check", "--base-url", FAR)
    assert ended.code == 4  # nobody is there
    assert "via  no proxy (NO_PROXY names the host; HTTP_PROXY is set)\n" in ended.out
    assert proxy.heads == []


async def test_this_machine_is_asked_without_a_proxy(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    async with FakeHilos(KEY) as fake:
        ended = await in_process(capsys, "check", "--base-url", fake.base_url)
    assert (ended.code, fake.requests, proxy.heads) == (0, 1, [])
    assert "via" not in ended.out


@pytest.mark.parametrize("wrong", ["socks5://me:hunter2@p:1080", "http://", "http://p:99999", "::"])
async def test_what_is_no_http_proxy_is_2_and_names_its_variable(
    wrong: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", wrong)
    ended = await in_process(capsys, "get", ONE)
    assert (ended.code, ended.out) == (2, "")
    assert "HTTPS_PROXY names no HTTP proxy; one looks like http://proxy.example:3128" in ended.err
    assert "hunter2" not in ended.err
