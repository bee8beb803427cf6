"""Proxies that learn: one does, all use it, and it is there for as long as a record needs it."""

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from proxy.core.record import Record, Response
from proxy.deadlines import Deadlines
from proxy.store import learning
from proxy.store.base import Absent, Done, Found, KeepResult, Kept, KeptResult, Unavailable
from proxy.store.compression import Unusable
from proxy.store.dictionary import Library, name_of
from proxy.store.entries import Batch
from proxy.store.keyring import KeyRing
from proxy.store.learning import ENOUGH, RELEARN, Learning, Noted, noted, train
from proxy.store.memory import MemoryStore
from proxy.store.sealing import Sealing
from proxy.store.spool import Spool
from proxy.store.vault import Vault
from tests.support.opening import Opening
from tests.support.raw import eventually
from tests.support.stores import HOUR, answer, claim_of, completed

ONE, TWO, OTHER = KeyRing({1: b"1" * 32}), KeyRing({2: b"2" * 32, 1: b"1" * 32}), KeyRing({3: b"3" * 32})
UPSTREAM = b"http://api"


class Worker:
    """A vault that learns on a store, and a store to be asked."""

    def __init__(
        self, store: MemoryStore, ring: KeyRing | None = None, upstream: bytes = UPSTREAM, lifetime: int = HOUR
    ) -> None:
        self.vault = Vault(compress=True, ring=ring, limit=100_000)
        self.learning = Learning(
            store, self.vault, Library(store, self.vault), upstream=upstream, lifetime=lifetime, every=0.02
        )
        self.store = Opening(
            Sealing(
                store,
                self.vault,
                deadline=1.0,
                deadlines=Deadlines(),
                upstream=upstream,
                lifetime=HOUR,
                learns=False,
            )
        )

    @property
    def dictionary(self) -> bytes:
        return self.vault.compressor.id

    def respond(self, count: int, start: int = 0) -> None:
        """So many responses are sealed."""
        for n in range(start, start + count):
            self.vault.seal(response(n))

    async def learns(self, start: int = 0) -> None:
        """Seals responses until it uses a dictionary that it did not use before."""
        before = self.dictionary
        async with asyncio.timeout(5):
            while self.dictionary == before:
                self.respond(50, start)
                await asyncio.sleep(0.01)


def response(n: int) -> Record:
    digits = random.Random(n).randrange(10**9)
    body = b'{"Id": "%d", "Status": "CREATED", "DebitedFunds": {"Currency": "EUR", "Amount": %d}}' % (digits, n)
    return completed(claim_of(), body)


Start = Callable[..., Awaitable[Worker]]


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    monkeypatch.setattr(learning, "TURN", 200)
    return MemoryStore()


@pytest.fixture
async def start(store: MemoryStore) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def begin(ring: KeyRing | None = None, upstream: bytes = UPSTREAM, lifetime: int = HOUR) -> Worker:
            worker = Worker(store, ring, upstream, lifetime)
            await worker.learning.begin()
            stack.push_async_callback(worker.learning.end)
            return worker

        yield begin


async def kept(store: MemoryStore, name: bytes) -> KeptResult:
    return await answer(partial(store.kept, name))


@pytest.mark.parametrize("ring", [None, ONE], ids=["plain", "encrypted"])
async def test_one_learns_and_all_others_use_it_and_read_each_others_records(
    store: MemoryStore, start: Start, ring: KeyRing | None
) -> None:
    one, other = await start(ring), await start(ring)
    await one.learns()
    await eventually(lambda: other.dictionary == one.dictionary)
    await eventually(lambda: one.vault.sampled is other.vault.sampled is None)  # in a moment
    for writer, reader in ((one, other), (other, one)):
        record = response(0)
        plain = len(Vault(compress=True, ring=ring, limit=0).seal(record).sealed)
        assert len(writer.vault.seal(record).sealed) < 0.7 * plain
        assert await writer.store.settle(record) == Done()
        assert await reader.store.read(record.attempt.key_hash) == Found(record, record.state)


async def test_who_is_started_later_uses_what_is_there_from_the_first_record_on(start: Start) -> None:
    first = await start()
    await first.learns()
    await first.learning.end()
    second = await start()
    assert second.dictionary == first.dictionary


async def test_another_upstream_has_a_dictionary_of_its_own(start: Start) -> None:
    one, other = await start(), await start(upstream=b"http://other")
    await one.learns()
    await asyncio.sleep(0.1)
    assert other.dictionary == b""


async def test_it_is_not_used_before_it_was_seen_in_the_store(store: MemoryStore, start: Start) -> None:
    worker = Worker(store)
    await worker.learning._round()
    worker.respond(ENOUGH)
    await worker.learning._round()
    assert worker.dictionary == b""
    trained = worker.learning._trained
    assert trained is not None
    assert isinstance(await kept(store, name_of(trained.id)), Kept)
    store._rows._kept.clear()  # a failover, and the last moment is lost
    await worker.learning._round()
    assert worker.dictionary == b""
    worker.respond(ENOUGH)
    for _ in range(3):
        await asyncio.sleep(0.2)  # the turn of the first try is over
        worker.respond(ENOUGH)
        await worker.learning._round()
    assert worker.dictionary


async def test_while_one_learns_nobody_else_does(store: MemoryStore, start: Start) -> None:
    worker = Worker(store)
    turn = worker.learning._pointer + b":turn"
    await answer(partial(store.keep, turn, b"somebody else", HOUR))
    await worker.learning._round()
    worker.respond(ENOUGH)
    await worker.learning._round()
    assert worker.learning._trained is None


@pytest.mark.parametrize("ring", [None, ONE], ids=["plain", "encrypted"])
async def test_a_store_that_was_emptied_gets_it_back(store: MemoryStore, start: Start, ring: KeyRing | None) -> None:
    worker = await start(ring)
    await worker.learns()
    store._rows._kept.clear()

    async def back() -> bool:
        there = await kept(store, name_of(worker.dictionary))
        pointer = noted(await kept(store, worker.learning._pointer))
        return isinstance(there, Kept) and pointer is not None and pointer.id == worker.dictionary

    await eventually(back)
    assert (await start(ring)).dictionary == worker.dictionary


async def test_a_stop_leaves_behind_what_the_last_records_need(store: MemoryStore, start: Start) -> None:
    """The store was emptied: who was told to restart the proxies does so before any of them has had a look."""
    worker = await start()
    await worker.learns()
    worker.learning._every = HOUR
    await asyncio.sleep(0.1)
    store._rows._kept.clear()
    record = response(7)
    assert await worker.store.settle(record) == Done()
    await worker.learning.end()
    newcomer = await start()
    assert await newcomer.store.read(record.attempt.key_hash) == Found(record, record.state)


async def test_what_waited_in_a_spool_is_read_when_it_reaches_a_store_that_came_back_empty(
    store: MemoryStore, start: Start, tmp_path: Path
) -> None:
    """It was written to the disk while the store was down; then the proxy was restarted, and knows no dictionary."""
    old, record = await start(), response(7)
    await old.learns()
    spool = Spool(tmp_path / "spool.db", "a store", max_size=10**6, encrypt=old.store.sealing.encrypt)
    await spool.open()
    assert isinstance(await answer(partial(spool.put, record, 0.0)), int)
    await old.learning.end()
    new = Worker(MemoryStore())
    batch = await spool.batch()
    assert isinstance(batch, Batch)
    assert await new.store.settle(batch.entries[0].record) == Done()
    assert await new.store.read(record.attempt.key_hash) == Found(record, record.state)
    await spool.close()


async def test_a_proxy_with_short_records_does_not_shorten_what_the_long_ones_of_another_need(
    store: MemoryStore, start: Start
) -> None:
    long = await start(lifetime=120 * HOUR)
    await long.learns()
    await long.learning.end()
    short = await start(lifetime=HOUR)
    assert short.dictionary == long.dictionary
    await eventually(lambda: short.learning._refresh_at > 0)  # it has written it
    for name in (name_of(long.dictionary), long.learning._pointer):
        assert store._rows._kept[name].expires - store._rows.now() > 119 * HOUR


async def test_it_is_kept_for_longer_than_any_record_that_needs_it(store: MemoryStore, start: Start) -> None:
    worker = await start()
    await worker.learns()
    expires = store._rows._kept[name_of(worker.dictionary)].expires
    assert expires - store._rows.now() > 0.9 * HOUR
    worker.learning._refresh_at = 0.0  # an hour later
    await eventually(lambda: store._rows._kept[name_of(worker.dictionary)].expires > expires)


async def test_with_another_first_key_it_is_encrypted_anew(store: MemoryStore, start: Start) -> None:
    worker = await start(ONE)
    await worker.learns()
    own = worker.dictionary

    async def lies_under(ring: KeyRing) -> bool:
        there = await kept(store, name_of(own))
        return isinstance(there, Kept) and Vault(compress=True, ring=ring, limit=0).is_current(there.value)

    assert await lies_under(ONE)
    worker.vault.ring = TWO
    await eventually(lambda: lies_under(TWO))
    assert worker.dictionary == own


async def test_with_a_ring_nobody_compresses_with_what_anybody_may_have_put_there(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Who chooses the dictionary, and sees how long records become, learns what is in them (as with CRIME). What was
    compressed with one from before there was a ring is read all the same."""
    plain, record = await start(), response(0)
    await plain.learns()
    await plain.store.settle(record)
    await plain.learning.end()
    worker = await start(ONE)
    assert worker.dictionary == b""
    assert await worker.store.read(record.attempt.key_hash) == Found(record, record.state)
    await worker.learns(5000)
    assert worker.dictionary not in (b"", plain.dictionary)
    (told,) = [entry.message for entry in caplog.records if entry.levelno == logging.WARNING]
    assert f"dictionary {plain.dictionary.hex()} of this API, which anybody may have put there in clear" in told


async def test_one_that_nobody_can_read_any_more_is_told_once_and_another_is_learnt(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    lost = await start(ONE)
    await lost.learns()
    await lost.learning.end()
    worker = await start(OTHER)
    await worker.learns(5000)
    assert worker.dictionary != lost.dictionary
    (told,) = [entry.message for entry in caplog.records if entry.levelno == logging.WARNING]
    assert f"dictionary {lost.dictionary.hex()}" in told
    assert "encrypted with key 1, and the ring has 3" in told


@pytest.mark.parametrize("age", [-RELEARN - 1, 365 * 86_400], ids=["old", "of a clock that was a year ahead"])
async def test_an_old_one_is_replaced_and_what_was_compressed_with_it_is_read_all_the_same(
    store: MemoryStore, start: Start, age: int
) -> None:
    worker = await start()
    await worker.learns()
    old, record = worker.dictionary, response(0)
    await worker.store.settle(record)
    past = Noted(old, int(time.time()) + age).written()
    await answer(partial(store.keep, worker.learning._pointer, past, HOUR))
    await eventually(lambda: worker.vault.sampled is not None)
    await worker.learns(5000)
    newcomer = await start()
    assert newcomer.dictionary == worker.dictionary
    assert await newcomer.store.read(record.attempt.key_hash) == Found(record, record.state)


async def test_responses_that_have_nothing_in_common_are_not_tried_again_for_long(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(store)
    await worker.learning._round()
    for _ in range(ENOUGH):
        noise = Response(200, b"", b"", os.urandom(200), 200, truncated=False, date=0)
        worker.vault.seal(completed(claim_of(url=b""))._replace(response=noise))
    with caplog.at_level(logging.WARNING):
        await worker.learning._round()
        await worker.learning._round()
    assert worker.vault.sampled is None
    assert worker.dictionary == b""
    assert [entry.message.startswith("no dictionary was learnt of 256 responses") for entry in caplog.records] == [True]


class MayNotWriteThere(MemoryStore):
    """An ACL without the right to keep anything beside the records."""

    def keep(
        self, name: bytes, value: bytes, lifetime: int, done: Callable[[KeepResult], None], *, first: bool = False
    ) -> None:
        """See Store.keep."""
        self._loop.call_soon(done, Unavailable("NOPERM"))


async def test_where_none_can_be_kept_it_is_told_once_and_responses_are_not_looked_at_for_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = Worker(MayNotWriteThere())
    await worker.learning._round()
    for _ in range(3):
        worker.respond(ENOUGH)
        await worker.learning._round()
    assert [entry.message for entry in caplog.records] == ["no dictionary can be kept in the store: NOPERM"]
    assert worker.vault.sampled is None
    worker.learning._resting_until = 0.0  # an hour later
    await worker.learning._round()
    worker.respond(ENOUGH)
    await worker.learning._round()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "samples", [[b"x"] * ENOUGH, [b""] * ENOUGH, [], [os.urandom(64) for _ in range(ENOUGH)]], ids=len
)
def test_samples_that_no_dictionary_can_be_made_of_are_told(samples: list[bytes]) -> None:
    with pytest.raises(Unusable):
        train(samples)


async def test_a_store_that_is_away_costs_nothing_but_the_dictionary(store: MemoryStore, start: Start) -> None:
    worker = await start()
    await store.close()
    worker.respond(ENOUGH)
    await asyncio.sleep(0.1)
    assert worker.dictionary == b""
    assert worker.vault.open(worker.vault.seal(record := response(1))) == record


async def test_a_defect_is_logged_and_costs_nothing_but_the_dictionary(
    store: MemoryStore, start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(samples: object) -> None:
        raise RuntimeError("a defect")

    worker = await start()
    monkeypatch.setattr(learning, "train", fail)
    worker.respond(ENOUGH)
    await eventually(lambda: "learning a dictionary failed" in caplog.text)
    worker.respond(ENOUGH)
    await asyncio.sleep(0.1)
    assert caplog.text.count("learning a dictionary failed") == 1
    assert worker.vault.sampled is None


async def test_samples_are_bounded_in_number_and_size(store: MemoryStore) -> None:
    worker = Worker(store)
    await worker.learning._round()
    for _ in range(2 * ENOUGH):
        worker.vault.seal(completed(claim_of(), os.urandom(10_000)))
    assert len(worker.learning._samples) == ENOUGH
    assert max(map(len, worker.learning._samples)) == learning.SAMPLE


async def test_an_operator_is_told_what_there_is(start: Start, store: MemoryStore) -> None:
    worker = await start(ONE)
    assert await worker.learning.finding() == "dictionary: none learnt yet"
    await worker.learns()
    assert f"dictionary {worker.dictionary.hex()}: " in await worker.learning.finding()
    assert "can be read" in await worker.learning.finding()
    said = await Worker(store, OTHER).learning.finding()
    assert "UNREADABLE" in said
    assert "key 1, and the ring has 3" in said


@pytest.mark.parametrize("there", [Absent(), Kept(b""), Kept(b"something else of somebody else")])
def test_a_pointer_that_we_do_not_understand_is_none(there: KeptResult) -> None:
    assert noted(there) is None
