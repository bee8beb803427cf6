"""What becomes of a request whose key another request owns."""

from typing import NamedTuple

from proxy.core.lifecycle import State
from proxy.core.record import NO_FINGERPRINT, Record, Response
from proxy.core.refusal import Refusal
from proxy.core.treatment import Treatment

CONFLICTS = {
    State.COMPLETED: Refusal.CONFLICT_COMPLETED,
    State.IN_PROGRESS: Refusal.CONFLICT_IN_PROGRESS,
    State.UNKNOWN: Refusal.CONFLICT_UNKNOWN,
}


class Conflict(NamedTuple):
    """It is refused, and told of the key's state."""

    refusal: Refusal


class Wait(NamedTuple):
    """It waits until the key is settled."""


class Replay(NamedTuple):
    """It is given the response that was recorded."""

    response: Response


Reuse = Conflict | Wait | Replay
WAIT = Wait()


def judge_reuse(record: Record, state: State, treatment: Treatment, fingerprint: bytes, *, proven: bool) -> Reuse:
    """*state*: what *record* reads as; *fingerprint*: of the later request. *proven*: it has shown the right to see the
    record. Who has not, learns nothing but that the key is taken: not even whether the requests are the same."""
    first = record.attempt.fingerprint
    if proven and treatment.rejects and first not in (NO_FINGERPRINT, fingerprint):
        return Conflict(Refusal.KEY_REUSED)
    if state is State.IN_PROGRESS and treatment.waits:
        return WAIT
    response = record.response
    if (
        proven
        and treatment.replays
        and state is State.COMPLETED
        and first == fingerprint != NO_FINGERPRINT
        and response is not None
        and not response.truncated
    ):
        return Replay(response)
    return Conflict(CONFLICTS[state])
