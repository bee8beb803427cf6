"""A server that stalls, and the claims that it applies late."""

import asyncio

import pytest

from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.deadlines import TICK
from proxy.store.base import Absent, Found, Granted, Unavailable
from tests.support.raw import eventually
from tests.support.redis_client import DEADLINE, HELPFUL, NEEDED, Client, OpenStore, admit, calls, connections, through
from tests.support.relay import Relay, unchanged
from tests.support.stores import claim_of, completed
from tests.support.valkey import Valkey


class TestStalledServer:
    async def test_a_claim_on_a_stalled_server_is_unavailable_in_time_and_its_ghost_blocks_nobody(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        store, claim = await open_store(victim.url), claim_of()
        sets, deletions = await calls(client, "set"), await calls(client, "del")
        loop = asyncio.get_running_loop()
        victim.pause()
        asked = loop.time()
        result = await store.claim(claim)
        took = loop.time() - asked
        victim.resume()

        assert isinstance(result, Unavailable)
        assert DEADLINE <= took < DEADLINE + 5 * TICK

        async def withdrawn() -> bool:
            return await calls(client, "del") > deletions

        await eventually(withdrawn)
        assert await calls(client, "set") > sets, "there was a ghost"
        assert isinstance(await store.read(claim.attempt.key_hash), Absent)
        assert isinstance(await store.claim(claim_of(claim.attempt.key_hash)), Granted)

    async def test_a_stall_shorter_than_the_deadline_is_not_noticed(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        store, claim = await open_store(victim.url, deadline=2.0), claim_of()
        (before,) = await connections(client)
        victim.pause()
        pending = asyncio.create_task(store.claim(claim))
        asyncio.get_running_loop().call_later(1.2, victim.resume)
        assert isinstance(await pending, Granted)
        assert await store.read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS)
        (after,) = await connections(client)
        assert after != before, "the stalled connection was given up, and is dead"

    async def test_a_store_that_is_closed_while_its_server_stalls_answers_everybody_and_leaves_nothing_behind(
        self, victim: Valkey, open_store: OpenStore
    ) -> None:
        store = await open_store(victim.url)
        tasks = asyncio.all_tasks()
        victim.pause()
        pending = asyncio.gather(store.claim(claim_of()), store.settle(completed(claim_of())))
        await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE + 5 * TICK):
            await store.store.close()
        assert all(isinstance(result, Unavailable) for result in await pending)
        assert asyncio.all_tasks() < tasks
        assert await store.claim(claim_of()) == Unavailable("the store is closing")
        victim.resume()


class TestWithdrawal:
    async def test_it_is_kept_while_the_server_answers_it_with_an_error(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        await admit(client, "~*", NEEDED + HELPFUL)
        async with Relay(victim.port) as relay:
            store, claim = await open_store(f"redis://app:secret@127.0.0.1:{relay.port}"), claim_of()
            relay.change_replies = relay.links[0].change_replies = lambda _: b""
            assert isinstance(await store.claim(claim), Unavailable)
            await admit(client, "~*", ["-evalsha"])
            relay.change_replies = unchanged

            async def refused() -> bool:
                return int((await client.info("commandstats"))["cmdstat_evalsha"]["rejected_calls"]) > 0

            await eventually(refused)
            assert await store.read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS), "the ghost"
            await admit(client, "~*", ["+evalsha"])

            async def free() -> bool:
                return isinstance(await store.read(claim.attempt.key_hash), Absent)

            await eventually(free)

    async def test_a_claim_that_was_sent_twice_and_met_another_owner_is_withdrawn_as_well(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        async with Relay(victim.port) as relay:
            store, owner = await open_store(through(relay)), claim_of()
            await store.claim(owner)
            before = await calls(client, "evalsha")
            relay.links[0].change_replies = lambda _: b""
            assert await store.claim(claim_of(owner.attempt.key_hash)) == Found(owner, State.IN_PROGRESS)

            async def withdrawn() -> bool:
                return await calls(client, "evalsha") == before + 1

            await eventually(withdrawn)
            assert await store.read(owner.attempt.key_hash) == Found(owner, State.IN_PROGRESS)

    async def test_more_of_them_than_may_wait_give_up_the_oldest_and_the_log_names_its_hash(
        self,
        victim: Valkey,
        open_store: OpenStore,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("proxy.store.redis.withdrawals.MAX_WITHDRAWALS", 2)
        store, claims = await open_store(victim.url), [claim_of() for _ in range(3)]
        victim.pause()
        await asyncio.gather(*(store.claim(claim) for claim in claims))
        victim.resume()

        async def left() -> list[Record]:
            found = [await store.read(claim.attempt.key_hash) for claim in claims]
            return [result.record for result in found if isinstance(result, Found)]

        async def only_the_oldest() -> bool:
            return await left() == claims[:1]

        await eventually(only_the_oldest)
        (line,) = [record.message for record in caplog.records if "withdrawn" in record.message]
        assert claims[0].attempt.key_hash.hex() in line

    async def test_it_ends_with_the_retention_of_its_claim(
        self, victim: Valkey, open_store: OpenStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        store, claim = await open_store(victim.url), claim_of(retention=900)
        victim.pause()
        await store.claim(claim)
        await eventually(lambda: [record for record in caplog.records if "withdrawn" in record.message])
        victim.resume()
