"""A stop in good order, and one that is hurried: the payments under way end, and what cannot end stays taken."""

import asyncio
import re
import signal
from pathlib import Path

import pytest

from tests.faults.conftest import PAYOUT, PAYS, Settings
from tests.support.origin import Origin, after, hang
from tests.support.process import ProxyProcess, StartProxy, decoded
from tests.support.proxy import Connection, new_key, post, request
from tests.support.raw import eventually


async def draining(proxy: ProxyProcess) -> None:
    """Wait until it has heard that it is to stop, and no new client gets in."""
    await eventually(lambda: proxy.said("stopping"))

    async def closed() -> bool:
        try:
            async with Connection(proxy.port):
                return False
        except ConnectionRefusedError:
            return True

    await eventually(closed)


def hears(pid: int) -> bool:
    """Whether a process has got as far as to treat SIGTERM itself."""
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return bool(int(found[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)])
async def test_a_stop_in_mid_call_lets_the_payment_end_and_takes_no_other(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings, number: signal.Signals, workers: int
) -> None:
    proxy = await start_proxy(sqlite, workers=workers)
    key, answer = new_key(), asyncio.Event()
    origin.behave(after(answer, PAYS))
    async with Connection(proxy.port) as client, Connection(proxy.port) as idle:
        idle.send(request(b"GET", b"/responses/%b/" % key))
        assert (await idle.reply()).status == 404
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        proxy.send(number)
        await draining(proxy)
        assert await idle.rest() == b""  # closed, for the client to connect to another proxy
        readiness = await proxy.ops("/readyz")
        assert decoded(readiness, 503)["reason"] == "draining"
        assert proxy.status is None

        answer.set()
        reply = await client.reply()
        assert (reply.status, reply.body, reply.field(b"Connection")) == (200, PAYOUT, b"close")
    assert await proxy.ended() == 0
    assert proxy.log[-1]["event"] == "stopped"
    assert not [line for line in proxy.log if line["level"] != "info"]

    await proxy.start(workers=1)
    assert (await proxy.post(key)).status == 409
    assert (await proxy.record(key))["StatusCode"] == "200"
    assert len(origin.requests) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_the_whole_group_reaches_all_workers_and_is_still_one(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings, number: signal.Signals
) -> None:
    """Ctrl-C in a terminal; a service manager that stops all processes of a service at once."""
    proxy = await start_proxy(sqlite, workers=2)
    await eventually(lambda: [hears(worker) for worker in proxy.workers] == [True, True])
    key, answer = new_key(), asyncio.Event()
    origin.behave(after(answer, PAYS))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        proxy.send(number, group=True)
        await draining(proxy)
        await asyncio.sleep(0.3)  # time for the parent's signal, which must not count as a second one
        answer.set()
        assert (await client.reply()).status == 200
    assert await proxy.ended() == 0

    await proxy.start(workers=1)
    assert (await proxy.record(key))["StatusCode"] == "200"


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_second_signal_hurries_the_stop_and_the_key_stays_taken(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings, workers: int
) -> None:
    proxy = await start_proxy(sqlite, workers=workers)
    key = new_key()
    origin.behave(hang())
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        proxy.send(signal.SIGTERM)
        await draining(proxy)
        assert proxy.status is None
        proxy.send(signal.SIGTERM)
        assert await proxy.ended(5) == 0
        assert await client.rest() == b""

    origin.behave(PAYS)
    await proxy.start(workers=1)
    assert (await proxy.post(key)).field(b"Idempotency-State") == b"in_progress"
    assert len(origin.requests) == 1


async def test_a_stop_waits_for_a_payment_whose_client_is_gone(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings
) -> None:
    proxy = await start_proxy(sqlite)
    key, answer = new_key(), asyncio.Event()
    origin.behave(after(answer, PAYS))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
    proxy.send(signal.SIGTERM)
    await draining(proxy)
    assert proxy.status is None
    answer.set()
    assert await proxy.ended() == 0

    await proxy.start()
    record = await proxy.record(key)
    assert record["Resource"] == {"Id": "2241581"}
    assert len(origin.requests) == 1


async def test_a_stop_ends_by_itself_when_a_payment_does_not(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings
) -> None:
    proxy = await start_proxy(sqlite, limits__drain_timeout="300ms")
    key = new_key()
    origin.behave(hang())
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        assert await proxy.stop() == 0
    (warning,) = proxy.said("stopped before all was settled")
    assert (warning["level"], warning["unsettled"], warning["connections"]) == ("warning", 1, 1)
