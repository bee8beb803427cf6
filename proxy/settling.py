"""A settlement that the store has not taken at once: it goes into the spool, and its answer to the client. What cannot
be spooled either is repeated from memory until the store has it."""

import asyncio
import logging
from collections.abc import Callable
from enum import Enum, auto
from typing import assert_never

from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.deadlines import NEVER
from proxy.parts import Parts
from proxy.store.base import Done, Foreign, SettleResult, Unavailable
from proxy.store.spool import Spool

RETRY_FIRST, RETRY_MOST = 0.2, 5.0
"""Seconds between two tries from memory, doubled each time."""
SPOOL_WAIT = 1.0
"""Seconds that an answer waits for the spool; then it is given first, and the log says that it is nowhere on a disk."""

logger = logging.getLogger(__name__)


def submit(parts: Parts, record: Record, done: Callable[[SettleResult], None]) -> None:
    """Ask the store, once: to release the key where *record* is absent, else to write it down. *done* is called in any
    case, never from within: whatever fails on the way there, an answer of the API waits for this."""
    try:
        (parts.store.release if record.state is State.ABSENT else parts.store.settle)(record, done)
    except Exception as error:  # no memory for it just now, say
        logger.warning("a settlement failed on its way to the store", exc_info=True)
        asyncio.get_running_loop().call_soon(done, Unavailable(f"it did not get there: {type(error).__name__}"))


class _State(Enum):
    """Where the settlement is, as far as this process knows."""

    KEEPING = auto()  # on its way into the spool, for which its answer waits
    HELD = auto()  # in memory only
    KEPT = auto()  # in the spool: what is to be done, is done by who delivers it
    OVER = auto()  # in the store; or it never will be


class Settling:
    """Begins when the store has failed (*said*), or has said nothing yet (None) and the answer should leave: then
    `answered` is told what it says after all. *there* is called when the answer may leave: once it is safe on a disk,
    or at the latest after `SPOOL_WAIT`. It may be called more than once."""

    __slots__ = (
        "_asked", "_entry", "_met", "_parts", "_pause", "_putting", "_record", "_state", "_there", "deadline",
    )  # fmt: skip

    def __init__(
        self, parts: Parts, record: Record, there: Callable[[], None], said: Foreign | Unavailable | None
    ) -> None:
        self._parts = parts
        self._record = record
        self._there = there
        self._asked = said is None
        """Whether the store is at it."""
        self._state = _State.HELD if parts.spool is None else _State.KEEPING
        self._putting = False
        """Whether the spool has been asked, and has not answered yet; it may do so later than anyone waits for."""
        self._met = False
        """Another's record stands against it: it is to be kept for the operator, and may not be dropped."""
        self._entry = 0
        """Its number in the spool, while it is there."""
        self._pause = RETRY_FIRST
        self.deadline = NEVER
        parts.unsettled.add(self)
        parts.deadlines.add(self)
        if said is not None:
            self.answered(said)
        if self._state is not _State.OVER:
            self._keep()

    def _keep(self) -> None:
        parts = self._parts
        if parts.spool is None:
            self._answer_first()
        else:
            self.deadline = parts.deadlines.now() + SPOOL_WAIT
            self._put(parts.spool)

    def _put(self, spool: Spool) -> None:
        self._putting = True
        spool.put(self._record, self._parts.terms.store_deadline if self._asked else 0.0, self._kept)

    def _answer_first(self) -> None:
        """It is in this process's memory only."""
        self._parts.journal.late(self._record.attempt, spooled=False)
        self._there()

    # -- the spool ----------------------------------------------------------------------------------------------

    def _kept(self, result: int | Unavailable) -> None:
        """It has been written; or will not be. Either may come later than anyone waits for."""
        self._putting = False
        match result:
            case Unavailable(why):
                if self._state is _State.KEEPING:
                    self._not_kept(why)
                elif self._state is _State.HELD and self._met:
                    self._again_later()
            case entry if self._state is _State.OVER:
                self._remove(entry)
            case entry:
                self._state, self._entry, self.deadline = _State.KEPT, entry, NEVER
                self._parts.journal.late(self._record.attempt, spooled=True)
                self._leave()

    def _not_kept(self, why: str) -> None:
        self._state, self.deadline = _State.HELD, NEVER
        self._parts.journal.spool_failure(why, self._record.attempt.key_hash)
        self._answer_first()
        if not self._asked:
            self._again_later()

    def _remove(self, entry: int) -> None:
        if self._parts.spool is not None:
            self._parts.spool.remove(entry)

    # -- the store ----------------------------------------------------------------------------------------------

    def answered(self, result: SettleResult) -> None:
        """The store has said something after all."""
        self._asked = False
        journal, attempt = self._parts.journal, self._record.attempt
        match result:
            case Done():
                self._over()
            case Foreign(owner) if self._record.state is State.ABSENT:
                journal.overtaken(attempt, owner.attempt)
                self._over()
            case Foreign(owner):
                if self._state is _State.HELD:
                    journal.incident(attempt, owner.attempt)
                    self._keep_for_the_operator()
            case Unavailable(why):
                journal.store_failure(self._operation, why, attempt.key_hash)
                if self._state is _State.HELD:
                    self._again_later()
            case _:
                assert_never(result)

    def _keep_for_the_operator(self) -> None:
        """In the spool, whose deliverer makes an incident of it; as soon as the spool takes it."""
        self._met = True
        if self._parts.spool is None:
            self._over()
        elif not self._putting:
            self._again_later()

    @property
    def _operation(self) -> str:
        return "release" if self._record.state is State.ABSENT else "settle"

    def _again_later(self) -> None:
        self.deadline = self._parts.deadlines.now() + self._pause
        self._pause = min(self._pause * 2, RETRY_MOST)

    def overdue(self) -> None:
        """The spool is slow; or it is time for the next try, unless what would be recorded would be gone by now."""
        self.deadline = NEVER
        if self._state is _State.KEEPING:
            self._not_kept(f"not written within {SPOOL_WAIT:g} s")
        elif self._outlived():
            self._parts.journal.outlived(self._record.attempt)
            self._leave()
        elif self._met and self._parts.spool is not None:
            self._put(self._parts.spool)
        else:
            self._asked = True
            submit(self._parts, self._record, self.answered)

    def _outlived(self) -> bool:
        """Whether it would be gone by now; and one retention more, lest a clock that runs ahead lose the only copy."""
        attempt = self._record.attempt
        return (attempt.first_used + 2 * attempt.retention) / 1000 <= self._parts.wall()

    def _over(self) -> None:
        """The store has it, or never will."""
        was, self._state = self._state, _State.OVER
        if was is _State.KEPT:
            self._remove(self._entry)
        self._leave()

    def _leave(self) -> None:
        self._parts.deadlines.discard(self)
        self._parts.unsettled.discard(self)
        self._there()
