"""What is this request, and who treats it."""

from typing import assert_never

from proxy.core.policy import Guard, Pass, Policy, Refuse, Retrieve
from proxy.core.refusal import Refusal
from proxy.credential import certified
from proxy.exchange import Exchange
from proxy.faults import REFUSALS
from proxy.http1.connection import ServerConnection
from proxy.http1.fields import lookalikes
from proxy.http1.forward import Peer
from proxy.http1.message import Fault, RequestHead
from proxy.http1.server import Receiver
from proxy.parts import Parts
from proxy.passthrough import Passage
from proxy.reply import give
from proxy.retrieval import Retrieval
from proxy.turned_away import TurnedAway


class Gateway:
    """The application behind the client's connections. *key_header*: lower case."""

    def __init__(self, parts: Parts, policy: Policy, key_header: bytes) -> None:
        self.draining = False
        self._parts = parts
        self._policy = policy
        self._key_header = key_header
        self._lookalikes = lookalikes(key_header)

    def receive(self, head: RequestHead, connection: ServerConnection) -> Receiver:
        """See `http1.server.Application`."""
        parts = self._parts
        if self.draining:
            return TurnedAway(parts, head, connection, Refusal.DRAINING)
        misnamed = not self._lookalikes.isdisjoint(head.found)
        match self._policy.decide(head.method, head.path, head.values(self._key_header), misnamed=misnamed):
            case Guard() as guard:
                return Exchange(parts, head, guard, connection, self._peer(connection))
            case Pass():
                return Passage(parts, head, connection, self._peer(connection))
            case Retrieve(key):
                return Retrieval(parts, head, key, connection, self._peer(connection))
            case Refuse(refusal):
                return TurnedAway(parts, head, connection, refusal)
            case decision:
                assert_never(decision)

    def refuse(self, fault: Fault, connection: ServerConnection) -> None:
        """See `http1.server.Application`."""
        self._parts.journal.unusable(fault.name)
        give(
            connection, self._parts.answers.refuse(REFUSALS[fault], self._parts.tokens.take(), int(self._parts.wall()))
        )

    def _peer(self, connection: ServerConnection) -> Peer:
        """Found once a connection."""
        peer = connection.context
        if not isinstance(peer, Peer):
            peer = self._parts.forwarding.peer(connection.peer)
            if connection.wire is not None:
                shown = certified(self._parts.hasher, connection.certificate)
                peer = peer._replace(scheme=b"https", certificate=shown)
            connection.context = peer
        return peer
