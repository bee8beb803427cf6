"""A record as bytes: nothing is lost on the way, and what is no whole record of ours is noticed."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.lifecycle import State
from proxy.core.record import NO_FINGERPRINT, Attempt, Record, Response
from proxy.store.codec import (
    HASH_OFFSET,
    SEALED,
    STATE_CODES,
    STATE_OFFSET,
    TOKEN_OFFSET,
    VERSION,
    Undecodable,
    decode,
    encode,
    head,
)
from tests.support.stores import claim_of, completed, now_ms

sixteen = st.binary(min_size=16, max_size=16)
nothing = st.just(bytes(16))
moments = st.integers(0, 2**48 - 1)
durations = st.integers(0, 2**40 - 1)
pieces = st.binary(max_size=300)
attempts = st.builds(
    Attempt,
    key_hash=sixteen,
    token=sixteen,
    first_used=moments,
    lease=durations,
    retention=durations,
    credential=sixteen | nothing,
    url=pieces,
    fingerprint=sixteen | nothing,
)
responses = st.builds(
    Response,
    status=st.integers(100, 599),
    reason=pieces,
    fields=st.binary(max_size=1000),
    body=st.binary(max_size=1000),
    length=st.integers(0, 2**64 - 1),
    truncated=st.booleans(),
    date=moments,
)
records = st.builds(
    Record,
    attempt=attempts,
    state=st.sampled_from([State.IN_PROGRESS, State.COMPLETED, State.UNKNOWN]),
    response=st.none() | responses,
    sealed=st.just(b""),
).filter(lambda record: record.state is not State.COMPLETED or record.response is not None)
LONGEST = 366 * 86_400_000
"""Milliseconds: what a duration may be at most. A lease is the sum of five."""
VERSION_1 = {
    "completed": "0163101112131415161718191a1b1c1d1e1f000102030405060708090a0b0c0d0e0f000001523d18179300000000000128e0"
    "0000000005265c00202122232425262728292a2b2c2d2e2f000d68747470733a2f2f6170692f7000c90007000000060000000000000002"
    "00000000005696cee00000000243726561746564413a20620d0a7b7d",
    "in progress": "0169101112131415161718191a1b1c1d1e1f000102030405060708090a0b0c0d0e0f000001523d181793000000000001"
    "28e00000000005265c00202122232425262728292a2b2c2d2e2f000d68747470733a2f2f6170692f70",
}
"""As the release before has written them."""
OLD = Attempt(
    key_hash=bytes(range(16)),
    token=bytes(range(16, 32)),
    first_used=1_452_723_935_123,
    lease=76_000,
    retention=86_400_000,
    credential=bytes(range(32, 48)),
    url=b"https://api/p",
)


@given(records)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert decode(encode(record), record.attempt.key_hash) == record


def test_what_the_scripts_compare_lies_at_fixed_offsets() -> None:
    record = completed(claim_of())
    data = encode(record)
    assert data[0] == VERSION
    assert data[STATE_OFFSET:TOKEN_OFFSET] == STATE_CODES[State.COMPLETED]
    assert data[TOKEN_OFFSET:HASH_OFFSET] == record.attempt.token
    assert data[HASH_OFFSET : HASH_OFFSET + 16] == record.attempt.key_hash


def test_a_record_that_was_cut_is_noticed_at_every_byte() -> None:
    claim = claim_of()
    data = encode(completed(claim))
    for size in range(len(data)):
        with pytest.raises(Undecodable):
            decode(data[:size], claim.attempt.key_hash)


def test_bytes_after_the_record_are_noticed() -> None:
    claim = claim_of()
    with pytest.raises(Undecodable, match="bytes after"):
        decode(encode(completed(claim)) + b"\0", claim.attempt.key_hash)


def test_a_record_of_another_key_is_noticed() -> None:
    with pytest.raises(Undecodable, match="another key"):
        decode(encode(claim_of()), os.urandom(16))


def test_a_record_of_another_version_is_noticed() -> None:
    claim = claim_of()
    with pytest.raises(Undecodable, match="version 3"):
        decode(b"\3" + encode(claim)[1:], claim.attempt.key_hash)


def test_what_the_release_before_has_written_is_read_and_has_no_fingerprint() -> None:
    response = Response(201, b"Created", b"A: b\r\n", b"{}", 2, truncated=False, date=1_452_723_936)
    completed, begun = (bytes.fromhex(data) for data in VERSION_1.values())
    assert decode(completed, OLD.key_hash) == Record(OLD, State.COMPLETED, response)
    assert decode(begun, OLD.key_hash) == Record(OLD, State.IN_PROGRESS, None)
    assert OLD.fingerprint == NO_FINGERPRINT
    for data in (completed, begun):
        with pytest.raises(Undecodable, match="another key"):
            decode(data, bytes(16))
    for size in range(len(completed)):
        with pytest.raises(Undecodable):
            decode(completed[:size], OLD.key_hash)
    with pytest.raises(Undecodable, match="bytes after"):
        decode(completed + b"\0", OLD.key_hash)


def test_whatever_the_settings_allow_has_its_place() -> None:
    long = claim_of(lease=5 * LONGEST, retention=LONGEST, first_used=now_ms() + 100 * LONGEST)
    assert decode(encode(long), long.attempt.key_hash) == long
    beyond = claim_of(lease=2**40)
    with pytest.raises(OverflowError):
        encode(beyond)


def test_what_is_not_there_takes_no_place() -> None:
    bare = claim_of(url=b"")
    size = len(encode(bare))
    assert len(encode(claim_of(url=b"", fingerprint=os.urandom(16)))) == size + 16
    assert len(encode(claim_of(url=b"", credential=os.urandom(16)))) == size + 16


def test_what_was_sealed_stays_as_it_is_and_the_rest_lies_in_clear() -> None:
    claim = claim_of(url=b"", fingerprint=os.urandom(16))
    sealed = Record(claim.attempt, State.COMPLETED, None, sealed=b"whatever a vault makes of it")
    data = encode(sealed)
    assert data == head(claim.attempt, State.COMPLETED, SEALED) + sealed.sealed
    assert decode(data, claim.attempt.key_hash) == sealed
    with pytest.raises(Undecodable):
        decode(data[: -len(sealed.sealed)], claim.attempt.key_hash)


def test_a_form_of_another_release_is_noticed() -> None:
    claim = claim_of()
    data = bytearray(encode(claim))
    data[34] |= 16
    with pytest.raises(Undecodable, match="another release"):
        decode(bytes(data), claim.attempt.key_hash)


def test_a_state_that_nobody_knows_is_noticed() -> None:
    claim = claim_of()
    with pytest.raises(Undecodable):
        decode(b"\2x" + encode(claim)[2:], claim.attempt.key_hash)


@given(st.binary(max_size=400))
def test_noise_is_never_taken_for_a_record_and_breaks_nothing_else(noise: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(noise, b"a key's own hash")
