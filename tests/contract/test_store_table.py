"""Every state, every event: the store does what the table of transitions says, and nothing else."""

from itertools import product
from typing import assert_never

import pytest

from proxy.core.lifecycle import TRANSITIONS, Event, State
from proxy.core.record import Record
from proxy.store.base import Absent, Done, Foreign, Found, Granted
from tests.support.stores import Asked, Medium, claim_of, completed, ruling, unknown

RULINGS = (Event.OPERATOR_COMPLETE, Event.OPERATOR_RELEASE)
REWRITE = {(State.ABSENT, Event.COMPLETE): State.COMPLETED, (State.ABSENT, Event.LOSE): State.UNKNOWN}
"""What a store adds to the table: it may have lost the claim (evicted, flushed), and a settle writes it anew."""


async def bring(store: Asked, claim: Record, state: State) -> None:
    if state is not State.ABSENT:
        assert await store.claim(claim) == Granted()
    if state is State.COMPLETED:
        assert await store.settle(completed(claim, b"before")) == Done()
    if state is State.UNKNOWN:
        assert await store.settle(unknown(claim)) == Done()


async def happen(store: Asked, medium: Medium, claim: Record, event: Event) -> object:
    key_hash = claim.attempt.key_hash
    match event:
        case Event.CLAIM:
            return await store.claim(claim_of(key_hash))
        case Event.COMPLETE:
            return await store.settle(completed(claim, b"after"))
        case Event.LOSE:
            return await store.settle(unknown(claim))
        case Event.RELEASE:
            return await store.release(claim)
        case Event.OPERATOR_COMPLETE:
            return await store.overrule(claim.attempt, ruling(claim))
        case Event.OPERATOR_RELEASE:
            return await store.overrule(claim.attempt, None)
        case Event.EXPIRE:
            await medium.expire_in(key_hash, 0)
            return None
        case _:
            assert_never(event)


@pytest.mark.parametrize(
    ("state", "event"),
    [(state, event) for state, event in product(State, Event) if (state, event) != (State.ABSENT, Event.EXPIRE)],
)
async def test_a_key_goes_where_the_table_says(store: Asked, medium: Medium, state: State, event: Event) -> None:
    lapsed = state is State.UNKNOWN and event in RULINGS  # an operator waits for the end of the lease
    claim = claim_of(lease=0) if lapsed else claim_of()
    key_hash = claim.attempt.key_hash
    await bring(store, claim, state)
    before = await store.read(key_hash)

    result = await happen(store, medium, claim, event)

    after = await store.read(key_hash)
    goes_to = {**TRANSITIONS, **REWRITE}.get((state, event))
    if goes_to is None:
        assert after == before
        assert result == refusal(event, before)
    else:
        assert (after.state if isinstance(after, Found) else State.ABSENT) is goes_to
        assert result == {Event.CLAIM: Granted(), Event.EXPIRE: None}.get(event, Done())


def refusal(event: Event, before: object) -> object:
    """What is answered where the table has no row."""
    if isinstance(before, Absent):  # nothing was to be released, and nothing is there
        return Absent() if event in RULINGS else Done()
    assert isinstance(before, Found)
    # a settle by its own token was done already, by the same or by a better one
    refused = {Event.CLAIM: before, **dict.fromkeys((Event.RELEASE, *RULINGS), Foreign(before.record))}
    return refused.get(event, Done())
