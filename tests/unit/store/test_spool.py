"""The spool: what is kept in it, in which order it comes out, and what it makes of a file that fails."""

import asyncio
import os
import resource
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.store.base import StoreRefused, StoreUnavailable, Unavailable
from proxy.store.entries import DUE, HORIZON, Batch, Delivered, Entry, Incident, Tally, Unreadable
from proxy.store.spool import BATCH, Spool
from tests.support.raw import eventually
from tests.support.stores import HOUR, claim_of, completed, now_ms, unknown

STORE = "redis://127.0.0.1:6379/0 idempotency:"
MIB = 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
async def spool(path: Path) -> AsyncIterator[Spool]:
    spool = make(path)
    await spool.open()
    yield spool
    await spool.close()


def make(path: Path, store: str = STORE, max_size: int = MIB) -> Spool:
    return Spool(path, store, max_size=max_size)


def execute(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


async def put(spool: Spool, record: Record, delay: float = 0.0) -> int:
    """Its number."""
    result = await tried(spool, record, delay)
    assert isinstance(result, int), result
    return result


async def tried(spool: Spool, record: Record, delay: float = 0.0) -> int | Unavailable:
    future: asyncio.Future[int | Unavailable] = asyncio.get_running_loop().create_future()
    spool.put(record, delay, future.set_result)
    async with asyncio.timeout(5):
        return await future


async def batch(spool: Spool) -> list[Entry]:
    found = await spool.batch()
    assert isinstance(found, Batch)
    assert found.unreadable == []
    return found.entries


async def over(spool: Spool, *numbers: int) -> None:
    assert await spool.delivered(Delivered(list(numbers), [], [])) is None


def released(record: Record) -> Record:
    return record._replace(state=State.ABSENT)


class TestWhatComesOut:
    async def test_a_settlement_comes_out_as_it_went_in(self, spool: Spool) -> None:
        records = [completed(claim_of(), bytes(range(256)) * 40), unknown(claim_of()), released(claim_of())]
        numbers = [await put(spool, record) for record in records]
        assert await batch(spool) == [Entry(number, record) for number, record in zip(numbers, records, strict=True)]

    async def test_of_a_release_the_response_does_not_matter(self, spool: Spool) -> None:
        claim = claim_of()
        await put(spool, released(completed(claim, b"401, that is")))
        (entry,) = await batch(spool)
        assert entry.record == released(claim)

    async def test_it_is_there_after_a_restart(self, path: Path) -> None:
        record = completed(claim_of())
        first = make(path)
        await first.open()
        number = await put(first, record)
        await first.close()

        second = make(path)
        await second.open()
        assert second.tally.entries == 1
        assert await batch(second) == [Entry(number, record)]
        await second.close()

    async def test_what_is_put_just_before_the_end_is_written(self, path: Path) -> None:
        spool = make(path)
        await spool.open()
        spool.put(completed(claim_of()), 0.0, lambda _: None)
        await spool.close()
        assert execute(path, "SELECT count(*) FROM entry") == [(1,)]

    async def test_entries_come_out_in_their_order_a_batch_at_a_time(self, spool: Spool) -> None:
        numbers = await asyncio.gather(*(put(spool, completed(claim_of())) for _ in range(BATCH + 10)))
        first = [entry.id for entry in await batch(spool)]
        assert first == sorted(numbers)[:BATCH]
        await over(spool, *first)
        assert [entry.id for entry in await batch(spool)] == sorted(numbers)[BATCH:]

    async def test_large_entries_come_a_few_at_a_time(self, spool: Spool) -> None:
        for _ in range(12):
            await put(spool, completed(claim_of(), bytes(MIB)))
        assert len(await batch(spool)) == 8

    async def test_of_one_key_the_next_comes_out_when_the_one_before_is_over(self, spool: Spool) -> None:
        claim = claim_of()
        rival = claim_of(claim.attempt.key_hash)
        release = await put(spool, released(claim))
        settle = await put(spool, completed(rival))
        other = await put(spool, completed(claim_of()))
        assert [entry.id for entry in await batch(spool)] == [release, other]
        assert await spool.delivered(Delivered([other], [release], [])) is None  # the store had no answer to it
        assert await batch(spool) == []  # the later one waits with it
        await over(spool, release)
        assert [entry.id for entry in await batch(spool)] == [settle]

    async def test_the_next_batch_costs_the_same_however_much_waits_behind_it(self, spool: Spool, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {DUE}", {"store": STORE, "now": 0, "horizon": 0}).fetchall()
        assert not [step for *_, step in plan if "TEMP B-TREE" in step], plan

    async def test_what_its_store_may_still_take_is_not_delivered_meanwhile(self, spool: Spool) -> None:
        number = await put(spool, completed(claim_of()), delay=0.2)
        assert await batch(spool) == []

        async def due() -> bool:
            return [entry.id for entry in await batch(spool)] == [number]

        await eventually(due)

    async def test_a_clock_that_is_set_back_does_not_keep_an_entry_back(self, spool: Spool, path: Path) -> None:
        number = await put(spool, completed(claim_of()))
        execute(path, "UPDATE entry SET due = ?", now_ms() + HORIZON + HOUR)
        assert [entry.id for entry in await batch(spool)] == [number]

    async def test_what_the_store_took_after_all_does_not_come_out(self, spool: Spool) -> None:
        number = await put(spool, completed(claim_of()))
        spool.remove(number)
        assert await batch(spool) == []
        assert spool.tally == Tally()

    async def test_numbers_are_never_given_twice(self, spool: Spool) -> None:
        first = await put(spool, completed(claim_of()))
        await over(spool, first)
        assert await put(spool, completed(claim_of())) > first

    async def test_an_entry_that_cannot_be_read_is_told_once_and_holds_up_no_other_key(
        self, spool: Spool, path: Path
    ) -> None:
        damaged, good = await put(spool, completed(claim_of())), await put(spool, completed(claim_of()))
        execute(path, "UPDATE entry SET data = x'ff' WHERE id = ?", damaged)
        found = await spool.batch()
        assert isinstance(found, Batch)
        assert ([entry.id for entry in found.entries], found.unreadable) == ([good], [damaged])
        assert [entry.id for entry in await batch(spool)] == [good]
        assert execute(path, "SELECT count(*) FROM entry") == [(2,)]

    async def test_what_has_outlived_its_record_by_another_retention_is_removed_and_named(self, spool: Spool) -> None:
        ages = [3 * HOUR, 3 * HOUR // 2, 0]  # of keys that are kept for an hour
        claims = [claim_of(first_used=now_ms() - age) for age in ages]
        for claim in claims:
            await put(spool, completed(claim))
        assert await spool.expire() == [claims[0].attempt.key_hash]
        assert [entry.record.attempt for entry in await batch(spool)] == [claim.attempt for claim in claims[1:]]


class TestStores:
    async def test_a_settlement_is_never_given_to_another_store(
        self, spool: Spool, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        number = await put(spool, completed(claim_of()))
        other = make(path, "redis://elsewhere:6379/0 idempotency:")
        await other.open()
        assert "1 settlements wait for another store, redis://127.0.0.1" in caplog.text
        assert await batch(other) == []
        assert other.take_turn()
        assert spool.take_turn()  # each delivers to its own
        assert [entry.id for entry in await batch(spool)] == [number]
        await other.close()


class TestTurns:
    async def test_one_delivers_and_another_takes_over_when_it_ends(self, spool: Spool, path: Path) -> None:
        other = make(path)
        await other.open()
        assert spool.take_turn()
        assert spool.take_turn()
        assert not other.take_turn()
        await spool.close()
        assert not spool.delivers
        assert other.take_turn()
        await other.close()

    async def test_a_killed_process_leaves_its_turn_to_the_next(self, spool: Spool, path: Path) -> None:
        pipe, environment = asyncio.subprocess.PIPE, {**os.environ, "PYTHONPATH": "."}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLDER, str(path), STORE, stdin=pipe, stdout=pipe, env=environment
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"True\n"
        assert not spool.take_turn()
        await spool.look()
        assert spool.tally.entries == 1  # what the other has put is seen here
        process.kill()
        await process.wait()
        assert spool.take_turn()
        assert len(await batch(spool)) == 1


HOLDER = """
import asyncio, sys
from pathlib import Path
from proxy.store.spool import Spool
from tests.support.stores import claim_of, completed

async def main():
    spool = Spool(Path(sys.argv[1]), sys.argv[2], max_size=1000)
    await spool.open()
    kept = asyncio.get_running_loop().create_future()
    spool.put(completed(claim_of()), 0.0, kept.set_result)
    await kept
    print(spool.take_turn(), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


class TestIncidents:
    async def test_a_settlement_that_met_another_attempt_is_kept_with_what_it_met(self, spool: Spool) -> None:
        record, owner = completed(claim_of()), unknown(claim_of())
        number = await put(spool, record)
        assert await spool.delivered(Delivered([], [], [(number, owner)])) is None
        assert await batch(spool) == []
        (incident,) = await spool.incidents()
        assert incident == Incident(number, incident.met, record, owner)
        assert abs(incident.met - now_ms()) < 10_000
        assert (spool.tally.entries, spool.tally.incidents) == (0, 1)

        assert not await spool.forget(number + 1)
        assert await spool.forget(number)
        assert await spool.incidents() == []
        assert spool.tally == Tally()

    async def test_one_that_cannot_be_read_hides_no_other_and_can_be_forgotten(self, spool: Spool, path: Path) -> None:
        records = [completed(claim_of()) for _ in range(2)]
        damaged, good = [await put(spool, record) for record in records]
        owner = claim_of()
        await spool.delivered(Delivered([], [], [(damaged, owner), (good, owner)]))
        execute(path, "UPDATE incident SET data = x'09' WHERE id = ?", damaged)
        unreadable, readable = await spool.incidents()
        assert isinstance(unreadable, Unreadable)
        assert unreadable.id == damaged
        assert abs(unreadable.met - now_ms()) < 10_000
        assert readable == Incident(good, readable.met, records[1], owner)
        assert await spool.forget(damaged)
        assert await spool.incidents() == [readable]

    async def test_it_is_kept_for_its_retention_again_and_then_goes(self, spool: Spool, path: Path) -> None:
        number = await put(spool, completed(claim_of(first_used=now_ms() - HOUR + 5000)))
        await spool.delivered(Delivered([], [], [(number, claim_of())]))
        ((left,),) = execute(path, "SELECT expires - ? FROM incident", now_ms())
        assert isinstance(left, int)
        assert abs(left - HOUR) < 10_000
        execute(path, "UPDATE incident SET expires = 1")
        await spool.expire()
        assert await spool.incidents() == []
        assert spool.tally == Tally()


class TestSize:
    async def test_it_is_full_from_its_size_on_and_has_room_again_behind_that(self, path: Path) -> None:
        spool = make(path, max_size=10_000)
        await spool.open()
        numbers = [await put(spool, completed(claim_of(), bytes(4000))) for _ in range(2)]
        assert not spool.full
        numbers.append(await put(spool, completed(claim_of(), bytes(4000))))
        assert spool.full
        assert 12_000 < spool.tally.bytes < 14_000
        numbers.append(await put(spool, completed(claim_of())))  # what is under way has its place all the same
        await over(spool, *numbers[:2])
        assert not spool.full
        await spool.close()

    async def test_it_is_as_full_as_all_processes_have_made_it(self, path: Path) -> None:
        one, other = make(path, max_size=1000), make(path, max_size=1000)
        await one.open()
        await other.open()
        await put(one, completed(claim_of(), bytes(4000)))
        assert not other.full
        await other.look()
        assert other.full
        await one.close()
        await other.close()


class TestFile:
    async def test_a_new_file_is_the_owners_alone(self, spool: Spool, path: Path) -> None:
        await put(spool, completed(claim_of()))
        assert spool.take_turn()
        files = list(path.parent.iterdir())
        assert len(files) == 5
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name

    async def test_the_records_of_the_store_are_no_spool(self, path: Path) -> None:
        execute(path, "PRAGMA application_id = 1231318352")
        spool = make(path)
        with pytest.raises(StoreRefused, match="another program"):
            await spool.open()
        await spool.close()

    async def test_a_directory_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        spool = make(tmp_path / "nowhere" / "spool.db")
        with pytest.raises(StoreUnavailable, match=r"^spool: .*nowhere.*directory is not there"):
            await spool.open()
        await spool.close()

    async def test_a_file_that_was_moved_takes_nothing(self, spool: Spool, path: Path) -> None:
        move(path)
        result = await tried(spool, completed(claim_of()))
        assert isinstance(result, Unavailable)
        assert "moved or removed" in result.why

    async def test_a_full_disk_takes_nothing_says_so_and_is_over_once_there_is_room(self, spool: Spool) -> None:
        kept = await put(spool, completed(claim_of()))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))  # no file of this process may grow beyond it
        try:
            result = await tried(spool, completed(claim_of(), bytes(2 * MIB)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert isinstance(result, Unavailable)
        assert result.why.startswith("SQLite says: ")
        assert [entry.id for entry in await batch(spool)] == [kept]
        await put(spool, completed(claim_of(), bytes(2 * MIB)))

    async def test_a_closed_spool_takes_nothing(self, path: Path) -> None:
        spool = make(path)
        await spool.open()
        await spool.close()
        assert await tried(spool, completed(claim_of())) == Unavailable("the spool is closed")
        with pytest.raises(StoreUnavailable, match="the spool is closed"):
            await spool.incidents()

    async def test_nobody_is_told_from_within_the_call(self, spool: Spool) -> None:
        told: list[object] = []
        note: Callable[[object], None] = told.append
        spool.put(completed(claim_of()), 0.0, note)
        assert told == []
        await eventually(lambda: told)
