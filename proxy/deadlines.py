"""Deadlines for very many things at the price of very few timers.

A timer a request costs more than the request's parsing; so all that waits stands in one set, and one tick looks through
it. A deadline is met up to `TICK` late, never early.
"""

import asyncio
import logging
import time
from typing import Protocol

TICK = 0.05
"""Seconds between two looks."""
NEVER = float("inf")


class Waiting(Protocol):
    """Something that must not wait for ever."""

    deadline: float
    """Monotonic time at which `overdue` is called; NEVER: not. May be changed at any time."""

    def overdue(self) -> None:
        """The deadline has passed. Must move or drop the deadline, else it is called again at the next tick."""


class Deadlines:
    """All that waits on one loop."""

    def __init__(self) -> None:
        self._waiting: set[Waiting] = set()
        self._loop = asyncio.get_running_loop()
        self.now = time.monotonic
        """The clock of all deadlines. Not the loop's: uvloop's stands still within a turn, and counts milliseconds."""
        self.add = self._waiting.add
        """Watch an item until it is discarded."""
        self.discard = self._waiting.discard
        """Watch it no longer."""
        self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        now = self.now()
        for item in [item for item in self._waiting if item.deadline <= now]:
            try:
                if item in self._waiting and item.deadline <= now:  # another's handler may have moved or dropped it
                    item.overdue()
            except Exception:  # one item's defect must not stop the clock of all others
                logging.getLogger(__name__).exception("a deadline's handler failed")
        self._loop.call_later(TICK, self._tick)
