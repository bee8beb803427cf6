"""What is peculiar to the SQLite store: the file, the thread, the disk. What it shares with the others is in
tests/contract."""

import asyncio
import os
import resource
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from proxy.core.lifecycle import State
from proxy.deadlines import Deadlines
from proxy.store.base import (
    Absent,
    ClaimResult,
    Done,
    Found,
    Granted,
    ReadResult,
    StoreRefused,
    StoreUnavailable,
    Unavailable,
)
from proxy.store.sqlite import SqliteStore
from tests.support.raw import eventually
from tests.support.stores import Asked, claim_of, completed

DEADLINE = 0.3
MIB = 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = make(path)
    await store.open()
    yield store
    await store.close()


def make(path: Path, limit: int = 4096) -> SqliteStore:
    return SqliteStore(path, deadline=DEADLINE, deadlines=Deadlines(), limit=limit)


def execute(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def contents(path: Path) -> bytes:
    return path.read_bytes()


class TestFile:
    @pytest.fixture
    def diary(self, path: Path) -> Path:
        path.write_text("Dear diary, this is no database at all." * 100)
        return path

    async def test_a_new_file_is_the_owners_alone(self, store: SqliteStore, path: Path) -> None:
        await Asked(store).claim(claim_of())
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
        assert execute(path, "PRAGMA journal_mode") == [("wal",)]

    async def test_records_are_there_after_a_restart(self, path: Path) -> None:
        claim, other = claim_of(), claim_of()
        first = make(path)
        await first.open()
        await Asked(first).claim(claim)
        await Asked(first).claim(other)
        await Asked(first).settle(completed(claim))
        await first.close()

        second = make(path)
        await second.open()
        assert await Asked(second).read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)
        assert await Asked(second).read(other.attempt.key_hash) == Found(other, State.IN_PROGRESS)
        await second.close()

    @pytest.mark.parametrize(
        ("statement", "why"),
        [
            ("CREATE TABLE theirs (a)", "another program"),
            ("PRAGMA application_id = 7", "another program"),
            ("PRAGMA user_version = 4", "another release"),
            ("PRAGMA user_version = 0", "another release"),
        ],
    )
    async def test_a_file_that_is_not_ours_is_refused_and_left_as_it_was(
        self, path: Path, statement: str, why: str
    ) -> None:
        if "user_version" in statement:
            ours = make(path)
            await ours.open()
            await ours.close()
        execute(path, statement)
        before = contents(path)
        store = make(path)
        with pytest.raises(StoreRefused, match=why):
            await store.open()
        await store.close()
        assert contents(path) == before

    async def test_a_file_that_is_no_database_is_refused(self, diary: Path) -> None:
        store = make(diary)
        with pytest.raises(StoreRefused, match="not a SQLite file"):
            await store.open()
        await store.close()

    async def test_a_missing_directory_is_named(self, tmp_path: Path) -> None:
        store = make(tmp_path / "nowhere" / "records.db")
        with pytest.raises(StoreUnavailable, match=r"nowhere.*directory is not there"):
            await store.open()
        await store.close()

    async def test_a_path_that_is_a_directory_is_unavailable(self, tmp_path: Path) -> None:
        store = make(tmp_path)
        with pytest.raises(StoreUnavailable, match="unable to open"):
            await store.open()
        await store.close()

    async def test_a_file_that_is_removed_under_a_running_store_grants_nothing(
        self, store: SqliteStore, path: Path
    ) -> None:
        move(path)
        result = await Asked(store).claim(claim_of())
        assert isinstance(result, Unavailable)
        assert "moved or removed" in result.why
        with pytest.raises(StoreUnavailable, match="moved or removed"):
            await store.ping()

    async def test_expired_records_leave_the_file_a_few_at_each_write(self, store: SqliteStore, path: Path) -> None:
        asked = Asked(store)
        await asyncio.gather(*(asked.claim(claim_of()) for _ in range(20)))
        execute(path, "UPDATE record SET expires = 1")
        await asked.claim(claim_of())
        assert execute(path, "SELECT count(*) FROM record") == [(17,)]
        for _ in range(5):
            await asked.claim(claim_of())
        assert execute(path, "SELECT count(*) FROM record WHERE expires = 1") == [(0,)]


class TestGroupCommit:
    async def test_what_waits_while_the_thread_is_busy_is_committed_together(self, store: SqliteStore) -> None:
        with stuck(store) as job:
            await eventually(job.begun.is_set)
            claims = [asyncio.ensure_future(Asked(store).claim(claim_of())) for _ in range(100)]
            await asyncio.sleep(0)
        assert await asyncio.gather(*claims) == [Granted()] * 100
        assert job.statements.count("COMMIT") == 2  # the job's own, and one for all that waited meanwhile

    async def test_a_store_that_has_enough_waiting_says_so_at_once(self, path: Path) -> None:
        store = make(path, limit=5)
        await store.open()
        with stuck(store):
            claims = [asyncio.ensure_future(Asked(store).claim(claim_of())) for _ in range(10)]
            refused, _ = await asyncio.wait(claims, return_when=asyncio.FIRST_COMPLETED)
            assert {claim.result() for claim in refused} == {Unavailable("too many operations wait for the disk")}
        results = await asyncio.gather(*claims)
        assert results.count(Granted()) == 4  # and the job that kept the thread
        await store.close()


class Stuck:
    """A job that keeps the thread within its transaction, as a disk does that does not answer."""

    answered = False

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.statements: list[str] = []

    def run(self, connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(self.statements.append)
        self.begun.set()
        self.go_on.wait(10)

    def committed(self) -> None:
        pass

    def failed(self, why: str) -> None:
        pass


@contextmanager
def stuck(store: SqliteStore) -> Iterator[Stuck]:
    """The thread is kept for so long."""
    job = Stuck()
    store._writer.submit(job)
    try:
        yield job
    finally:
        job.go_on.set()


class TestDeadline:
    async def test_it_holds_while_the_disk_does_not_answer_and_what_was_not_begun_is_never_done(
        self, store: SqliteStore
    ) -> None:
        claim = claim_of()
        loop = asyncio.get_running_loop()
        with stuck(store) as job:
            await eventually(job.begun.is_set)
            began = loop.time()
            result = await Asked(store).claim(claim)
            assert DEADLINE <= loop.time() - began < DEADLINE + 0.5
            assert result == Unavailable("not done within the deadline: waiting for the disk")
            with pytest.raises(StoreUnavailable, match="waiting for the disk"):
                await store.ping()
        assert await Asked(store).read(claim.attempt.key_hash) == Absent()

    async def test_a_claim_that_is_committed_after_its_answer_is_withdrawn(self, store: SqliteStore) -> None:
        claim = claim_of()
        answers: list[ClaimResult] = []
        store.claim(claim, answers.append)
        with stuck(store) as job:  # in the same batch, behind the claim
            await eventually(job.begun.is_set)
            await eventually(lambda: answers)
        (answer,) = answers
        assert isinstance(answer, Unavailable)
        await eventually_absent(store, claim.attempt.key_hash)
        assert await Asked(store).claim(claim_of(claim.attempt.key_hash)) == Granted()
        assert len(answers) == 1

    async def test_a_claim_that_is_late_when_the_store_closes_is_withdrawn_too(
        self, store: SqliteStore, path: Path
    ) -> None:
        answers: list[ClaimResult] = []
        store.claim(claim_of(), answers.append)
        with stuck(store) as job:
            await eventually(job.begun.is_set)
            await eventually(lambda: answers)
        await store.close()
        assert execute(path, "SELECT count(*) FROM record") == [(0,)]

    async def test_a_settlement_that_is_committed_after_its_answer_stays(self, store: SqliteStore) -> None:
        claim = claim_of()
        await Asked(store).claim(claim)
        answers: list[object] = []
        store.settle(completed(claim), answers.append)
        with stuck(store) as job:
            await eventually(job.begun.is_set)
            await eventually(lambda: answers)
        assert isinstance(answers[0], Unavailable)
        assert await Asked(store).read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)

    async def test_another_program_that_holds_the_file_makes_it_unavailable_until_it_lets_go(
        self, store: SqliteStore, path: Path
    ) -> None:
        claim = claim_of()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert isinstance(await Asked(store).claim(claim), Unavailable)
            other.execute("ROLLBACK")
        assert await Asked(store).claim(claim_of(claim.attempt.key_hash)) == Granted()

    async def test_closing_does_not_wait_for_ever_for_a_stuck_disk(
        self, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = make(path)
        await store.open()
        loop = asyncio.get_running_loop()
        with stuck(store) as job:
            await eventually(job.begun.is_set)
            began = loop.time()
            await store.close()
            assert loop.time() - began < 2 * DEADLINE + 0.5
        assert "does not let go" in caplog.text
        store._writer._thread.join(5)


async def eventually_absent(store: SqliteStore, key_hash: bytes) -> None:
    async def absent() -> bool:
        result: ReadResult = await Asked(store).read(key_hash)
        return result == Absent()

    await eventually(absent)


class TestDisk:
    async def test_a_full_disk_undoes_the_batch_says_so_and_is_over_once_there_is_room(
        self, store: SqliteStore
    ) -> None:
        claim = claim_of()
        await Asked(store).claim(claim)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))  # no file of this process may grow beyond it
        try:
            result = await Asked(store).settle(completed(claim, bytes(2 * MIB)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert isinstance(result, Unavailable)
        assert result.why.startswith("SQLite says: ")
        assert await Asked(store).read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS)
        assert await Asked(store).settle(completed(claim, bytes(2 * MIB))) == Done()

    async def test_a_job_with_a_defect_is_logged_and_the_thread_goes_on(
        self, store: SqliteStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Defective(Stuck):
            def run(self, connection: sqlite3.Connection) -> None:
                raise LookupError("a defect of the job")

        claim = claim_of()
        first = asyncio.ensure_future(Asked(store).claim(claim))
        await asyncio.sleep(0)
        store._writer.submit(Defective())
        await first
        assert await Asked(store).claim(claim_of()) == Granted()
        assert "a job of the SQLite thread failed" in caplog.text


WORKER = """
import asyncio, sys
from pathlib import Path
from proxy.deadlines import Deadlines
from proxy.store.base import Granted
from proxy.store.sqlite import SqliteStore
from tests.support.stores import Asked, claim_of

async def main():
    store = SqliteStore(Path(sys.argv[1]), deadline=5.0, deadlines=Deadlines())
    await store.open()
    print("ready", flush=True)
    sys.stdin.readline()
    async def work(first):
        for n in range(first, 4000, 16):
            if await Asked(store).claim(claim_of(n.to_bytes(16, "big"))) == Granted():
                print(n, flush=True)
    await asyncio.gather(*(work(first) for first in range(16)))
    await store.close()

asyncio.run(main())
"""


async def workers(path: Path, count: int) -> list[asyncio.subprocess.Process]:
    """They all begin at once. What they write is the number of each key that they were granted."""
    arguments = [sys.executable, "-c", WORKER, str(path)]
    pipe, environment = asyncio.subprocess.PIPE, {**os.environ, "PYTHONPATH": "."}
    processes = [
        await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe, env=environment) for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
    return processes


class TestProcesses:
    async def test_two_processes_on_one_file_never_grant_a_key_twice(self, path: Path) -> None:
        processes = await workers(path, 2)
        outputs = [(await process.communicate())[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        granted = [int(line) for output in outputs for line in output.split()]
        assert sorted(granted) == list(range(4000))
        assert all(outputs), "one of them never had its turn"
        assert execute(path, "PRAGMA integrity_check") == [("ok",)]

    async def test_what_was_granted_before_a_kill_is_there_after_it_and_the_file_is_free(self, path: Path) -> None:
        (process,) = await workers(path, 1)
        assert process.stdout is not None
        granted = [await process.stdout.readline() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        granted += (await process.stdout.read()).splitlines(keepends=True)
        await process.wait()

        store = make(path)
        await store.open()
        for line in granted:
            if line.endswith(b"\n"):
                result = await Asked(store).claim(claim_of(int(line).to_bytes(16, "big")))
                assert isinstance(result, Found), line
        await store.close()
