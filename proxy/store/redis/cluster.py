"""A cluster: each record is one key, each key lies on one node, and each node has a multiplexer of its own.

The map of slots is learned at the start, and again (once for all commands, not oftener than every `PAUSE`) when a node
says that a key is elsewhere, when a connection is lost, and when the cluster is down. A command that was turned away
with MOVED or ASK goes where it was sent to; with TRYAGAIN, LOADING or CLUSTERDOWN it is sent again after a rest.

**The ordered rule.** Who leaves without the key releases it behind every copy of the claim. A copy that was answered
MOVED, ASK or any of the others was not applied, and counts for nothing. For one whose reply was lost on node A:
* A still has the slot. The withdrawal goes to A, behind the reconnect that kills the old connection, as ever.
* The slot went to B, since A failed. What A applies later is lost: it comes back as a replica of B, or learns that its
  slots are B's and drops their keys; and B, once it is promoted, takes nothing more from A. What A had applied and
  replicated before lies on B, and the withdrawal, or the repeated claim, meets it there by its token.
* The slot was moved from A to B by an operator. A key of a slot that is leaving is created on B alone (A says ASK), and
  a slot is B's when A has no key of it left. So a copy was applied on A before the move, and moved with the slot; or A
  applies it after the slot is gone, and says MOVED instead.
Therefore the commands that a node leaves behind when it lost all its slots are sent to the new nodes at once, in their
order, without waiting for the old one to be known dead.

**What it does not protect from.** Replication is asynchronous: a claim that was granted and had not reached the replica
that is promoted is forgotten, and so is one that a primary grants when it is cut off, until it stops by itself after
`cluster-node-timeout`.
Its key can then be used a second time. `replicas:N` closes both holes.
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from time import monotonic

from hiredis import ReplyError
from redis.crc import key_slot

from proxy.deadlines import Deadlines
from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.store.redis import handshake
from proxy.store.redis.address import Address, Seeds
from proxy.store.redis.connection import Command, Identity, Reply, Words, pack
from proxy.store.redis.errors import explain
from proxy.store.redis.multiplexer import REST, Multiplexer
from proxy.store.redis.slots import SLOTS, Map, Place, redirection, slot_map
from proxy.store.redis.topology import OPEN_LIMIT, RECONNECT_LIMIT, agreed

MAX_NODES = 1000
"""The largest cluster there is: nodes that are named beyond that are not believed."""
STRANGERS = 8
"""Nodes that are asked for the map, where none is connected."""
PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds between two looks at the map, doubled with each that led to nothing, and spread by a random half."""
_CLUSTER_SLOTS: Words = (b"CLUSTER", b"SLOTS")
_log = logging.getLogger(__name__)


class Asking(Command):
    """Lets the command right behind it in, while its slot is moved to the node. Where the two are parted (a batch was
    full, a connection was lost), the command is turned away once more, and no harm is done."""

    __slots__ = ()

    def __init__(self, due: float) -> None:
        super().__init__(pack((b"ASKING",)), due)

    def replied(self, reply: Reply) -> None:
        """It says nothing."""

    def failed(self, why: str) -> None:
        """So will the command."""


class Cluster:
    """See Topology. The limits on what waits hold for each node: one that is down cannot take the others' room."""

    def __init__(self, seeds: Seeds, guards: handshake.Guards, *, deadline: float, deadlines: Deadlines) -> None:
        self.place = seeds.place
        self._seeds = seeds.nodes
        self._guards = guards
        self._deadline = deadline
        self._deadlines = deadlines
        self._nodes: dict[Place, Multiplexer] = {}
        self._given_up: list[Multiplexer] = []
        self._slots: list[Multiplexer] = []
        self._known: frozenset[Place] = frozenset()
        self._moved: dict[int, float] = {}
        self._stale = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See Topology.open."""
        limit = max(self._deadline, OPEN_LIMIT)
        learned = await agreed([self._ask_stranger(seed, limit) for seed in self._seeds], limit)
        if learned.missing:
            raise StoreUnavailable(f"{self.place}: {learned.missing} of {SLOTS} slots have no node")
        places = {each.primary for each in learned.ranges}
        connecting = [asyncio.create_task(self._connect(place, limit, None)) for place in places]
        try:
            for place, ready in zip(places, await asyncio.gather(*connecting), strict=True):
                self._add(place).open(ready.connection)
        except BaseException:
            for task in connecting:
                task.cancel()
            for result in await asyncio.gather(*connecting, return_exceptions=True):
                if isinstance(result, handshake.Ready):
                    result.connection.drop("given up")
            raise
        await self._adopt(learned)
        self._keeper = asyncio.create_task(self._keep_map())

    async def close(self) -> None:
        """See Topology.close."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        await asyncio.gather(*(node.close() for node in [*self._nodes.values(), *self._given_up]))

    def send(self, command: Command) -> None:
        """See Multiplexer.send."""
        self._slots[key_slot(command.key)].send(command)

    def insist(self, command: Command) -> None:
        """See Multiplexer.insist."""
        self._slots[key_slot(command.key)].insist(command)

    def nodes(self) -> Mapping[str, Multiplexer]:
        """See Topology.nodes."""
        return {self._address(place).place: node for place, node in self._nodes.items()}

    def node_of(self, key: bytes) -> Multiplexer:
        """See Topology.node_of."""
        return self._slots[key_slot(key)]

    def redirect(self, node: Multiplexer, command: Command, error: ReplyError) -> bool:
        """See Router. Where two nodes send a command to each other, it rests in between."""
        there = redirection(error, self._host_of(node))
        if there is None or not there.asking:
            self._stale.set()
        target = there and (self._nodes.get(there.place) or self._begin(there.place))
        if there is None or target is None or target is node:
            return False
        if there.asking:
            target.insist(Asking(command.due))
        elif self._slots[there.slot] is not target:
            now = monotonic()
            if now - self._moved.get(there.slot, 0.0) < REST:
                return False
            self._moved[there.slot] = now
            self._slots[there.slot] = target
        target.insist(command)
        return True

    def _address(self, place: Place) -> Address:
        return self._seeds[0].at(*place)

    def _host_of(self, node: Multiplexer) -> str:
        return next((host for (host, _), each in self._nodes.items() if each is node), self._seeds[0].host)

    def _add(self, place: Place) -> Multiplexer:
        connect = partial(self._reconnect, place)
        node = Multiplexer(connect, deadline=self._deadline, deadlines=self._deadlines, router=self)
        self._nodes[place] = node
        return node

    def _begin(self, place: Place) -> Multiplexer | None:
        if len(self._nodes) >= MAX_NODES or self._keeper is None:
            return None
        node = self._add(place)
        node.open(None)
        return node

    async def _reconnect(self, place: Place, previous: Identity | None) -> handshake.Ready:
        self._stale.set()
        return await self._connect(place, max(self._deadline, RECONNECT_LIMIT), previous)

    async def _connect(self, place: Place, limit: float, previous: Identity | None) -> handshake.Ready:
        return await handshake.connect(self._address(place), limit, previous, self._guards)

    async def _keep_map(self) -> None:
        failures = 0
        while True:
            await self._stale.wait()
            pause = min(LONGEST_PAUSE, PAUSE * 2**failures)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  it spreads the proxies
            self._stale.clear()
            try:
                await self._adopt(await self._learn())
                failures = 0
            except (StoreUnavailable, StoreRefused) as error:
                if not failures:
                    _log.warning("cannot learn the cluster's map: %s", error)
                failures = min(failures + 1, 10)
                self._stale.set()
            except Exception:  # a defect, which must not leave the cluster without anyone who learns its map
                _log.exception("learning the cluster's map failed")
                failures = min(failures + 1, 10)
                self._stale.set()

    async def _learn(self) -> Map:
        connected = [(place, node) for place, node in self._nodes.items() if node.connected]
        if connected:
            with suppress(StoreUnavailable, StoreRefused):
                return await agreed([self._ask_node(*each) for each in connected], self._deadline / 2)
        limit = max(self._deadline, RECONNECT_LIMIT)
        known = [self._address(place) for place in self._known]
        random.shuffle(known)
        return await agreed([self._ask_stranger(each, limit) for each in [*self._seeds, *known][:STRANGERS]], limit)

    async def _ask_node(self, place: Place, node: Multiplexer) -> Map:
        try:
            reply = await node.ask(_CLUSTER_SLOTS, self._deadlines.now() + self._deadline / 2)
        except ConnectionError as error:
            raise StoreUnavailable(f"{self._address(place).place}: {error}") from None
        return self._read(reply, self._address(place))

    async def _ask_stranger(self, address: Address, limit: float) -> Map:
        ready = await handshake.connect(address, limit)
        try:
            (reply,) = await handshake.ask(ready.connection, address, _CLUSTER_SLOTS)
        finally:
            ready.connection.drop("asked")
        return self._read(reply, address)

    def _read(self, reply: Reply, address: Address) -> Map:
        if isinstance(reply, ReplyError):
            raise StoreRefused(f"{address.place}: {explain(reply)}")
        try:
            return slot_map(reply, address.host)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{address.place}: {error}") from None

    async def _adopt(self, learned: Map) -> None:
        """Let the map be *learned*: begin with new nodes, leave those without slots, take along what waits there."""
        self._known = learned.known
        slots = list(self._slots) or [next(iter(self._nodes.values()))] * SLOTS
        for first, last, place in learned.ranges:
            node = self._nodes.get(place) or self._begin(place)
            if node is not None:
                slots[first : last + 1] = [node] * (last + 1 - first)
        self._slots = slots
        kept = {each.primary for each in learned.ranges}
        for place in [place for place in self._nodes if place not in kept]:
            _log.warning("%s has no slots of the cluster any more", self._address(place).place)
            node = self._nodes.pop(place)
            self._given_up.append(node)
            for command in node.abandon():
                if command.key:
                    self.insist(command)
                else:
                    command.fail("the node has no slots any more")
        while self._given_up:
            await self._given_up[-1].close()
            self._given_up.pop()
