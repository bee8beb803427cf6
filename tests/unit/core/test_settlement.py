"""What the end of an exchange means for its key: a request that may have been sent never frees it."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.lifecycle import Event, State, advance
from proxy.core.refusal import Refusal
from proxy.core.settlement import Lost, NotSent, Outcome, Responded, judge
from tests.unit.core.samples import response

DEFAULT = (401, 429)


@pytest.mark.parametrize("status", [200, 201, 302, 400, 403, 404, 409, 422, 500, 502, 503, 504])
def test_a_response_that_the_backend_gave_is_kept_also_an_error(status: int) -> None:
    assert judge(Responded(response()._replace(status=status)), DEFAULT) is Event.COMPLETE


def test_a_response_that_broke_off_is_kept_it_was_executed_all_the_same() -> None:
    assert judge(Responded(response()._replace(truncated=True, body=b"")), DEFAULT) is Event.COMPLETE


@pytest.mark.parametrize("status", DEFAULT)
def test_a_request_that_the_backend_turned_away_frees_its_key(status: int) -> None:
    assert judge(Responded(response()._replace(status=status)), DEFAULT) is Event.RELEASE


def test_which_statuses_turn_a_request_away_is_configured() -> None:
    assert judge(Responded(response()._replace(status=403)), {403}) is Event.RELEASE
    assert judge(Responded(response()._replace(status=401)), {403}) is Event.COMPLETE
    assert judge(Responded(response()._replace(status=401)), ()) is Event.COMPLETE


@pytest.mark.parametrize("refusal", [Refusal.UNREACHABLE, Refusal.OVERLOADED, Refusal.STORE_UNAVAILABLE])
def test_a_request_that_never_left_frees_its_key(refusal: Refusal) -> None:
    assert judge(NotSent(refusal, "connection refused"), DEFAULT) is Event.RELEASE


@given(st.text(), st.sets(st.integers(100, 599)))
def test_a_lost_request_is_unknown_whatever_the_reason_and_the_configuration(why: str, statuses: set[int]) -> None:
    assert judge(Lost(why), statuses) is Event.LOSE


@pytest.mark.parametrize(
    "outcome",
    [Responded(response()), Responded(response()._replace(status=401)), NotSent(Refusal.DRAINING, ""), Lost("")],
)
def test_every_judgement_is_an_event_that_a_key_in_progress_knows(outcome: Outcome) -> None:
    assert advance(State.IN_PROGRESS, judge(outcome, DEFAULT)) is not State.IN_PROGRESS


def test_what_is_no_outcome_is_a_defect_and_frees_nothing() -> None:
    with pytest.raises(AssertionError):
        judge(cast("Outcome", None), DEFAULT)
