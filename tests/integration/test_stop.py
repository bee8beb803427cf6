"""A stop in good order: what is under way is brought to its end, and nothing new begins."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Origin, after, hang, respond
from tests.support.proxy import Connection, Proxy, new_key, post, refused, request
from tests.support.raw import eventually, parse
from tests.support.valkey import Valkey

PAID = respond(201, body=b"paid")


async def refuses(proxy: Proxy) -> None:
    """Nobody listens any more."""

    async def refused() -> bool:
        try:
            async with Connection(proxy.port):
                return False
        except ConnectionRefusedError:
            return True

    await eventually(refused)


async def test_a_request_under_way_is_answered_and_no_other_is_taken(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    proxy = await start_proxy(**store)
    gate = asyncio.Event()
    origin.behave(after(gate, PAID))
    async with Connection(proxy.port) as client, Connection(proxy.port) as idle, Connection(proxy.port) as slow:
        idle.send(request(b"DELETE", b"/responses/"))
        slow.send(post(new_key())[:20])
        client.send(post(new_key()))
        await origin.until(lambda: len(origin.requests) == 2)
        gate.set()
        await idle.reply()
        await client.reply()
        gate.clear()
        client.send(post(new_key()))
        await origin.until(lambda: len(origin.requests) == 3)
        stopping = asyncio.ensure_future(proxy.stop())
        assert await idle.rest() == b""
        await refuses(proxy)
        assert not stopping.done()
        slow.abort()
        gate.set()
        reply = await client.reply()
        assert (reply.status, reply.body, reply.field(b"Connection")) == (201, b"paid", b"close")
        assert await client.rest() == b""
        async with asyncio.timeout(5):
            await stopping
    await origin.until(lambda: origin.open == 0)


async def test_a_request_whose_client_is_gone_is_waited_for(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    proxy = await start_proxy(**shared_store)
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, PAID))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        client.reset()
    stopping = asyncio.ensure_future(proxy.stop())
    await refuses(proxy)
    gate.set()
    async with asyncio.timeout(5):
        await stopping
    restarted = await start_proxy(**shared_store)
    assert (await restarted.record(key))["Resource"] == {"Text": "paid"}
    assert (await restarted.post(key)).status == 409
    assert len(origin.requests) == 1


async def test_a_request_that_comes_too_late_is_sent_to_another_door(origin: Origin, proxy: Proxy) -> None:
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, PAID))
    async with Connection(proxy.port) as client, Connection(proxy.port) as late:
        client.send(post(new_key()))
        data = post(key)
        late.send(data[:20])
        await origin.until(lambda: origin.requests)
        stopping = asyncio.ensure_future(proxy.stop())
        await refuses(proxy)
        late.send(data[20:])
        reply = parse(await late.rest())
        gate.set()
        await client.reply()
        async with asyncio.timeout(5):
            await stopping
    refused(reply, 503, "draining")
    assert reply.field(b"Retry-After") is not None
    assert len(origin.requests) == 1


@pytest.mark.parametrize("keyed", [True, False])
async def test_a_stop_does_not_wait_for_ever(origin: Origin, start_proxy: StartProxy, keyed: bool) -> None:
    proxy = await start_proxy(**{"limits.drain_timeout": "300ms"})
    origin.behave(hang())
    async with Connection(proxy.port) as client:
        client.send(post(new_key() if keyed else None))
        await origin.until(lambda: origin.requests)
        began = time.monotonic()
        await proxy.stop()
        assert 0.25 < time.monotonic() - began < 2
        assert await client.rest() == b""


async def test_a_stop_does_not_wait_for_the_store_and_the_record_is_there_after_the_next_start(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path
) -> None:
    with Valkey(tmp_path, appendonly=True) as server:
        flags = {"store.url": server.url, "store.deadline": "300ms"}
        proxy = await start_proxy(**flags)
        key, gate = new_key(), asyncio.Event()
        origin.behave(after(gate, PAID))
        async with Connection(proxy.port) as client:
            client.send(post(key))
            await origin.until(lambda: origin.requests)
            server.kill()
            gate.set()
            assert (await client.reply()).body == b"paid"
        async with asyncio.timeout(10):
            await proxy.stop()
        await asyncio.to_thread(server.start)
        restarted = await start_proxy(**flags)

        async def delivered() -> bool:
            return await restarted.state(key) == b"completed"

        await eventually(delivered, 10)
        assert (await restarted.record(key))["Resource"] == {"Text": "paid"}
        await restarted.stop()


async def test_a_stop_frees_the_keys_of_requests_that_still_wait_for_a_connection(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    proxy = await start_proxy(**shared_store, **{"upstream.max_connections": 1, "limits.drain_timeout": "200ms"})
    sent, waiting = new_key(), [new_key() for _ in range(3)]
    origin.behave(hang())
    async with AsyncExitStack() as stack:
        for key in (sent, *waiting):
            client = await stack.enter_async_context(Connection(proxy.port))
            client.send(post(key))
            await origin.until(lambda: origin.requests)

            async def claimed(key: bytes = key) -> bool:
                return await proxy.state(key) == b"in_progress"

            await eventually(claimed)
        async with asyncio.timeout(5):
            await proxy.stop()
    assert len(origin.requests) == 1
    restarted = await start_proxy(**shared_store)
    origin.behave(PAID)
    assert [await restarted.state(key) for key in waiting] == [None] * 3
    assert [(await restarted.post(key)).status for key in waiting] == [201] * 3
    assert (await restarted.post(sent)).field(b"Idempotency-State") == b"in_progress"
