"""A record as bytes: nothing is lost on the way, and what is no whole record of ours is noticed."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record, Response
from proxy.store.codec import (
    HASH_OFFSET,
    STATE_CODES,
    STATE_OFFSET,
    TOKEN_OFFSET,
    VERSION,
    Undecodable,
    decode,
    encode,
)
from tests.support.stores import claim_of, completed

sixteen = st.binary(min_size=16, max_size=16)
uint64 = st.integers(0, 2**64 - 1)
pieces = st.binary(max_size=300)
attempts = st.builds(
    Attempt,
    key_hash=sixteen,
    token=sixteen,
    first_used=uint64,
    lease=uint64,
    retention=uint64,
    credential=sixteen,
    url=pieces,
)
responses = st.builds(
    Response,
    status=st.integers(100, 599),
    reason=pieces,
    fields=st.binary(max_size=1000),
    body=st.binary(max_size=1000),
    length=uint64,
    truncated=st.booleans(),
    date=uint64,
)
records = st.builds(
    Record,
    attempt=attempts,
    state=st.sampled_from([State.IN_PROGRESS, State.COMPLETED, State.UNKNOWN]),
    response=st.none() | responses,
).filter(lambda record: record.state is not State.COMPLETED or record.response is not None)


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
    with pytest.raises(Undecodable, match="version 2"):
        decode(b"\2" + encode(claim)[1:], claim.attempt.key_hash)


def test_a_state_that_nobody_knows_is_noticed() -> None:
    claim = claim_of()
    with pytest.raises(Undecodable):
        decode(b"\1x" + encode(claim)[2:], claim.attempt.key_hash)


@given(st.binary(max_size=400))
def test_noise_is_never_taken_for_a_record_and_breaks_nothing_else(noise: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(noise, b"a key's own hash")
