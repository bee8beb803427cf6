"""What becomes of a request whose key another request owns: all that it depends on, and nothing else."""

from itertools import product
from typing import NamedTuple

import pytest

from proxy.core.lifecycle import State
from proxy.core.record import NO_FINGERPRINT
from proxy.core.refusal import Refusal
from proxy.core.reuse import REPLAY, WAIT, Conflict, Reuse, judge_reuse
from tests.unit.core.samples import TREATMENT, attempt

MINE, ANOTHERS = b"m" * 16, b"a" * 16
HELD = (State.COMPLETED, State.IN_PROGRESS, State.UNKNOWN)
YES_OR_NO = (False, True)


class Case(NamedTuple):
    """All that it may depend on. *first*: the fingerprint in the record."""

    state: State
    first: bytes
    fingerprint: bytes
    replays: bool
    waits: bool
    rejects: bool
    proven: bool

    def judged(self) -> Reuse:
        treatment = TREATMENT._replace(replays=self.replays, waits=self.waits, rejects=self.rejects)
        return judge_reuse(attempt(fingerprint=self.first), self.state, treatment, self.fingerprint, proven=self.proven)


FINGERPRINTS = (NO_FINGERPRINT, MINE, ANOTHERS)
EVERY_CASE = [
    # Whoever compares has a fingerprint of its own, and who does not has none.
    Case(state, first, MINE if replays or rejects else NO_FINGERPRINT, replays, waits, rejects, proven)
    for state, first in product(HELD, FINGERPRINTS)
    for replays, waits, rejects, proven in product(YES_OR_NO, YES_OR_NO, YES_OR_NO, YES_OR_NO)
]
PLAIN = {
    State.COMPLETED: Conflict(Refusal.CONFLICT_COMPLETED),
    State.IN_PROGRESS: Conflict(Refusal.CONFLICT_IN_PROGRESS),
    State.UNKNOWN: Conflict(Refusal.CONFLICT_UNKNOWN),
}
REUSED = Conflict(Refusal.KEY_REUSED)


def test_every_case_has_one_of_four_ends_each_for_its_own_reasons() -> None:
    """From the end's side: what must hold for it, and where it holds it is the one."""
    seen = set()
    for case in EVERY_CASE:
        judged = case.judged()
        seen.add(REUSED if judged == REUSED else type(judged))
        differs = case.first == ANOTHERS and case.fingerprint == MINE
        same = case.first == case.fingerprint == MINE
        assert (judged == REUSED) == (case.proven and case.rejects and differs), case
        replayed = case.proven and case.replays and same and case.state is State.COMPLETED
        assert (judged == REPLAY) == replayed, case
        assert (judged == WAIT) == (case.state is State.IN_PROGRESS and case.waits and judged != REUSED), case
        if judged not in (REUSED, WAIT, REPLAY):
            assert judged == PLAIN[case.state], case
    assert seen == {REUSED, Conflict, type(REPLAY), type(WAIT)}


@pytest.mark.parametrize("state", HELD)
def test_who_has_not_shown_the_right_to_see_it_is_told_the_same_whatever_it_asks_for(state: State) -> None:
    """Not even whether the requests are the same; a key in progress is waited for by all, or by none."""
    told = {(case.waits, case.judged()) for case in EVERY_CASE if not case.proven and case.state is state}
    waited = WAIT if state is State.IN_PROGRESS else PLAIN[state]
    assert told == {(False, PLAIN[state]), (True, waited)}


def test_by_default_everyone_is_told_the_state_and_nothing_else() -> None:
    for case in EVERY_CASE:
        if not (case.replays or case.waits or case.rejects):
            assert case.judged() == PLAIN[case.state]


def test_a_record_from_before_there_were_fingerprints_is_neither_replayed_nor_another_payload() -> None:
    for case in EVERY_CASE:
        if case.first == NO_FINGERPRINT:
            assert case.judged() in (WAIT, PLAIN[case.state])


@pytest.mark.parametrize("state", HELD)
def test_another_payload_is_told_so_in_every_state_before_it_waits_for_anything(state: State) -> None:
    case = Case(state, ANOTHERS, MINE, replays=True, waits=True, rejects=True, proven=True)
    assert case.judged() == REUSED
