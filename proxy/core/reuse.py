"""What becomes of a request whose key another request owns."""

from dataclasses import dataclass
from typing import NamedTuple

from proxy.core.lifecycle import State
from proxy.core.record import NO_FINGERPRINT, Attempt
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


@dataclass(frozen=True, slots=True)
class Wait:
    """It waits until the key is settled."""


@dataclass(frozen=True, slots=True)
class Replay:
    """It is given the response that was recorded, if the record has all of it; else it is refused."""


Reuse = Conflict | Wait | Replay
WAIT = Wait()
REPLAY = Replay()


def judge_reuse(attempt: Attempt, state: State, treatment: Treatment, fingerprint: bytes, *, proven: bool) -> Reuse:
    """*state*: what the record of *attempt* reads as; *fingerprint*: of the later request. *proven*: it has shown the
    right to see the record. Who has not, learns nothing but that the key is taken: not even whether the requests are
    the same. What the record contains is judged by nobody but who is given it."""
    first = attempt.fingerprint
    if proven and treatment.rejects and first not in (NO_FINGERPRINT, fingerprint):
        return Conflict(Refusal.KEY_REUSED)
    if state is State.IN_PROGRESS and treatment.waits:
        return WAIT
    if proven and treatment.replays and state is State.COMPLETED and first == fingerprint != NO_FINGERPRINT:
        return REPLAY
    return Conflict(CONFLICTS[state])
