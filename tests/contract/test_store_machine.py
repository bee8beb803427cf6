"""Any sequence of operations by three attempts on one key: the store is where the table of transitions says it is."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from proxy.core.lifecycle import TRANSITIONS, Event, State
from proxy.core.record import Record
from proxy.store.base import Absent, Done, Foreign, Found, Granted
from tests.support.stores import Asked, Medium, claim_of, completed, ruling, unknown

ATTEMPTS = st.integers(0, 2)


class Key(RuleBasedStateMachine):
    """*there* is the model: the record that must lie under the key now. The third attempt's lease is over at once."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], medium: Medium, store: Asked) -> None:
        super().__init__()
        self._run = run
        self._medium = medium
        self._store = store
        self.there: Record | None = None

    @initialize()
    def a_new_key(self) -> None:
        first = claim_of()
        self.key_hash = first.attempt.key_hash
        self.claims = [first, claim_of(self.key_hash), claim_of(self.key_hash, lease=0)]

    def owns(self, claim: Record) -> bool:
        return self.there is not None and self.there.attempt.token == claim.attempt.token

    def expect_found(self) -> object:
        return Absent() if self.there is None else Found(self.there, self.there.reads_as(0))

    def allowed(self, event: Event) -> bool:
        return ((self.there.state if self.there else State.ABSENT), event) in TRANSITIONS

    @rule(which=ATTEMPTS)
    def claim(self, which: int) -> None:
        claim = self.claims[which]
        if self.allowed(Event.CLAIM):
            self.there = claim
        expected = Granted() if self.there == claim else self.expect_found()
        assert self._run(self._store.claim(claim)) == expected

    @rule(which=ATTEMPTS, body=st.binary(max_size=40))
    def complete(self, which: int, body: bytes) -> None:
        self.settle(completed(self.claims[which], body), Event.COMPLETE)

    @rule(which=ATTEMPTS)
    def lose(self, which: int) -> None:
        self.settle(unknown(self.claims[which]), Event.LOSE)

    def settle(self, record: Record, event: Event) -> None:
        expected: object = Done()
        if self.there is None or (self.owns(record) and self.allowed(event)):
            self.there = record
        elif not self.owns(record):
            expected = Foreign(self.there)
        assert self._run(self._store.settle(record)) == expected

    @rule(which=ATTEMPTS)
    def release(self, which: int) -> None:
        expected: object = Done()
        if self.owns(self.claims[which]) and self.allowed(Event.RELEASE):
            self.there = None
        elif self.there is not None:
            expected = Foreign(self.there)
        assert self._run(self._store.release(self.claims[which])) == expected

    @rule(which=ATTEMPTS, body=st.binary(max_size=40), frees=st.booleans())
    def overrule(self, which: int, body: bytes, frees: bool) -> None:
        claim = self.claims[which]
        act = None if frees else ruling(claim, body)
        event = Event.OPERATOR_RELEASE if frees else Event.OPERATOR_COMPLETE
        expected: object = Done()
        if self.there is None:
            expected = Absent()
        elif self.owns(claim) and claim.attempt.lease == 0 and (self.there.reads_as(0), event) in TRANSITIONS:
            self.there = act
        else:
            expected = Foreign(self.there)
        assert self._run(self._store.overrule(claim.attempt, act)) == expected

    @rule()
    def expire(self) -> None:
        if self.there is not None:
            self._run(self._medium.expire_in(self.key_hash, 0))
            self.there = None

    @invariant()
    def it_reads_as_the_model(self) -> None:
        assert self._run(self._store.read(self.key_hash)) == self.expect_found()


def test_no_sequence_leads_off_the_table(make_medium: Callable[[], Medium]) -> None:
    async def begin() -> tuple[Medium, Asked]:
        medium = make_medium()
        return medium, await medium.store()

    with asyncio.Runner() as runner:
        medium, store = runner.run(begin())

        class KeyOnThisStore(Key):
            def __init__(self) -> None:
                super().__init__(runner.run, medium, store)

        try:
            run_state_machine_as_test(
                KeyOnThisStore,
                settings=settings(
                    max_examples=40,
                    stateful_step_count=20,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(medium.close())
