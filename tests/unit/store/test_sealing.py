"""A store that seals and opens: whoever asks it sees plain records, or is told why not."""

from collections.abc import Callable
from functools import partial

import pytest

from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.deadlines import Deadlines
from proxy.store.base import Done, Foreign, Found, Granted, KeptResult, Store, StoreUnavailable, Unavailable
from proxy.store.compression import Compressor
from proxy.store.dictionary import name_of
from proxy.store.keyring import KeyRing
from proxy.store.learning import train
from proxy.store.memory import MemoryStore
from proxy.store.sealing import Sealing
from proxy.store.vault import Vault
from tests.support.raw import eventually
from tests.support.stores import HOUR, Asked, answer, claim_of, completed

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


def sealing(beneath: Store, *, compress: bool = False, ring: KeyRing | None = None) -> Sealing:
    return Sealing(
        beneath,
        Vault(compress=compress, ring=ring, limit=100_000),
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


async def test_what_lies_in_the_store_is_sealed_and_what_is_found_is_not(beneath: CountingStore) -> None:
    store, claim = Asked(sealing(beneath, ring=ONE)), claim_of()
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
    store = Asked(sealing(beneath, compress=True, ring=ONE))
    assert await store.read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS)
    assert await store.settle(completed(claim)) == Done()
    assert await store.read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)


async def test_what_was_compressed_is_read_by_who_compresses_no_more(
    beneath: CountingStore, compressor: Compressor
) -> None:
    record = await compressed(beneath, compressor)
    await put(beneath, compressor)
    store = Asked(sealing(beneath))
    assert await store.read(record.attempt.key_hash) == Found(record, State.COMPLETED)


@pytest.mark.parametrize("ring", [None, ONE], ids=["plain", "encrypted"])
async def test_a_dictionary_that_is_not_known_is_fetched_once_for_all_who_wait_for_it(
    beneath: CountingStore, compressor: Compressor, ring: KeyRing | None
) -> None:
    record = await compressed(beneath, compressor, ring)
    await put(beneath, compressor, ring)
    store, found = sealing(beneath, ring=ring), list[object]()
    for _ in range(50):
        store.read(record.attempt.key_hash, found.append)
        store.claim(claim_of(record.attempt.key_hash), found.append)
    await eventually(lambda: len(found) == 100)
    assert found == [Found(record, State.COMPLETED)] * 100
    assert beneath.asked == 1
    assert await Asked(store).read(record.attempt.key_hash) == Found(record, State.COMPLETED)
    assert beneath.asked == 1


async def test_a_dictionary_that_is_gone_makes_its_records_unavailable_never_absent(
    beneath: CountingStore, compressor: Compressor
) -> None:
    record = await compressed(beneath, compressor)
    for result in (
        await Asked(sealing(beneath)).read(record.attempt.key_hash),
        await Asked(sealing(beneath)).claim(claim_of(record.attempt.key_hash)),
        await Asked(sealing(beneath)).settle(completed(claim_of(record.attempt.key_hash))),
        await Asked(sealing(beneath)).overrule(claim_of(record.attempt.key_hash).attempt, None),
    ):
        assert isinstance(result, Unavailable)
        assert f"dictionary {compressor.id.hex()}, which the store does not have" in result.why


async def test_one_that_cannot_be_read_is_told_with_its_key(beneath: CountingStore, compressor: Compressor) -> None:
    record = await compressed(beneath, compressor)
    await put(beneath, compressor, TWO)
    result = await Asked(sealing(beneath, ring=ONE)).read(record.attempt.key_hash)
    assert isinstance(result, Unavailable)
    assert "encrypted with key 2, and the ring has 1" in result.why


async def test_one_in_whose_place_another_lies_is_not_used(beneath: CountingStore, compressor: Compressor) -> None:
    record = await compressed(beneath, compressor)
    other = train([b'{"Ref": "%d", "State": "FAILED", "Note": "%d"}' % (n, n * n) for n in range(300)])
    value = Vault(compress=True, ring=None, limit=0).seal_dictionary(other.dictionary, other.id)
    await answer(partial(beneath.keep, name_of(compressor.id), value, HOUR))
    result = await Asked(sealing(beneath)).read(record.attempt.key_hash)
    assert isinstance(result, Unavailable)
    assert "another lies" in result.why


async def test_a_store_that_finds_the_record_and_is_silent_then_is_given_up_at_the_deadline(
    beneath: CountingStore, compressor: Compressor
) -> None:
    record = await compressed(beneath, compressor)
    beneath.silent = True
    store = Asked(sealing(beneath))
    result = await store.read(record.attempt.key_hash)
    assert isinstance(result, Unavailable)
    assert f"dictionary {compressor.id.hex()}, which was not there within the deadline" in result.why


async def test_a_ring_is_exchanged_while_it_runs(beneath: CountingStore) -> None:
    store, old, new = sealing(beneath, ring=ONE), claim_of(), claim_of()
    await Asked(store).claim(old)
    store.use(TWO)
    await Asked(store).claim(new)
    assert await Asked(store).read(old.attempt.key_hash) == Found(old, State.IN_PROGRESS)
    store.use(ONE)
    result = await Asked(store).read(new.attempt.key_hash)
    assert isinstance(result, Unavailable)
    assert result.why == "a record cannot be opened: it is encrypted with key 2, and the ring has 1"


async def test_who_waits_for_a_dictionary_when_the_store_closes_is_answered(
    beneath: CountingStore, compressor: Compressor
) -> None:
    record = await compressed(beneath, compressor)
    await put(beneath, compressor)
    store, found = sealing(beneath), list[object]()
    store.read(record.attempt.key_hash, found.append)
    await eventually(lambda: beneath.asked == 1)
    await store.close()
    await eventually(lambda: len(found) == 1)
    with pytest.raises(StoreUnavailable):
        await store.ping()


async def test_it_says_how_records_are_kept(beneath: CountingStore, compressor: Compressor) -> None:
    assert await sealing(beneath).findings() == await beneath.findings()
    said = " / ".join(await sealing(beneath, compress=True, ring=TWO).findings())
    assert "records are compressed / dictionary: none learnt yet" in said
    assert "encrypted with key 2; those of 2, 1 are read" in said
