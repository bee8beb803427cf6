"""`kill -9` of the proxy at each step of a payment, held there by a gate outside of it: in front of its store, of its
spool, or of the API. Each time: executed at most once, the key has a state, and what was given is recorded."""

import asyncio
import fcntl
import os
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest

from tests.faults.conftest import PAYOUT, PAYS, Settings
from tests.support.origin import Origin, after
from tests.support.process import ProxyProcess, StartProxy, decoded
from tests.support.proxy import Connection, new_key, post
from tests.support.raw import eventually
from tests.support.relay import Relay
from tests.support.valkey import Valkey

PATIENT = {"store__deadline": "6s"}
"""The proxy waits at the gate for longer than the test needs."""


class Gate(Protocol):
    """Stands in front of a store."""

    settings: Settings

    def shut(self) -> None:
        """Nothing gets through to the store."""

    def open(self) -> None:
        """All does, also what a proxy that is dead by now had sent."""

    def lose(self) -> Settings:
        """What stands there goes down with the proxy; what the next one is to be started with."""

    def reached(self, script: bool) -> bool:
        """Whether the proxy stands there with a claim, or with a settlement (*script*)."""


class Flock:
    """In front of a SQLite file: the lock without which no process touches it."""

    def __init__(self, path: Path) -> None:
        self.settings: Settings = {"store.url": f"sqlite:///{path}"}
        self._file = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT, 0o600)

    def shut(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def open(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def lose(self) -> Settings:
        """The kernel has taken it out of the queue."""
        self.open()
        return {}

    def reached(self, script: bool) -> bool:
        """By the kernel's table of locks: who waits for one has an arrow."""
        inode = f":{os.fstat(self._file).st_ino}"
        waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
        return any(field.endswith(inode) for fields in waiting for field in fields)

    def close(self) -> None:
        os.close(self._file)


class Wire:
    """In front of a Redis server: a relay that holds what the proxy sends."""

    def __init__(self, relay: Relay, server: Valkey) -> None:
        self.settings: Settings = {"store.url": f"redis://127.0.0.1:{relay.port}/0", "store.prefix": f"test:{uuid4()}:"}
        self._relay = relay
        self._server = server

    def shut(self) -> None:
        self._relay.hold()

    def open(self) -> None:
        self._relay.let_go()

    def lose(self) -> Settings:
        """The relay keeps it for ever: the next one goes around it."""
        return {"store__url": self._server.url}

    def reached(self, script: bool) -> bool:
        word = b"EVALSHA\r\n" if script else b"SET\r\n"
        return any(word in link.held for link in self._relay.links)


@pytest.fixture(params=["sqlite", "redis"])
async def gate(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gate]:
    if request.param == "sqlite":
        with closing(Flock(tmp_path / "records.db")) as flock:
            yield flock
        return
    server: Valkey = request.getfixturevalue("valkey")
    async with Relay(server.port) as relay:
        yield Wire(relay, server)


@pytest.fixture
async def nowhere() -> AsyncIterator[int]:
    """A port of a listener whose queue is full: who connects there waits."""
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def spool_of(proxy: ProxyProcess) -> Path:
    return proxy.directory / "idempotency-spool.db"


def spooled(proxy: ProxyProcess) -> int:
    with closing(sqlite3.connect(f"file:{spool_of(proxy)}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM entry").fetchone()[0])


async def is_free(proxy: ProxyProcess, origin: Origin, key: bytes) -> None:
    """Nobody has used it: the retry is the first request."""
    assert (await proxy.retrieve(key)).status == 404
    assert (await proxy.post(key)).body == PAYOUT
    await is_completed(proxy, origin, key)


async def is_taken(proxy: ProxyProcess, origin: Origin, key: bytes, executed: int) -> None:
    """What became of it nobody knows: it is not sent again, and later reads as unknown."""
    asked = await proxy.retrieve(key)
    assert decoded(asked, 409)["Type"] == "idempotent_request_in_progress"
    again = await proxy.post(key)
    assert decoded(again, 409)["Type"] == "idempotent_creation_conflict"
    assert again.field(b"Idempotency-State") == b"in_progress"
    assert again.field(b"Retry-After") is not None
    assert len(origin.requests) == executed


async def is_completed(proxy: ProxyProcess, origin: Origin, key: bytes) -> None:
    """Executed once, and the response is there for whoever asks."""
    again = await proxy.post(key)
    assert decoded(again, 409)["Type"] == "idempotent_creation_conflict"
    assert again.field(b"Idempotency-State") == b"completed"
    record = await proxy.record(key)
    assert (record["StatusCode"], record["ContentLength"]) == ("200", str(len(PAYOUT)))
    assert record["Resource"] == {"Id": "2241581"}
    assert [request.all(b"Idempotency-Key") for request in origin.requests] == [[key]]


async def at_the_api(origin: Origin, client: Connection, key: bytes) -> asyncio.Event:
    """A payment gets as far as the API, which answers when the event is set."""
    answer = asyncio.Event()
    origin.behave(after(answer, PAYS))
    client.send(post(key))
    await origin.until(lambda: origin.requests)
    return answer


async def test_killed_before_its_claim_reaches_the_store_leaves_the_key_free(
    origin: Origin, start_proxy: StartProxy, gate: Gate
) -> None:
    proxy, key = await start_proxy(gate.settings, **PATIENT), new_key()
    gate.shut()
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await eventually(lambda: gate.reached(script=False))
        await proxy.kill()
        assert await client.rest() == b""
    await proxy.start(**gate.lose())
    await is_free(proxy, origin, key)


async def test_killed_while_its_claim_is_on_the_way_leaves_a_key_that_was_never_sent_and_reads_so(
    origin: Origin, start_proxy: StartProxy, valkey: Valkey
) -> None:
    """The claim is applied after the death of who made it. Nobody can know that it was never sent."""
    async with Relay(valkey.port) as relay:
        gate = Wire(relay, valkey)
        proxy, key = await start_proxy(gate.settings, **PATIENT), new_key()
        gate.shut()
        async with Connection(proxy.port) as client:
            client.send(post(key))
            await eventually(lambda: gate.reached(script=False))
            await proxy.kill()
        gate.open()
        await proxy.start()

        async def claimed() -> bool:
            return await proxy.state(key) is not None

        await eventually(claimed)
        await is_taken(proxy, origin, key, executed=0)


async def test_killed_between_claim_and_send_leaves_the_key_taken_and_nothing_executed(
    origin: Origin, start_proxy: StartProxy, gate: Gate, nowhere: int
) -> None:
    """It has the key, and waits for a connection to the API."""
    proxy, key = await start_proxy(gate.settings, **PATIENT, upstream__url=f"http://127.0.0.1:{nowhere}"), new_key()
    async with Connection(proxy.port) as client:
        client.send(post(key))

        async def claimed() -> bool:
            return await proxy.state(key) == b"in_progress"

        await eventually(claimed)
        await proxy.kill()
        assert await client.rest() == b""
    await proxy.start(upstream__url=f"http://127.0.0.1:{origin.port}")
    await is_taken(proxy, origin, key, executed=0)


async def test_killed_after_the_request_was_sent_never_sends_it_again(
    origin: Origin, start_proxy: StartProxy, gate: Gate
) -> None:
    proxy, key = await start_proxy(gate.settings, **PATIENT), new_key()
    async with Connection(proxy.port) as client:
        answer = await at_the_api(origin, client, key)
        await proxy.kill()
        assert await client.rest() == b""
    answer.set()
    await proxy.start()
    await is_taken(proxy, origin, key, executed=1)


async def test_killed_with_the_response_in_its_memory_alone_has_given_nobody_anything(
    origin: Origin, start_proxy: StartProxy, gate: Gate
) -> None:
    """Neither store nor spool have it: so it was not given either."""
    proxy, key = await start_proxy(gate.settings, **PATIENT), new_key()
    with closing(Flock(spool_of(proxy))) as spool:
        async with Connection(proxy.port) as client:
            answer = await at_the_api(origin, client, key)
            gate.shut()
            spool.shut()
            answer.set()
            await eventually(lambda: gate.reached(script=True))
            await proxy.kill()
            assert await client.rest() == b""
    await proxy.start(**gate.lose())
    await is_taken(proxy, origin, key, executed=1)


async def test_killed_between_settlement_and_answer_has_the_response_for_who_asks(
    origin: Origin, start_proxy: StartProxy, valkey: Valkey
) -> None:
    """The settlement is on its way, is applied by the store, and its reply comes to nobody."""
    async with Relay(valkey.port) as relay:
        gate = Wire(relay, valkey)
        proxy, key = await start_proxy(gate.settings, **PATIENT), new_key()
        with closing(Flock(spool_of(proxy))) as spool:
            async with Connection(proxy.port) as client:
                answer = await at_the_api(origin, client, key)
                gate.shut()
                spool.shut()
                answer.set()
                await eventually(lambda: gate.reached(script=True))
                await proxy.kill()
                assert await client.rest() == b""
        gate.open()
        await proxy.start()

        async def settled() -> bool:
            return await proxy.state(key) == b"completed"

        await eventually(settled)
        await is_completed(proxy, origin, key)


async def test_killed_right_after_its_answer_has_the_response_for_who_asks(
    origin: Origin, start_proxy: StartProxy, gate: Gate
) -> None:
    proxy, key = await start_proxy(gate.settings, **PATIENT), new_key()
    assert (await proxy.post(key)).body == PAYOUT
    await proxy.kill()
    await proxy.start()
    await is_completed(proxy, origin, key)


async def given_from_the_spool(proxy: ProxyProcess, origin: Origin, gate: Gate, key: bytes) -> None:
    """A payment is answered while the store is behind its gate, and waits in the spool."""
    async with Connection(proxy.port) as client:
        answer = await at_the_api(origin, client, key)
        gate.shut()
        answer.set()
        reply = await client.reply()
        assert (reply.status, reply.body) == (200, PAYOUT)
    assert spooled(proxy) == 1


async def test_killed_while_it_delivers_from_the_spool_delivers_at_its_next_start(
    origin: Origin, start_proxy: StartProxy, gate: Gate
) -> None:
    proxy, key = await start_proxy(gate.settings, store__deadline="400ms"), new_key()
    await given_from_the_spool(proxy, origin, gate, key)
    tries = {"event": "store unavailable", "operation": "settle"}.items()
    await eventually(lambda: sum(tries <= line.items() for line in proxy.log) > 1)  # the second was the delivery's
    await proxy.kill()
    assert spooled(proxy) == 1
    gate.open()
    await proxy.start()
    await eventually(lambda: spooled(proxy) == 0)
    await is_completed(proxy, origin, key)


async def test_killed_between_delivery_and_its_note_of_it_delivers_twice_what_counts_once(
    origin: Origin, start_proxy: StartProxy, gate: Gate
) -> None:
    """The store has taken it, the spool has it still."""
    proxy, key = await start_proxy(gate.settings, store__deadline="3s"), new_key()
    await given_from_the_spool(proxy, origin, gate, key)
    with closing(Flock(spool_of(proxy))) as spool:
        spool.shut()
        gate.open()

        async def settled() -> bool:
            return await proxy.state(key) == b"completed"

        await eventually(settled)
        await proxy.kill()
    assert spooled(proxy) == 1
    await proxy.start()
    await eventually(lambda: spooled(proxy) == 0, 10)
    await is_completed(proxy, origin, key)
    assert not proxy.said("settlement met the record of another attempt")
