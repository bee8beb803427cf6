"""The store takes no settlement: it goes to the disk, its answer to the client, and then to the store after all."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.store import entries as spooled
from proxy.store.spool import Spool
from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, after, respond
from tests.support.proxy import Connection, Proxy, new_key, post, refused
from tests.support.raw import Reply, eventually
from tests.support.stores import answer as answer_of
from tests.support.stores import claim_of, completed, now_ms

DEADLINE = 0.4
WAIT = 0.25
"""Seconds that an answer waits for the store."""
SOON = WAIT + 0.5
"""To write it to the disk after that takes its time on a busy machine, but not as long as the spool may hold it."""
FIELDS = [(b"Content-Type", b"application/json"), (b"X-Order", b"1"), (b"x-order", b"2")]
MET = "settlement met the record of another attempt"
PAID = respond(201, FIELDS, b'{"Amount": 1.00000000000000000001}')


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The store's."""
    return tmp_path / "records.db"


@pytest.fixture
def spool_file(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
async def proxy(start_proxy: StartProxy, file: Path) -> Proxy:
    return await start_proxy(**{"store.url": f"sqlite:///{file}", "store.deadline": f"{DEADLINE}s"})


@pytest.fixture
async def proxy_in_memory(start_proxy: StartProxy) -> Proxy:
    return await start_proxy()


@contextmanager
def down(file: Path) -> Iterator[Callable[[], None]]:
    """The store takes nothing and answers nothing, until the end or until that is called."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def recover() -> None:
            other.execute("ROLLBACK")

        yield recover


@asynccontextmanager
async def under_way(origin: Origin, proxy: Proxy, key: bytes) -> AsyncIterator[Callable[[], "asyncio.Future[Reply]"]]:
    """A payment that is at the API, which answers when that is called; the client's answer comes then."""
    gate = asyncio.Event()
    origin.behave(after(gate, PAID))
    arrived = len(origin.requests) + 1
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: len(origin.requests) == arrived)

        def answer() -> "asyncio.Future[Reply]":
            gate.set()
            return asyncio.ensure_future(client.reply())

        yield answer


def move(file: Path) -> None:
    file.rename(file.with_name("moved.db"))


def moved_back(file: Path) -> None:
    file.with_name("moved.db").rename(file)


def entries(spool_file: Path) -> int:
    with closing(sqlite3.connect(f"file:{spool_file}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM entry").fetchone()
    assert isinstance(count, int)
    return count


def completes(proxy: Proxy, key: bytes) -> Callable[[], object]:
    async def completed() -> bool:
        return await proxy.state(key) == b"completed"

    return completed


async def test_an_answer_that_the_store_does_not_take_leaves_from_the_disk_and_is_recorded_as_it_was_given(
    origin: Origin, proxy: Proxy, file: Path, spool_file: Path
) -> None:
    key = new_key()
    async with under_way(origin, proxy, key) as answer:
        with down(file):
            began = time.monotonic()
            reply = await answer()
            assert WAIT - 0.01 <= time.monotonic() - began < SOON
            assert entries(spool_file) == 1  # on the disk, by then
            assert (reply.status, reply.body) == (201, b'{"Amount": 1.00000000000000000001}')
            await eventually(lambda: proxy.gauge("spooled") == 1)
            assert proxy.gauge("unsettled") == 0
            assert 0 < proxy.gauge("spool_bytes") < 1000

    await eventually(completes(proxy, key), within=10)
    asked = await proxy.retrieve(key)
    assert b'"Resource": {"Amount": 1.00000000000000000001}}' in asked.body
    assert (await proxy.post(key)).status == 409
    await eventually(lambda: entries(spool_file) == 0, within=10)
    await eventually(lambda: proxy.gauge("spooled") == 0)
    assert len(origin.requests) == 1


async def test_a_store_that_is_only_slow_takes_it_once_and_nothing_stays_on_the_disk(
    origin: Origin, start_proxy: StartProxy, file: Path, spool_file: Path
) -> None:
    proxy = await start_proxy(**{"store.url": f"sqlite:///{file}", "store.deadline": "5s"})
    key = new_key()
    async with under_way(origin, proxy, key) as answer:
        with down(file) as recover:
            assert (await answer()).status == 201
            assert entries(spool_file) == 1
            recover()
        await eventually(lambda: entries(spool_file) == 0, within=3)  # well before it would be delivered
    assert await proxy.state(key) == b"completed"


async def test_a_key_that_was_not_used_is_freed_from_the_disk(origin: Origin, proxy: Proxy, file: Path) -> None:
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(429)))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        with down(file):
            gate.set()
            assert (await client.reply()).status == 429
            await eventually(lambda: proxy.gauge("spooled") == 1)
    origin.behave(PAID)

    async def free() -> bool:
        return (await proxy.post(key)).status == 201

    await eventually(free, within=10)
    assert len(origin.requests) == 2


async def test_a_stop_leaves_on_the_disk_what_the_next_start_delivers(
    origin: Origin, start_proxy: StartProxy, file: Path, spool_file: Path
) -> None:
    flags = {"store.url": f"sqlite:///{file}", "store.deadline": f"{DEADLINE}s"}
    proxy = await start_proxy(**flags)
    key = new_key()
    async with under_way(origin, proxy, key) as answer:
        with down(file):
            assert (await answer()).status == 201
            began = time.monotonic()
            await proxy.stop()
            assert time.monotonic() - began < 5  # not for the store: `limits.drain_timeout` is 80 s
            assert entries(spool_file) == 1
    restarted = await start_proxy(**flags)
    await eventually(completes(restarted, key), within=10)
    await eventually(lambda: entries(spool_file) == 0)


async def test_a_hurried_stop_writes_down_what_the_store_has_not_taken_yet(
    origin: Origin, start_proxy: StartProxy, file: Path, spool_file: Path
) -> None:
    flags = {"store.url": f"sqlite:///{file}", "store.deadline": f"{DEADLINE}s"}
    proxy = await start_proxy(**flags)
    key = new_key()
    async with under_way(origin, proxy, key) as answer:
        with down(file):
            reply = answer()
            await proxy.stop(at_once=True)
            reply.cancel()
    restarted = await start_proxy(**flags)
    await eventually(completes(restarted, key), within=10)


async def test_what_cannot_be_written_down_either_is_given_and_kept_in_memory(
    origin: Origin, proxy: Proxy, file: Path, spool_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = new_key()
    async with under_way(origin, proxy, key) as answer:
        move(spool_file)
        with down(file):
            began = time.monotonic()
            assert (await answer()).status == 201
            assert time.monotonic() - began < SOON
            assert proxy.metrics()["spool"]["failures"] == 1
            assert proxy.gauge("unsettled") == 1
            await eventually(lambda: proxy.metrics()["store_failures"]["settle"] == 2)  # it is tried again
    assert "settlement not spooled" in (said := capsys.readouterr().out)
    assert "moved or removed" in said
    await eventually(completes(proxy, key), within=10)
    await eventually(lambda: proxy.gauge("unsettled") == 0)


async def test_a_spool_that_hangs_holds_an_answer_for_a_second_and_no_longer(
    origin: Origin, proxy: Proxy, file: Path, spool_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = new_key()
    async with under_way(origin, proxy, key) as answer:
        with down(file), down(spool_file) as recover:
            began = time.monotonic()
            assert (await answer()).status == 201
            assert WAIT + 0.9 < time.monotonic() - began < WAIT + 2
            recover()
    assert "settlement not spooled" in capsys.readouterr().out
    await eventually(completes(proxy, key), within=10)
    await eventually(lambda: entries(spool_file) == 0, within=10)
    await eventually(lambda: proxy.gauge("unsettled") == 0)


async def test_a_response_that_finds_another_attempts_record_is_kept_and_writes_over_nothing(
    origin: Origin, proxy: Proxy, file: Path
) -> None:
    key = new_key()
    async with under_way(origin, proxy, key) as answer:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("DELETE FROM record")  # the store loses its claims
        origin.behave(respond(200, body=b"the second"))
        assert (await proxy.post(key)).body == b"the second"
        assert (await answer()).status == 201
    await eventually(lambda: proxy.gauge("incidents") == 1, within=10)
    assert (await proxy.record(key))["Resource"] == {"Text": "the second"}
    assert proxy.gauge("spooled") == 0
    assert len(origin.requests) == 2


async def test_a_response_that_meets_anothers_record_while_the_disk_hangs_is_kept_for_the_operator_all_the_same(
    origin: Origin,
    proxy: Proxy,
    file: Path,
    spool_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The disk takes it in the end, but when nobody waits for it any more, and the store has refused it twice."""
    key, disk, put_down = new_key(), threading.Event(), spooled.put

    def hanging(*arguments: Any, **named: Any) -> Any:
        assert disk.wait(10)
        return put_down(*arguments, **named)

    async with under_way(origin, proxy, key) as answer:
        monkeypatch.setattr(spooled, "put", hanging)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("DELETE FROM record")
        origin.behave(respond(200, body=b"the second"))
        assert (await proxy.post(key)).body == b"the second"
        assert (await answer()).status == 201
        await eventually(lambda: MET in capsys.readouterr().out)
        assert entries(spool_file) == 0
        disk.set()
    await eventually(lambda: proxy.gauge("incidents") == 1, within=10)
    await eventually(lambda: proxy.gauge("unsettled") == 0)
    assert entries(spool_file) == 0
    assert (await proxy.record(key))["Resource"] == {"Text": "the second"}


async def test_where_the_disk_fails_too_a_response_that_meets_anothers_record_is_told_and_kept_until_the_disk_has_it(
    origin: Origin, proxy: Proxy, file: Path, spool_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = new_key()
    async with under_way(origin, proxy, key) as answer:
        move(spool_file)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("DELETE FROM record")
        origin.behave(respond(200, body=b"the second"))
        assert (await proxy.post(key)).body == b"the second"
        assert (await answer()).status == 201
    await eventually(lambda: MET in capsys.readouterr().out)
    assert proxy.gauge("unsettled") == 1  # nowhere but in memory
    moved_back(spool_file)
    await eventually(lambda: proxy.gauge("incidents") == 1, within=15)
    await eventually(lambda: proxy.gauge("unsettled") == 0)
    assert (await proxy.record(key))["Resource"] == {"Text": "the second"}


async def test_a_release_that_comes_too_late_takes_the_key_from_nobody(
    origin: Origin, start_proxy: StartProxy, file: Path, spool_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"store.url": f"sqlite://{file}"}
    proxy = await start_proxy(**flags)
    key = new_key()
    assert (await proxy.post(key)).status == 200
    await proxy.stop()
    with closing(sqlite3.connect(file)) as connection:
        ((key_hash,),) = connection.execute("SELECT hash FROM record").fetchall()
    spool = Spool(spool_file, f"sqlite://{file} idempotency:", max_size=1)
    await spool.open()
    await put(spool, claim_of(key_hash)._replace(state=State.ABSENT))
    await spool.close()

    proxy = await start_proxy(**flags)
    await eventually(lambda: proxy.gauge("spool_bytes") == 0 and "taken again" in capsys.readouterr().out)
    assert proxy.gauge("incidents") == 0
    assert (await proxy.record(key))["StatusCode"] == "200"


async def put(spool: Spool, record: Record) -> int:
    number = await answer_of(partial(spool.put, record, 0.0))
    assert isinstance(number, int)
    return number


async def test_a_full_spool_stops_new_keys_and_nothing_else(
    origin: Origin, start_proxy: StartProxy, file: Path, spool_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    another = Spool(spool_file, "a store that is down", max_size=1)
    await another.open()
    proxy = await start_proxy(**{"store.url": f"sqlite:///{file}", "spool.max_size": "10KiB"})
    used, key = new_key(), new_key()
    assert (await proxy.post(used)).status == 200
    number = await put(another, completed(claim_of(), bytes(20_000)))

    async def turned_away() -> bool:
        return (await proxy.post(new_key())).status == 503

    await eventually(turned_away)
    before = len(origin.requests)
    for _ in range(3):
        refused(await proxy.post(key), 503, "store_unavailable")
    assert (await proxy.retrieve(key)).status == 404  # nothing was claimed
    refused(await proxy.post(used), 409, "idempotent_creation_conflict")
    assert (await proxy.record(used))["StatusCode"] == "200"
    assert (await proxy.post()).status == 200  # without a key
    assert len(origin.requests) == before + 1
    assert await proxy.unready() == "the spool is full"
    await eventually(lambda: proxy.gauge("spool_bytes") > 20_000)

    another.remove(number)

    async def taken() -> bool:
        return (await proxy.post(key)).status == 200

    await eventually(taken)
    assert await proxy.unready() is None
    await another.close()
    await eventually(lambda: proxy.gauge("spool_bytes") == 0)
    assert capsys.readouterr().out.count("the spool is full: no new keys are taken") == 1


async def test_the_settlements_of_one_key_reach_the_store_in_their_order(
    start_proxy: StartProxy, file: Path, spool_file: Path
) -> None:
    first = claim_of()
    spool = Spool(spool_file, f"sqlite://{file} idempotency:", max_size=1)
    await spool.open()
    for n in range(5):  # the store had lost the key five times over, and is empty now
        await put(spool, completed(claim_of(first.attempt.key_hash, first_used=now_ms() - n), b"%d" % n))
    await spool.close()

    proxy = await start_proxy(**{"store.url": f"sqlite://{file}"})
    await eventually(lambda: proxy.gauge("incidents") == 4, within=10)
    with closing(sqlite3.connect(file)) as connection:
        ((data,),) = connection.execute("SELECT data FROM record").fetchall()
    assert data.endswith(b"0")  # who came first is there, the others are for an operator


async def test_a_record_that_the_store_cannot_read_holds_up_no_other_key(
    start_proxy: StartProxy, file: Path, spool_file: Path
) -> None:
    flags = {"store.url": f"sqlite://{file}"}
    proxy = await start_proxy(**flags)
    damaged = new_key()
    assert (await proxy.post(damaged)).status == 200
    await proxy.stop()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        ((key_hash,),) = connection.execute("SELECT hash FROM record").fetchall()
        connection.execute("UPDATE record SET data = x'ff'")
    spool = Spool(spool_file, f"sqlite://{file} idempotency:", max_size=1)
    await spool.open()
    await put(spool, completed(claim_of(key_hash)))
    for _ in range(3):
        await put(spool, completed(claim_of()))
    await spool.close()

    proxy = await start_proxy(**flags)
    await eventually(lambda: proxy.gauge("spooled") == 1, within=10)
    with closing(sqlite3.connect(spool_file)) as connection:
        assert connection.execute("SELECT key_hash FROM entry").fetchall() == [(key_hash,)]
    assert (await proxy.retrieve(damaged)).status == 503


async def test_a_store_that_forgets_with_the_process_has_no_spool(proxy_in_memory: Proxy, tmp_path: Path) -> None:
    assert (await proxy_in_memory.post(new_key())).status == 200
    assert contents(tmp_path) == []


def contents(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def test_a_settlement_that_is_late_and_failed_in_one_tick_is_written_down_once(
    origin: Origin, start_proxy: StartProxy, file: Path, spool_file: Path
) -> None:
    proxy = await start_proxy(**{"store.url": f"sqlite:///{file}", "store.deadline": f"{WAIT}s"})
    keys = [new_key() for _ in range(20)]
    async with AsyncExitStack() as stack:
        answers = [await stack.enter_async_context(under_way(origin, proxy, key)) for key in keys]
        with down(file):
            replies = [answer() for answer in answers]
            assert {(await reply).status for reply in replies} == {201}
            await eventually(lambda: proxy.metrics()["store_failures"]["settle"] >= len(keys))
            await eventually(lambda: proxy.gauge("spooled") == len(keys))
            assert entries(spool_file) == len(keys)
