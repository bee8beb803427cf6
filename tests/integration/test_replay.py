"""`on_reuse = "replay"`: who comes later with the key and the same request is given the recorded response again."""

import asyncio
import gzip
import json
from collections.abc import Callable

import pytest

from proxy.core.record import Response
from proxy.core.ruling import ruling
from proxy.store.base import Done, Found
from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Behaviour, Origin, after, cut, hang, in_turn, raw, respond, respond_chunked
from tests.support.proxy import BODY, HOST, PATH, Connection, Proxy, new_key, post, refused, request, responses
from tests.support.raw import Field, Reply, exchange, parse
from tests.support.stores import Asked

REPLAY = {"idempotency.on_reuse": "replay"}
SHORT_LEASE = {
    "store.deadline": "100ms",
    "upstream.pool_timeout": "100ms",
    "upstream.connect_timeout": "100ms",
    "upstream.timeout": "200ms",
    "idempotency.lease_margin": "0s",
}
JSON = (b"Content-Type", b"application/json")
LENGTH = (b"Content-Length", b"6")
LENGTH_OF_BODY = (b"Content-Length", b"%d" % len(BODY))
OURS = {b"idempotent-replayed", b"idempotency-state", b"idempotency-expires"}
CHUNKED = (b"Transfer-Encoding", b"chunked")
IN_CHUNKS = b"4\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:4], len(BODY) - 4, BODY[4:])


@pytest.fixture
async def replaying(start_proxy: StartProxy) -> Proxy:
    """With a memory store."""
    return await start_proxy(**REPLAY)


def of_the_backend(reply: Reply) -> list[Field]:
    """Its fields without ours."""
    return [(name, value) for name, value in reply.fields if name.lower() not in OURS]


def is_replay(reply: Reply, first: Reply) -> None:
    """It is *first* once more, and says so."""
    assert (reply.status, reply.reason, reply.body) == (first.status, first.reason, first.body)
    assert of_the_backend(reply) == of_the_backend(first)
    assert reply.field(b"Idempotent-Replayed") == b"true"
    assert reply.field(b"Idempotency-State") == b"completed"
    assert reply.field(b"Idempotency-Expires") == first.field(b"Idempotency-Expires") is not None
    assert reply.field(b"Retry-After") is None
    assert first.field(b"Idempotent-Replayed") is None


def is_conflict(reply: Reply, state: bytes) -> None:
    """It is the plain 409."""
    refused(reply, 409, "idempotent_creation_conflict")
    assert reply.field(b"Idempotency-State") == state
    assert reply.field(b"Idempotent-Replayed") is None


# -- what was recorded, and nothing else -----------------------------------------------------------------------------


async def test_a_later_request_is_given_what_the_first_was_given(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    proxy = await start_proxy(**store, **REPLAY)
    fields = [
        (b"DATE", b"Wed, 13 Jan 2016 22:25:56 GMT"),
        (b"content-TYPE", b"application/json"),
        (b"Set-Cookie", b"a=1"),
        (b"X-Odd", b"caf\xe9; \t x"),
        (b"set-cookie", b"b=2"),
        (b"X-Empty", b""),
    ]
    origin.behave(raw(b"HTTP/1.1 201 Made it\r\n%b\r\n\r\n%b" % (lines([*fields, LENGTH]), b"\x00\xffpaid")))
    key = new_key()
    first = await proxy.post(key)
    assert (first.status, first.reason, first.body) == (201, b"Made it", b"\x00\xffpaid")
    assert of_the_backend(first) == [*fields, LENGTH]
    for _ in range(2):
        is_replay(await proxy.post(key), first)
    assert len(origin.requests) == 1


def lines(fields: list[Field]) -> bytes:
    return b"\r\n".join(b"%b: %b" % field for field in fields)


@pytest.mark.parametrize(
    "status", [200, 201, 202, 204, 299, 301, 304, 400, 402, 403, 404, 409, 422, 500, 502, 503, 599]
)
async def test_any_recorded_status_is_replayed(origin: Origin, replaying: Proxy, status: int) -> None:
    origin.behave(respond(status, [JSON], b"" if status in (204, 304) else b'{"Id": "1"}'))
    key = new_key()
    first = await replaying.post(key)
    assert first.status == status
    async with Connection(replaying.port) as client:
        for _ in range(2):
            client.send(post(key))
            is_replay(await client.reply(), first)
    assert len(origin.requests) == 1


@pytest.mark.parametrize("status", [401, 429])
async def test_a_status_that_frees_the_key_is_not_replayed(origin: Origin, replaying: Proxy, status: int) -> None:
    origin.behave(in_turn(respond(status), respond(201)))
    key = new_key()
    replies = [await replaying.post(key) for _ in range(3)]
    assert [reply.status for reply in replies] == [status, 201, 201]
    is_replay(replies[2], replies[1])
    assert len(origin.requests) == 2


ZIPPED = gzip.compress(b'{"Id": "1"}')


@pytest.mark.parametrize(
    "behaviour",
    [
        respond(200, [(b"Content-Encoding", b"gzip"), JSON], ZIPPED),
        respond_chunked([b"pa", b"id"], fields=[JSON], trailers=[(b"X-Sum", b"1")]),
        respond_chunked([]),
        raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\npaid", close=True),
        raw(b"HTTP/1.0 200 OK\r\n\r\n", close=True),
        respond(200, body=b"x" * 300_000),
    ],
    ids=["compressed", "chunked", "chunked, empty", "until the end", "until the end, empty", "large"],
)
async def test_the_body_is_the_same_however_it_came(origin: Origin, replaying: Proxy, behaviour: Behaviour) -> None:
    origin.behave(behaviour)
    key = new_key()
    first = await replaying.post(key)
    async with Connection(replaying.port) as client:
        for _ in range(2):
            client.send(post(key))
            reply = await client.reply()
            assert (reply.status, reply.body) == (200, first.body)
            is_replay(reply, first)
    assert len(origin.requests) == 1


async def test_what_hops_and_what_we_said_of_the_first_is_not_in_the_record(origin: Origin, replaying: Proxy) -> None:
    hop = [(b"Connection", b"X-Hop"), (b"X-Hop", b"1"), (b"Keep-Alive", b"timeout=5")]
    marks = [(b"Idempotency-Expires", b"never"), (b"Idempotent-Replayed", b"false"), (b"idempotency-state", b"unknown")]
    origin.behave(respond(200, [*hop, *marks, (b"X", b"1")]))
    key = new_key()
    await replaying.post(key)
    reply = await replaying.post(key)
    assert [name for name, _ in reply.fields if name.lower() not in (b"date", b"content-length")] == [
        b"X", b"Idempotent-Replayed", b"Idempotency-State", b"Idempotency-Expires",
    ]  # fmt: skip
    assert (reply.field(b"Idempotent-Replayed"), reply.field(b"Idempotency-State")) == (b"true", b"completed")


async def test_the_mark_of_a_replay_can_have_another_name(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**REPLAY, **{"idempotency.replay_header": "X-Seen-Before"})
    key = new_key()
    await proxy.post(key)
    reply = await proxy.post(key)
    assert (reply.field(b"X-Seen-Before"), reply.field(b"Idempotent-Replayed")) == (b"true", None)


async def test_a_replay_is_counted_as_one(origin: Origin, replaying: Proxy) -> None:
    key = new_key()
    for body in (BODY, BODY, BODY, b"another"):
        await replaying.post(key, body=body)
    outcomes = replaying.metrics()["outcomes"]
    assert [outcomes[name] for name in ("completed", "replayed", "conflict")] == [1, 2, 1]


async def test_a_replay_outlives_its_proxy(origin: Origin, start_proxy: StartProxy, shared_store: Flags) -> None:
    origin.behave(respond(201, [JSON], b'{"Id": "1"}'))
    key = new_key()
    before = await start_proxy(**shared_store, **REPLAY)
    first = await before.post(key)
    await before.stop()
    is_replay(await (await start_proxy(**shared_store, **REPLAY)).post(key), first)
    assert len(origin.requests) == 1


# -- how it is asked for ---------------------------------------------------------------------------------------------


def old(key: bytes, *fields: Field) -> bytes:
    """A POST of an HTTP/1.0 client."""
    own = [(b"Idempotency-Key", key), (b"Content-Length", b"%d" % len(BODY)), *fields]
    return b"POST %b HTTP/1.0\r\n%b\r\n\r\n%b" % (PATH, lines([(b"Host", HOST), *own]), BODY)


async def test_a_client_of_http_1_0_is_given_it_with_its_length(origin: Origin, replaying: Proxy) -> None:
    origin.behave(respond_chunked([b"pa", b"id"]))
    key = new_key()
    assert parse(await exchange(replaying.port, old(key), until_eof=True)).body == b"paid"
    reply = parse(await exchange(replaying.port, old(key), until_eof=True))
    assert (reply.status, reply.body, reply.field(b"Content-Length")) == (200, b"paid", b"4")
    assert (reply.field(b"Idempotent-Replayed"), reply.field(b"Connection")) == (b"true", b"close")
    async with Connection(replaying.port) as client:
        for _ in range(2):
            client.send(old(key, (b"Connection", b"keep-alive")))
            reply = await client.reply()
            assert (reply.body, reply.field(b"Connection")) == (b"paid", b"keep-alive")


async def test_the_connection_is_usable_behind_it(origin: Origin, replaying: Proxy) -> None:
    origin.behave(respond(201, body=b"paid"))
    key, other = new_key(), new_key()
    async with Connection(replaying.port) as client:
        client.send(post(key) * 3 + post(other) + request(b"GET", responses(key)) + post(other))  # pipelined
        replies = [await client.reply() for _ in range(6)]
    for number in (1, 2):
        is_replay(replies[number], replies[0])
    is_replay(replies[5], replies[3])
    assert json.loads(replies[4].body)["StatusCode"] == "201"
    assert len(origin.requests) == 2


@pytest.mark.parametrize("framing", [(b"Content-Length", b"%d" % len(BODY)), CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("expects", [False, True], ids=["at once", "expects"])
async def test_the_same_body_is_the_same_however_it_comes(
    origin: Origin, replaying: Proxy, framing: Field, expects: bool
) -> None:
    """In pieces, in chunks, and behind a 100 (RFC 9110 section 10.1.1): what counts is its bytes."""
    origin.behave(respond(201, body=b"paid"))
    key = new_key()
    first = await replaying.post(key)
    fields = [(b"Idempotency-Key", key), framing, *([(b"Expect", b"100-continue")] if expects else [])]
    body = IN_CHUNKS if framing is CHUNKED else BODY
    async with Connection(replaying.port) as client:
        client.send(request(b"POST", PATH, fields))
        if expects:
            assert (await client.reply()).status == 100
        for byte in body:
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        is_replay(await client.reply(), first)
        client.send(post(key))
        is_replay(await client.reply(), first)
    assert len(origin.requests) == 1


async def test_fields_that_a_client_makes_anew_for_each_try_do_not_count(origin: Origin, replaying: Proxy) -> None:
    key = new_key()
    first = await replaying.post(key, [(b"X-Request-Id", b"1"), (b"Content-Type", b"text/plain")])
    is_replay(await replaying.post(key, [(b"X-Request-Id", b"2"), (b"User-Agent", b"other")]), first)


# -- what is never replayed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [
        cut(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"half of it"),
        cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nhalf\r\n"),
        respond(200, body=b"x" * 2000),
    ],
    ids=["cut", "cut in chunks", "over the limit"],
)
async def test_a_truncated_record_is_a_conflict_and_never_a_success(
    origin: Origin, start_proxy: StartProxy, behaviour: Behaviour
) -> None:
    proxy = await start_proxy(**REPLAY, **{"record.max_body": "1KiB"})
    origin.behave(behaviour)
    key = new_key()
    await exchange(proxy.port, post(key, [(b"Connection", b"close")]), until_eof=True)
    is_conflict(await proxy.post(key), b"completed")
    assert len(origin.requests) == 1


async def test_an_unknown_outcome_is_a_conflict_and_not_its_504_once_more(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**REPLAY, **{"upstream.timeout": "200ms"})
    origin.behave(hang())
    key = new_key()
    assert (await proxy.post(key)).status == 504
    is_conflict(await proxy.post(key), b"unknown")
    assert len(origin.requests) == 1


async def test_who_does_not_wait_is_refused_while_the_first_is_in_progress(origin: Origin, replaying: Proxy) -> None:
    gate, key = asyncio.Event(), new_key()
    origin.behave(after(gate, respond(201)))
    async with Connection(replaying.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        is_conflict(await replaying.post(key), b"in_progress")
        gate.set()
        is_replay(await replaying.post(key), await client.reply())


MINE, ANOTHERS = (b"Authorization", b"Bearer mine"), (b"Authorization", b"Bearer anothers")


@pytest.mark.parametrize("shown", [[ANOTHERS], [], [(b"X-Api-Key", b"Bearer mine")], [MINE, ANOTHERS]])
async def test_another_credential_is_given_the_plain_409(origin: Origin, replaying: Proxy, shown: list[Field]) -> None:
    origin.behave(respond(200, [JSON], b'{"secret": 1}'))
    key = new_key()
    first = await replaying.post(key, [MINE])
    reply = await replaying.post(key, shown)
    is_conflict(reply, b"completed")
    assert b"secret" not in reply.body
    is_replay(await replaying.post(key, [MINE]), first)
    assert len(origin.requests) == 1


async def test_whoever_knows_the_key_is_given_it_where_the_settings_say_so(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**REPLAY, **{"responses.authorize": "none"})
    key = new_key()
    first = await proxy.post(key, [MINE])
    is_replay(await proxy.post(key, [ANOTHERS]), first)


@pytest.mark.parametrize(
    "other",
    [
        lambda key: post(key, body=BODY + b" "),
        lambda key: post(key, body=b""),
        lambda key: post(key, path=PATH + b"?a=1"),
        lambda key: post(key, path=PATH[:-1]),
        lambda key: post(key, path=PATH.upper()),
        lambda key: request(b"PATCH", PATH, [(b"Idempotency-Key", key), LENGTH_OF_BODY], BODY),
    ],
    ids=["body", "no body", "query", "path", "case", "method"],
)
async def test_another_request_is_a_conflict_and_never_given_the_firsts_response(
    origin: Origin, start_proxy: StartProxy, other: Callable[[bytes], bytes]
) -> None:
    proxy = await start_proxy(**REPLAY, **{"idempotency.methods": ["POST", "PATCH"]})
    origin.behave(respond(200, [JSON], b'{"secret": 1}'))
    key = new_key()
    first = await proxy.post(key)
    reply = await proxy.call(other(key))
    is_conflict(reply, b"completed")
    assert b"secret" not in reply.body
    is_replay(await proxy.post(key), first)
    assert len(origin.requests) == 1


async def test_a_record_from_before_the_mode_was_on_is_a_conflict(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    """Nobody knows what was asked for then."""
    key = new_key()
    before = await start_proxy(**shared_store)
    assert (await before.post(key)).status == 200
    now = await start_proxy(**shared_store, **REPLAY)
    is_conflict(await now.post(key), b"completed")
    other = new_key()
    first = await now.post(other)
    is_conflict(await before.post(other), b"completed")  # it does not compare
    is_replay(await now.post(other), first)
    assert len(origin.requests) == 2


# -- what was written by hand ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b'{"Id": "1"}', b""])
async def test_an_operators_ruling_is_replayed(origin: Origin, start_proxy: StartProxy, body: bytes) -> None:
    proxy = await start_proxy(**REPLAY, **SHORT_LEASE)
    origin.behave(hang())
    key = new_key()
    assert (await proxy.post(key)).status == 504
    store, key_hash = Asked(proxy._app.store), proxy._app._parts.hasher.key(key)
    fields = b"Content-Type: application/json\r\n" if body else b""
    word = Response(201, b"Created", fields, body, len(body), truncated=False, date=1452723956)

    async def ruled() -> bool:
        there = await store.read(key_hash)
        assert isinstance(there, Found)
        attempt = there.record.attempt
        return isinstance(await store.overrule(attempt, ruling(attempt, word, b"12345678")), Done)

    await origin.until(ruled)  # when the lease is over
    async with Connection(proxy.port) as client:
        for _ in range(2):
            client.send(post(key))
            reply = await client.reply()
            assert (reply.status, reply.reason, reply.body) == (201, b"Created", body)
            assert reply.field(b"Content-Length") == b"%d" % len(body)
            assert reply.field(b"Date") == b"Wed, 13 Jan 2016 22:25:56 GMT"
            assert reply.field(b"Idempotent-Replayed") == b"true"
        client.send(post(key, body=b"another"))
        is_conflict(await client.reply(), b"completed")
    assert len(origin.requests) == 1
