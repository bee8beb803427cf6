"""One tick for all that waits: late by a tick at most, never early, and one item's defect stays its own."""

import asyncio
from collections.abc import Callable

import pytest

from proxy.deadlines import NEVER, TICK, Deadlines
from tests.support.raw import eventually


class Item:
    """Notes when it was overdue; *then* says what it does about it."""

    def __init__(self, deadline: float, then: Callable[["Item"], None]) -> None:
        self.deadline = deadline
        self.called: list[float] = []
        self._then = then

    def overdue(self) -> None:
        self.called.append(asyncio.get_running_loop().time())
        self._then(self)


def leave(item: Item) -> None:
    item.deadline = NEVER


async def test_a_deadline_is_met_within_a_tick_or_so_and_never_early() -> None:
    deadlines = Deadlines()
    items = [Item(deadlines.now() + seconds, leave) for seconds in (0.0, 0.02, 0.1, 0.2)]
    for item in items:
        deadlines.add(item)
    due = [item.deadline for item in items]
    await eventually(lambda: all(item.called for item in items))
    for moment, item in zip(due, items, strict=True):
        assert moment <= item.called[0] < moment + 10 * TICK
        assert len(item.called) == 1


async def test_who_is_discarded_or_has_no_deadline_is_left_alone() -> None:
    deadlines = Deadlines()
    gone, never, last = Item(0.0, leave), Item(NEVER, leave), Item(deadlines.now() + 2 * TICK, leave)
    for item in (gone, never, last):
        deadlines.add(item)
    deadlines.discard(gone)
    deadlines.discard(gone)
    await eventually(lambda: last.called)
    assert not gone.called
    assert not never.called


async def test_who_does_not_move_its_deadline_is_called_at_every_tick() -> None:
    deadlines = Deadlines()
    item = Item(0.0, lambda item: None)
    deadlines.add(item)
    await eventually(lambda: len(item.called) >= 3)
    deadlines.discard(item)


async def test_the_clock_starts_again_after_it_had_nothing_to_watch() -> None:
    deadlines = Deadlines()
    for _ in range(2):
        item = Item(0.0, deadlines.discard)
        deadlines.add(item)
        await eventually(lambda item=item: item.called)  # type: ignore[misc]
        await asyncio.sleep(2 * TICK)  # a whole tick with nothing to watch: the timer ends
        assert len(item.called) == 1


async def test_one_items_defect_is_logged_and_stops_nobodys_clock(caplog: pytest.LogCaptureFixture) -> None:
    def fail(item: Item) -> None:
        leave(item)
        raise RuntimeError("a defect of the item")

    deadlines = Deadlines()
    items = [Item(0.0, fail), Item(0.0, leave), Item(deadlines.now() + 2 * TICK, leave)]
    for item in items:
        deadlines.add(item)
    await eventually(lambda: all(item.called for item in items))
    (entry,) = caplog.records
    assert entry.exc_info
    assert "a defect of the item" in str(entry.exc_info[1])
