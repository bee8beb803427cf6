"""How the keys ended, and why some are unknown."""

from collections import Counter
from collections.abc import Sequence
from enum import Enum

from tests.chaos.api import TIMEOUT
from tests.chaos.ledger import Answer, Key, Said, Shown
from tests.chaos.run import AND_A_PROXY, Happened, Outcome
from tests.chaos.schedule import FREEZE, KILL, LONG_FREEZE

MUTE = {"pays, and answers too late", "pays, and resets the connection"}
"""Moods in which the API gives nothing that could be recorded."""
STALL = 1.0
"""Seconds by which one may have come before the other was noted."""


class End(Enum):
    """Of one key."""

    COMPLETED = "completed"
    FREE = "free: turned away, or refused without having been sent"
    MUTE = "unknown: executed, and the API gave no usable answer"
    STOPPED = "unknown: executed, and its proxy was killed or held still"
    BLOCKED = "unknown: never executed, and a proxy that was asked was killed or held still"
    UNEXPLAINED = "unknown: without such a reason"
    OTHER = "none of these"


def ends(outcome: Outcome) -> Counter[End]:
    """How many ended how."""
    return Counter(end_of(outcome, key, answer) for key, answer in outcome.final.items())


def end_of(outcome: Outcome, key: Key, final: Answer) -> End:
    """How one did."""
    match final:
        case Shown("completed"):
            return End.COMPLETED
        case Shown("unknown"):
            return _why_unknown(outcome, key)
        case Said(404):
            return End.FREE
        case _:
            return End.OTHER


def _why_unknown(outcome: Outcome, key: Key) -> End:
    executed = outcome.ledger.executed(key)
    if any(execution.mood in MUTE for execution in executed):
        return End.MUTE
    if executed:
        moments = [(each.proxy, each.at, each.at + TIMEOUT) for each in executed]
    else:
        moments = [(each.proxy, each.begun, each.at) for each in outcome.ledger.told[key]]
    if not any(_was_stopped(outcome.happened, *moment) for moment in moments):
        return End.UNEXPLAINED
    return End.STOPPED if executed else End.BLOCKED


def _was_stopped(happened: Sequence[Happened], proxy: int, since: float, until: float) -> bool:
    """Whether it did not know, later, what became of its requests of that time, or came too late to see."""
    return any(
        proxy in each.recovered and each.begun < until + STALL and each.lifted > since - STALL
        for each in happened
        if each.kind in {KILL, FREEZE, LONG_FREEZE} or each.kind.endswith(AND_A_PROXY)
    )
