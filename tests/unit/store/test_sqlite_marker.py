"""A file is known by its marker, and one of the release before it had any gets one."""

import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from functools import partial
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
    Kept,
    StoreRefused,
    StoreUnavailable,
    Unavailable,
)
from proxy.store.codec import encode
from proxy.store.marker import FORGOTTEN
from proxy.store.sqlite import SqliteStore
from tests.support.raw import eventually
from tests.support.stores import HOUR, Asked, answer, claim_of, completed, now_ms

DEADLINE = 0.3
BEFORE = (
    "CREATE TABLE record (hash BLOB PRIMARY KEY, expires INTEGER NOT NULL, data BLOB NOT NULL)",
    "CREATE INDEX record_expires ON record (expires)",
    "PRAGMA application_id = 0x49646D50",
    "PRAGMA user_version = 1",
    "PRAGMA journal_mode = WAL",
)
"""What made a file before there were markers."""
OpenStore = Callable[..., Awaitable[Asked]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
async def open_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenStore]:
    """Opens a store on the file, which looks at its marker as often as its deadline allows."""
    monkeypatch.setattr("proxy.store.marker.EVERY", 0.1)
    async with AsyncExitStack() as stack:

        async def start(fingerprint: bytes = b"") -> Asked:
            store = SqliteStore(path, deadline=DEADLINE, deadlines=Deadlines(), fingerprint=fingerprint)
            await store.open()
            stack.push_async_callback(store.close)
            return Asked(store)

        yield start


def execute(path: Path, *statements: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        rows = [connection.execute(statement, values).fetchall() for statement in statements]
    return rows[-1]


async def test_a_file_of_the_release_before_is_taken_over_with_its_records(path: Path, open_store: OpenStore) -> None:
    old = completed(claim_of())
    execute(path, *BEFORE)
    row = (old.attempt.key_hash, now_ms() + HOUR, encode(old))
    execute(path, "INSERT INTO record VALUES (?, ?, ?)", values=row)
    store = await open_store()
    assert await store.read(old.attempt.key_hash) == Found(old, State.COMPLETED)
    assert await store.claim(claim_of()) == Granted()
    assert execute(path, "PRAGMA user_version") == [(3,)]
    assert execute(path, "SELECT count(*) FROM note") == [(1,)]


async def test_a_file_that_lost_its_marker_grants_nothing_until_the_proxy_is_started_anew(
    path: Path, open_store: OpenStore
) -> None:
    store, under_way = await open_store(), claim_of()
    await store.claim(under_way)
    execute(path, "DELETE FROM note", "DELETE FROM record")

    async def forgotten() -> bool:
        return await store.claim(claim_of()) == Unavailable(FORGOTTEN)

    await eventually(forgotten)
    with pytest.raises(StoreUnavailable, match="lost its marker"):
        await store.store.ping()
    assert await store.settle(completed(under_way)) == Done()
    retry = claim_of(under_way.attempt.key_hash)
    assert await store.claim(retry) == Found(completed(under_way), State.COMPLETED)
    anew = await open_store()
    assert await anew.claim(claim_of()) == Granted()
    assert await forgotten(), "its marker is another"


async def test_a_proxy_that_makes_other_keys_is_refused(open_store: OpenStore) -> None:
    await open_store(b"ours")
    await open_store(b"ours")
    with pytest.raises(StoreRefused, match=r"sqlite:///.*: .* one key would become two"):
        await open_store(b"others")


async def test_a_grant_that_is_found_after_the_deadline_is_none(open_store: OpenStore) -> None:
    """The process was stopped in between, and hears of the commit before its own clock ticks."""
    store, claim, results = await open_store(), claim_of(), list[ClaimResult]()
    store.store.claim(claim, results.append)
    time.sleep(DEADLINE + 0.1)  # noqa: ASYNC251  the whole loop stands still
    await eventually(lambda: results)
    assert [type(result) for result in results] == [Unavailable]

    async def withdrawn() -> bool:
        return await store.read(claim.attempt.key_hash) == Absent()

    await eventually(withdrawn)


async def test_a_file_of_the_release_with_markers_gets_a_place_for_what_is_kept(
    path: Path, open_store: OpenStore
) -> None:
    old = completed(claim_of())
    note = "CREATE TABLE note (name TEXT PRIMARY KEY, value BLOB NOT NULL)"
    execute(path, *BEFORE, note, "PRAGMA user_version = 2")
    execute(path, "INSERT INTO record VALUES (?, ?, ?)", values=(old.attempt.key_hash, now_ms() + HOUR, encode(old)))
    store = await open_store()
    assert await answer(partial(store.store.keep, b"dictionary:01234567", b"value", HOUR)) == Done()
    assert await answer(partial(store.store.kept, b"dictionary:01234567")) == Kept(b"value")
    assert await store.read(old.attempt.key_hash) == Found(old, State.COMPLETED)
    assert execute(path, "PRAGMA user_version") == [(3,)]
