"""The stores, and what can be done to each of them. A fault is a context: there within, lifted behind it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.chaos.schedule import Kind
from tests.support.cluster import NODE_TIMEOUT_MS, ValkeyCluster
from tests.support.raw import eventually
from tests.support.relay import Relay
from tests.support.sentinel import DOWN_AFTER_MS, SentinelGroup
from tests.support.valkey import START_TIMEOUT, Valkey

Servers = TypeVar("Servers", SentinelGroup, ValkeyCluster)
Fault = Callable[[int], AbstractAsyncContextManager[None]]
"""Of the target, which is a number: see Event."""
FAILOVER_TIMEOUT = 30.0
"""Seconds."""
PRIMARY_KILLED, PRIMARY_FROZEN = "primary killed", "primary holds still"
FAILOVERS = {PRIMARY_KILLED, PRIMARY_FROZEN}
"""After these, another server is the primary."""
BLINDING = {
    "file locked by another program", "store killed", "store holds still", "replica killed", "black hole",
    "replies dropped", *FAILOVERS,
}  # fmt: skip
"""Amid these, a proxy gives answers that the store has not taken."""
OF_ONE_PROXY = {"black hole", "replies dropped", "replies late", "connections reset"}
"""These, the target's connections to the store have alone."""
DOWN = Kind(4, 0.0, 2.0)
BRIEF = Kind(2, 0.2, 1.5)


class Stand(NamedTuple):
    """A store that runs. *urls*: of each proxy; *faults*: what can be done to it, and how often and long it is."""

    urls: list[str]
    faults: Mapping[str, tuple[Kind, Fault]]


@asynccontextmanager
async def sqlite_file(directory: Path, proxies: int) -> AsyncIterator[Stand]:
    """One file for all proxies."""
    path = directory / "records.db"

    @asynccontextmanager
    async def locked(_target: int) -> AsyncIterator[None]:
        connect = partial(sqlite3.connect, path, isolation_level=None, timeout=START_TIMEOUT, check_same_thread=False)
        with closing(connect()) as other:
            await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    yield Stand([f"sqlite:///{path}"] * proxies, {"file locked by another program": (BRIEF, locked)})


@asynccontextmanager
async def one_server(directory: Path, proxies: int) -> AsyncIterator[Stand]:
    """A Valkey that writes every command to disk, with a relay in front of it for each proxy."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(Valkey(directory, appendonly=True))
        relays = [await stack.enter_async_context(Relay(server.port)) for _ in range(proxies)]
        urls = [f"redis://127.0.0.1:{relay.port}/0" for relay in relays]
        faults: dict[str, tuple[Kind, Fault]] = {
            "store killed": (DOWN, partial(_killed, server)),
            "store holds still": (DOWN, partial(_frozen, server)),
        }
        yield Stand(urls, {**faults, **_network(relays)})


def _network(relays: list[Relay]) -> dict[str, tuple[Kind, Fault]]:
    """What happens to the bytes of one proxy."""

    @asynccontextmanager
    async def black_hole(target: int) -> AsyncIterator[None]:
        relay = relays[target % len(relays)]
        relay.hold()
        yield
        relay.let_go()

    @asynccontextmanager
    async def dropped(target: int) -> AsyncIterator[None]:
        relay = relays[target % len(relays)]
        relay.treat_replies(lambda _: b"")
        yield
        relay.treat_replies()

    @asynccontextmanager
    async def late(target: int) -> AsyncIterator[None]:
        relay = relays[target % len(relays)]
        relay.treat_replies(delay=0.02 * (1 + target % 20))
        yield
        relay.treat_replies()

    @asynccontextmanager
    async def reset(target: int) -> AsyncIterator[None]:
        relays[target % len(relays)].reset()
        yield

    return {
        "black hole": (BRIEF, black_hole),
        "replies dropped": (BRIEF, dropped),
        "replies late": (BRIEF, late),
        "connections reset": (Kind(2, 0.0, 0.0), reset),
    }


class Group(NamedTuple):
    """Servers of which some follow others. *primaries*: as anybody but the given server sees them. All block."""

    servers: Sequence[Valkey]
    primaries: Callable[[Valkey | None], list[Valkey]]
    heal: Callable[[], None]


@asynccontextmanager
async def behind_sentinels(directory: Path, proxies: int) -> AsyncIterator[Stand]:
    """A primary, a replica and three sentinels."""
    async with _entered(SentinelGroup(directory)) as sentinels:
        group = Group(sentinels.servers, lambda _: [sentinels.primary], sentinels.heal)

        @asynccontextmanager
        async def sentinel_killed(target: int) -> AsyncIterator[None]:
            sentinels.sentinels[target % len(sentinels.sentinels)].kill()
            yield
            await asyncio.to_thread(group.heal)

        faults = {**_failovers(group, DOWN_AFTER_MS / 1000), "sentinel killed": (DOWN, sentinel_killed)}
        yield Stand([sentinels.url] * proxies, faults)


@asynccontextmanager
async def in_a_cluster(directory: Path, proxies: int) -> AsyncIterator[Stand]:
    """Three primaries and three replicas."""
    async with _entered(ValkeyCluster(directory)) as cluster:

        def primaries(but: Valkey | None) -> list[Valkey]:
            witness = next(server for server in cluster.servers if server.runs and server is not but)
            ports = {port for _, _, (_, port, *_), *_ in cluster.ask(witness, "CLUSTER SLOTS")}
            return [server for server in cluster.servers if server.port in ports]

        faults = _failovers(Group(cluster.servers, primaries, cluster.heal), NODE_TIMEOUT_MS / 1000)
        yield Stand([cluster.url] * proxies, faults)


def _failovers(group: Group, patience: float) -> dict[str, tuple[Kind, Fault]]:
    """*patience*: seconds after which a server that does not answer is taken for dead."""

    async def one(target: int, *, primary: bool) -> Valkey:
        primaries = await asyncio.to_thread(group.primaries, None)
        there = [server for server in group.servers if (server in primaries) is primary]
        return there[target % len(there)]

    @asynccontextmanager
    async def killed(target: int) -> AsyncIterator[None]:
        victim = await one(target, primary=True)
        victim.kill()

        async def deposed() -> bool:
            return victim not in await asyncio.to_thread(group.primaries, victim)

        await eventually(deposed, FAILOVER_TIMEOUT)  # else it comes back empty, and is the primary still
        yield
        await asyncio.to_thread(group.heal)

    @asynccontextmanager
    async def frozen(target: int) -> AsyncIterator[None]:
        victim = await one(target, primary=True)
        victim.pause()
        yield
        victim.resume()
        await asyncio.to_thread(group.heal)

    @asynccontextmanager
    async def replica_killed(target: int) -> AsyncIterator[None]:
        (await one(target, primary=False)).kill()
        yield
        await asyncio.to_thread(group.heal)

    return {
        PRIMARY_KILLED: (Kind(6, 0.0, 1.0), killed),
        PRIMARY_FROZEN: (Kind(4, 0.3, patience + 3), frozen),
        "replica killed": (DOWN, replica_killed),
    }


@asynccontextmanager
async def _entered(servers: Servers) -> AsyncIterator[Servers]:
    """What blocks on its way in and out."""
    await asyncio.to_thread(servers.__enter__)
    try:
        yield servers
    finally:
        await asyncio.to_thread(servers.__exit__, None, None, None)


@asynccontextmanager
async def _killed(server: Valkey, _target: int) -> AsyncIterator[None]:
    server.kill()
    yield
    await asyncio.to_thread(server.start)


@asynccontextmanager
async def _frozen(server: Valkey, _target: int) -> AsyncIterator[None]:
    server.pause()
    yield
    server.resume()


STANDS = {"sqlite": sqlite_file, "redis": one_server, "sentinel": behind_sentinels, "cluster": in_a_cluster}
REPLICATED = {"sentinel", "cluster"}
"""Their servers have no disk: what protects the records is the other server."""
