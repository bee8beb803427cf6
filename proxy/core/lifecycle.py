"""The life of a key: every state, every event, every transition. What is not in the table does not happen.

                claim                    complete
     absent ───────────▶ in_progress ───────────────▶ completed ──┐
        ▲                    │  │ lose                            │ expire
        │      release       │  │                                 │
        ├────────────────────┘  └────────────▶ unknown ───────────┤
        └──────────────────────────────────────────────────────────┘

Three transitions leave *unknown* before it expires: a late answer (the backend's own response, found after all), and an
operator, who looked at the backend and knows that it did what was asked, or that it did nothing. There is no takeover:
nothing leads from *in_progress* or *unknown* back to a second attempt by itself.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """What a key is. The value is the name that clients see in `Idempotency-State`."""

    ABSENT = "absent"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    UNKNOWN = "unknown"


class Event(StrEnum):
    """What can happen to a key."""

    CLAIM = "claim"  # an attempt takes the key
    COMPLETE = "complete"  # the backend's response is known
    LOSE = "lose"  # the request may have been sent, and what became of it is not known
    RELEASE = "release"  # the request provably never reached the backend, or was turned away before it was treated
    EXPIRE = "expire"  # the retention, counted from the first use, is over
    OPERATOR_COMPLETE = "operator_complete"  # an operator knows what the backend did
    OPERATOR_RELEASE = "operator_release"  # an operator knows that the backend did nothing


TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.ABSENT, Event.CLAIM): State.IN_PROGRESS,
        (State.IN_PROGRESS, Event.COMPLETE): State.COMPLETED,
        (State.IN_PROGRESS, Event.LOSE): State.UNKNOWN,
        (State.IN_PROGRESS, Event.RELEASE): State.ABSENT,
        (State.IN_PROGRESS, Event.EXPIRE): State.ABSENT,
        (State.UNKNOWN, Event.COMPLETE): State.COMPLETED,
        (State.UNKNOWN, Event.OPERATOR_COMPLETE): State.COMPLETED,
        (State.UNKNOWN, Event.OPERATOR_RELEASE): State.ABSENT,
        (State.UNKNOWN, Event.EXPIRE): State.ABSENT,
        (State.COMPLETED, Event.EXPIRE): State.ABSENT,
    }
)


class IllegalTransition(Exception):
    """An event came in a state that does not know it: a defect of the caller, never a condition to handle."""


def advance(state: State, event: Event) -> State:
    """Return the state after *event*; raise IllegalTransition where the table has no such row."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"{event.value} in state {state.value}") from None
