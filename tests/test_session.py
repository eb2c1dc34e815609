"""The session: what it opens and closes, whose connections it uses, what its options reach."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import warnings
from typing import TYPE_CHECKING
from uuid import UUID

import aiohttp
import pytest

from hilos_async import (
    AttemptTimeoutError,
    DeadlineExceededError,
    FlowExecution,
    HilosSession,
    InvalidIdError,
    NotFoundError,
    RateLimit,
    RateLimitError,
    ResponseTooLargeError,
    RetryPolicy,
    ServerError,
    SessionClosedError,
)
from hilos_async._pace.known import KnownPacer
from hilos_async.testing import FakeHilos, FakeLimit, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quick_time")]

ID = UUID("a1b2c3d4-0000-4000-8000-1234567890ab")
QUICK = RetryPolicy(max_backoff=0.001)


@pytest.fixture(autouse=True)
def _nothing_left_unclosed() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


@pytest.mark.parametrize("native", [False, True])
async def test_a_lookup_returns_the_execution_as_the_server_has_it(native: bool) -> None:
    async with FakeHilos(native=native) as fake, fake.session() as hilos:
        execution = await hilos.get_execution(str(ID).upper())
        assert isinstance(execution, FlowExecution)
        assert execution.id == ID
        assert execution.status == fake.document(ID)["status"]
        assert fake.requests == 1


@pytest.mark.parametrize("end", ["", "/", "//"])
async def test_no_slash_at_the_end_of_the_base_url_doubles_one_in_the_path(end: str) -> None:
    async with FakeHilos() as fake, fake.session(base_url=fake.base_url + end) as hilos:
        assert (await hilos.get_execution(ID)).id == ID


async def test_a_bad_id_is_refused_before_any_request() -> None:
    async with FakeHilos() as fake, fake.session() as hilos:
        with pytest.raises(InvalidIdError, match="'nope'"):
            await hilos.get_execution("nope")
        assert fake.requests == 0


async def test_every_error_of_a_lookup_knows_its_id_attempts_and_time() -> None:
    async with FakeHilos(faults=[Fault.status(500)]) as fake, fake.session(retry=QUICK) as hilos:
        with pytest.raises(ServerError) as caught:
            await hilos.get_execution(ID)
    assert caught.value.execution_id == ID
    assert caught.value.attempts == fake.requests == 4
    assert caught.value.elapsed > 0
    assert hilos.stats.retries == 3
    assert "[4 attempts in" in str(caught.value)


async def test_nothing_is_opened_before_the_first_lookup_and_closing_again_is_nothing() -> None:
    hilos = HilosSession("key")
    await hilos.aclose()
    await hilos.aclose()
    with pytest.raises(SessionClosedError, match="is closed"):
        await hilos.get_execution(ID)
    with pytest.raises(SessionClosedError):
        async with hilos:
            pytest.fail("a closed session must not open")


async def test_a_session_works_without_async_with() -> None:
    async with FakeHilos() as fake:
        hilos = fake.session()
        assert (await hilos.get_execution(ID)).id == ID
        assert repr(hilos) == f"<HilosSession {fake.base_url} open>"
        await hilos.aclose()
        assert repr(hilos).endswith("closed>")


async def test_a_given_aiohttp_session_is_used_with_our_rules_and_left_open() -> None:
    async with (
        FakeHilos() as fake,
        aiohttp.ClientSession(
            raise_for_status=True, timeout=aiohttp.ClientTimeout(total=0.000001)
        ) as given,
    ):
        fake.remove(UUID(int=1))
        async with fake.session(session=given) as hilos:
            assert (await hilos.get_execution(ID)).id == ID
            with pytest.raises(NotFoundError):
                await hilos.get_execution(UUID(int=1))
        assert not given.closed
        closed = fake.session(session=given)
        await given.close()
        with pytest.raises(SessionClosedError, match="aiohttp session that was given"):
            await closed.get_execution(ID)


@pytest.mark.parametrize("limits", [{"limit": 2}, {"limit": 0, "limit_per_host": 2}])
async def test_a_given_session_is_asked_for_no_more_connections_than_it_has(
    limits: dict[str, int],
) -> None:
    connector = aiohttp.TCPConnector(**limits)  # type: ignore[arg-type]  # only the two limits
    queued: list[object] = []

    async def queue(*told: object) -> None:
        queued.append(told)

    traces = aiohttp.TraceConfig()
    traces.on_connection_queued_start.append(queue)
    async with (
        FakeHilos(latency=0.02) as fake,
        aiohttp.ClientSession(connector=connector, trace_configs=[traces]) as given,
    ):
        hilos = fake.session(session=given, attempt_timeout=0.5, retry=RetryPolicy(attempts=1))
        batch = await hilos.gather_executions([UUID(int=n) for n in range(60)])
        assert batch  # 60 x 20 ms over 2 connections: longer than one attempt's clock
        assert fake.max_in_flight <= 2
        assert not queued


@pytest.mark.parametrize(
    "options", [{"trust_env": True}, {"trace_configs": [aiohttp.TraceConfig()]}]
)
async def test_what_a_given_session_must_have_itself_is_refused(options: dict[str, object]) -> None:
    async with aiohttp.ClientSession() as given:
        with pytest.raises(ValueError, match="set them on the one given"):
            HilosSession("key", session=given, **options)  # type: ignore[arg-type]  # either


async def test_another_event_loop_is_told_so() -> None:
    async with FakeHilos() as fake, fake.session() as hilos:
        await hilos.get_execution(ID)

        def elsewhere() -> None:
            asyncio.run(hilos.get_execution(ID))

        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(elsewhere)
        with pytest.raises(RuntimeError, match="on the event loop that it was used on"):
            await asyncio.to_thread(lambda: asyncio.run(hilos.aclose()))


async def test_a_session_is_neither_pickled_nor_copied() -> None:
    hilos = HilosSession("key")
    for action in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="with_options"):
            action(hilos)


async def test_with_options_shares_connections_pace_and_fate() -> None:
    async with FakeHilos(latency=0.2) as fake:
        async with fake.session(pace=RateLimit(100)) as hilos:
            await hilos.get_execution(ID)
            hasty = hilos.with_options(timeout=0.05)
            with pytest.raises(DeadlineExceededError, match=r"0.05 s"):
                await hasty.get_execution(ID)
            with pytest.raises(RuntimeError, match="lives as long as the one it came from"):
                async with hasty:
                    pytest.fail("it would look as if it closed something")
            await hasty.aclose()
            assert (await hilos.get_execution(ID)).id == ID
            assert hasty.stats.requests == hilos.stats.requests == 3
            assert hasty.stats.limit == RateLimit(100)
        with pytest.raises(SessionClosedError):
            await hasty.get_execution(ID)


async def test_with_options_refuses_what_belongs_to_the_connection() -> None:
    with pytest.raises(TypeError, match="not pace: what concerns the connection"):
        HilosSession("key").with_options(pace="off")  # type: ignore[call-arg]  # wrong on purpose
    with pytest.raises(ValueError, match="timeout=0"):
        HilosSession("key").with_options(timeout=0)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"account": "acme"}, RateLimit(5)),
        ({"account": "acme", "pace": "off"}, None),
        ({"account": "acme", "pace": RateLimit(50)}, RateLimit(50)),
    ],
)
async def test_the_pace_is_the_hosts_own_unless_one_is_given(
    options: dict[str, object], limit: RateLimit | None
) -> None:
    stats = HilosSession("key", **options).stats  # type: ignore[arg-type]  # any of them
    assert stats.limit == limit
    assert stats.rate == (None if limit is None else pytest.approx(limit.rate, rel=0.01))


@pytest.mark.parametrize("options", [{}, {"account": "acme", "pace": "learn"}])
async def test_where_no_limit_is_known_it_is_learned(options: dict[str, object]) -> None:
    stats = HilosSession("key", **options).stats  # type: ignore[arg-type]  # either
    assert (stats.limit, stats.rate) == (None, None)
    assert "Learning" in type(HilosSession("key", **options)._client.gate.pacer).__name__  # type: ignore[arg-type]


async def test_a_pacer_of_the_callers_own_is_asked() -> None:
    pacer = KnownPacer(RateLimit(1_000))
    async with FakeHilos() as fake, fake.session(pace=pacer) as hilos:
        await hilos.get_execution(ID)
        assert hilos.stats.limit == RateLimit(1_000)


async def test_stats_count_requests_retries_refusals_and_the_pause() -> None:
    limit = FakeLimit(2, per=1.0, retry_after=30)
    async with FakeHilos(limit=limit) as fake, fake.session(pace="off", timeout=5.0) as hilos:
        await hilos.get_execution(ID)
        await hilos.get_execution(ID)
        with pytest.raises(DeadlineExceededError) as caught:
            await hilos.get_execution(ID)
        assert isinstance(caught.value.__cause__, RateLimitError)
        assert caught.value.__cause__.retry_after == 30
        stats = hilos.stats
    assert (stats.requests, stats.retries, stats.refusals) == (3, 0, 1)
    assert 29 < stats.paused_for <= 30.6
    assert fake.requests == 3


async def test_a_retry_after_above_the_policys_is_an_error_at_once_and_no_pause() -> None:
    limit = FakeLimit(1, per=60.0, retry_after=1_000_000_000)
    async with FakeHilos(limit=limit) as fake, fake.session(pace="off", timeout=None) as hilos:
        await hilos.get_execution(ID)
        with pytest.raises(RateLimitError) as caught:
            await hilos.get_execution(ID)
        assert caught.value.retry_after == 1e9
        assert hilos.stats.paused_for == 0


async def test_a_known_limit_is_kept_and_nothing_is_refused() -> None:
    limit = FakeLimit(50, per=1.0)
    async with FakeHilos(limit=limit) as fake, fake.session(pace=RateLimit(50)) as hilos:
        batch = await hilos.gather_executions([UUID(int=n) for n in range(100)])
        assert batch
        assert fake.refused == hilos.stats.refusals == 0


async def test_429s_do_not_use_up_attempts() -> None:
    short = RateLimit(1, per=0.001)  # without a Retry-After, the pause begins with its window
    faults = [Fault.status(429, times=6)]
    async with FakeHilos(faults=faults) as fake, fake.session(pace=short) as hilos:
        assert (await hilos.get_execution(ID)).id == ID
        assert hilos.stats.refusals == 6
        assert fake.requests == 7


async def test_the_attempt_timeout_bounds_one_attempt_and_is_retried() -> None:
    faults = [Fault.delay(5.0, times=1)]
    async with FakeHilos(faults=faults) as fake:
        async with fake.session(retry=QUICK, attempt_timeout=0.2) as hilos:
            assert (await hilos.get_execution(ID)).id == ID
        once = RetryPolicy(attempts=1)
        async with fake.session(retry=once, attempt_timeout=0.2) as hilos:
            with pytest.raises(AttemptTimeoutError, match=r"within 0.2 s"):
                await hilos.get_execution(UUID(int=5))


async def test_a_lookup_without_a_timeout_has_none() -> None:
    async with FakeHilos() as fake, fake.session(timeout=None) as hilos:
        assert (await hilos.get_execution(ID)).id == ID
        assert await hilos.gather_executions([ID])


async def test_max_response_bytes_bounds_a_reply() -> None:
    async with FakeHilos() as fake, fake.session(max_response_bytes=1_000) as hilos:
        with pytest.raises(ResponseTooLargeError, match="larger than 1,000 bytes") as caught:
            await hilos.get_execution(ID)
        assert caught.value.limit == 1_000
        assert caught.value.attempts == 1


@pytest.mark.parametrize("header", ["Authorization", "Token", "Api-Token"])
async def test_the_key_reaches_the_server_in_the_header_that_was_asked_for(header: str) -> None:
    async with FakeHilos() as fake, fake.session(auth_header=header) as hilos:
        assert (await hilos.get_execution(ID)).id == ID
