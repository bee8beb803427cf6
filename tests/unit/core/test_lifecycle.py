"""The life of a key, as the contract's chart has it."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.lifecycle import TRANSITIONS, Event, IllegalTransition, State, advance

CHART = {
    ("absent", "claim"): "in_progress",
    ("in_progress", "complete"): "completed",
    ("in_progress", "lose"): "unknown",
    ("in_progress", "release"): "absent",
    ("in_progress", "expire"): "absent",  # a crashed attempt's: it reads as unknown since its lease was over
    ("unknown", "complete"): "completed",  # a late settle, the spool
    ("unknown", "operator_complete"): "completed",
    ("unknown", "operator_release"): "absent",
    ("unknown", "expire"): "absent",
    ("completed", "expire"): "absent",
}
EVERY_PAIR = list(product(State, Event))


@pytest.mark.parametrize(("state", "event"), EVERY_PAIR)
def test_a_key_moves_as_the_chart_says_and_no_other_way(state: State, event: Event) -> None:
    after = CHART.get((state.value, event.value))
    if after is None:
        with pytest.raises(IllegalTransition, match=f"{event.value} in state {state.value}"):
            advance(state, event)
    else:
        assert advance(state, event) is State(after)


def test_the_chart_names_only_what_there_is() -> None:
    assert {state for state, _ in CHART} | set(CHART.values()) == {state.value for state in State}
    assert {event for _, event in CHART} == {event.value for event in Event}


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_whatever_happens_a_taken_key_is_claimed_again_only_after_it_was_freed(events: list[Event]) -> None:
    """No takeover, ever: between two claims lies the proof that nothing was sent, an operator's word, or the end."""
    state, freed = State.ABSENT, True
    for event in events:
        try:
            state = advance(state, event)
        except IllegalTransition:
            continue
        if event is Event.CLAIM:
            assert freed
        freed = event in (Event.RELEASE, Event.OPERATOR_RELEASE, Event.EXPIRE)
        assert freed is (state is State.ABSENT)


def test_a_completed_response_is_lost_to_nothing_but_the_end_of_its_retention() -> None:
    assert [event for state, event in TRANSITIONS if state is State.COMPLETED] == [Event.EXPIRE]


def test_nobody_can_add_to_the_table() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[State.UNKNOWN, Event.CLAIM] = State.IN_PROGRESS  # type: ignore[index]
