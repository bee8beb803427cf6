"""Which promise a world breaks."""

from collections.abc import Iterator

from proxy.core.lifecycle import Event, State
from tests.model.rules import Promise
from tests.model.world import Attempt, Phase, World


def broken(world: World) -> Iterator[Promise]:
    """All promises that *world* breaks; some can be judged only when nothing is under way any more."""
    attempts = world.attempts
    if sum([attempt.executed for attempt in attempts]) > 1:
        yield Promise.ONCE
    if world.changed:
        yield Promise.FINAL
    if any(attempt.phase is Phase.GRANTED and not attempt.owned for attempt in attempts):
        yield Promise.OWNER
    if world.quiet():
        yield from _at_the_end(world)


def _at_the_end(world: World) -> Iterator[Promise]:
    record = world.record
    completed = record is not None and record.state is State.COMPLETED
    for who, attempt in enumerate(world.attempts):
        on_record = completed and record is not None and record.answer == who
        if _answer_counts(attempt) and not attempt.kept and not on_record:
            yield Promise.SAME if completed else Promise.KEPT
    if record is not None and not completed:
        owner = world.attempts[record.owner]
        if not owner.crashed and owner.outcome in (None, Event.RELEASE):
            yield Promise.FREE
        if owner.crashed and owner.outcome is Event.RELEASE:
            yield Promise.WITHDRAWN


def _answer_counts(attempt: Attempt) -> bool:
    """A proxy that is killed before it has recorded the answer, or given it, cannot keep it."""
    return attempt.outcome is Event.COMPLETE and (attempt.answered or not attempt.crashed)
