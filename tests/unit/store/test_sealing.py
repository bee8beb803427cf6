"""A store that seals and opens: whoever asks it sees plain records, or is told why not."""

import asyncio
import os
from collections.abc import Callable
from functools import partial

import pytest

from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.deadlines import Deadlines
from proxy.store.base import (
    Done,
    Foreign,
    Found,
    Granted,
    KeptResult,
    Store,
    StoreRefused,
    StoreUnavailable,
    Unavailable,
)
from proxy.store.compression import Compressor
from proxy.store.dictionary import LARGEST, name_of
from proxy.store.keyring import KeyRing
from proxy.store.learning import train
from proxy.store.memory import MemoryStore
from proxy.store.sealing import Sealing
from proxy.store.vault import Vault
from tests.support.opening import Opening
from tests.support.raw import eventually
from tests.support.stores import HOUR, Asked, answer, claim_of, completed, ruling

DEADLINE = 0.3
ONE, TWO = KeyRing({1: b"1" * 32}), KeyRing({2: b"2" * 32, 1: b"1" * 32})
BODY = b'{"Id": "17", "Status": "CREATED", "Tag": "289"}'


class CountingStore(MemoryStore):
    """Counts who looks for what is kept; answers nobody where it is *silent*."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.silent = False

    def kept(self, name: bytes, done: Callable[[KeptResult], None]) -> None:
        """See Store.kept."""
        self.asked += 1
        if not self.silent:
            super().kept(name, done)


def sealing(
    beneath: Store, *, compress: bool = False, ring: KeyRing | None = None, vault: Vault | None = None
) -> Sealing:
    return Sealing(
        beneath,
        vault or Vault(compress=compress, ring=ring, limit=100_000),
        deadline=DEADLINE,
        deadlines=Deadlines(),
        upstream=b"http://api",
        lifetime=HOUR,
        learns=False,
    )


@pytest.fixture
async def beneath() -> CountingStore:
    return CountingStore()


@pytest.fixture(scope="module")
def compressor() -> Compressor:
    return train([b'{"Id": "%d", "Status": "CREATED", "Tag": "%d"}' % (n, n * n) for n in range(300)])


async def compressed(beneath: MemoryStore, compressor: Compressor, ring: KeyRing | None = None) -> Record:
    """A record that another proxy has written with a dictionary, which it has not put into the store."""
    vault = Vault(compress=True, ring=ring, limit=100_000)
    vault.compressor = compressor
    claim = claim_of()
    record = completed(claim, BODY)
    await Asked(beneath).claim(claim)
    assert await Asked(beneath).settle(vault.seal(record)) == Done()
    return record


async def put(beneath: MemoryStore, compressor: Compressor, ring: KeyRing | None = None) -> None:
    value = Vault(compress=True, ring=ring, limit=0).seal_dictionary(compressor.dictionary, compressor.id)
    result = await answer(partial(beneath.keep, name_of(compressor.id), value, HOUR))
    assert result == Done()


async def test_what_lies_in_the_store_is_sealed_and_can_be_opened_by_whoever_finds_it(beneath: CountingStore) -> None:
    store, claim = Opening(sealing(beneath, ring=ONE)), claim_of()
    rival = claim_of(claim.attempt.key_hash)
    assert await store.claim(claim) == Granted()
    for there in (claim, completed(claim)):
        if there is not claim:
            assert await store.settle(there) == Done()
        assert await store.read(claim.attempt.key_hash) == Found(there, there.state)
        assert await store.claim(rival) == Found(there, there.state)
        assert await store.settle(completed(rival)) == Foreign(there)
        assert await store.release(rival) == Foreign(there)
        raw = await Asked(beneath).read(claim.attempt.key_hash)
        assert isinstance(raw, Found)
        assert raw.record.sealed
        assert (raw.record.attempt.url, raw.record.response) == (b"", None)


async def test_what_lies_there_in_clear_from_before_is_read(beneath: CountingStore) -> None:
    claim = claim_of()
    await Asked(beneath).claim(claim)
    store = Opening(sealing(beneath, compress=True, ring=ONE))
    assert await store.read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS)
    assert await store.settle(completed(claim)) == Done()
    assert await store.read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)


async def test_what_was_compressed_is_read_by_who_compresses_no_more(
    beneath: CountingStore, compressor: Compressor
) -> None:
    record = await compressed(beneath, compressor)
    await put(beneath, compressor)
    store = Opening(sealing(beneath))
    assert await store.read(record.attempt.key_hash) == Found(record, State.COMPLETED)


@pytest.mark.parametrize("ring", [None, ONE], ids=["plain", "encrypted"])
async def test_a_dictionary_that_is_not_known_is_fetched_once_for_all_who_wait_for_it(
    beneath: CountingStore, compressor: Compressor, ring: KeyRing | None
) -> None:
    record = await compressed(beneath, compressor, ring)
    await put(beneath, compressor, ring)
    store, found = sealing(beneath, ring=ring), list[object]()
    there = await Asked(store).read(record.attempt.key_hash)
    assert isinstance(there, Found)
    assert there.record.sealed
    assert beneath.asked == 0
    for _ in range(100):
        store.opened(there.record, found.append)
    await eventually(lambda: len(found) == 100)
    assert found == [record] * 100
    assert beneath.asked == 1
    assert await Opening(store).read(record.attempt.key_hash) == Found(record, State.COMPLETED)
    assert beneath.asked == 1


async def test_a_dictionary_that_is_gone_makes_the_content_of_its_records_unavailable(
    beneath: CountingStore, compressor: Compressor
) -> None:
    record = await compressed(beneath, compressor)
    result = await Opening(sealing(beneath)).read(record.attempt.key_hash)
    assert isinstance(result, Unavailable)
    assert f"dictionary {compressor.id.hex()}, which the store does not have" in result.why


@pytest.mark.parametrize("lost", [ONE, None], ids=["encrypted", "compressed"])
async def test_whose_a_key_is_is_known_whoever_can_read_its_content(
    beneath: CountingStore, compressor: Compressor, lost: KeyRing | None
) -> None:
    """Nothing that is decided by token, state and time takes a key or a dictionary."""
    theirs = claim_of(lease=0)
    if lost is None:
        theirs = await compressed(beneath, compressor)
    else:
        await Asked(sealing(beneath, ring=lost)).claim(theirs)
    store, rival = Asked(sealing(beneath, ring=KeyRing({9: b"9" * 32}))), claim_of(theirs.attempt.key_hash)
    found = await store.read(rival.attempt.key_hash)
    assert isinstance(found, Found)
    assert found.record.attempt._replace(url=theirs.attempt.url) == theirs.attempt
    assert isinstance(await store.claim(rival), Found)
    assert isinstance(await store.settle(completed(rival)), Foreign)
    assert isinstance(await store.release(rival), Foreign)
    assert beneath.asked == 0
    if lost is not None:  # an operator frees what nobody can read any more
        assert await store.overrule(theirs.attempt, ruling(theirs)) == Done()


class NoMemory(Vault):
    """Seals and opens nothing."""

    def seal(self, record: Record) -> Record:
        """See Vault."""
        raise MemoryError

    def open(self, record: Record) -> Record:
        """See Vault."""
        raise MemoryError


async def test_who_seals_or_opens_where_there_is_no_memory_is_answered_and_never_from_within(
    beneath: CountingStore, caplog: pytest.LogCaptureFixture
) -> None:
    store, claim, told = sealing(beneath, vault=NoMemory(compress=True, ring=ONE, limit=1)), claim_of(), list[object]()
    store.claim(claim, told.append)
    store.settle(completed(claim), told.append)
    store.overrule(claim.attempt, ruling(claim), told.append)
    assert not told
    await eventually(lambda: len(told) == 3)
    assert told == [Unavailable("a record cannot be sealed: MemoryError")] * 3
    store.opened(claim, told.append)
    assert told[3:] == [Unavailable("a record cannot be opened: MemoryError")]
    assert len(caplog.records) == 4


async def test_a_dictionary_for_which_there_is_no_memory_is_asked_for_again(
    beneath: CountingStore, compressor: Compressor, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = await compressed(beneath, compressor)
    await put(beneath, compressor)
    store = Opening(sealing(beneath))
    with monkeypatch.context() as context:
        context.setattr("proxy.store.dictionary.Compressor", raises_memory_error)
        result = await store.read(record.attempt.key_hash)
    assert isinstance(result, Unavailable)
    assert "MemoryError" in result.why
    assert await store.read(record.attempt.key_hash) == Found(record, State.COMPLETED)


def raises_memory_error(dictionary: bytes) -> Compressor:
    raise MemoryError


async def test_one_that_is_larger_than_any_of_ours_is_not_taken_into_memory(
    beneath: CountingStore, compressor: Compressor
) -> None:
    huge = Compressor(compressor.dictionary + os.urandom(LARGEST))
    record = await compressed(beneath, huge)
    await put(beneath, huge)
    result = await Opening(sealing(beneath)).read(record.attempt.key_hash)
    assert isinstance(result, Unavailable)
    assert f"lie {len(huge.dictionary) + 1} bytes" in result.why


def test_where_there_is_nothing_to_do_nothing_is_done_on_the_way_of_a_payment() -> None:
    async def look() -> None:
        there, compressing = MemoryStore(), MemoryStore()
        plain = sealing(there)
        assert (plain.claim, plain.settle, plain.release, plain.read) == (
            there.claim,
            there.settle,
            there.release,
            there.read,
        )
        assert sealing(compressing, compress=True).claim == compressing.claim

    asyncio.run(look())


async def test_one_that_cannot_be_read_is_told_with_its_key(beneath: CountingStore, compressor: Compressor) -> None:
    record = await compressed(beneath, compressor)
    await put(beneath, compressor, TWO)
    result = await Opening(sealing(beneath, ring=ONE)).read(record.attempt.key_hash)
    assert isinstance(result, Unavailable)
    assert "encrypted with key 2, and the ring has 1" in result.why


async def test_one_in_whose_place_another_lies_is_not_used(beneath: CountingStore, compressor: Compressor) -> None:
    record = await compressed(beneath, compressor)
    other = train([b'{"Ref": "%d", "State": "FAILED", "Note": "%d"}' % (n, n * n) for n in range(300)])
    value = Vault(compress=True, ring=None, limit=0).seal_dictionary(other.dictionary, other.id)
    await answer(partial(beneath.keep, name_of(compressor.id), value, HOUR))
    result = await Opening(sealing(beneath)).read(record.attempt.key_hash)
    assert isinstance(result, Unavailable)
    assert "another lies" in result.why


async def test_a_store_that_finds_the_record_and_is_silent_then_is_given_up_at_the_deadline(
    beneath: CountingStore, compressor: Compressor
) -> None:
    record = await compressed(beneath, compressor)
    beneath.silent = True
    store = Opening(sealing(beneath))
    result = await store.read(record.attempt.key_hash)
    assert isinstance(result, Unavailable)
    assert f"dictionary {compressor.id.hex()}, which was not there within the deadline" in result.why


async def test_a_ring_is_exchanged_while_it_runs(beneath: CountingStore) -> None:
    store, old, new = sealing(beneath, ring=ONE), claim_of(), claim_of()
    await Opening(store).claim(old)
    await store.use(TWO)
    await Opening(store).claim(new)
    assert await Opening(store).read(old.attempt.key_hash) == Found(old, State.IN_PROGRESS)
    await store.use(ONE)
    result = await Opening(store).read(new.attempt.key_hash)
    assert isinstance(result, Unavailable)
    assert result.why == "a record cannot be opened: it is encrypted with key 2, and the ring has 1"


async def test_another_key_under_an_id_that_is_taken_is_refused_at_the_start_and_later(beneath: CountingStore) -> None:
    """Else each would answer 503 for what the other has written, and nobody would have been told before."""
    first, other = sealing(beneath, ring=TWO), KeyRing({3: b"3" * 32, 1: b"another".ljust(32)})
    await first.open()
    await sealing(beneath, ring=ONE).open()
    newcomer = sealing(beneath, ring=KeyRing({3: b"3" * 32}))
    await newcomer.open()
    with pytest.raises(StoreRefused, match="whose encryption key 1 is another than this one's"):
        await newcomer.use(other)
    early = sealing(beneath, ring=ONE)
    await early.use(other)  # by a signal, before it is open
    with pytest.raises(StoreRefused, match="a new key gets a new id"):
        await early.open()
    with pytest.raises(StoreUnavailable):  # a store that was refused was closed
        await newcomer.ping()


async def test_who_waits_for_a_dictionary_when_the_store_closes_is_answered(
    beneath: CountingStore, compressor: Compressor
) -> None:
    record = await compressed(beneath, compressor)
    await put(beneath, compressor)
    store, found = sealing(beneath), list[object]()
    there = await Asked(store).read(record.attempt.key_hash)
    assert isinstance(there, Found)
    store.opened(there.record, found.append)
    assert beneath.asked == 1
    await store.close()
    await eventually(lambda: len(found) == 1)
    with pytest.raises(StoreUnavailable):
        await store.ping()


async def test_it_says_how_records_are_kept(beneath: CountingStore, compressor: Compressor) -> None:
    assert await sealing(beneath).findings() == await beneath.findings()
    said = " / ".join(await sealing(beneath, compress=True, ring=TWO).findings())
    assert "records are compressed / dictionary: none learnt yet" in said
    assert "encrypted with key 2; those of 2, 1 are read" in said
