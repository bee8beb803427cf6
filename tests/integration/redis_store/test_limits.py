"""What leaves together, and how much may wait."""

import asyncio

from proxy.store.base import Absent, Done, Granted, Unavailable
from proxy.store.redis.multiplexer import MAX_BYTES, MAX_COMMANDS
from tests.support.raw import eventually
from tests.support.redis_client import Client, OpenStore, calls
from tests.support.stores import claim_of, completed
from tests.support.valkey import Valkey


class TestLimits:
    async def test_commands_of_one_tick_are_one_batch(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        store = await open_store(victim.url)
        before = await calls(client, "echo")
        results = await asyncio.gather(*(store.claim(claim_of()) for _ in range(100)))
        assert {type(result) for result in results} == {Granted}
        assert await calls(client, "echo") == before + 1

    async def test_more_commands_than_may_wait_are_refused_at_once(self, victim: Valkey, open_store: OpenStore) -> None:
        store = await open_store(victim.url, deadline=5.0)
        results: list[object] = []
        victim.pause()
        for _ in range(MAX_COMMANDS):
            store.store.read(bytes(16), results.append)
        assert await store.read(bytes(16)) == Unavailable("overloaded")
        victim.resume()
        await eventually(lambda: len(results) == MAX_COMMANDS)
        assert {type(result) for result in results} == {Absent}
        assert isinstance(await store.read(bytes(16)), Absent)

    async def test_more_bytes_than_may_wait_are_refused_at_once(self, victim: Valkey, open_store: OpenStore) -> None:
        store, results = await open_store(victim.url, deadline=5.0), list[object]()
        size = 8 * 1024 * 1024
        victim.pause()
        for _ in range(MAX_BYTES // size):
            store.store.settle(completed(claim_of(), bytes(size)), results.append)
        assert await store.settle(completed(claim_of())) == Unavailable("overloaded")
        victim.resume()
        await eventually(lambda: len(results) == MAX_BYTES // size)
        assert {type(result) for result in results} == {Done}
