"""What is peculiar to the memory store: its bounds. What it shares with the others is in tests/contract."""

import asyncio

from proxy.store.base import Absent, Done, Granted, Unavailable
from proxy.store.memory import SWEEP, MemoryStore
from tests.support.raw import eventually
from tests.support.stores import Asked, claim_of, completed


async def test_a_full_store_takes_no_new_key_and_serves_the_old_ones() -> None:
    store = Asked(MemoryStore(capacity=2))
    claims = [claim_of(), claim_of()]
    assert [await store.claim(claim) for claim in claims] == [Granted(), Granted()]
    assert await store.claim(claim_of()) == Unavailable("full: 2 records")
    assert await store.settle(completed(claims[0])) == Done()
    await store.release(claims[1])
    assert await store.claim(claim_of()) == Granted()


async def test_expired_records_make_room_whatever_lies_before_them() -> None:
    store = Asked(MemoryStore(capacity=3))
    long, *short = [claim_of(), claim_of(retention=20), claim_of(retention=20)]
    for claim in (long, *short):
        await store.claim(claim)

    async def room() -> bool:
        return await store.claim(claim_of()) == Granted()

    await eventually(room, within=2.0)
    assert await store.claim(claim_of()) == Granted()
    assert await store.read(short[0].attempt.key_hash) == Absent()


async def test_one_write_sweeps_a_few_records_only() -> None:
    store = MemoryStore()
    asked = Asked(store)
    for _ in range(3 * SWEEP):
        await asked.claim(claim_of(retention=1))
    await asyncio.sleep(0.005)  # all are over: there is no sign to wait for
    before = len(store._rows._rows)
    await asked.claim(claim_of())
    assert before - len(store._rows._rows) <= SWEEP - 1


async def test_keys_that_come_and_go_leave_nothing_behind() -> None:
    store = MemoryStore(capacity=10)
    asked = Asked(store)
    for _ in range(200):
        claim = claim_of()
        await asked.claim(claim)
        await asked.release(claim)
    assert not store._rows._rows
    assert len(store._rows._by_expiry) <= 21
