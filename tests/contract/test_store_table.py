"""Every state, every event: the store does what the table of transitions says, and nothing else."""

from itertools import product

import pytest

from proxy.core.lifecycle import TRANSITIONS, Event, State
from proxy.core.record import Record
from proxy.store.base import Absent, Done, Foreign, Found, Granted
from tests.support.stores import Asked, Medium, claim_of, completed, unknown

EVENTS = [Event.CLAIM, Event.COMPLETE, Event.LOSE, Event.RELEASE, Event.EXPIRE]
REWRITE = {(State.ABSENT, Event.COMPLETE): State.COMPLETED, (State.ABSENT, Event.LOSE): State.UNKNOWN}
"""What a store adds to the table: it may have lost the claim (evicted, flushed), and a settle writes it anew."""


def test_the_events_are_all_that_there_are_but_for_the_operators_own() -> None:
    assert set(Event) == {*EVENTS, Event.OPERATOR_RELEASE}


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
        case _:
            await medium.expire_in(key_hash, 0)
            return None


@pytest.mark.parametrize(
    ("state", "event"),
    [(state, event) for state, event in product(State, EVENTS) if (state, event) != (State.ABSENT, Event.EXPIRE)],
)
async def test_a_key_goes_where_the_table_says(store: Asked, medium: Medium, state: State, event: Event) -> None:
    claim = claim_of()
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
    if isinstance(before, Absent):
        return Done()  # nothing was to be released, and nothing is there
    assert isinstance(before, Found)
    # a settle by its own token was done already, by the same or by a better one
    return {Event.CLAIM: before, Event.RELEASE: Foreign(before.record)}.get(event, Done())
