"""Clients that come in crowds, and do nothing: they cost little, and there is a limit to them."""

import asyncio
import re
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support.origin import Origin
from tests.support.process import ProxyProcess, StartProxy, decoded
from tests.support.proxy import Connection, new_key, request
from tests.support.raw import Incomplete, eventually

MEMORY = {"store.url": "memory://"}
CROWD = 1000
CHUNK = 100


@asynccontextmanager
async def crowd(proxy: ProxyProcess, size: int) -> AsyncIterator[list[Connection]]:
    """That many connections, each kept alive after one request."""
    async with AsyncExitStack() as stack:

        async def come() -> Connection:
            client = await stack.enter_async_context(Connection(proxy.port, within=10))
            client.send(request(b"GET", b"/"))
            assert (await client.reply()).status == 200
            return client

        clients: list[Connection] = []
        for _ in range(size // CHUNK):
            clients += await asyncio.gather(*(come() for _ in range(CHUNK)))
        yield clients


def memory(proxy: ProxyProcess) -> int:
    """KiB that it holds."""
    found = re.search(r"^VmRSS:\s*(\d+) kB$", Path(f"/proc/{proxy.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


async def connections(proxy: ProxyProcess) -> float:
    return (await proxy.metrics())["idempotency_proxy_connections"]


async def test_a_thousand_idle_connections_do_no_harm_and_are_closed_in_time(
    start_proxy: StartProxy, origin: Origin
) -> None:
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the proxy inherits it
    try:
        proxy = await start_proxy(MEMORY, limits__keepalive_timeout="3s")
        assert (await proxy.post(new_key())).status == 200
        before = memory(proxy)
        async with crowd(proxy, CROWD):
            assert await connections(proxy) == CROWD
            async with asyncio.timeout(2):
                assert (await proxy.post(new_key())).status == 200
            assert memory(proxy) - before < 20 * CROWD  # 20 KiB each

            async def closed() -> bool:
                return await connections(proxy) == 0

            await eventually(closed, 10)
        assert (await proxy.post(new_key())).status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))


async def test_one_connection_over_the_limit_is_told_so_and_gets_in_when_another_leaves(
    start_proxy: StartProxy, origin: Origin
) -> None:
    proxy = await start_proxy(MEMORY, limits__connections=3)
    async with Connection(proxy.port), Connection(proxy.port), Connection(proxy.port) as third:

        async def full() -> bool:
            return await connections(proxy) == 3

        await eventually(full)
        key = new_key()
        for _ in range(3):
            reply = await proxy.post(key)
            assert decoded(reply, 503)["Type"] == "overloaded"
            assert (reply.field(b"Connection"), reply.field(b"Retry-After")) == (b"close", b"1")
        assert origin.requests == []
        third.abort()

        async def served() -> bool:
            return (await proxy.post(key)).status == 200

        await eventually(served)
        assert len(origin.requests) == 1
    assert (await proxy.outcomes())["refused"] >= 3


async def test_a_proxy_that_runs_out_of_files_recovers_when_the_crowd_is_gone(
    start_proxy: StartProxy, origin: Origin
) -> None:
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))  # for the proxy, which inherits it
    try:
        proxy = await start_proxy(MEMORY)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    assert (await proxy.post(new_key())).status == 200
    async with AsyncExitStack() as stack:
        for _ in range(100):
            await stack.enter_async_context(Connection(proxy.port))

        await eventually(lambda: len(list(Path(f"/proc/{proxy.pid}/fd").iterdir())) >= 60)

    async def recovered() -> bool:
        try:
            return (await proxy.post(new_key())).status == 200
        except (ConnectionError, Incomplete):
            return False  # turned away with the crowd

    await eventually(recovered)
    assert proxy.status is None
    assert len(proxy.text) < 100_000, "it fills its log"
