"""Who waits for a key in progress: how often the store is asked for it, and who is told what."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from proxy.deadlines import TICK, Deadlines
from proxy.store.base import Absent, Found, ReadResult, Unavailable
from proxy.store.memory import MemoryStore
from proxy.waiting import POLL_FIRST, POLL_MOST, Waiting
from tests.support.raw import eventually
from tests.support.stores import Asked, claim_of, completed

CLAIM = claim_of()
KEY = CLAIM.attempt.key_hash
OTHER = b"another key hash"


class Counted(MemoryStore):
    """Says how often it was read. *hold*: answers, but not yet."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[bytes] = []
        self.held: list[Callable[[], None]] = []
        self.hold = False

    def read(self, key_hash: bytes, done: Callable[[ReadResult], None]) -> None:
        self.reads.append(key_hash)

        def answered(result: ReadResult) -> None:
            if self.hold:
                self.held.append(lambda: done(result))
            else:
                done(result)

        super().read(key_hash, answered)


class Client:
    """Keeps what it is told."""

    contends = True

    def __init__(self) -> None:
        self.told: list[ReadResult] = []
        self.turns = 0

    def settled(self, result: ReadResult) -> None:
        self.told.append(result)

    def freed(self) -> None:
        self.turns += 1


class Asking(Client):
    """For the record alone."""

    contends = False


class Again(Client):
    """Waits again, as who was too late to go next."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__()
        self._waiting = waiting

    def settled(self, result: ReadResult) -> None:
        super().settled(result)
        assert self._waiting.wait(KEY, self)


class Broken(Client):
    def freed(self) -> None:
        raise RuntimeError("a defect")

    def settled(self, result: ReadResult) -> None:
        raise RuntimeError("a defect")


class Clock:
    """Of the deadlines; it stands still."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._now = deadlines.now()
        deadlines.now = lambda: self._now

    async def advance(self, seconds: float) -> None:
        """And let all happen that is due: a tick, and what it begins."""
        self._now += seconds
        await asyncio.sleep(2 * TICK)


class Stand:
    def __init__(self, most: int = 10) -> None:
        self.store = Counted()
        self.asked = Asked(self.store)
        self.deadlines = Deadlines()
        self.waiting = Waiting(self.store, self.deadlines, most)

    def crowd(self, size: int, key_hash: bytes = KEY) -> list[Client]:
        clients = [Client() for _ in range(size)]
        for client in clients:
            assert self.waiting.wait(key_hash, client)
        return clients


@pytest.fixture
async def stand() -> Stand:
    stand = Stand()
    await stand.asked.claim(CLAIM)
    return stand


@pytest.fixture
async def clock(stand: Stand) -> Clock:
    return Clock(stand.deadlines)


def nothing_is_left(stand: Stand) -> None:
    assert (stand.waiting._count, stand.waiting._keys, stand.waiting._owned) == (0, {}, set())
    assert not stand.deadlines._waiting


# -- a key of this process -------------------------------------------------------------------------------------------


async def test_for_a_key_of_this_process_the_store_is_asked_when_it_has_ended_and_once_for_all(
    stand: Stand, clock: Clock
) -> None:
    stand.waiting.own(KEY)
    clients = stand.crowd(5)
    await clock.advance(3600)
    assert stand.store.reads == []
    await stand.asked.settle(completed(CLAIM))
    stand.waiting.settled(KEY)
    await eventually(lambda: clients[4].told)
    for client in clients:
        (told,) = client.told
        assert isinstance(told, Found)
        assert told.record == completed(CLAIM)
    assert stand.store.reads == [KEY]
    nothing_is_left(stand)


async def test_nobody_asks_for_a_key_for_which_nobody_waits(stand: Stand) -> None:
    stand.waiting.own(KEY)
    stand.waiting.own(OTHER)
    stand.crowd(1, OTHER)
    stand.waiting.settled(KEY)
    await asyncio.sleep(0)
    assert stand.store.reads == []
    assert not stand.waiting.owns(KEY)
    assert stand.waiting.owns(OTHER)


async def test_an_end_that_the_store_has_not_heard_of_is_looked_for_now_and_then(stand: Stand, clock: Clock) -> None:
    """Its settlement lies in the spool, say."""
    stand.waiting.own(KEY)
    (client,) = stand.crowd(1)
    stand.waiting.settled(KEY)
    await clock.advance(0)
    assert len(stand.store.reads) == 1
    await clock.advance(POLL_FIRST)
    assert len(stand.store.reads) == 2
    assert client.told == []
    await stand.asked.settle(completed(CLAIM))
    await clock.advance(POLL_MOST)
    assert len(client.told) == 1
    nothing_is_left(stand)


async def test_an_end_while_the_store_is_asked_is_asked_for_once_more(stand: Stand, clock: Clock) -> None:
    """What the store says then may be from before: it would be believed for as long as the key is of this process."""
    (client,) = stand.crowd(1)
    stand.store.hold = True
    await clock.advance(POLL_FIRST)
    await eventually(lambda: stand.store.held)  # it has said: in progress
    stand.waiting.own(KEY)
    await stand.asked.settle(completed(CLAIM))
    stand.waiting.settled(KEY)
    stand.waiting.settled(KEY)
    assert len(stand.store.reads) == 1
    stand.store.hold = False
    stand.store.held.pop()()
    await eventually(lambda: client.told)
    assert len(stand.store.reads) == 2
    nothing_is_left(stand)


# -- a release -------------------------------------------------------------------------------------------------------


def turns(clients: list[Client]) -> list[int]:
    return [client.turns for client in clients]


async def test_of_those_who_wait_for_a_key_that_is_released_one_goes_next_at_a_time(stand: Stand, clock: Clock) -> None:
    stand.waiting.own(KEY)
    clients = stand.crowd(3)
    for released in (1, 2, 3):
        stand.waiting.released(KEY)
        assert turns(clients) == [1] * released + [0] * (3 - released)
        stand.waiting.own(KEY)  # the one who went next
    assert (stand.store.reads, [client.told for client in clients]) == ([], [[]] * 3)
    stand.waiting.released(KEY)
    nothing_is_left(stand)


async def test_who_only_asks_is_passed_over_and_told_when_nobody_goes(stand: Stand, clock: Clock) -> None:
    stand.waiting.own(KEY)
    asking = Asking()
    assert stand.waiting.wait(KEY, asking)
    (client,) = stand.crowd(1)
    stand.waiting.released(KEY)
    assert (client.turns, asking.turns, asking.told) == (1, 0, [])
    stand.waiting.own(KEY)
    await stand.asked.release(CLAIM)
    stand.waiting.released(KEY)
    await eventually(lambda: asking.told)
    assert asking.told == [Absent()]
    nothing_is_left(stand)


async def test_where_the_one_who_went_next_does_not_get_the_key_the_others_look_for_it(
    stand: Stand, clock: Clock
) -> None:
    stand.waiting.own(KEY)
    _, later = stand.crowd(2)
    await stand.asked.release(CLAIM)
    stand.waiting.released(KEY)
    await clock.advance(POLL_FIRST)
    assert (later.turns, later.told) == (0, [Absent()])
    nothing_is_left(stand)


async def test_in_a_stop_all_are_freed_at_once_to_be_told_so(stand: Stand) -> None:
    stand.waiting.own(KEY)
    clients = stand.crowd(3)
    stand.waiting.draining = True
    stand.waiting.released(KEY)
    assert turns(clients) == [1, 1, 1]
    nothing_is_left(stand)


async def test_a_release_for_which_nobody_waits_is_nothing(stand: Stand) -> None:
    stand.waiting.own(KEY)
    stand.waiting.released(KEY)
    nothing_is_left(stand)


async def test_who_fails_when_it_is_its_turn_harms_nobody(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    assert stand.waiting.wait(KEY, Broken())
    stand.waiting.released(KEY)
    assert "a request that waited for a key failed" in caplog.messages
    nothing_is_left(stand)


# -- a key of another process ----------------------------------------------------------------------------------------


async def test_for_a_key_of_another_process_one_look_serves_all_and_looks_become_rarer(
    stand: Stand, clock: Clock
) -> None:
    clients = stand.crowd(5)
    pause = POLL_FIRST
    for looks in range(6):
        await clock.advance(pause - 0.01)
        assert len(stand.store.reads) == looks
        await clock.advance(0.02)
        assert len(stand.store.reads) == looks + 1
        pause = min(2 * pause, POLL_MOST)
    assert not any(client.told for client in clients)
    await stand.asked.release(CLAIM)
    await clock.advance(POLL_MOST)
    assert [client.told for client in clients] == [[Absent()]] * 5
    nothing_is_left(stand)


async def test_who_comes_later_shares_the_look_of_those_who_wait(stand: Stand, clock: Clock) -> None:
    first = stand.crowd(1)
    await clock.advance(POLL_FIRST)
    later = stand.crowd(3)
    await stand.asked.settle(completed(CLAIM))
    await clock.advance(2 * POLL_FIRST)
    assert [len(client.told) for client in (*first, *later)] == [1, 1, 1, 1]
    assert len(stand.store.reads) == 2


async def test_a_key_that_came_to_this_process_is_not_looked_for_any_more(stand: Stand, clock: Clock) -> None:
    stand.crowd(2)
    stand.waiting.own(KEY)  # one's own claim was heard of late
    await clock.advance(POLL_FIRST)
    looks = len(stand.store.reads)
    await clock.advance(3600)
    assert len(stand.store.reads) == looks == 1


async def test_a_store_that_does_not_say_is_told_to_all(stand: Stand, clock: Clock) -> None:
    clients = stand.crowd(3)
    await stand.store.close()
    await clock.advance(POLL_FIRST)
    for client in clients:
        (told,) = client.told
        assert isinstance(told, Unavailable)
    nothing_is_left(stand)


# -- how many, and how long ------------------------------------------------------------------------------------------


async def test_no_more_than_so_many_wait_for_all_keys_together(stand: Stand) -> None:
    clients = stand.crowd(6)
    stand.crowd(4, OTHER)
    assert not stand.waiting.wait(KEY, Client())
    assert not stand.waiting.wait(b"a third", Client())
    stand.waiting.leave(KEY, clients[0])
    assert stand.waiting.wait(b"a third", Client())
    assert not stand.waiting.wait(KEY, Client())


async def test_nobody_waits_where_nobody_may() -> None:
    stand = Stand(most=0)
    assert not stand.waiting.wait(KEY, Client())
    nothing_is_left(stand)


async def test_who_leaves_is_told_nothing_and_may_leave_twice(stand: Stand, clock: Clock) -> None:
    gone, stays = stand.crowd(2)
    stand.waiting.leave(KEY, gone)
    stand.waiting.leave(KEY, gone)
    stand.waiting.leave(OTHER, gone)
    assert stand.waiting._count == 1
    await stand.asked.release(CLAIM)
    await clock.advance(POLL_FIRST)
    assert (gone.told, stays.told) == ([], [Absent()])
    stand.waiting.leave(KEY, stays)
    nothing_is_left(stand)


async def test_when_the_last_has_left_nobody_looks_any_more(stand: Stand, clock: Clock) -> None:
    for client in stand.crowd(3):
        stand.waiting.leave(KEY, client)
    nothing_is_left(stand)
    await clock.advance(3600)
    assert stand.store.reads == []


async def test_what_the_store_says_when_all_have_left_is_heard_by_nobody(stand: Stand, clock: Clock) -> None:
    """And not by those who have begun to wait for the key meanwhile, whose look is another."""
    (gone,) = stand.crowd(1)
    stand.store.hold = True
    await clock.advance(POLL_FIRST)
    await eventually(lambda: stand.store.held)
    stand.waiting.leave(KEY, gone)
    (later,) = stand.crowd(1)
    stand.store.hold = False
    stand.store.held.pop()()
    assert (gone.told, later.told) == ([], [])
    await stand.asked.release(CLAIM)
    await clock.advance(POLL_FIRST)
    assert (gone.told, later.told) == ([], [Absent()])
    nothing_is_left(stand)


# -- what those who are told do --------------------------------------------------------------------------------------


async def test_who_waits_again_is_told_again(stand: Stand, clock: Clock) -> None:
    clients = [Again(stand.waiting) for _ in range(3)]
    for client in clients:
        assert stand.waiting.wait(KEY, client)
    stand.waiting.own(KEY)
    await stand.asked.release(CLAIM)
    for rounds in (1, 2):
        stand.waiting.settled(KEY)
        await eventually(lambda rounds=rounds: len(clients[2].told) == rounds)  # type: ignore[misc]
        assert [len(client.told) for client in clients] == [rounds] * 3
        assert len(stand.store.reads) == rounds
        assert stand.waiting._count == 3
    await clock.advance(0)


async def test_the_defect_of_one_is_not_that_of_the_others(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    before, broken, behind = Client(), Broken(), Client()
    for client in (before, broken, behind):
        assert stand.waiting.wait(KEY, client)
    with caplog.at_level(logging.ERROR):
        stand.waiting.over(KEY, Absent())
    assert (before.told, behind.told) == ([Absent()], [Absent()])
    assert [record.getMessage() for record in caplog.records] == ["a request that waited for a key failed"]
    nothing_is_left(stand)
