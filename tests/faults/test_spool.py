"""Answers that were given while the store was away, and the proxy that gave them is killed: none of them is lost."""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.delivery import PAUSE_MOST
from proxy.store.entries import Delivered
from proxy.store.spool import Spool
from tests.faults.conftest import PAYOUT, PAYS, Settings
from tests.support.origin import Origin, after, respond
from tests.support.process import ProxyProcess, StartProxy, decoded, run
from tests.support.proxy import new_key, post
from tests.support.raw import eventually
from tests.support.stores import answer as answer_of
from tests.support.stores import claim_of, completed

FULL = "the spool is full: no new keys are taken until the store is back"
QUICK = {"store__deadline": "300ms"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The store's: what is locked in it is a store that is down."""
    return tmp_path / "records.db"


def spool_of(proxy: ProxyProcess) -> Path:
    return proxy.directory / "idempotency-spool.db"


@contextmanager
def down(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def count(spool: Path) -> int:
    """Entries that wait."""
    with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as connection:
        (entries,) = connection.execute("SELECT count(*) FROM entry").fetchone()
    assert isinstance(entries, int)
    return entries


def deliverer(spool: Path) -> int | None:
    """The process that delivers, by the kernel's table of locks."""
    inodes = [f":{turn.stat().st_ino}" for turn in spool.parent.glob(f"{spool.name}-delivery-*")]
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(tuple(inodes)):
            return int(fields[4])
    return None


def has_open(pid: int, spool: Path) -> bool:
    """Whether this process has got as far as to open it."""

    def is_it(entry: Path) -> bool:
        with suppress(FileNotFoundError):  # it was closed meanwhile
            return str(spool) in str(entry.readlink())
        return False

    return any(map(is_it, Path(f"/proc/{pid}/fd").iterdir()))


@asynccontextmanager
async def given_without_the_store(
    proxy: ProxyProcess, origin: Origin, file: Path, keys: list[bytes]
) -> AsyncIterator[None]:
    """Payments that were answered while the store was down, as it still is."""
    gate = asyncio.Event()
    origin.behave(after(gate, PAYS))
    arrived = len(origin.requests) + len(keys)
    payments = [asyncio.create_task(proxy.post(key)) for key in keys]
    await origin.until(lambda: len(origin.requests) == arrived, 10)
    with down(file):
        gate.set()
        for payment in payments:
            reply = await payment
            assert (reply.status, reply.body) == (200, PAYOUT)
        assert count(spool_of(proxy)) == len(keys)  # each was on the disk before its answer left
        yield
    origin.behave(PAYS)


async def delivered(proxy: ProxyProcess, keys: list[bytes]) -> None:
    """Wait until the store has all of them; look at them, and that nothing is left."""
    await eventually(lambda: count(spool_of(proxy)) == 0, 15)
    for key in keys:
        record = await proxy.record(key)
        assert (record["StatusCode"], record["Resource"]) == ("200", {"Id": "2241581"})
        assert (await proxy.post(key)).status == 409


async def test_a_proxy_killed_between_answer_and_delivery_delivers_at_its_next_start(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings, file: Path
) -> None:
    proxy = await start_proxy(sqlite, **QUICK)
    keys = [new_key() for _ in range(20)]
    async with given_without_the_store(proxy, origin, file, keys):
        await proxy.kill()
    assert count(spool_of(proxy)) == len(keys)
    await proxy.start()
    await delivered(proxy, keys)
    assert sum(line["count"] for line in proxy.said("settlements delivered from the spool")) == len(keys)
    assert len(origin.requests) == len(keys)


async def test_a_proxy_that_is_stopped_while_the_store_is_down_stops_and_loses_nothing(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings, file: Path
) -> None:
    proxy = await start_proxy(sqlite, **QUICK)
    key = new_key()
    async with given_without_the_store(proxy, origin, file, [key]):
        assert await proxy.stop() == 0
        assert not proxy.said("stopped before all was settled")
    await proxy.start()
    await delivered(proxy, [key])


async def test_the_worker_that_delivers_is_killed_and_another_takes_over(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings, file: Path
) -> None:
    proxy = await start_proxy(sqlite, **QUICK, workers=2, upstream__max_connections=500)
    await eventually(lambda: [has_open(worker, spool_of(proxy)) for worker in proxy.workers] == [True, True], 20)
    keys = [new_key() for _ in range(100)]
    async with given_without_the_store(proxy, origin, file, keys):

        async def counted() -> bool:
            metrics = await proxy.metrics()
            names = ("spooled", "incidents", "unsettled")
            return [metrics[f"idempotency_proxy_{name}"] for name in names] == [len(keys), 0, 0]

        await eventually(counted, 20)  # the file is one, whoever counts
        first = deliverer(spool_of(proxy))
        assert first is not None
        assert first in proxy.workers
        os.kill(first, signal.SIGKILL)  # while it waits for the store
        await eventually(lambda: deliverer(spool_of(proxy)) not in (first, None), 20)
    await eventually(lambda: count(spool_of(proxy)) < len(keys), 20)
    second = deliverer(spool_of(proxy))
    assert second is not None
    os.kill(second, signal.SIGKILL)  # while it delivers
    await eventually(lambda: len(proxy.said("worker died")) == 2, 20)

    async def ready() -> bool:
        return (await proxy.ops("/readyz")).status == 200

    await eventually(ready, 20)
    await delivered(proxy, keys)
    assert len(origin.requests) == len(keys)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_spool_that_is_full_makes_the_proxy_unready_until_the_store_is_back(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings, file: Path, workers: int
) -> None:
    proxy = await start_proxy(sqlite, **QUICK, workers=workers, spool__max_size="2KiB")
    keys = [new_key() for _ in range(10)]

    async def reason() -> str | None:
        reply = await proxy.ops("/readyz")
        return None if reply.status == 200 else str(decoded(reply, 503)["reason"])

    async def full() -> bool:
        return await reason() == "the spool is full"

    async def ready() -> bool:
        return await reason() is None

    async with given_without_the_store(proxy, origin, file, keys):  # all of them: they were under way
        await eventually(full, 10)
        for _ in range(3):
            assert decoded(await proxy.post(new_key()), 503)["Type"] == "store_unavailable"
        assert 1 <= len(proxy.said(FULL)) <= workers  # once each
    await eventually(ready, 10)
    await eventually(lambda: count(spool_of(proxy)) == 0, 10)

    async def taken_again() -> bool:  # each worker looks once a second how full it is
        return (await proxy.post(keys[0])).status == 409

    await eventually(taken_again)
    assert [(await proxy.record(key))["StatusCode"] for key in keys] == ["200"] * len(keys)
    assert len(origin.requests) == len(keys)
    await eventually(lambda: proxy.said("the spool has room again"))


@pytest.mark.parametrize("comes_back", [True, False])
async def test_what_has_outlived_its_key_is_dropped_with_a_line_in_the_log(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings, file: Path, comes_back: bool
) -> None:
    """Told by the store when it is back; or, where it does not come, after another retention."""
    short = {"upstream__timeout": "1s", "upstream__connect_timeout": "100ms", "upstream__pool_timeout": "100ms"}
    proxy = await start_proxy(sqlite, **QUICK, **short, idempotency__lease_margin="0", idempotency__retention="2s")
    key = new_key()
    began = time.time()
    async with given_without_the_store(proxy, origin, file, [key]):
        if comes_back:
            await eventually(lambda: time.time() > began + 2.5)
            assert not proxy.said("settlement expired in the spool")
        else:
            await eventually(lambda: proxy.said("settlement expired in the spool"), 4 + PAUSE_MOST + 5)
            assert time.time() > began + 3.5
    await eventually(lambda: proxy.said("settlement expired in the spool"), PAUSE_MOST + 5)
    await eventually(lambda: count(spool_of(proxy)) == 0)
    assert (await proxy.retrieve(key)).status == 404
    assert (await proxy.post(key)).status == 200


def listed(proxy: ProxyProcess, settings: Settings, *arguments: str) -> list[str]:
    done = run("incidents", "--upstream", "http://api", *arguments, directory=proxy.directory, settings=settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_an_incident_is_listed_shown_and_forgotten_by_an_operator(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings, file: Path
) -> None:
    proxy = await start_proxy(sqlite)
    assert listed(proxy, sqlite) == []
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(201, body=b"the first")))
    payment = asyncio.create_task(proxy.call(post(key, path=b"/pay?secret=1")))
    await origin.until(lambda: origin.requests)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("DELETE FROM record")  # the store loses its claims
    origin.behave(respond(202, body=b"the second"))
    assert (await proxy.post(key)).status == 202
    gate.set()
    assert (await payment).body == b"the first"

    async def counted() -> bool:
        return (await proxy.metrics())["idempotency_proxy_incidents"] == 1

    await eventually(counted, 10)
    assert (await proxy.record(key))["StatusCode"] == "202"
    (told,) = proxy.said("settlement met the record of another attempt")

    (line,) = listed(proxy, sqlite)  # the proxy runs on meanwhile
    incident = json.loads(line)
    assert (incident["state"], incident["status"]) == ("completed", 201)
    assert incident["url"] == "http://api.example.com/pay"
    assert (incident["key"], incident["token"]) == (told["key"], told["token"])
    assert (incident["owner"]["token"], incident["owner"]["state"]) == (told["owner"], "completed")
    assert len(incident["owner"]["token"]) == 8
    number = str(incident["id"])
    (shown,) = listed(proxy, sqlite, "--show", number)
    assert json.loads(shown)["StatusCode"] == "201"
    assert json.loads(shown)["Resource"] == {"Text": "the first"}

    missing = run("incidents", "--upstream", "http://api", "--show", "999", directory=proxy.directory, settings=sqlite)
    assert (missing.returncode, missing.stdout) == (1, "")
    done = run("incidents", "--upstream", "http://api", "--forget", number, directory=proxy.directory, settings=sqlite)
    assert done.returncode == 0, done.stderr
    audit = json.loads(done.stderr)
    assert (audit["event"], audit["id"], audit["by_uid"]) == ("incident forgotten", incident["id"], os.getuid())
    assert listed(proxy, sqlite) == []
    assert secretless(proxy.text + done.stderr, key)


async def test_an_incident_that_cannot_be_read_hides_no_other_and_can_be_forgotten(
    tmp_path: Path, sqlite: Settings
) -> None:
    file = tmp_path / "idempotency-spool.db"
    spool = Spool(file, "a store", max_size=1_000_000)
    await spool.open()
    records = [completed(claim_of()) for _ in range(3)]
    numbers = [await answer_of(partial(spool.put, record, 0.0)) for record in records]
    met = [(number, claim_of()) for number in numbers if isinstance(number, int)]
    assert await spool.delivered(Delivered([], [], met)) is None
    await spool.close()
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("UPDATE incident SET data = x'09' WHERE id = ?", (numbers[0],))
        connection.execute("UPDATE incident SET owner = x'09' WHERE id = ?", (numbers[1],))

    def incidents(*arguments: str) -> list[dict[str, Any]]:
        arguments = ("incidents", "--upstream", "http://api", *arguments)
        done = run(*arguments, directory=tmp_path, settings=sqlite)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    *damaged, good = incidents()
    assert [line["id"] for line in (*damaged, good)] == numbers
    assert good["token"] == records[2].attempt.token.hex()[:8]
    for line in damaged:
        assert set(line) == {"id", "met", "unreadable"}
        assert line["unreadable"]
        assert incidents("--show", str(line["id"])) == [line]
        incidents("--forget", str(line["id"]))
    assert incidents() == [good]


def secretless(text: str, key: bytes) -> bool:
    return key.decode() not in text and "secret=1" not in text


def test_without_a_spool_there_are_no_incidents_and_none_is_made(tmp_path: Path) -> None:
    done = run("incidents", "--upstream", "http://api", directory=tmp_path)
    assert (done.returncode, done.stdout.startswith("no incidents")) == (0, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_spool_that_cannot_be_opened_is_told_at_the_start(
    tmp_path: Path, sqlite: Settings, workers: int
) -> None:
    path = str(tmp_path / "nowhere" / "spool.db")
    settings = {**sqlite, "upstream.url": "http://127.0.0.1:9", "spool.path": path, "workers": workers}
    for command in ("serve", "check"):
        done = run(command, directory=tmp_path, settings={**settings, "listen": "127.0.0.1:0"})
        assert done.returncode == 1
        assert "nowhere/spool.db: the directory is not there" in done.stdout + done.stderr
