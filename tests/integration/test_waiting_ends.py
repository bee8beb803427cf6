"""Who waits for a first request, and no longer: its time is over, its client or the store goes, the process stops."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Flags, StartProxy
from tests.integration.test_waiting import (
    A_WHILE,
    LARGE,
    PAID,
    REPLAY,
    WAIT,
    conflict,
    count_reads,
    crowd,
    first,
    nothing_is_left,
    replayed,
    waiting,
)
from tests.support.origin import Origin, after, hang, in_turn, respond
from tests.support.proxy import BODY, Connection, new_key, post, refused, request, responses
from tests.support.raw import eventually
from tests.support.valkey import Valkey


@pytest.fixture
def gate() -> asyncio.Event:
    return asyncio.Event()


# -- who waits no longer ---------------------------------------------------------------------------------------------


async def test_the_wait_has_an_end(origin: Origin, start_proxy: StartProxy, store: Flags, gate: asyncio.Event) -> None:
    proxy = await start_proxy(**store, **REPLAY, **{"idempotency.wait_max": "500ms"})
    key = new_key()
    async with first(origin, proxy, key, after(gate, PAID)) as client:
        began = time.monotonic()
        async with crowd(proxy, key, 3) as waiters:
            for waiter in waiters:
                conflict(await waiter.reply(), b"in_progress")
            assert 0.5 <= time.monotonic() - began < 3
            assert waiting(proxy) == 0
            for waiter in waiters:  # and again, on the same connection
                waiter.send(post(key))
            await eventually(lambda: waiting(proxy) == 3)
            gate.set()
            assert (await client.reply()).status == 201
            for waiter in waiters:
                replayed(await waiter.reply())
    assert len(origin.requests) == 1
    await nothing_is_left(proxy)


async def test_the_end_of_the_wait_does_not_move_when_another_goes_first(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**REPLAY, **{"idempotency.wait_max": "1s"})
    key, never = new_key(), asyncio.Event()
    turns = in_turn(after(gate, respond(401)), after(never, PAID))
    async with first(origin, proxy, key, turns) as client:
        began = time.monotonic()
        async with crowd(proxy, key, 2) as waiters:
            await asyncio.sleep(A_WHILE)
            gate.set()
            assert (await client.reply()).status == 401
            replies = [asyncio.ensure_future(waiter.reply()) for waiter in waiters]
            done, left = await asyncio.wait(replies, return_when=asyncio.FIRST_COMPLETED)
            assert 1.0 <= time.monotonic() - began < 1.0 + A_WHILE
            (reply,) = [task.result() for task in done]
            conflict(reply, b"in_progress")
            never.set()
            assert [(await task).status for task in left] == [201]
    assert len(origin.requests) == 2


async def test_a_client_that_goes_leaves_nothing_behind_and_is_not_sent(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    async with first(origin, proxy, key, after(gate, respond(401)), LARGE) as client:
        held = proxy._app._parts.bodies._left
        async with crowd(proxy, key, 5, LARGE) as waiters:
            assert proxy._app._parts.bodies._left < held
            for waiter in waiters:
                waiter.reset()
            await eventually(lambda: waiting(proxy) == 0)
            assert proxy._app._parts.bodies._left == held
        gate.set()
        assert (await client.reply()).status == 401
    await nothing_is_left(proxy)
    assert len(origin.requests) == 1
    assert await proxy.state(key) is None


async def test_of_those_who_wait_the_gone_are_passed_over(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    turns = in_turn(after(gate, respond(401)), PAID)
    async with first(origin, proxy, key, turns) as client, crowd(proxy, key, 6, LARGE) as waiters:
        for waiter in waiters[:5]:
            waiter.reset()
        await eventually(lambda: waiting(proxy) == 1)
        gate.set()
        assert (await client.reply()).status == 401
        assert (await waiters[5].reply()).status == 201
    assert [seen.body for seen in origin.requests] == [BODY, LARGE]
    await nothing_is_left(proxy)


async def test_who_goes_in_the_very_moment_in_which_it_could_go_next_is_sent_whole_or_not_at_all(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    proxy = await start_proxy(**store, **WAIT)
    for delay in range(12):
        key, gate = new_key(), asyncio.Event()
        origin.requests.clear()
        turns = in_turn(after(gate, respond(401)), PAID)
        async with first(origin, proxy, key, turns, LARGE) as client, crowd(proxy, key, 3, LARGE) as waiters:
            gate.set()
            for _ in range(delay):
                await asyncio.sleep(0)
            for waiter in waiters:
                waiter.reset()
            assert (await client.reply()).status == 401
        await nothing_is_left(proxy)
        assert {seen.body for seen in origin.requests} == {LARGE}
        assert len(origin.requests) <= 2
        assert await proxy.state(key) == (b"completed" if len(origin.requests) == 2 else None)


async def test_who_has_said_all_it_will_say_is_answered(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    async with first(origin, proxy, key, after(gate, PAID)), crowd(proxy, key, 1) as waiters:
        waiters[0].half_close()
        gate.set()
        replayed(await waiters[0].reply())


@pytest.mark.parametrize("mode", [WAIT, REPLAY])
async def test_one_who_waits_too_many_is_a_conflict_at_once(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event, mode: Flags
) -> None:
    proxy = await start_proxy(**mode, **{"limits.waiters": 2})
    key, other = new_key(), new_key()
    async with first(origin, proxy, key, after(gate, PAID)) as client, crowd(proxy, key, 2) as waiters:
        conflict(await proxy.post(key), b"in_progress")
        async with Connection(proxy.port) as another:  # of any key: the limit is the worker's
            another.send(post(other))
            await origin.until(lambda: len(origin.requests) == 2)
            conflict(await proxy.post(other), b"in_progress")
            waiters[1].reset()
            await eventually(lambda: waiting(proxy) == 1)
            async with crowd(proxy, other, 1) as there:  # there is a place again
                gate.set()
                statuses = [(await each.reply()).status for each in (client, another, waiters[0], *there)]
        later = 201 if mode is REPLAY else 409
        assert statuses == [201, 201, later, later]
    assert len(origin.requests) == 2
    await nothing_is_left(proxy)


# -- the store, and the end of the process ---------------------------------------------------------------------------


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own, to be harmed. It writes every command to disk."""
    with Valkey(tmp_path, appendonly=True) as server:
        yield server


@pytest.mark.parametrize("down", ["killed", "silent"])
async def test_a_store_that_fails_ends_the_wait_and_nothing_is_sent(
    origin: Origin, start_proxy: StartProxy, victim: Valkey, gate: asyncio.Event, down: str
) -> None:
    flags = {**REPLAY, "store.url": victim.url, "store.deadline": "300ms"}
    one, other = [await start_proxy(**flags) for _ in range(2)]
    key = new_key()
    async with first(origin, one, key, after(gate, PAID)) as client, crowd(other, key, 3, LARGE) as waiters:
        victim.kill() if down == "killed" else victim.pause()
        for waiter in waiters:
            conflict(await waiter.reply(), b"in_progress")
        assert waiting(other) == 0
        await asyncio.to_thread(victim.start) if down == "killed" else victim.resume()
        gate.set()
        assert (await client.reply()).status == 201
    await nothing_is_left(other)

    async def completed() -> bool:
        return (await other.retrieve(key)).field(b"Idempotency-State") == b"completed"

    await eventually(completed, within=10)
    assert len(origin.requests) == 1


async def test_who_goes_before_the_store_has_said_that_the_key_is_taken_does_not_wait(
    origin: Origin, start_proxy: StartProxy, victim: Valkey, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**REPLAY, **{"store.url": victim.url, "store.deadline": "5s"})
    key = new_key()
    async with first(origin, proxy, key, after(gate, respond(401))) as client:
        victim.pause()
        async with Connection(proxy.port) as late:
            late.send(post(key, body=LARGE))
            await eventually(lambda: len(proxy._app._parts.unsettled) == 2)
            late.reset()
            await eventually(lambda: len(proxy._app._server.connections) == 1)
        victim.resume()
        await eventually(lambda: len(proxy._app._parts.unsettled) == 1)
        assert waiting(proxy) == 0
        gate.set()
        assert (await client.reply()).status == 401
    await nothing_is_left(proxy)
    assert len(origin.requests) == 1


async def test_a_stop_waits_for_the_first_and_then_for_all_who_wait_for_it(
    origin: Origin, start_proxy: StartProxy, store: Flags, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**store, **REPLAY)
    key = new_key()
    async with first(origin, proxy, key, after(gate, PAID)) as client, crowd(proxy, key, 3) as waiters:
        stopping = asyncio.ensure_future(proxy.stop())
        await eventually(lambda: proxy._app._gateway.draining)
        gate.set()
        assert (await client.reply()).status == 201
        for waiter in waiters:
            reply = await waiter.reply()
            replayed(reply)
            assert reply.field(b"Connection") == b"close"
        async with asyncio.timeout(5):
            await stopping
    assert len(origin.requests) == 1


async def test_while_the_proxy_is_being_stopped_nobody_goes_next(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    """What is sent then may outlast the stop, and its response would be lost."""
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    turns = in_turn(after(gate, respond(401)), PAID)
    async with first(origin, proxy, key, turns) as client, crowd(proxy, key, 2, LARGE) as waiters:
        stopping = asyncio.ensure_future(proxy.stop())
        await eventually(lambda: proxy._app._gateway.draining)
        gate.set()
        assert (await client.reply()).status == 401
        for waiter in waiters:
            refused(await waiter.reply(), 503, "draining")
        async with asyncio.timeout(5):
            await stopping
    assert [seen.body for seen in origin.requests] == [BODY]


async def test_a_stop_at_once_ends_the_wait_and_sends_nothing(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    async with first(origin, proxy, key, hang()) as client:
        held = proxy._app._parts.bodies._left
        async with crowd(proxy, key, 3) as waiters:
            async with asyncio.timeout(5):
                await proxy.stop(at_once=True)
            for each in (client, *waiters):
                assert await each.rest() == b""
    assert (waiting(proxy), proxy._app._parts.bodies._left) == (0, held)
    assert len(origin.requests) == 1


# -- beside those who ask for the record -----------------------------------------------------------------------------


def asks(key: bytes) -> bytes:
    return request(b"GET", responses(key), [(b"Prefer", b"wait=20")])


async def test_who_asks_for_the_record_and_who_posts_wait_side_by_side(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    async with first(origin, proxy, key, after(gate, PAID)) as client, Connection(proxy.port) as asking:
        asking.send(asks(key))
        await eventually(lambda: waiting(proxy) == 1)
        reads = count_reads(proxy, monkeypatch)
        async with crowd(proxy, key, 3) as waiters:
            gate.set()
            assert (await client.reply()).status == 201
            for waiter in waiters:
                replayed(await waiter.reply())
            shown = await asking.reply()
        assert (shown.status, json.loads(shown.body)["StatusCode"]) == (200, "201")
        assert len(reads) == 1
    await nothing_is_left(proxy)


async def test_when_the_key_is_released_who_asks_waits_for_the_one_who_goes_next(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    turns = in_turn(after(gate, respond(401)), PAID)
    async with first(origin, proxy, key, turns) as client, Connection(proxy.port) as asking:
        asking.send(asks(key))
        await eventually(lambda: waiting(proxy) == 1)
        async with crowd(proxy, key, 1) as waiters:
            gate.set()
            assert (await client.reply()).status == 401
            assert (await waiters[0].reply()).status == 201
            assert json.loads((await asking.reply()).body)["StatusCode"] == "201"
    assert len(origin.requests) == 2
    await nothing_is_left(proxy)


async def test_when_the_key_is_released_and_nobody_goes_next_who_asks_is_told_that_there_is_nothing(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**REPLAY)
    key = new_key()
    async with first(origin, proxy, key, after(gate, respond(401))) as client, Connection(proxy.port) as asking:
        asking.send(asks(key))
        await eventually(lambda: waiting(proxy) == 1)
        gate.set()
        assert (await client.reply()).status == 401
        refused(await asking.reply(), 404, "idempotency_key_not_found")
    await nothing_is_left(proxy)


async def test_who_asks_counts_among_those_who_wait(
    origin: Origin, start_proxy: StartProxy, gate: asyncio.Event
) -> None:
    proxy = await start_proxy(**REPLAY, **{"limits.waiters": 1})
    key = new_key()
    async with first(origin, proxy, key, after(gate, PAID)) as client, Connection(proxy.port) as asking:
        asking.send(asks(key))
        await eventually(lambda: waiting(proxy) == 1)
        conflict(await proxy.post(key), b"in_progress")
        refused(await proxy.call(asks(key)), 409, "idempotent_request_in_progress")
        gate.set()
        assert [(await each.reply()).status for each in (client, asking)] == [201, 200]
    await nothing_is_left(proxy)
