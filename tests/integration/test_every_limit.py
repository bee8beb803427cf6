"""Every limit and deadline, and what happens when it is reached: to what passes through, and to what carries a key."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from config.settings import Idempotency, Limits, Responses, Upstream
from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Behaviour, Origin, after, hang, raw, respond
from tests.support.proxy import BODY, PATH, Connection, Proxy, new_key, post, refused, request
from tests.support.raw import Reply, eventually, exchange, parse

CHUNKED = (b"Transfer-Encoding", b"chunked")
MORE = b"x" * 500_000
"""What a client goes on sending: less than a connection is read that lingers."""
STEP = 0.03
"""Seconds between two bytes of a slow client."""
Answer = tuple[int, str | None]
"""Status, and `Type` where the answer is the proxy's own."""
OK: Answer = 200, None


class Row(NamedTuple):
    """One setting at its limit."""

    flags: Flags
    send: Callable[[bytes | None], bytes]
    """The request, with that key or without."""
    passed: Answer
    guarded: Answer
    slow: int = 0
    """So many bytes at its end are sent one by one; the client gives up when it is answered."""
    more: bytes = b""
    """What it sends behind it."""
    closes: bool = True
    """The connection ends with a refusal: what follows on it cannot be trusted."""
    behaviour: Behaviour | None = None
    state: bytes | None = None
    """What is said of the key afterwards; None: it is free."""


def chunked(key: bytes | None, chunks: bytes) -> bytes:
    """A POST of these chunks."""
    own = [] if key is None else [(b"Idempotency-Key", key)]
    return request(b"POST", PATH, [*own, CHUNKED], chunks)


def one_at_a_time(**flags: object) -> Flags:
    """A backend that is given one request at a time."""
    return {"upstream.max_connections": 1, **{f"upstream.{name}": value for name, value in flags.items()}}


TOO_LONG, TOO_MANY = (414, "uri_too_long"), (431, "header_fields_too_large")
TOO_LARGE = 413, "request_too_large"
LATE, BAD = (408, "request_timeout"), (400, "bad_request")
SILENT, UNKNOWN = (504, "upstream_timeout"), (504, "upstream_outcome_unknown")
CHUNKS = (b"200\r\n" + b"x" * 512 + b"\r\n") * 500 + b"0\r\n\r\n"
TRAILERS = b"3\r\nfoo\r\n0\r\nX-Sum: %b\r\n\r\n"
EXTENSION = b"3;%b\r\nfoo\r\n0\r\n\r\n"

ROWS = {
    "limits.request_line": Row(
        {"limits.request_line": 256}, lambda key: post(key, path=b"/" + b"a" * 300), TOO_LONG, TOO_LONG, more=MORE
    ),
    "limits.head": Row(
        {"limits.request_line": 256, "limits.head": 512},
        lambda key: post(key, [(b"X", b"a" * 600)]),
        TOO_MANY,
        TOO_MANY,
        more=MORE,
    ),
    "limits.fields": Row(
        {"limits.fields": 5}, lambda key: post(key, [(b"X", b"1")] * 9), TOO_MANY, TOO_MANY, more=MORE
    ),
    "limits.body": Row({"limits.body": 1000}, lambda key: post(key, body=MORE), OK, TOO_LARGE),
    "limits.body in chunks": Row({"limits.body": 1000}, lambda key: chunked(key, CHUNKS), OK, TOO_LARGE),
    "limits.trailers": Row(
        {"limits.trailers": 64}, lambda key: chunked(key, TRAILERS % (b"a" * 64)), BAD, BAD, more=MORE
    ),
    "limits.trailers, not at their end": Row(
        {"limits.trailers": 64}, lambda key: chunked(key, TRAILERS[:-4] % (b"a" * 128)), BAD, BAD, more=MORE
    ),
    "limits.chunk_extensions": Row(
        {"limits.chunk_extensions": 16}, lambda key: chunked(key, EXTENSION % (b"a" * 20)), BAD, BAD, more=MORE
    ),
    "limits.chunk_extensions, not at their end": Row(
        {"limits.chunk_extensions": 16}, lambda key: chunked(key, b"3;" + b"a" * 50), BAD, BAD, more=MORE
    ),
    "limits.head_timeout": Row({"limits.head_timeout": "150ms"}, lambda key: post(key)[:40], LATE, LATE, slow=30),
    "limits.body_idle_timeout": Row({"limits.body_idle_timeout": "150ms"}, lambda key: post(key)[:-1], LATE, LATE),
    "limits.body_timeout": Row({"limits.body_timeout": "150ms"}, post, OK, LATE, slow=len(BODY)),
    "limits.response_head": Row(
        {"limits.response_head": 256}, post, SILENT, UNKNOWN, closes=False,
        behaviour=respond(200, [(b"X", b"a" * 300)]), state=b"unknown",
    ),
    "limits.fields, of an answer": Row(  # its head is what is limited: an answer has not to be lost for its fields
        {"limits.fields": 9}, post, OK, OK, closes=False, behaviour=respond(200, [(b"X", b"1")] * 200),
        state=b"completed",
    ),
    "upstream.timeout": Row(
        {"upstream.timeout": "150ms"}, post, SILENT, UNKNOWN, closes=False, behaviour=hang(), state=b"unknown"
    ),
}  # fmt: skip

ELSEWHERE = {
    "limits.bodies": "test_held_bodies.py",
    "limits.tunnels": "test_tunnel.py",
    "limits.tunnel_idle_timeout": "test_tunnel.py",
}
"""Limits that have a file of their own."""


async def answer(port: int, row: Row, key: bytes | None, *, closes: bool) -> Reply:
    """What the client is given; it goes on sending while it reads, and is never reset."""
    data = row.send(key)
    if not row.slow:
        return parse(await exchange(port, data + row.more, until_eof=closes))
    async with Connection(port) as client:
        client.send(data[: -row.slow])

        async def trickle() -> None:
            for byte in data[-row.slow :]:
                await asyncio.sleep(STEP)
                client.send(bytes([byte]))

        sending = asyncio.ensure_future(trickle())
        reply = await client.reply()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert not closes or await client.rest() == b""
    return reply


def is_answer(reply: Reply, expected: Answer, *, closes: bool) -> None:
    status, kind = expected
    assert reply.status == status
    if kind is not None:
        refused(reply, status, kind)
        assert reply.field(b"Connection") == (b"close" if closes else None)
        assert (reply.field(b"Retry-After") is not None) == (status == 503)


@pytest.mark.parametrize("keyed", [False, True], ids=["passed", "guarded"])
@pytest.mark.parametrize("name", ROWS)
async def test_a_limit_that_is_reached_has_its_answer(
    origin: Origin, start_proxy: StartProxy, name: str, keyed: bool
) -> None:
    row = ROWS[name]
    proxy = await start_proxy(**row.flags)
    if row.behaviour is not None:
        origin.behave(row.behaviour)
    key = new_key() if keyed else None
    expected = row.guarded if keyed else row.passed
    closes = row.closes and expected is not OK
    is_answer(await answer(proxy.port, row, key, closes=closes), expected, closes=closes)
    assert len(origin.requests) == (expected[0] in (200, 504))
    if key is not None:
        assert await proxy.state(key) == row.state


# -- the way to the backend ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def deaf() -> Iterator[int]:
    """A port where connecting takes for ever: its queue is full, and nobody accepts."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize("keyed", [False, True])
async def test_upstream_connect_timeout_is_a_502_and_the_key_is_free(start_proxy: StartProxy, keyed: bool) -> None:
    with deaf() as port:
        proxy = await start_proxy(**{"upstream.url": f"http://127.0.0.1:{port}", "upstream.connect_timeout": "150ms"})
        key = new_key() if keyed else None
        is_answer(await proxy.post(key), (502, "upstream_unreachable"), closes=False)
        assert key is None or await proxy.state(key) is None


@contextlib.asynccontextmanager
async def taken(origin: Origin, proxy: Proxy, after_requests: int = 0) -> AsyncIterator[asyncio.Event]:
    """The one connection that there may be is taken, up to the event."""
    gate = asyncio.Event()
    origin.behave(after(gate, respond(200)))
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/"))
        await origin.until(lambda: len(origin.requests) > after_requests)
        yield gate
        gate.set()
        assert (await client.reply()).status == 200


@pytest.mark.parametrize("keyed", [False, True])
async def test_upstream_pool_timeout_is_a_503_and_the_key_is_free(
    origin: Origin, start_proxy: StartProxy, keyed: bool
) -> None:
    proxy = await start_proxy(**one_at_a_time(pool_timeout="100ms", connect_timeout="100ms"))
    key = new_key() if keyed else None
    async with taken(origin, proxy):
        is_answer(await proxy.post(key), (503, "overloaded"), closes=False)
        assert key is None or await proxy.state(key) is None
    assert (await proxy.post(key)).status == 200
    assert len(origin.requests) == 2


@pytest.mark.parametrize("keyed", [False, True])
async def test_upstream_max_waiting_is_a_503_at_once_and_the_key_is_free(
    origin: Origin, start_proxy: StartProxy, keyed: bool
) -> None:
    proxy = await start_proxy(**one_at_a_time(max_waiting=1))
    key = new_key() if keyed else None
    async with taken(origin, proxy) as gate:
        waits = asyncio.ensure_future(proxy.post(new_key()))
        await eventually(lambda: proxy._app._pool._waiting)
        is_answer(await proxy.post(key), (503, "overloaded"), closes=False)
        assert key is None or await proxy.state(key) is None
        gate.set()
        assert (await waits).status == 200
    assert len(origin.requests) == 2


@pytest.mark.parametrize("max_waiting", [0, 2])
async def test_upstream_max_connections_may_be_used_whatever_upstream_max_waiting_is(
    origin: Origin, start_proxy: StartProxy, max_waiting: int
) -> None:
    """Who is given a connection of its own does not wait for anybody's."""
    proxy = await start_proxy(**{"upstream.max_connections": 8, "upstream.max_waiting": max_waiting})
    gate = asyncio.Event()
    origin.behave(after(gate, respond(200)))
    calls = [asyncio.ensure_future(proxy.post(new_key())) for _ in range(8)]
    try:
        await origin.until(lambda: len(origin.requests) == 8 or any(call.done() for call in calls))
    finally:
        gate.set()
        replies = await asyncio.gather(*calls)
    assert [reply.status for reply in replies] == [200] * 8


# -- who waits for another request -----------------------------------------------------------------------------------

WAIT = {"idempotency.on_concurrent": "wait"}


@contextlib.asynccontextmanager
async def in_progress(origin: Origin, proxy: Proxy) -> AsyncIterator[bytes]:
    """A key whose first request is at the backend."""
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(200)))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        yield key
        gate.set()
        assert (await client.reply()).status == 200
    assert len(origin.requests) == 1


def is_still_in_progress(reply: Reply, kind: str) -> None:
    refused(reply, 409, kind)
    assert reply.field(b"Idempotency-State") == b"in_progress"
    assert reply.field(b"Retry-After")


async def test_limits_waiters_one_more_is_a_409_at_once(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**WAIT, **{"limits.waiters": 1})
    async with in_progress(origin, proxy) as key, Connection(proxy.port) as waiter:
        waiter.send(post(key))
        await eventually(lambda: proxy._app._parts.waiting._count == 1)
        is_still_in_progress(await proxy.call(post(key), within=2), "idempotent_creation_conflict")
        asks = request(b"GET", b"/responses/%b" % key, [(b"Prefer", b"wait=9")])
        is_still_in_progress(await proxy.call(asks, within=2), "idempotent_request_in_progress")


async def test_idempotency_wait_max_is_a_409_and_the_connection_goes_on(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**WAIT, **{"idempotency.wait_max": "150ms"})
    async with in_progress(origin, proxy) as key, Connection(proxy.port) as waiter:
        for _ in range(2):
            waiter.send(post(key))
            is_still_in_progress(await waiter.reply(), "idempotent_creation_conflict")


async def test_responses_wait_max_is_a_409_whatever_was_asked_for(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"responses.wait_max": "150ms"})
    async with in_progress(origin, proxy) as key:
        asks = request(b"GET", b"/responses/%b" % key, [(b"Prefer", b"wait=60")])
        is_still_in_progress(await proxy.call(asks, within=2), "idempotent_request_in_progress")


PROBED = {"responses.authorize": "probe", "responses.probe": "/me", "idempotency.on_reuse": "replay"}


@pytest.mark.parametrize("missing", ["answer", "rest of an answer", "connection"])
async def test_responses_probe_timeout_is_a_503_and_nothing_is_shown(
    origin: Origin, start_proxy: StartProxy, missing: str
) -> None:
    proxy = await start_proxy(**PROBED, **one_at_a_time(), **{"responses.probe_timeout": "150ms"})
    key = new_key()
    assert (await proxy.post(key)).status == 200
    slow = hang() if missing == "answer" else raw(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nhalf")
    async with contextlib.AsyncExitStack() as stack:
        if missing == "connection":
            gate = await stack.enter_async_context(taken(origin, proxy, after_requests=1))
        else:
            origin.behave(slow)
        for data in (request(b"GET", b"/responses/%b" % key), post(key)):
            is_answer(await proxy.call(data, within=2), (503, "proof_unavailable"), closes=False)
        if missing == "connection":
            gate.set()
    origin.behave(respond(200))
    assert (await proxy.retrieve(key)).status == 200
    assert [seen.target for seen in origin.requests].count(PATH) == 1


# -- the client's connection -----------------------------------------------------------------------------------------


async def test_limits_connections_a_client_too_many_reads_why_though_it_is_sending(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"limits.connections": 1})
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/"))
        assert (await client.reply()).status == 200
        for key in (None, new_key()):
            reply = parse(await exchange(proxy.port, post(key, body=MORE), until_eof=True))
            is_answer(reply, (503, "overloaded"), closes=True)
    assert len(origin.requests) == 1
    await eventually(lambda: not proxy._app._server.connections)
    assert (await proxy.post()).status == 200


async def test_limits_keepalive_timeout_closes_without_a_word(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"limits.keepalive_timeout": "150ms"})
    async with Connection(proxy.port) as client:
        for data in (post(), post(new_key())):
            client.send(data)
            assert (await client.reply()).status == 200
        assert await client.rest() == b""


async def test_limits_write_timeout_ends_what_passes_through_on_both_sides(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"limits.write_timeout": "200ms"})
    origin.behave(respond(200, body=b"x" * 20_000_000))
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/"))
        await origin.until(lambda: origin.requests)
        await origin.until(lambda: origin.open == 0)
        assert len(await client.rest()) < 20_000_000


@pytest.mark.parametrize("keyed", [False, True])
async def test_limits_drain_timeout_ends_a_stop(origin: Origin, start_proxy: StartProxy, keyed: bool) -> None:
    proxy = await start_proxy(**{"limits.drain_timeout": "150ms"})
    origin.behave(hang())
    async with Connection(proxy.port) as client:
        client.send(post(new_key() if keyed else None))
        await origin.until(lambda: origin.requests)
        async with asyncio.timeout(3):
            await proxy.stop()
        assert await client.rest() == b""


async def test_upstream_idle_timeout_closes_the_backends_connection(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"upstream.idle_timeout": "150ms"})
    assert (await proxy.post(new_key())).status == 200
    await origin.until(lambda: origin.open == 0)
    assert (await proxy.post(new_key())).status == 200
    assert origin.connections == 2


def test_no_limit_is_without_its_answer() -> None:
    """A setting that is added here, or there, needs a row, or a test that is named for it."""
    settings = [f"limits.{name}" for name in Limits.model_fields]
    settings += [f"upstream.{name}" for name in Upstream.model_fields if name.startswith("max_") or "timeout" in name]
    settings += [
        f"idempotency.{name}" for name in Idempotency.model_fields if name.endswith("_max") and name != "key_max"
    ]
    settings += [f"responses.{name}" for name in Responses.model_fields if name.endswith(("_max", "timeout"))]
    tests = [name for name in globals() if name.startswith("test_")]
    for setting in settings:
        if setting in ELSEWHERE:
            assert f'"{setting}"' in Path(__file__).with_name(ELSEWHERE[setting]).read_text()
        else:
            named = f"test_{setting.replace('.', '_')}_"
            assert setting in ROWS or any(name.startswith(named) for name in tests), setting
