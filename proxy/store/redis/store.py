"""Records on Redis or Valkey: one server, one behind sentinels, or a cluster."""

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial

import hiredis

from proxy.core.key import HASH_SIZE, NO_CREDENTIAL
from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record
from proxy.deadlines import Deadlines
from proxy.store.base import (
    ClaimResult,
    Done,
    Found,
    Granted,
    KeepResult,
    KeptResult,
    OverruleResult,
    ReadResult,
    SettleResult,
    StoreRefused,
    StoreUnavailable,
    Unavailable,
)
from proxy.store.marker import Marker, Watch, found_only
from proxy.store.redis import handshake, inspection, markers
from proxy.store.redis.address import Address, Seeds, Sentinels, read
from proxy.store.redis.cluster import Cluster
from proxy.store.redis.connection import Identity, Reply
from proxy.store.redis.durability import wait_for
from proxy.store.redis.errors import explain
from proxy.store.redis.kept import Keep, LookUp
from proxy.store.redis.multiplexer import Multiplexer
from proxy.store.redis.operations import Claim, Context, Read, name
from proxy.store.redis.scripts import RELEASE
from proxy.store.redis.sentinel import Primary
from proxy.store.redis.slots import SLOTS
from proxy.store.redis.topology import OneServer, Topology
from proxy.store.redis.withdrawals import Withdrawals
from proxy.store.redis.writes import overrule, release, settle

TRIAL_RETENTION = 10_000
"""Milliseconds after which nothing is left of the trial at the start."""


class RedisStore:
    """See proxy.store.base.Store. Needs a running loop.

    *url*: as `address.read` reads it (StoreRefused). *deadline*: seconds; every operation is answered within it, at
    most a tick of *deadlines* later. *prefix* stands before all keys. *allow_eviction*: take a server that may evict.
    *durability*: "memory", "replicas:N" or "fsync", see `durability.py`; *fingerprint*: see `marker.py`.
    """

    def __init__(
        self,
        url: str,
        *,
        deadline: float,
        prefix: str,
        deadlines: Deadlines,
        allow_eviction: bool = False,
        durability: str = "memory",
        fingerprint: bytes = b"",
        refuse_forgotten: bool = True,
    ) -> None:
        self._deadline = deadline
        self._now = deadlines.now
        self._allow_eviction = allow_eviction
        self._durability = durability
        site = read(url)
        wait = wait_for(durability, deadline)
        self._prefix = prefix.encode()
        self._marker = Marker(fingerprint, refuse=refuse_forgotten)
        self._markers = markers.names(self._prefix, cluster=isinstance(site, Seeds))
        self._watch = Watch(self._look, deadlines, limit=deadline)
        guards = handshake.Guards(wait, self._markers, self._marker.seen)
        self._topology: Topology = topology_of(site, guards, deadline=deadline, deadlines=deadlines)
        self._withdrawals = Withdrawals(self._topology, self._prefix, deadlines, durable=durability != "memory")
        self._context = Context(self._topology, self._withdrawals.add, self._prefix, wait is not None, self._marker)

    @property
    def place(self) -> str:
        """The URL without passwords and parameters."""
        return self._topology.place

    async def open(self) -> None:
        """Connect, look whether each server is fit for use, and try every operation once there with a key that is
        thrown away: a missing right shows now, and not at the first payment. Raise StoreUnavailable or StoreRefused."""
        await self._topology.open()
        self._withdrawals.open()
        try:
            for place, node in self._topology.nodes().items():
                await self._inspect(place, node)
            await self._mark()
        except BaseException:
            await self.close()
            raise
        self._watch.open()

    async def close(self) -> None:
        """See Store.close."""
        self._watch.close()
        await self._topology.close()
        self._withdrawals.close()

    async def ping(self) -> None:
        """See Store.ping. A cluster is there while more than half of its nodes are, and are in order; a read tells."""
        if self._marker.forgotten is not None:
            raise StoreUnavailable(f"{self.place}: {self._marker.forgotten}")
        nodes = self._topology.nodes()
        pings = (self._ping(place, node) for place, node in nodes.items())
        errors = [error for error in await asyncio.gather(*pings) if error is not None]
        if len(errors) * 2 >= len(nodes):
            raise StoreUnavailable("; ".join(errors))

    async def findings(self) -> list[str]:
        """See Store.findings; raise StoreUnavailable."""
        nodes, found = self._topology.nodes(), dict[str, list[str]]()
        for place, node in nodes.items():
            info = await self._info(place, node)
            for line in inspection.findings(info, self._durability, await self._syncs(place, node, info)):
                found.setdefault(line, []).append(place)
        return [line if len(places) == len(nodes) else f"{', '.join(places)}: {line}" for line, places in found.items()]

    def claim(self, record: Record, done: Callable[[ClaimResult], None]) -> None:
        """See Store.claim."""
        if self._marker.refusing is not None:
            self.read(record.attempt.key_hash, found_only(self._marker.refusing, done))
        else:
            self._topology.send(Claim(self._context, record, done, self._now() + self._deadline))

    def settle(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.settle."""
        due = self._now() + self._deadline
        self._topology.send(settle(self._topology, self._prefix, record, done, due))

    def release(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """See Store.release."""
        due = self._now() + self._deadline
        self._topology.send(release(self._topology, self._prefix, record.attempt, done, due))

    def overrule(self, attempt: Attempt, ruling: Record | None, done: Callable[[OverruleResult], None]) -> None:
        """See Store.overrule."""
        due = self._now() + self._deadline
        self._topology.send(overrule(self._topology, self._prefix, attempt, ruling, done, due))

    def read(self, key_hash: bytes, done: Callable[[ReadResult], None]) -> None:
        """See Store.read."""
        self._topology.send(Read(self._context, key_hash, done, self._now() + self._deadline))

    def keep(
        self, name: bytes, value: bytes, lifetime: int, done: Callable[[KeepResult], None], *, first: bool = False
    ) -> None:
        """See Store.keep."""
        due = self._now() + self._deadline
        self._topology.send(Keep(self._prefix + name, value, lifetime, done, due, first=first))

    def kept(self, name: bytes, done: Callable[[KeptResult], None]) -> None:
        """See Store.kept."""
        self._topology.send(LookUp(self._prefix + name, done, self._now() + self._deadline))

    async def _ask(self, place: str, node: Multiplexer, *words: bytes) -> Reply:
        try:
            return await node.ask(words, self._now() + self._deadline)
        except ConnectionError as error:
            raise StoreUnavailable(f"{place}: {error}") from None

    async def _ping(self, place: str, node: Multiplexer) -> str | None:
        """What is wrong there. MOVED is not: the key is some other node's."""
        try:
            reply = await self._ask(place, node, b"GET", name(self._prefix, os.urandom(HASH_SIZE)))
        except StoreUnavailable as error:
            return str(error)
        if isinstance(reply, hiredis.ReplyError) and not str(reply).startswith("MOVED"):
            return f"{place}: {explain(reply)}"
        return None

    async def _inspect(self, place: str, node: Multiplexer) -> None:
        try:
            info = await self._info(place, node)
            clustered = isinstance(self._topology, Cluster)
            inspection.refuse_unfit(info, allow_eviction=self._allow_eviction, cluster=clustered)
            inspection.refuse_forgetful(info, self._durability, await self._syncs(place, node, info))
            await self._try(place, node)
        except StoreRefused as refused:
            raise StoreRefused(f"{place}: {refused}") from None

    async def _info(self, place: str, node: Multiplexer) -> inspection.Info:
        reply = await self._ask(place, node, b"INFO")
        if not isinstance(reply, bytes):
            raise StoreRefused(f"INFO: {explain(reply) if isinstance(reply, hiredis.ReplyError) else 'no text'}")
        return inspection.parse(reply)

    async def _syncs(self, place: str, node: Multiplexer, info: inspection.Info) -> str:
        """When the append-only file is synced, as the server says; empty: there is none, or we may not know."""
        if not inspection.appends(info):
            return ""
        reply = await self._ask(place, node, b"CONFIG", b"GET", b"appendfsync")
        return reply[1].decode() if isinstance(reply, list) and len(reply) == 2 else ""

    async def _mark(self) -> None:
        try:
            await markers.begin(self._topology, self._marker, self._markers, self._now() + self._deadline)
        except (StoreRefused, StoreUnavailable) as error:
            raise type(error)(f"{self.place}: {error}") from None

    def _look(self) -> None:
        for each in self._markers:
            self._topology.send(markers.Look(each, self._marker.seen, self._now() + self._deadline))

    async def _try(self, place: str, node: Multiplexer) -> None:
        key_hash = self._hash_on(node)
        if key_hash is None:
            return
        attempt = Attempt(
            key_hash=key_hash,
            token=os.urandom(16),
            first_used=time.time_ns() // 1_000_000,
            lease=TRIAL_RETENTION,
            retention=TRIAL_RETENTION,
            credential=NO_CREDENTIAL,
            url=b"",
        )
        begun, lost = Record(attempt, State.IN_PROGRESS, None), Record(attempt, State.UNKNOWN, None)
        for what, operate, wanted in (
            ("a claim", partial(self.claim, begun), Granted),
            ("a read", partial(self.read, attempt.key_hash), Found),
            ("a release", partial(self.release, begun), Done),
            ("a settlement", partial(self.settle, lost), Done),
        ):
            outcome = await _outcome(operate)
            if not isinstance(outcome, wanted):
                await self._ask(place, node, b"PING")  # who does not even answer that is unavailable
                why = outcome.why if isinstance(outcome, Unavailable) else f"it came to {type(outcome).__name__}"
                raise StoreRefused(f"{what} was tried there, and fails: {why}")
        words = (b"EVAL", RELEASE.text, b"1", name(self._prefix, attempt.key_hash), attempt.token)
        reply = await self._ask(place, node, *words)
        if isinstance(reply, hiredis.ReplyError):  # the way that is left once the scripts were flushed
            raise StoreRefused(f"EVAL cannot be used there: {explain(reply)}")

    def _hash_on(self, node: Multiplexer) -> bytes | None:
        """Of a key that *node* has, found by guessing: it may have one slot only. None: our keys do not come there,
        since the prefix has a hash tag."""
        for _ in range(4 * SLOTS):
            key_hash = os.urandom(HASH_SIZE)
            if self._topology.node_of(name(self._prefix, key_hash)) is node:
                return key_hash
        return None


async def _outcome(operate: Callable[[Callable[[object], None]], None]) -> object:
    result: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    operate(lambda outcome: None if result.done() else result.set_result(outcome))
    return await result


def topology_of(
    site: Address | Sentinels | Seeds, guards: handshake.Guards, *, deadline: float, deadlines: Deadlines
) -> Topology:
    """The servers that a URL names. *guards*: see `handshake.connect`."""
    match site:
        case Address():

            async def connect(limit: float, previous: Identity | None) -> handshake.Ready:
                return await handshake.connect(site, limit, previous, guards)

            return OneServer(site.place, connect, deadline=deadline, deadlines=deadlines)
        case Sentinels():
            return OneServer(site.place, Primary(site, guards).connect, deadline=deadline, deadlines=deadlines)
        case Seeds():
            return Cluster(site, guards, deadline=deadline, deadlines=deadlines)
