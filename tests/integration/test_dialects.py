"""The same proxy in the language of its clients: each refusal is written in the dialect, and the records in none."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.core.dialect import DIALECTS
from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Origin, after, hang, respond
from tests.support.proxy import HOST, PATH, Connection, Proxy, new_key, post, refusal, request, responses
from tests.support.raw import Reply
from tests.support.tokens import SETTINGS, STRANGER, bearer, key_file, token

JSON = (b"Content-Type", b"application/json")


class Said(NamedTuple):
    """What a refusal says, however it is written."""

    status: int
    code: str
    text: str


def mangopay(reply: Reply) -> Said:
    fields = refusal(reply)
    assert reply.field(b"Stripe-Should-Retry") is None
    return Said(reply.status, fields["Type"], fields["Message"])


def problem(reply: Reply) -> Said:
    assert reply.field(b"Content-Type") == b"application/problem+json"
    assert reply.field(b"Stripe-Should-Retry") is None
    members: dict[str, Any] = json.loads(reply.body)
    assert list(members) == ["type", "title", "status", "detail", "instance", "code"]
    assert members["type"] == f"urn:problem-type:idempotency-proxy:{members['code']}"
    assert members["title"]
    return Said(members["status"], members["code"], members["detail"])


def stripe(reply: Reply) -> Said:
    assert reply.field(b"Content-Type") == b"application/json"
    assert reply.field(b"Stripe-Should-Retry") in (b"true", b"false")
    (name, error), *others = json.loads(reply.body).items()
    assert (name, others) == ("error", [])
    assert list(error) == ["type", "code", "message"]
    assert error["type"] in ("idempotency_error", "invalid_request_error", "api_error")
    return Said(reply.status, error["code"], error["message"])


READ: dict[str, Callable[[Reply], Said]] = {"mangopay": mangopay, "problem": problem, "stripe": stripe}
UNDER_WAY = {
    "mangopay": ("idempotent_creation_conflict", "idempotent_request_in_progress"),
    "problem": ("idempotent_request_in_progress", "idempotent_request_in_progress"),
    "stripe": ("idempotency_key_in_use", "idempotency_key_in_use"),
}
"""What a POST and a GET are told while a first request is under way."""

every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def says(dialect: str, reply: Reply, status: int, code: str) -> str:
    said = READ[dialect](reply)
    assert (reply.status, said.status, said.code) == (status, status, code)
    assert "{" not in said.text
    return said.text


@every_dialect
async def test_whoever_comes_later_is_told_in_its_own_words(
    origin: Origin, start_proxy: StartProxy, dialect: str
) -> None:
    proxy = await start_proxy(**{"idempotency.dialect": dialect})
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(201, fields=[JSON], body=b'{"Id": "1"}')))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        meanwhile = [await proxy.post(key), await proxy.retrieve(key)]
        gate.set()
        first = await client.reply()
    assert (first.status, first.body) == (201, b'{"Id": "1"}')
    for reply, code in zip(meanwhile, UNDER_WAY[dialect], strict=True):
        says(dialect, reply, 409, code)
        assert reply.field(b"Retry-After") == b"1"
        assert reply.field(b"Idempotency-State") == b"in_progress"
    later = await proxy.post(key)
    assert "already been created" in says(dialect, later, 409, "idempotent_creation_conflict")
    for reply in (*meanwhile, later):
        assert reply.field(b"Link") == b'<%b>; rel="describedby"' % responses(key)
        assert reply.field(b"Cache-Control") == b"no-store"
    assert len(origin.requests) == 1


@every_dialect
async def test_a_record_has_one_shape_in_all_dialects(origin: Origin, start_proxy: StartProxy, dialect: str) -> None:
    proxy = await start_proxy(**{"idempotency.dialect": dialect})
    key = new_key()
    origin.behave(respond(201, fields=[JSON], body=b'{"Id": "1"}'))
    assert (await proxy.post(key)).status == 201
    reply = await proxy.retrieve(key)
    assert (reply.status, reply.field(b"Content-Type")) == (200, b"application/json")
    record = json.loads(reply.body)
    assert list(record) == ["StatusCode", "ContentLength", "ContentType", "Date", "RequestURL", "Resource"]
    assert (record["StatusCode"], record["Resource"]) == ("201", {"Id": "1"})


@every_dialect
async def test_an_unknown_outcome_is_told_and_recorded_in_its_own_words(
    origin: Origin, start_proxy: StartProxy, dialect: str
) -> None:
    proxy = await start_proxy(**{"idempotency.dialect": dialect, "upstream.timeout": "200ms"})
    key = new_key()
    origin.behave(hang())
    lost = await proxy.post(key)
    assert "may have executed" in says(dialect, lost, 504, "upstream_outcome_unknown")
    later = await proxy.post(key)
    assert "is not known" in says(dialect, later, 409, "idempotent_creation_conflict")
    record = await proxy.record(key)
    assert record["StatusCode"] == "504"
    assert record["ContentType"] == (lost.field(b"Content-Type") or b"").decode()
    assert record["Resource"] == json.loads(lost.body)
    assert len(origin.requests) == 1


async def test_the_504_that_is_recorded_is_the_one_that_was_given_to_the_second(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"upstream.timeout": "200ms"})
    seconds = itertools.count(int(time.time()))
    object.__setattr__(proxy._app._parts, "wall", lambda: float(next(seconds)))  # it is frozen
    key = new_key()
    origin.behave(hang())
    given = await proxy.post(key)
    assert (await proxy.record(key))["Resource"] == json.loads(given.body)


@every_dialect
async def test_what_was_never_sent_says_so_and_frees_the_key(
    origin: Origin, start_proxy: StartProxy, dialect: str
) -> None:
    proxy = await start_proxy(**{"idempotency.dialect": dialect})
    key = new_key()
    await origin.stop()
    reply = await proxy.post(key)
    assert "Nothing was sent" in says(dialect, reply, 502, "upstream_unreachable")
    assert reply.field(b"Link") is None
    says(dialect, await proxy.retrieve(key), 404, "idempotency_key_not_found")
    await origin.start()
    assert (await proxy.post(key)).status == 200


@every_dialect
@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (post(b"too-short"), 400, "idempotency_key_invalid"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request"),
        (request(b"CONNECT", b"api.example.com:443"), 405, "bad_request"),
        (post(b"0123456789abcdef", body=b"0" * 2000), 413, "request_too_large"),
        (request(b"GET", b"/" + b"a" * 10_000), 414, "uri_too_long"),
        (post(None, [(b"Expect", b"a miracle")]), 417, "bad_request"),
        (request(b"GET", PATH, [(b"X", b"a" * 40_000)]), 431, "header_fields_too_large"),
        (b"GET / HTTP/2.0\r\nHost: %b\r\n\r\n" % HOST, 505, "bad_request"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_what_is_refused_on_sight_is_refused_in_the_dialect(
    origin: Origin, start_proxy: StartProxy, dialect: str, data: bytes, status: int, code: str
) -> None:
    proxy = await start_proxy(**{"idempotency.dialect": dialect, "limits.body": "1KiB"})
    reply = await proxy.call(data)
    says(dialect, reply, status, code)
    assert reply.field(b"Stripe-Should-Retry") == (b"false" if dialect == "stripe" else None)
    assert origin.requests == []


@every_dialect
@pytest.mark.parametrize(("status", "kind"), [(400, "correlationid_not_found"), (410, "gone"), (404, None)])
async def test_a_key_without_a_record_has_the_status_and_the_type_of_the_settings(
    start_proxy: StartProxy, dialect: str, status: int, kind: str | None
) -> None:
    own = {} if kind is None else {"responses.unknown_key_type": kind}
    proxy = await start_proxy(**{"idempotency.dialect": dialect, "responses.unknown_key_status": status, **own})
    for fields in ([], [(b"Authorization", b"Bearer anybody")]):
        reply = await proxy.retrieve(new_key(), fields)
        says(dialect, reply, status, kind or "idempotency_key_not_found")
        assert reply.field(b"Idempotency-State") is None
    says(dialect, await proxy.retrieve(b"short"), 400, "idempotency_key_invalid")
    key = new_key()
    assert (await proxy.post(key, [(b"Authorization", b"Bearer mine")])).status == 200
    strangers = await proxy.retrieve(key)  # it is as if there were none
    assert [name for name, _ in strangers.fields] == [name for name, _ in (await proxy.retrieve(new_key())).fields]
    says(dialect, strangers, status, kind or "idempotency_key_not_found")


TENANT = {"scope.from": "header", "scope.header": "X-Tenant"}
PROBED = {"responses.authorize": "probe", "responses.probe": "/me"}


def by_token(keys: str) -> Flags:
    return {**SETTINGS, "scope.from": "jwt", "jwt.keys": keys}


class Refused(NamedTuple):
    """How to get one of the refusals that its settings are needed for."""

    flags: Callable[[Path], Flags]
    """Of a directory for files."""
    data: Callable[[bytes], bytes]
    """With a key."""
    status: int
    code: str
    repeats: bool = False
    """Stripe's SDKs are told to."""


MODES = {
    "a key is missing": Refused(
        lambda _: {"rules": [{"path": "/**", "require_key": True}]},
        lambda _: post(),
        400,
        "idempotency_key_missing",
    ),
    "two scopes": Refused(
        lambda _: TENANT, lambda key: post(key, [(b"X-Tenant", b"a"), (b"x-tenant", b"b")]), 400, "bad_request"
    ),
    "two scopes, asked for": Refused(
        lambda _: TENANT,
        lambda key: request(b"GET", responses(key), [(b"X-Tenant", b"a"), (b"x-tenant", b"b")]),
        400,
        "bad_request",
    ),
    "a forged token": Refused(
        lambda there: by_token(key_file(there)),
        lambda key: post(key, [bearer(token(STRANGER))]),
        401,
        "token_invalid",
    ),
    "a forged token, asking": Refused(
        lambda there: by_token(key_file(there)),
        lambda key: request(b"GET", responses(key), [bearer(token(STRANGER))]),
        401,
        "token_invalid",
    ),
    "no keys for tokens": Refused(
        lambda there: by_token(str(there / "missing.json")),
        lambda key: post(key, [bearer(token())]),
        503,
        "identity_unavailable",
        repeats=True,
    ),
    "no proof": Refused(
        lambda _: PROBED, lambda key: request(b"GET", responses(key)), 503, "proof_unavailable", repeats=True
    ),
}


@every_dialect
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
async def test_what_a_mode_refuses_is_refused_in_the_dialect_and_nothing_is_sent(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path, dialect: str, mode: Refused
) -> None:
    origin.behave(respond(500))
    proxy = await start_proxy(**{"idempotency.dialect": dialect, **mode.flags(tmp_path)})
    reply = await proxy.call(mode.data(new_key()))
    text = says(dialect, reply, mode.status, mode.code)
    assert "{" not in text
    assert (reply.field(b"Retry-After") is not None) == (mode.status == 503)
    assert (reply.field(b"WWW-Authenticate") is not None) == (mode.status == 401)
    assert reply.field(b"Idempotency-State") is None
    told = b"true" if mode.repeats else b"false"
    assert reply.field(b"Stripe-Should-Retry") == (told if dialect == "stripe" else None)
    assert [seen.target for seen in origin.requests] == ([b"/me"] if mode.code == "proof_unavailable" else [])


@every_dialect
async def test_a_backend_that_does_not_say_who_may_see_a_record_is_not_asked_to_pay_again(
    origin: Origin, start_proxy: StartProxy, dialect: str
) -> None:
    flags = {"idempotency.dialect": dialect, "idempotency.on_reuse": "replay", **PROBED}
    proxy = await start_proxy(**flags)
    key = new_key()
    assert (await proxy.post(key)).status == 200
    origin.behave(respond(500))
    reply = await proxy.post(key)
    says(dialect, reply, 503, "proof_unavailable")
    assert reply.field(b"Idempotency-State") == b"completed"
    assert reply.field(b"Retry-After") == b"1"
    assert [seen.method for seen in origin.requests] == [b"POST", b"GET"]


@every_dialect
async def test_another_payload_is_refused_in_the_dialect(origin: Origin, start_proxy: StartProxy, dialect: str) -> None:
    proxy = await start_proxy(**{"idempotency.dialect": dialect, "idempotency.on_mismatch": "reject"})
    key = new_key()
    assert (await proxy.post(key)).status == 200
    reply = await proxy.post(key, body=b"another")
    says(dialect, reply, 400 if dialect == "stripe" else 422, "idempotency_key_reused")
    assert reply.field(b"Stripe-Should-Retry") == (b"false" if dialect == "stripe" else None)
    assert len(origin.requests) == 1


async def at_once() -> None:
    """Nothing happens between one request and its repetition."""


async def as_stripes_sdks_do(proxy: Proxy, key: bytes, meanwhile: Callable[[], Awaitable[None]] = at_once) -> list[int]:
    """The statuses until one is not to be repeated: `_should_retry` of stripe-python 16.1, three times at most."""
    statuses = []
    while True:
        reply = await proxy.post(key)
        statuses.append(reply.status)
        told = reply.field(b"Stripe-Should-Retry")
        wanted = told == b"true" if told else reply.status == 409 or reply.status >= 500
        if not wanted or len(statuses) == 4:
            return statuses
        await meanwhile()


async def test_stripes_sdks_repeat_what_was_never_sent_and_pay_once(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"idempotency.dialect": "stripe"})
    await origin.stop()
    key = new_key()
    assert await as_stripes_sdks_do(proxy, key, origin.start) == [502, 200]
    assert len(origin.requests) == 1


async def test_stripes_sdks_wait_for_a_first_request_and_then_stop(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"idempotency.dialect": "stripe"})
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(200)))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)

        async def first_ends() -> None:
            gate.set()
            await client.reply()

        assert await as_stripes_sdks_do(proxy, key, first_ends) == [409, 409]
    assert len(origin.requests) == 1


async def test_stripes_sdks_do_not_repeat_what_may_have_been_executed(origin: Origin, start_proxy: StartProxy) -> None:
    """With its key it would be a 409 again and again; without one, it would be executed twice."""
    proxy = await start_proxy(**{"idempotency.dialect": "stripe", "upstream.timeout": "200ms"})
    key = new_key()
    origin.behave(hang())
    assert await as_stripes_sdks_do(proxy, key) == [504]
    assert await as_stripes_sdks_do(proxy, key) == [409]
    without_key = await proxy.post()
    says("stripe", without_key, 504, "upstream_timeout")
    assert without_key.field(b"Stripe-Should-Retry") == b"false"
    assert len(origin.requests) == 2
