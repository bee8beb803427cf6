"""With every rule there is no bad end among all worlds that can be reached; without any one of them there is.

Two attempts and an operator on one key; whatever is sent may be late, lost or repeated. See `tests/model/__init__.py`.
"""

import gc
from collections.abc import Iterator
from functools import cache

import pytest

from proxy.core import lifecycle
from proxy.core.lifecycle import TRANSITIONS, Event, State
from tests.model.cases import CASES, Case
from tests.model.checker import Explored, explore
from tests.model.protocol import Protocol
from tests.model.rules import EVERY_RULE, NOT_PROMISED, Fault, Promise, Rule, promised

ALONE = [frozenset[Fault]()] + [frozenset({fault}) for fault in Fault if fault is not Fault.CRASHES]
TOGETHER = [
    frozenset({Fault.CRASH, Fault.CRASHES}),
    frozenset({Fault.CRASH, Fault.FAILOVER}),
    frozenset({Fault.CRASH, Fault.FORGOTTEN}),
    frozenset({Fault.CRASH, Fault.STRAY}),
    frozenset({Fault.FAILOVER, Fault.STRAY}),
]


@pytest.fixture(autouse=True)
def without_garbage_collection() -> Iterator[None]:
    """Worlds hold no cycles; looking for some among a million of them takes longer than exploring them."""
    gc.disable()
    yield
    gc.enable()


def named(faults: frozenset[Fault]) -> str:
    return "+".join(sorted(fault.name for fault in faults)) or "NONE"


@cache
def every_world(faults: frozenset[Fault]) -> Explored:
    return explore(EVERY_RULE, faults, promised(faults))


def hold(faults: frozenset[Fault]) -> None:
    explored = every_world(faults)
    assert explored.bad is None, str(explored.bad)
    assert explored.worlds > 10_000  # it did go somewhere,
    assert explored.quiet > 100  # and came to an end there


@pytest.mark.parametrize("faults", ALONE, ids=named)
def test_with_every_rule_all_that_is_promised_holds_in_every_world(faults: frozenset[Fault]) -> None:
    hold(faults)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("faults", TOGETHER, ids=named)
def test_faults_that_come_together_break_no_more_than_each_alone(faults: frozenset[Fault]) -> None:
    hold(faults)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule.name}-{case.promise.name}")
def test_without_any_one_rule_a_promise_is_broken(case: Case) -> None:
    bad = case.explore().bad
    assert bad is not None, f"nothing is lost without the rule: {case.rule}"
    assert bad.promise is case.promise


def test_every_rule_is_one_of_those_that_were_taken_out() -> None:
    assert {case.rule for case in CASES} == set(Rule)


def test_every_promise_is_one_that_can_be_broken() -> None:
    assert {case.promise for case in CASES} | set(NOT_PROMISED.values()) == set(Promise) - {Promise.ENDS}


def test_a_reply_that_never_comes_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Protocol, "_hear", lambda protocol, attempt, reply: attempt)

    bad = explore(EVERY_RULE, frozenset(), promised(frozenset())).bad

    assert bad is not None
    assert bad.promise is Promise.ENDS


@pytest.mark.parametrize(("fault", "promise"), NOT_PROMISED.items())
def test_what_is_not_promised_does_happen(fault: Fault, promise: Promise) -> None:
    bad = explore(EVERY_RULE, frozenset({fault}), frozenset({promise})).bad
    assert bad is not None, f"it could be promised: never {promise}"


def test_every_row_of_the_table_is_gone_through() -> None:
    assert every_world(frozenset()).taken == set(TRANSITIONS)


@pytest.mark.parametrize(
    ("state", "event", "after", "promise"),
    [
        (State.IN_PROGRESS, Event.CLAIM, State.IN_PROGRESS, Promise.ONCE),
        (State.UNKNOWN, Event.CLAIM, State.IN_PROGRESS, Promise.ONCE),
        (State.COMPLETED, Event.CLAIM, State.IN_PROGRESS, Promise.FINAL),
        (State.COMPLETED, Event.LOSE, State.UNKNOWN, Promise.FINAL),
    ],
)
def test_one_row_too_many_in_the_table_breaks_a_promise(
    monkeypatch: pytest.MonkeyPatch, state: State, event: Event, after: State, promise: Promise
) -> None:
    monkeypatch.setattr(lifecycle, "TRANSITIONS", {**TRANSITIONS, (state, event): after})

    bad = explore(EVERY_RULE, frozenset({Fault.CRASH}), frozenset({promise})).bad

    assert bad is not None
