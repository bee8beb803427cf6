"""What becomes of a record's content: it comes back as it was, or it is said why not."""

import os
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import zstandard
from hypothesis import given

from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.store.codec import content, decode, encode
from proxy.store.compression import PLAIN, Compressor, Unusable
from proxy.store.keyring import KeyRing, Unopenable
from proxy.store.learning import train
from proxy.store.vault import MOST_KNOWN, UnknownDictionary, Vault
from tests.support.stores import claim_of, completed, unknown
from tests.unit.store.test_codec import records

LIMIT = 100_000
ONE, TWO = KeyRing({1: b"1" * 32}), KeyRing({2: b"2" * 32, 1: b"1" * 32})
URL = b"https://api.example.com/people/Olivia.Martin/payouts"
BODY = b'{"Name": "Olivia Martin", "Amount": 4711}' * 4


def vault(*, compress: bool = False, ring: KeyRing | None = None, limit: int = LIMIT) -> Vault:
    return Vault(compress=compress, ring=ring, limit=limit)


def learnt() -> Compressor:
    return train([b'{"Id": "%d", "Status": "CREATED", "Tag": "%d"}' % (n, n * n) for n in range(300)])


KINDS: dict[str, Callable[[], Vault]] = {
    "nothing": vault,
    "zstd": lambda: vault(compress=True),
    "AES": lambda: vault(ring=ONE),
    "both": lambda: vault(compress=True, ring=ONE),
}
SEALED = {kind: make for kind, make in KINDS.items() if kind != "nothing"}


@pytest.mark.parametrize("kind", KINDS)
@given(record=records)
def test_a_record_comes_back_as_it_was(kind: str, record: Record) -> None:
    own = KINDS[kind]()
    there = decode(encode(own.seal(record)), record.attempt.key_hash)
    assert own.open(there) == record


@pytest.mark.parametrize(("written", "read"), list(product(KINDS, KINDS)))
def test_what_was_written_one_way_is_read_by_who_writes_another_way_if_the_key_is_there(
    written: str, read: str
) -> None:
    record = completed(claim_of(), BODY)
    sealed, reader = KINDS[written]().seal(record), KINDS[read]()
    if written in {"AES", "both"} and read in {"nothing", "zstd"}:
        with pytest.raises(Unopenable, match="encrypted with key 1, and there is no key"):
            reader.open(sealed)
    else:
        assert reader.open(sealed) == record


def test_compression_alone_leaves_claims_alone_and_makes_responses_smaller_with_their_url() -> None:
    own, claim = vault(compress=True), claim_of(url=URL)
    assert own.seal(claim) is claim
    assert own.seal(unknown(claim)) == unknown(claim)
    record = completed(claim, BODY)
    there = encode(own.seal(record))
    assert len(there) < len(encode(record))
    assert URL not in there


def test_what_does_not_get_smaller_stays_as_it_is() -> None:
    record = completed(claim_of(url=b""), os.urandom(500))
    record = record._replace(response=record.response and record.response._replace(fields=b"", reason=b""))
    assert vault(compress=True).seal(record) is record
    both = vault(compress=True, ring=ONE)
    assert both.open(both.seal(record)) == record


@pytest.mark.parametrize("compress", [False, True])
def test_with_a_ring_neither_url_nor_response_lie_in_clear_of_a_claim_either(compress: bool) -> None:
    own, claim = vault(compress=compress, ring=ONE), claim_of(url=URL)
    for record in (claim, unknown(claim), completed(claim, BODY)):
        there = encode(own.seal(record))
        for secret in (b"Olivia", b"payouts", b"4711", b"Content-Type"):
            assert secret not in there


def test_a_release_on_its_way_to_a_disk_is_without_its_url() -> None:
    released = claim_of(url=URL)._replace(state=State.ABSENT)
    assert vault(ring=ONE).encrypt(released).attempt.url == b""
    assert vault(ring=ONE).encrypt(released).sealed == b""


@pytest.mark.parametrize("ring", [None, ONE], ids=["plain", "encrypted"])
def test_what_lies_beside_the_store_takes_nothing_but_the_ring_to_be_read(ring: KeyRing | None) -> None:
    own, record = vault(compress=True, ring=ring), completed(claim_of(), b'{"Id": "17", "Status": "CREATED"}')
    own.compressor = learnt()
    beside = own.encrypt(record)
    assert vault(ring=ring).open(beside) == record
    assert (beside is record) == (ring is None)
    assert own.seal(beside).sealed == (beside.sealed or own.seal(record).sealed)


# -- where nothing counts but what is encrypted -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_strict_reader_takes_nothing_that_nobody_with_a_key_has_written(kind: str) -> None:
    strict = Vault(compress=False, ring=ONE, limit=LIMIT, strict=True)
    for record in (claim_of(), unknown(claim_of()), completed(claim_of(), BODY)):
        there = KINDS[kind]().seal(record)
        if kind in ("AES", "both"):
            assert strict.open(there) == record
        else:
            with pytest.raises(Unopenable, match="it is not encrypted, and"):
                strict.open(there)


# -- what somebody has changed, and what is damaged -------------------------------------------------------------------


def test_a_completed_record_that_opens_to_an_url_alone_is_damaged() -> None:
    attempt = claim_of().attempt
    cut = b"\1" + PLAIN.compress(content(attempt, None))
    assert vault().open(Record(attempt, State.UNKNOWN, None, cut)).attempt.url == attempt.url
    with pytest.raises(Unopenable, match="cut short"):
        vault().open(Record(attempt, State.COMPLETED, None, cut))


def test_no_two_are_encrypted_alike_and_none_is_sealed_twice() -> None:
    own, record = vault(ring=ONE), completed(claim_of())
    sealed = own.seal(record)
    assert own.seal(record) != sealed
    assert own.seal(sealed) is sealed


@pytest.mark.parametrize(
    "change",
    [
        {"key_hash": bytes(16)},
        {"token": bytes(16)},
        {"first_used": 1},
        {"lease": 1},
        {"retention": 1},
        {"credential": b"c" * 16},
        {"fingerprint": b"f" * 16},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_was_encrypted_for_one_record_does_not_pass_for_anothers(change: dict[str, Any]) -> None:
    own = vault(ring=ONE)
    sealed = own.seal(completed(claim_of(credential=os.urandom(16))))
    with pytest.raises(Unopenable, match="damaged, moved, or the key is another"):
        own.open(sealed._replace(attempt=sealed.attempt._replace(**change)))


def test_nor_for_another_state_of_the_same() -> None:
    own = vault(ring=ONE)
    sealed = own.seal(completed(claim_of()))
    with pytest.raises(Unopenable, match="damaged, moved"):
        own.open(sealed._replace(state=State.UNKNOWN))


@pytest.mark.parametrize("kind", SEALED)
def test_a_byte_that_was_changed_breaks_nothing_else_and_is_noticed_where_it_is_encrypted(kind: str) -> None:
    own, record = SEALED[kind](), completed(claim_of(), BODY)
    sealed = own.seal(record)
    for place in range(len(sealed.sealed)):
        data = bytearray(sealed.sealed)
        data[place] ^= 0x55
        try:
            found = own.open(sealed._replace(sealed=bytes(data)))
        except (Unopenable, UnknownDictionary):
            continue
        assert kind == "zstd"
        assert found.attempt.token == record.attempt.token


@pytest.mark.parametrize("kind", SEALED)
def test_what_was_cut_is_noticed(kind: str) -> None:
    own = SEALED[kind]()
    sealed = own.seal(completed(claim_of(), BODY))
    for size in range(1, len(sealed.sealed)):
        with pytest.raises((Unopenable, UnknownDictionary)):
            own.open(sealed._replace(sealed=sealed.sealed[:size]))


def test_a_way_of_sealing_of_another_release_is_told() -> None:
    sealed = vault(ring=ONE).seal(completed(claim_of()))
    with pytest.raises(Unopenable, match="another release"):
        vault(ring=ONE).open(sealed._replace(sealed=b"\x10" + sealed.sealed[1:]))


def test_a_bomb_does_not_go_off() -> None:
    bomb = Record(claim_of(url=b"").attempt, State.COMPLETED, None, b"\1" + PLAIN.compress(bytes(10 * LIMIT)))
    assert len(bomb.sealed) < 1000
    with pytest.raises(Unopenable, match=f"larger than {LIMIT} bytes"):
        vault().open(bomb)
    silent = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(
            format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=0
        )
    )
    with pytest.raises(Unopenable, match="larger"):
        vault().open(bomb._replace(sealed=b"\1" + silent.compress(bytes(1000))))


def test_what_somebody_with_a_key_has_compressed_is_read_after_the_limit_was_lowered() -> None:
    record = completed(claim_of(), bytes(10 * LIMIT))
    assert vault(ring=ONE).open(vault(compress=True, ring=ONE, limit=20 * LIMIT).seal(record)) == record


# -- keys -----------------------------------------------------------------------------------------------------------


def test_a_ring_that_has_turned_reads_what_was_and_a_key_that_is_gone_is_named() -> None:
    record = completed(claim_of())
    old, new = vault(ring=ONE).seal(record), vault(ring=TWO).seal(record)
    assert vault(ring=TWO).open(old) == vault(ring=TWO).open(new) == record
    with pytest.raises(Unopenable, match="encrypted with key 2, and the ring has 1"):
        vault(ring=ONE).open(new)


def test_another_key_of_the_same_id_is_noticed() -> None:
    sealed = vault(ring=ONE).seal(completed(claim_of()))
    with pytest.raises(Unopenable, match="the key is another"):
        vault(ring=KeyRing({1: b"x" * 32})).open(sealed)


# -- dictionaries ---------------------------------------------------------------------------------------------------


def test_a_dictionary_that_is_not_known_is_asked_for_and_then_the_record_is_read() -> None:
    writer, reader, compressor = vault(compress=True, ring=ONE), vault(ring=ONE), learnt()
    writer.compressor = compressor
    record = completed(claim_of(), b'{"Id": "17", "Status": "CREATED", "Tag": "289"}')
    sealed = writer.seal(record)
    with pytest.raises(UnknownDictionary) as missing:
        reader.open(sealed)
    assert missing.value.id == compressor.id
    reader.learn(compressor)
    assert reader.open(sealed) == record


def test_what_was_encrypted_is_read_with_its_own_dictionary_and_no_other_that_has_its_id() -> None:
    """An id is short, and who can write to the store could find another dictionary that has it."""
    own, compressor = vault(compress=True, ring=ONE), learnt()
    own.compressor = compressor
    sealed = own.seal(completed(claim_of(), b'{"Id": "17", "Status": "CREATED", "Tag": "289"}'))
    forged = Compressor(compressor.dictionary.replace(b"CREATED", b"REFUSED"))
    assert forged.id != compressor.id
    forged.id = compressor.id
    reader = vault(ring=ONE)
    reader.learn(forged)
    with pytest.raises(Unopenable, match="damaged, moved"):
        reader.open(sealed)


def test_with_a_dictionary_they_are_smaller() -> None:
    own = vault(compress=True)
    record = completed(claim_of(), b'{"Id": "17", "Status": "CREATED", "Tag": "289"}')
    before = len(own.seal(record).sealed or encode(record))
    own.compressor = learnt()
    assert len(own.seal(record).sealed) < before


def test_a_dictionary_is_encrypted_and_does_not_pass_for_another() -> None:
    own, compressor = vault(ring=ONE), learnt()
    kept = own.seal_dictionary(compressor.dictionary, compressor.id)
    assert b"CREATED" in compressor.dictionary
    assert b"CREATED" not in kept
    assert own.open_dictionary(kept, compressor.id) == compressor.dictionary
    with pytest.raises(Unopenable, match="damaged, moved"):
        own.open_dictionary(kept, b"else")
    with pytest.raises(Unopenable, match="no key"):
        vault().open_dictionary(kept, compressor.id)
    for damaged in (b"", b"\4", b"\7\1", kept[:20]):
        with pytest.raises(Unopenable):
            own.open_dictionary(damaged, compressor.id)


def test_it_is_known_whether_a_dictionary_lies_there_as_it_would_be_put_there_now() -> None:
    plain, one, two = (vault(ring=ring).seal_dictionary(b"d", b"id") for ring in (None, ONE, TWO))
    assert [vault().is_current(kept) for kept in (plain, one, two)] == [True, False, False]
    assert [vault(ring=TWO).is_current(kept) for kept in (plain, one, two)] == [False, False, True]
    assert vault(ring=TWO).open_dictionary(plain, b"id") == b"d", "from before it was encrypted"


def test_only_so_many_dictionaries_are_kept_in_memory_and_those_in_use_stay() -> None:
    own, favourite = vault(), learnt()
    own.learn(favourite)
    for n in range(2 * MOST_KNOWN):
        own.known(favourite.id)
        other = Compressor()
        other.id = b"%04d" % n
        own.learn(other)
    assert own.known(favourite.id) is favourite
    with pytest.raises(UnknownDictionary):
        own.known(b"0000")


@pytest.mark.parametrize("data", [b"x" * 1000, b"\x37\xa4\x30\xec" + bytes(500)])
def test_what_is_no_dictionary_is_not_used(data: bytes) -> None:
    with pytest.raises(Unusable):
        Compressor(data)
