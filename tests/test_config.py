"""What the caller gives is checked before any I/O, in words that say what would do."""

from __future__ import annotations

import contextlib
import pickle
import ssl
from uuid import UUID

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilos_async import HilosSession, InvalidIdError, RateLimit, RetryPolicy
from hilos_async._checks import parse_id
from hilos_async._pace.known import KnownPacer
from hilos_async._wire.address import Secret, api_key, auth_headers, resolve_base_url

ID = UUID("a1b2c3d4-0000-4000-8000-1234567890ab")


@pytest.mark.parametrize("given", ["abc", " abc\n", "Token abc", "token  abc", "\tToken abc\r\n"])
def test_what_people_paste_around_a_key_does_not_matter(given: str) -> None:
    assert api_key(given) == "abc"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("Token ", "empty"),
        ("TOKEN", "empty"),
        ("ab cd-secret", "white space"),
        ("ab\x00secret", "control"),
        ("ab\nsecret", "white space"),
        ("schlüssel-secret", "non-ASCII"),
    ],
)
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(given: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        HilosSession(given)
    assert "dev/api-keys" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_key_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a str, not bytes"):
        api_key(b"secret")


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="HILOS_API_KEY"):
        api_key(None)
    monkeypatch.setenv("HILOS_API_TOKEN", "from-token")
    assert api_key(None) == "from-token"
    monkeypatch.setenv("HILOS_API_KEY", "Token from-key\n")
    assert api_key(None) == "from-key"
    assert api_key("given") == "given"


def test_a_secret_prints_as_stars_and_is_not_pickled() -> None:
    assert repr(Secret("abc")) == "'***'"
    assert repr({"Authorization": Secret("abc")}) == "{'Authorization': '***'}"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret("abc"))


@pytest.mark.parametrize(
    ("header", "value"),
    [("Authorization", "Token abc"), ("Token", "Token abc"), ("Api-Token", "abc")],
)
def test_each_auth_header_carries_the_key_in_its_own_form(header: str, value: str) -> None:
    assert auth_headers(Secret("abc"), header) == {header: value}


@pytest.mark.parametrize(
    "header", ["", "X Key", "Key:", "Host", "content-length", "Schlüssel", None]
)
def test_a_header_that_cannot_carry_a_key_is_refused(header: object) -> None:
    with pytest.raises(ValueError, match="Api-Token"):
        auth_headers(Secret("abc"), header)


@pytest.mark.parametrize(
    ("arguments", "environment", "url"),
    [
        ({}, {}, "https://api.hilos.io/api"),
        ({"account": "acme"}, {}, "https://acme.api-us1.com/api/3/channel/whatsapp"),
        ({"account": "ACME-2"}, {}, "https://acme-2.api-us1.com/api/3/channel/whatsapp"),
        ({}, {"HILOS_ACCOUNT": "", "HILOS_BASE_URL": ""}, "https://api.hilos.io/api"),
        ({}, {"HILOS_ACCOUNT": "acme"}, "https://acme.api-us1.com/api/3/channel/whatsapp"),
        ({}, {"HILOS_BASE_URL": "https://a.example/x"}, "https://a.example/x"),
        (
            {"account": "acme"},
            {"HILOS_BASE_URL": "https://a.example"},
            "https://acme.api-us1.com/api/3/channel/whatsapp",
        ),
        ({"account": "acme", "base_url": "https://a.example/x/"}, {}, "https://a.example/x"),
        ({"base_url": " https://a.example:8443/x// "}, {}, "https://a.example:8443/x"),
        ({"base_url": "http://127.0.0.1:80/api"}, {}, "http://127.0.0.1/api"),
        ({"base_url": "http://[::1]:9/api"}, {}, "http://[::1]:9/api"),
        ({"base_url": "http://localhost:9"}, {}, "http://localhost:9"),
        ({"base_url": "http://box.lan/api", "allow_http": True}, {}, "http://box.lan/api"),
    ],
)
def test_the_base_url_is_found_in_this_order(
    arguments: dict[str, str | bool],
    environment: dict[str, str],
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = resolve_base_url(
        arguments.get("account"), arguments.get("base_url"), bool(arguments.get("allow_http"))
    )
    assert str(found).rstrip("/") == url
    assert f"{found}/x".count("//") == 1


@pytest.mark.parametrize(
    ("base_url", "words"),
    [
        ("", "http or https and a host"),
        ("api.hilos.io/api", "http or https and a host"),
        ("ftp://api.hilos.io", "http or https and a host"),
        ("https://", "http or https and a host"),
        ("https://[", "is no URL"),
        ("https://user:hunter2@api.hilos.io", "credentials"),
        ("https://api.hilos.io/api?x=1", "a query or a fragment"),
        ("https://api.hilos.io/api#x", "a query or a fragment"),
        ("https://api.hilos.io/api?", "a query or a fragment"),
        ("http://api.hilos.io/api", "unencrypted"),
        ("http://10.0.0.1", "allow_http=True"),
    ],
)
def test_a_base_url_that_cannot_be_one_is_refused(base_url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        HilosSession("abc", base_url=base_url)
    assert "hunter2" not in str(caught.value)


def test_a_base_url_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="not int"):
        resolve_base_url(None, 5, False)


@pytest.mark.parametrize("account", ["", "a b", "acme.api-us1.com", "https://x", "-a", "a" * 64, 5])
def test_an_account_that_cannot_be_one_is_refused_with_an_example(account: object) -> None:
    with pytest.raises(ValueError, match="'acme'"):
        resolve_base_url(account, None, False)


@pytest.mark.parametrize(
    "spelling",
    [
        ID,
        str(ID),
        str(ID).upper(),
        ID.hex,
        f"{{{ID}}}",
        ID.urn,
        f" {ID}\n",
    ],
)
def test_every_spelling_of_a_uuid_is_that_uuid(spelling: UUID | str) -> None:
    assert parse_id(spelling) == ID


@pytest.mark.parametrize(
    "value", ["", "x", "1234_5678_1234_5678_1234_5678_1234_567", f"{{{ID}", f"{ID}x", 5, None, b"x"]
)
def test_everything_else_is_an_invalid_id_that_shows_what_was_given(value: object) -> None:
    with pytest.raises(InvalidIdError, match="a1b2c3d4-0000-4000") as caught:
        parse_id(value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.execution_id == str(value)


@given(st.text() | st.integers() | st.binary())
def test_no_value_makes_parse_id_fail_in_another_way(value: object) -> None:
    with contextlib.suppress(InvalidIdError):
        assert isinstance(parse_id(value), UUID)


def test_the_error_of_a_long_id_is_short() -> None:
    with pytest.raises(InvalidIdError) as caught:
        parse_id("x" * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"timeout": 0}, ValueError, "timeout=0 must be positive"),
        ({"timeout": "5"}, TypeError, "timeout must be a number"),
        ({"attempt_timeout": float("nan")}, ValueError, "attempt_timeout=nan"),
        ({"attempt_timeout": None}, TypeError, "attempt_timeout must be a number"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency=0 must be at least 1"),
        ({"max_concurrency": 2.5}, TypeError, "max_concurrency must be an int"),
        ({"max_concurrency": True}, TypeError, "max_concurrency must be an int"),
        ({"max_response_bytes": -1}, ValueError, "max_response_bytes=-1"),
        ({"retry": 3}, TypeError, "retry must be a RetryPolicy, not int"),
        ({"pace": "fast"}, TypeError, "pace='fast' is no pace"),
        (
            {"pace": 5},
            TypeError,
            "it has no bind, reserve, sent, report, flush, pace, paused_until",
        ),
        ({"pace": KnownPacer}, TypeError, "it is a class: make one"),
        ({"proxy": "localhost:3128"}, ValueError, "proxy='localhost:3128' needs http or https"),
        ({"proxy": "//localhost:3128"}, ValueError, "proxy='//localhost:3128' needs"),
        ({"proxy": "socks5://localhost:1080"}, ValueError, "proxy='socks5://localhost:1080'"),
        ({"proxy": "http://localhost:99999"}, ValueError, "proxy='http://localhost:99999'"),
        ({"proxy": "http://"}, ValueError, "proxy='http://' needs"),
        ({"proxy": ""}, ValueError, "proxy='' needs"),
        ({"proxy": 3128}, TypeError, "proxy must be a str, not int"),
        ({"ssl": "foo"}, TypeError, "ssl must be an ssl.SSLContext, False or .*, not str"),
        ({"ssl": 1}, TypeError, "ssl must be an ssl.SSLContext"),
        ({"ssl": ssl.SSLContext}, TypeError, "ssl must be an ssl.SSLContext"),
        ({"trace_configs": [1]}, TypeError, "each of trace_configs must be a TraceConfig, not int"),
        ({"trace_configs": 1}, TypeError, "trace_configs must be a Sequence, not int"),
        ({"trace_configs": aiohttp.TraceConfig()}, TypeError, "trace_configs must be a Sequence"),
        ({"session": 1}, TypeError, "session must be a ClientSession, not int"),
        ({"session": aiohttp.ClientSession}, TypeError, "session must be a ClientSession, not"),
        ({"trust_env": "no"}, TypeError, "trust_env must be a bool, not str"),
        ({"allow_http": "no"}, TypeError, "allow_http must be a bool, not str"),
        ({"account": 1}, ValueError, "account=1 is no account name"),
    ],
)
def test_an_option_that_cannot_work_is_refused_at_construction(
    arguments: dict[str, object], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        HilosSession("abc", **arguments)  # type: ignore[arg-type]  # wrong on purpose


def test_a_proxys_password_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="needs http or https") as caught:
        HilosSession("abc", proxy="me:hunter2@localhost:3128")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("requests", [0, -1, float("inf"), float("nan")])
def test_a_rate_must_be_positive_and_finite(requests: float) -> None:
    with pytest.raises(ValueError, match="requests="):
        RateLimit(requests)
    with pytest.raises(ValueError, match="per="):
        RateLimit(5, per=requests)


def test_a_policy_must_have_possible_numbers() -> None:
    with pytest.raises(ValueError, match="attempts=0"):
        RetryPolicy(attempts=0)
    with pytest.raises(ValueError, match="max_backoff=-1"):
        RetryPolicy(max_backoff=-1)
    with pytest.raises(TypeError, match="max_retry_after"):
        RetryPolicy(max_retry_after="9")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (RateLimit(5), "5/s"),
        (RateLimit(600, per=60), "600/min"),
        (RateLimit(2.5, per=7), "2.5 per 7 s"),
    ],
)
def test_a_limit_prints_as_people_write_it(limit: RateLimit, text: str) -> None:
    assert str(limit) == text
    assert limit.rate == limit.requests / limit.per
