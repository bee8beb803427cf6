"""The store fails: before the send nothing is sent, behind it nothing is lost."""

import asyncio
import logging
import re
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, after, hang, respond
from tests.support.proxy import Connection, Proxy, new_key, post, refused
from tests.support.raw import Reply, eventually
from tests.support.valkey import Valkey

DEADLINE = 0.3
SOON = DEADLINE + 1.0
"""A busy machine may be slow, but not as slow as a second deadline and a retry."""


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own, to be harmed. It writes every command to disk."""
    with Valkey(tmp_path, appendonly=True) as server:
        yield server


@pytest.fixture
async def proxy(start_proxy: StartProxy, victim: Valkey) -> Proxy:
    return await start_proxy(**{"store.url": victim.url, "store.deadline": f"{DEADLINE}s", "upstream.timeout": "5s"})


def assert_store_unavailable(reply: Reply) -> None:
    refused(reply, 503, "store_unavailable")
    assert re.fullmatch(rb"[1-9]\d*", reply.field(b"Retry-After") or b"")
    for name in (b"Idempotency-State", b"Idempotency-Expires", b"Link"):
        assert reply.field(name) is None


def posts(proxy: Proxy, key: bytes) -> Callable[[], Awaitable[bool]]:
    """Whether a POST with that key has gone through, at last."""

    async def gone_through() -> bool:
        return (await proxy.post(key)).status == 200

    return gone_through


def is_in_state(proxy: Proxy, key: bytes, state: bytes | None) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        reply = await proxy.retrieve(key)
        return reply.status != 503 and reply.field(b"Idempotency-State") == state

    return is_so


async def recover(victim: Valkey, down: str) -> None:
    if down == "killed":
        await asyncio.to_thread(victim.start)
    else:
        victim.resume()


@pytest.fixture(params=["killed", "silent"])
def down(request: pytest.FixtureRequest) -> str:
    """A closed port; or one that takes everything and answers nothing."""
    return str(request.param)


def harm(victim: Valkey, down: str) -> None:
    if down == "killed":
        victim.kill()
    else:
        victim.pause()


async def test_without_a_store_nothing_is_forwarded_and_the_key_stays_usable(
    origin: Origin, proxy: Proxy, victim: Valkey, down: str
) -> None:
    key = new_key()
    harm(victim, down)
    began = time.monotonic()
    assert_store_unavailable(await proxy.post(key))
    assert time.monotonic() - began < SOON
    began = time.monotonic()
    replies = await asyncio.gather(*(proxy.post(new_key()) for _ in range(20)))
    assert time.monotonic() - began < SOON
    for reply in replies:
        assert_store_unavailable(reply)
    assert_store_unavailable(await proxy.retrieve(key))
    assert origin.requests == []
    await recover(victim, down)
    await eventually(posts(proxy, key))
    assert len(origin.requests) == 1
    assert (await proxy.post(key)).status == 409


async def test_without_a_store_what_needs_none_works(origin: Origin, proxy: Proxy, victim: Valkey, down: str) -> None:
    harm(victim, down)
    assert (await proxy.post()).status == 200
    assert (await proxy.post(b"short")).status == 400
    await recover(victim, down)


async def test_a_store_that_fails_under_way_does_not_keep_the_answer_from_the_client(
    origin: Origin, proxy: Proxy, victim: Valkey, down: str
) -> None:
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(201, body=b"paid")))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        harm(victim, down)
        gate.set()
        began = time.monotonic()
        reply = await client.reply()
        assert time.monotonic() - began < SOON
    assert (reply.status, reply.body) == (201, b"paid")
    await recover(victim, down)
    await eventually(is_in_state(proxy, key, b"completed"), within=10)  # the settlement goes on behind its back
    assert (await proxy.record(key))["Resource"] == {"Text": "paid"}
    assert (await proxy.post(key)).status == 409
    assert len(origin.requests) == 1


async def test_a_large_answer_streams_on_without_the_store_and_its_record_follows(
    origin: Origin, start_proxy: StartProxy, victim: Valkey, down: str
) -> None:
    flags = {"store.url": victim.url, "store.deadline": f"{DEADLINE}s", "record.max_body": "1KiB"}
    proxy = await start_proxy(**flags)
    key, gate, body = new_key(), asyncio.Event(), b"x" * 3_000_000
    origin.behave(after(gate, respond(200, body=body)))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        harm(victim, down)
        gate.set()
        assert (await client.reply()).body == body
    await recover(victim, down)
    await eventually(is_in_state(proxy, key, b"completed"), within=10)
    record = await proxy.record(key)
    assert (record["Truncated"], record["ContentLength"]) == (True, str(len(body)))
    assert len(origin.requests) == 1


async def test_a_store_that_comes_back_empty_is_told_the_outcome(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("proxy.store.marker"), "propagate", False)  # it says so, as an error
    with Valkey(tmp_path) as victim:  # nothing of it is on disk
        proxy = await start_proxy(**{"store.url": victim.url, "store.deadline": f"{DEADLINE}s"})
        key, gate = new_key(), asyncio.Event()
        origin.behave(after(gate, respond(201, body=b"paid")))
        async with Connection(proxy.port) as client:
            client.send(post(key))
            await origin.until(lambda: origin.requests)
            victim.kill()
            gate.set()
            assert (await client.reply()).status == 201
        await asyncio.to_thread(victim.start)
        await eventually(is_in_state(proxy, key, b"completed"), within=10)
        assert (await proxy.post(key)).status == 409
        await proxy.stop(at_once=True)
    assert len(origin.requests) == 1


async def test_an_unknown_outcome_reaches_a_store_that_comes_back(
    origin: Origin, start_proxy: StartProxy, victim: Valkey, down: str
) -> None:
    flags = {"store.url": victim.url, "store.deadline": f"{DEADLINE}s", "upstream.timeout": "300ms"}
    proxy = await start_proxy(**flags)
    key = new_key()
    origin.behave(hang())
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        harm(victim, down)
        reply = await client.reply()
    assert (reply.status, reply.field(b"Idempotency-State")) == (504, b"unknown")
    await recover(victim, down)
    await eventually(is_in_state(proxy, key, b"unknown"), within=10)
    assert (await proxy.post(key)).status == 409
    assert len(origin.requests) == 1


async def test_a_key_is_freed_late_where_the_store_was_away(
    origin: Origin, proxy: Proxy, victim: Valkey, down: str
) -> None:
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(401)))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        harm(victim, down)
        gate.set()
        assert (await client.reply()).status == 401
    origin.behave(respond(200))
    await recover(victim, down)
    await eventually(posts(proxy, key), within=10)
    assert len(origin.requests) == 2


async def test_a_restarted_store_has_every_record(origin: Origin, proxy: Proxy, victim: Valkey) -> None:
    keys = [new_key() for _ in range(10)]
    assert {(await proxy.post(key)).status for key in keys} == {200}
    await asyncio.to_thread(victim.restart)
    for key in keys:
        await eventually(is_in_state(proxy, key, b"completed"))
        assert (await proxy.post(key)).status == 409
    assert len(origin.requests) == len(keys)


async def test_a_locked_file_is_a_store_that_is_down(origin: Origin, start_proxy: StartProxy, tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    proxy = await start_proxy(**{"store.url": f"sqlite:///{file}", "store.deadline": f"{DEADLINE}s"})
    key, lost = new_key(), new_key()
    gate = asyncio.Event()
    origin.behave(after(gate, respond(200)))
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        async with Connection(proxy.port) as client:
            client.send(post(key))
            await origin.until(lambda: origin.requests)
            other.execute("BEGIN IMMEDIATE")  # another process writes, and does not come to an end
            began = time.monotonic()
            assert_store_unavailable(await proxy.post(lost))
            assert time.monotonic() - began < SOON
            gate.set()
            assert (await client.reply()).status == 200
        assert len(origin.requests) == 1
        other.execute("COMMIT")
    await eventually(is_in_state(proxy, key, b"completed"), within=10)
    await eventually(posts(proxy, lost))
    assert len(origin.requests) == 2
