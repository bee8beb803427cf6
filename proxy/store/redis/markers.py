"""The markers on the servers, see `proxy/store/marker.py`: one; in a cluster as many as it takes for each node to have
some, since each can be emptied alone."""

import asyncio
from collections.abc import Callable, Sequence

from hiredis import ReplyError

from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.store.marker import Marker
from proxy.store.redis.connection import Command, Question, Reply, pack
from proxy.store.redis.errors import explain
from proxy.store.redis.topology import Topology

SPREAD = 256
"""Of thirty nodes with as many slots each, one in 5000 has none of so many."""

Seen = Callable[[bytes, bytes | None], None]
"""Is told what lies under a name."""


def names(prefix: bytes, *, cluster: bool) -> Sequence[bytes]:
    """Under which they lie. No record's name is like them: it ends in a hash."""
    return [b"%bmarker:%d" % (prefix, n) for n in range(SPREAD)] if cluster else [prefix + b"marker"]


class Look(Command):
    """What lies there now?"""

    __slots__ = ("_seen",)

    def __init__(self, marker: bytes, seen: Seen, due: float) -> None:
        super().__init__(pack((b"GET", marker)), due, marker)
        self._seen = seen

    def replied(self, reply: Reply) -> None:
        """An error says nothing of it."""
        if reply is None or isinstance(reply, bytes):
            self._seen(self.key, reply)

    def failed(self, why: str) -> None:
        """No answer says nothing of it."""


async def begin(topology: Topology, marker: Marker, where: Sequence[bytes], due: float) -> None:
    """Write them where there are none, and see that those that are there are ours. *due*: monotonic time. Raise
    StoreUnavailable or StoreRefused."""
    new = marker.new()
    questions = [Question(pack((b"SET", each, new, b"NX", b"GET")), due, each) for each in where]
    for question in questions:
        topology.insist(question)
    replies = await asyncio.gather(*(question.reply for question in questions), return_exceptions=True)
    for each, reply in zip(where, replies, strict=True):
        match reply:
            case None:
                marker.begin(each, new)
            case bytes():
                marker.begin(each, reply)
            case ReplyError():
                raise StoreRefused(f"its marker cannot be written: {explain(reply)}")
            case _:
                raise StoreUnavailable(f"its marker cannot be written: {reply}")
