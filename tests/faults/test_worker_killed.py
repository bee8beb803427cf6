"""`kill -9` of one process of several: the others serve on, and what was counted stays counted."""

import asyncio
import os
import signal
from pathlib import Path

from tests.faults.conftest import PAYS, Settings
from tests.support.origin import Origin, hang
from tests.support.process import ProxyProcess, StartProxy, decoded
from tests.support.proxy import Connection, new_key, post
from tests.support.raw import Incomplete, eventually


async def both(proxy: ProxyProcess) -> None:
    """Wait until two workers are alive."""

    async def ready() -> bool:
        return (await proxy.ops("/readyz")).status == 200

    await eventually(ready, 10)
    assert len(proxy.workers) == 2


async def kill_the_worker_of_a_payment(proxy: ProxyProcess, origin: Origin, key: bytes) -> int:
    """The one that has the payment *key* under way; return its number."""
    origin.behave(hang())
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests[-1].all(b"Idempotency-Key") == [key])
        worker = next(pid for pid in proxy.workers if serves(pid, proxy.port))
        os.kill(worker, signal.SIGKILL)
        assert await client.rest() == b""
    origin.behave(PAYS)
    return worker


def serves(pid: int, port: int) -> bool:
    """Whether this process has an established connection at that port of 127.0.0.1."""
    sockets = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [line[9] for line in lines if (line[1], line[3]) == (f"0100007F:{port:04X}", "01")]
    return any(f"socket:[{inode}]" in sockets for inode in established)


async def test_a_worker_that_is_killed_is_replaced_and_the_port_answers_meanwhile(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings
) -> None:
    proxy = await start_proxy(sqlite, workers=2)
    await both(proxy)
    for _ in range(10):
        assert (await proxy.post(new_key())).status == 200

    async def counted() -> bool:
        return (await proxy.outcomes()).get("completed") == 10

    await eventually(counted)
    key = new_key()
    worker = await kill_the_worker_of_a_payment(proxy, origin, key)

    await eventually(lambda: proxy.said("worker died"))
    (died,) = proxy.said("worker died")
    assert (died["pid"], died["exit"], died["level"]) == (worker, -signal.SIGKILL, "error")
    assert decoded(await proxy.ops("/readyz"), 503)["reason"] == "1 of 2 workers are alive"
    assert (await proxy.ops("/healthz")).status == 200

    again = await proxy.post(key)  # the other worker answers
    assert (again.status, again.field(b"Idempotency-State")) == (409, b"in_progress")
    seen = [10]
    while (await proxy.ops("/readyz")).status != 200:
        assert (await proxy.post(new_key())).status == 200
        seen.append((await proxy.outcomes())["completed"])
    await both(proxy)
    assert seen == sorted(seen)
    assert len(seen) > 2
    assert worker not in proxy.workers
    paid = len(origin.requests) - 1

    async def all_counted() -> bool:
        return (await proxy.outcomes()).get("completed") == paid

    await eventually(all_counted)
    assert (await proxy.metrics())["idempotency_proxy_unsettled"] == 0  # what the dead one had open is not open
    assert await proxy.stop() == 0


async def test_all_workers_killed_are_all_replaced(origin: Origin, start_proxy: StartProxy, sqlite: Settings) -> None:
    proxy = await start_proxy(sqlite, workers=2)
    await both(proxy)
    key = new_key()
    assert (await proxy.post(key)).status == 200
    before = proxy.workers
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    await eventually(lambda: len(proxy.said("worker died")) == 2)
    await both(proxy)
    assert set(proxy.workers).isdisjoint(before)
    assert (await proxy.post(key)).status == 409
    assert len(origin.requests) == 1


async def test_workers_whose_parent_was_killed_end_and_leave_the_port_to_its_successor(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings
) -> None:
    proxy = await start_proxy(sqlite, workers=2)
    await both(proxy)
    key = new_key()
    assert (await proxy.post(key)).status == 200
    proxy.send(signal.SIGKILL)
    assert await proxy.ended() == -signal.SIGKILL

    async def nobody_answers() -> bool:
        try:
            await asyncio.wait_for(proxy.post(key), 2)
        except (OSError, Incomplete, TimeoutError):
            return True
        return False

    await eventually(nobody_answers)
    await proxy.start()
    assert (await proxy.post(key)).status == 409
    assert len(origin.requests) == 1
