"""What the end of an exchange means for its key."""

from collections.abc import Collection
from typing import NamedTuple, assert_never

from proxy.core.lifecycle import Event
from proxy.core.record import Response
from proxy.core.refusal import Refusal


class Responded(NamedTuple):
    """The backend gave a complete, usable response head; the body may be truncated."""

    response: Response


class NotSent(NamedTuple):
    """Not one byte of the request was written: judged by position, never by the kind of an exception."""

    refusal: Refusal
    why: str


class Lost(NamedTuple):
    """A byte of the request may have been written, and no usable response head came back."""

    why: str


Outcome = Responded | NotSent | Lost


def judge(outcome: Outcome, release_statuses: Collection[int]) -> Event:
    """COMPLETE, RELEASE or LOSE. *release_statuses* are those with which the backend turns a request away before it
    treats it: with 401 a client whose token had expired must be able to come back with the same key."""
    match outcome:
        case Responded():
            return Event.RELEASE if outcome.response.status in release_statuses else Event.COMPLETE
        case NotSent():
            return Event.RELEASE
        case Lost():
            return Event.LOSE
        case _:
            assert_never(outcome)
