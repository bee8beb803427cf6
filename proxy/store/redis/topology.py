"""The servers behind a URL, and the way of each command to the right one: one server, one behind sentinels, a cluster.

Each server has a multiplexer of its own, with its own queue, limits, reconnecting and deadlines: one that is dead or
silent holds up nobody but the keys that lie there.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from proxy.deadlines import Deadlines
from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.store.redis.connection import Command, Identity
from proxy.store.redis.handshake import Ready
from proxy.store.redis.multiplexer import Multiplexer

OPEN_LIMIT = 5.0
"""Seconds that opening may take at least, however short the deadline of an operation is."""
RECONNECT_LIMIT = 1.0
"""The same for connecting again: TLS takes longer than a command."""

Connect = Callable[[float, Identity | None], Awaitable[Ready]]
"""Connects within so many seconds, and sees that the predecessor is dead; see `handshake.connect`."""
T = TypeVar("T")


class Topology(Protocol):
    """What the store sends its commands through."""

    @property
    def place(self) -> str:
        """The URL without passwords and parameters."""

    async def open(self) -> None:
        """Connect to every server that takes writes; raise StoreUnavailable or StoreRefused."""

    async def close(self) -> None:
        """Answer what is under way, within the deadline; let the rest have failed."""

    def send(self, command: Command) -> None:
        """See Multiplexer.send; the limits are those of one server."""

    def insist(self, command: Command) -> None:
        """See Multiplexer.insist."""

    def nodes(self) -> Mapping[str, Multiplexer]:
        """The servers that take writes, by their names for people."""

    def node_of(self, key: bytes) -> Multiplexer:
        """The one that has *key*."""


class OneServer:
    """See Topology: all keys lie on one server, whichever *connect* leads to."""

    def __init__(self, place: str, connect: Connect, *, deadline: float, deadlines: Deadlines) -> None:
        self.place = place
        self._connect = connect
        self._deadline = deadline
        self._multiplexer = Multiplexer(self._reconnect, deadline=deadline, deadlines=deadlines)
        self.send = self._multiplexer.send
        self.insist = self._multiplexer.insist
        self.close = self._multiplexer.close

    async def open(self) -> None:
        """See Topology.open."""
        ready = await self._connect(max(self._deadline, OPEN_LIMIT), None)
        self._multiplexer.open(ready.connection)

    def nodes(self) -> Mapping[str, Multiplexer]:
        """See Topology.nodes."""
        return {self.place: self._multiplexer}

    def node_of(self, key: bytes) -> Multiplexer:  # noqa: ARG002  # it has them all
        """See Topology.node_of."""
        return self._multiplexer

    async def _reconnect(self, previous: Identity | None) -> Ready:
        return await self._connect(max(self._deadline, RECONNECT_LIMIT), previous)


async def agreed(answers: Sequence[Coroutine[Any, Any, T]], limit: float) -> T:
    """What most of *answers* say: at once where more than half of them say it, else when all have spoken or *limit*
    seconds are over. One that lags behind a failover is outvoted, and one that is silent is not waited for. One that
    raises StoreUnavailable or StoreRefused says nothing; raise what they did where none says anything."""
    votes, errors = Counter[T](), list[StoreUnavailable | StoreRefused]()
    tasks = [asyncio.create_task(answer) for answer in answers]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                for answer in asyncio.as_completed(tasks):
                    try:
                        votes[await answer] += 1
                    except (StoreUnavailable, StoreRefused) as error:
                        errors.append(error)
                    if max(votes.values(), default=0) * 2 > len(tasks):
                        break
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if votes:
        return votes.most_common(1)[0][0]
    why = "; ".join(str(error) for error in errors) or f"no answer within {limit:g} s"
    raise (StoreRefused if any(isinstance(error, StoreRefused) for error in errors) else StoreUnavailable)(why)
