"""`on_concurrent = "wait"`: who comes while the first request is under way waits for it, and never in its place."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest

from config.settings import Limits
from proxy.core.record import Record
from proxy.parts import Parts
from proxy.store.base import ClaimResult, Found
from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Behaviour, Origin, after, hang, in_turn, respond
from tests.support.proxy import BODY, PATH, Connection, Proxy, new_key, post, refused, request
from tests.support.raw import Reply, eventually
from tests.support.stores import Asked, claim_of

WAIT = {"idempotency.on_concurrent": "wait"}
REPLAY = {**WAIT, "idempotency.on_reuse": "replay"}
PAID = respond(201, [(b"Content-Type", b"application/json")], b'{"Id": "1"}')
LARGE = bytes(range(256)) * 800
"""More than one read of a socket brings."""
A_WHILE = 0.7
"""Seconds, in which who polls would be seen to: see `waiting.POLL_FIRST`."""


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


def waiting(proxy: Proxy) -> int:
    """How many requests wait."""
    return proxy._app._parts.waiting._count


async def nothing_is_left(*proxies: Proxy) -> None:
    """Nobody waits, and nothing is held for anybody."""
    for parts in (proxy._app._parts for proxy in proxies):
        await eventually(partial(settled_down, parts))
        assert (parts.waiting._count, parts.waiting._keys, parts.waiting._owned) == (0, {}, set())


def settled_down(parts: Parts) -> bool:
    return not parts.unsettled and parts.bodies._left == Limits().bodies


def count_reads(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The key hashes that its store is asked for, from now on."""
    asked: list[bytes] = []
    store = proxy._app._parts.store
    read = store.read

    def counting(key_hash: bytes, done: object) -> None:
        asked.append(key_hash)
        read(key_hash, done)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(store, "read", counting)
    return asked


@asynccontextmanager
async def crowd(
    proxy: Proxy, key: bytes, size: int, body: bytes = BODY, *, waits: int | None = None
) -> AsyncIterator[list[Connection]]:
    """So many clients that have sent the same request with the key; *waits*: of whom so many wait (all)."""
    before = waiting(proxy)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Connection(proxy.port)) for _ in range(size)]
        for client in clients:
            client.send(post(key, body=body))
        await eventually(lambda: waiting(proxy) == before + (size if waits is None else waits))
        yield clients


@asynccontextmanager
async def first(
    origin: Origin, proxy: Proxy, key: bytes, behaviour: Behaviour, body: bytes = BODY
) -> AsyncIterator[Connection]:
    """The client whose request has the key, and is at the backend."""
    origin.behave(behaviour)
    async with Connection(proxy.port) as client:
        client.send(post(key, body=body))
        await origin.until(lambda: origin.requests)
        yield client


def replayed(reply: Reply) -> None:
    assert (reply.status, reply.body, reply.field(b"Idempotent-Replayed")) == (201, b'{"Id": "1"}', b"true")


def conflict(reply: Reply, state: bytes) -> None:
    refused(reply, 409, "idempotent_creation_conflict")
    assert reply.field(b"Idempotency-State") == state
    assert (reply.field(b"Retry-After") is not None) == (state == b"in_progress")


# -- the first has its response --------------------------------------------------------------------------------------


async def test_of_many_at_once_one_is_executed_and_all_are_given_its_response(
    origin: Origin, start_proxy: StartProxy, store: Flags, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**store, **REPLAY)
    key = new_key()
    origin.behave(after(gate, PAID))
    async with crowd(proxy, key, 30, waits=29) as clients:
        assert len(origin.requests) == 1
        gate.set()
        replies = [await client.reply() for client in clients]
        assert {(reply.status, reply.body) for reply in replies} == {(201, b'{"Id": "1"}')}
        assert Counter(reply.field(b"Idempotent-Replayed") for reply in replies) == {b"true": 29, None: 1}
        for client in clients:  # they go on
            client.send(post(key))
            replayed(await client.reply())
    assert len(origin.requests) == 1
    await nothing_is_left(proxy)


async def test_of_many_at_once_at_two_proxies_one_is_executed_and_all_are_given_its_response(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags, gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the other, one look now and then serves all who wait there."""
    one, other = [await start_proxy(**shared_store, **REPLAY) for _ in range(2)]
    key = new_key()
    async with first(origin, one, key, after(gate, PAID)) as client:
        reads = count_reads(other, monkeypatch), count_reads(one, monkeypatch)
        began = time.monotonic()
        async with crowd(other, key, 10) as there, crowd(one, key, 10) as here:
            await eventually(lambda: len(reads[0]) >= 3)
            assert len(reads[0]) <= 4 + time.monotonic() - began  # after 0.1 s, 0.3 s, 0.7 s, 1.5 s, and each second
            assert reads[1] == []
            gate.set()
            assert (await client.reply()).status == 201
            for waiter in (*there, *here):
                replayed(await waiter.reply())
            assert len(reads[0]) <= 5 + time.monotonic() - began
            assert len(reads[1]) == 1
    assert len(origin.requests) == 1
    await nothing_is_left(one, other)


async def test_within_a_process_the_store_is_asked_once_when_the_first_ends_and_never_before(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    reads = count_reads(proxy, monkeypatch)
    async with first(origin, proxy, key, after(gate, PAID)) as client, crowd(proxy, key, 10) as waiters:
        await asyncio.sleep(A_WHILE)
        assert reads == []
        gate.set()
        assert (await client.reply()).status == 201
        for waiter in waiters:
            replayed(await waiter.reply())
        assert len(reads) == 1


async def test_where_later_requests_are_conflicts_they_are_told_when_the_first_is_done(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**WAIT)
    key = new_key()
    async with first(origin, proxy, key, after(gate, PAID)) as client, crowd(proxy, key, 5) as waiters:
        gate.set()
        assert (await client.reply()).status == 201
        for waiter in waiters:
            conflict(await waiter.reply(), b"completed")
    await nothing_is_left(proxy)


async def test_the_client_of_the_first_may_go_and_those_who_wait_are_answered_all_the_same(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    async with first(origin, proxy, key, after(gate, PAID)) as client, crowd(proxy, key, 3) as waiters:
        client.reset()
        await eventually(lambda: len(proxy._app._server.connections) == 3)
        gate.set()
        for waiter in waiters:
            replayed(await waiter.reply())
    assert len(origin.requests) == 1


# -- the first was turned away: one goes next ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 429])
async def test_when_the_first_is_released_exactly_one_goes_next_with_its_whole_body(
    origin: Origin, start_proxy: StartProxy, store: Flags, gate: asyncio.Event, status: int
) -> None:
    proxy = await start_proxy(**store, **REPLAY)
    key, second = new_key(), asyncio.Event()
    turns = in_turn(after(gate, respond(status)), after(second, PAID))
    async with first(origin, proxy, key, turns, LARGE) as client, crowd(proxy, key, 8, LARGE) as waiters:
        gate.set()
        assert (await client.reply()).status == status
        await origin.until(lambda: len(origin.requests) == 2)
        await eventually(lambda: waiting(proxy) == 7)
        second.set()
        replies = [await waiter.reply() for waiter in waiters]
        assert {(reply.status, reply.body) for reply in replies} == {(201, b'{"Id": "1"}')}
        assert Counter(reply.field(b"Idempotent-Replayed") for reply in replies) == {b"true": 7, None: 1}
    assert [seen.body for seen in origin.requests] == [LARGE, LARGE]
    await nothing_is_left(proxy)


async def test_each_is_turned_away_in_its_turn_and_none_is_sent_twice(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    async with first(origin, proxy, key, after(gate, respond(401))) as client, crowd(proxy, key, 5) as waiters:
        gate.set()
        for each in (client, *waiters):
            reply = await each.reply()
            assert (reply.status, reply.field(b"Idempotency-State")) == (401, None)
    assert [seen.body for seen in origin.requests] == [BODY] * 6
    assert await proxy.state(key) is None
    await nothing_is_left(proxy)


async def test_when_the_first_finds_no_connection_the_next_tries_and_is_sent_whole(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    flags = {"upstream.max_connections": 1, "upstream.pool_timeout": "200ms", "upstream.connect_timeout": "200ms"}
    proxy = await start_proxy(**REPLAY, **flags)
    key = new_key()
    origin.behave(in_turn(after(gate, respond(200)), PAID))
    async with Connection(proxy.port) as busy, Connection(proxy.port) as client:
        busy.send(request(b"GET", b"/"))
        await origin.until(lambda: origin.requests)
        client.send(post(key, body=LARGE))
        await eventually(lambda: proxy._app._parts.unsettled)
        async with crowd(proxy, key, 4, LARGE) as waiters:
            refused(await client.reply(), 503, "overloaded")
            gate.set()
            replies = [await waiter.reply() for waiter in waiters]
    statuses = Counter(reply.status for reply in replies)
    assert statuses[201] >= 3  # on a busy machine, one more may have had its turn before there was a connection
    assert statuses[201] + statuses[503] == 4
    assert [seen.body for seen in origin.requests] == [b"", LARGE]
    await nothing_is_left(proxy)


async def test_a_backend_that_cannot_be_reached_is_told_to_each(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    await origin.stop()
    replies = await asyncio.gather(*(proxy.post(key, body=LARGE) for _ in range(10)))
    for reply in replies:
        refused(reply, 502, "upstream_unreachable")
    await nothing_is_left(proxy)
    await origin.start()
    origin.behave(PAID)
    assert (await proxy.post(key)).status == 201


async def test_a_turn_costs_one_claim_however_many_wait(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else so many who are turned away one after another would ask the store for half their square."""
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    async with first(origin, proxy, key, after(gate, respond(401))) as client, crowd(proxy, key, 30) as waiters:
        store, claimed = proxy._app._parts.store, 0
        claim = store.claim

        def counting(record: Record, done: Callable[[ClaimResult], None]) -> None:
            nonlocal claimed
            claimed += 1
            claim(record, done)

        monkeypatch.setattr(store, "claim", counting)
        reads = count_reads(proxy, monkeypatch)
        gate.set()
        for each in (client, *waiters):
            assert (await each.reply()).status == 401
    assert (claimed, reads) == (30, [])
    await nothing_is_left(proxy)


async def test_a_key_of_another_process_that_is_released_is_left_to_the_clients_next_try(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    """A record that is not there any more is no proof that its request was never sent."""
    proxy = await start_proxy(**store, **REPLAY)
    origin.behave(PAID)
    key, stranger = new_key(), Asked(proxy._app.store)
    claim = claim_of(proxy._app._parts.hasher.key(key))
    await stranger.claim(claim)
    async with crowd(proxy, key, 3, LARGE) as waiters:
        await stranger.release(claim)
        for waiter in waiters:
            reply = await waiter.reply()
            refused(reply, 409, "idempotent_creation_conflict")
            assert reply.field(b"Retry-After") == b"1"
    assert origin.requests == []
    assert (await proxy.post(key, body=LARGE)).status == 201
    await nothing_is_left(proxy)


async def test_nobody_goes_next_because_the_store_has_lost_the_record_of_a_request_that_is_under_way(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags, gate: asyncio.Event
) -> None:
    """A FLUSHALL, or a failover to a server that has not heard of it. The client repeats nothing, nor do we."""
    one, other = await start_proxy(**shared_store, **REPLAY), await start_proxy(**shared_store, **REPLAY)
    key = new_key()
    async with first(origin, one, key, after(gate, PAID)) as client, crowd(other, key, 2) as waiters:
        store = Asked(one._app.store)
        there = await store.read(one._app._parts.hasher.key(key))
        assert isinstance(there, Found)
        await store.release(there.record)  # by its token: what the proxy itself knows nothing of
        for waiter in waiters:
            refused(await waiter.reply(), 409, "idempotent_creation_conflict")
        gate.set()
        assert (await client.reply()).status == 201
    assert len(origin.requests) == 1
    assert (await other.post(key)).field(b"Idempotent-Replayed") == b"true"  # rewritten by who has the response
    await nothing_is_left(one, other)


# -- nobody knows ----------------------------------------------------------------------------------------------------


async def test_when_the_firsts_outcome_is_not_known_nobody_goes_next(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    proxy = await start_proxy(**store, **REPLAY, **{"upstream.timeout": "400ms"})
    key = new_key()
    async with first(origin, proxy, key, hang()) as client, crowd(proxy, key, 5) as waiters:
        refused(await client.reply(), 504, "upstream_outcome_unknown")
        for waiter in waiters:
            conflict(await waiter.reply(), b"unknown")
    assert len(origin.requests) == 1
    await nothing_is_left(proxy)


async def test_who_waits_for_a_process_that_died_is_told_so_when_its_lease_is_over(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    proxy = await start_proxy(**store, **REPLAY)
    key = new_key()
    await Asked(proxy._app.store).claim(claim_of(proxy._app._parts.hasher.key(key), lease=500))
    async with crowd(proxy, key, 3) as waiters:
        for waiter in waiters:
            conflict(await waiter.reply(), b"unknown")
    assert origin.requests == []
    await nothing_is_left(proxy)


# -- how the request comes -------------------------------------------------------------------------------------------


async def test_who_waits_is_sent_as_it_came_in_chunks_behind_a_100_and_what_follows_is_served(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    turns = in_turn(after(gate, respond(401)), PAID)
    fields = [(b"Idempotency-Key", key), (b"Transfer-Encoding", b"chunked"), (b"Expect", b"100-continue")]
    async with first(origin, proxy, key, turns) as client, Connection(proxy.port) as waiter:
        waiter.send(request(b"POST", PATH, fields))
        assert (await waiter.reply()).status == 100
        for byte in LARGE[:200]:
            waiter.send(b"1\r\n%b\r\n" % bytes([byte]))
            await asyncio.sleep(0)
        waiter.send(b"0\r\n\r\n" + post(new_key()))  # pipelined
        await eventually(lambda: waiting(proxy) == 1)
        gate.set()
        assert (await client.reply()).status == 401
        assert [(await waiter.reply()).status for _ in range(2)] == [201, 201]
    assert [seen.body for seen in origin.requests] == [BODY, LARGE[:200], BODY]
    await nothing_is_left(proxy)
