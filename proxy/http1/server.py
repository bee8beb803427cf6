"""The side of the clients: what stands behind their connections, and what the connections share."""

from typing import TYPE_CHECKING, Protocol

from proxy.deadlines import Deadlines
from proxy.http1.fields import Watched
from proxy.http1.message import Fault, Limits, RequestHead
from proxy.http1.outbox import Outbox

if TYPE_CHECKING:
    from proxy.http1.connection import ServerConnection


class Receiver(Protocol):
    """Who treats one request. It answers through the connection, at any time from the first call on.

    It hears `whole`, where the request came in one piece; else `started`, `received` and one of `ended` and `broken`.
    Who has answered before the end hears nothing more of the body.
    """

    def whole(self, body: bytes) -> None:
        """The request is there, with all of its body."""

    def started(self) -> None:
        """The head is there, and the body is to come."""

    def received(self, data: bytes) -> None:
        """A piece of the body, not empty."""

    def ended(self) -> None:
        """The body is whole."""

    def broken(self, fault: Fault | None) -> None:
        """The body will not become whole. None: the client is gone; else: to be refused so."""

    def gone(self) -> None:
        """The client is gone, after its request was whole or the answer had begun. No answer will reach it."""

    def answer_paused(self) -> None:
        """The client does not keep up with the answer."""

    def answer_resumed(self) -> None:
        """It does again."""


class Application(Protocol):
    """What stands behind the connections."""

    def receive(self, head: RequestHead, connection: "ServerConnection") -> Receiver:
        """A request has begun. Who treats it? No answer yet: the receiver is told when it may."""

    def refuse(self, fault: Fault, connection: "ServerConnection") -> None:
        """The request has no usable head: answer it."""


MOST_LINGERING = 100
"""Connections beyond the limit that may linger over their refusal at a time; yet more are closed at once."""


class Server:
    """What the connections of one listener share."""

    def __init__(
        self, application: Application, limits: Limits, deadlines: Deadlines, outbox: Outbox, watched: Watched
    ) -> None:
        self.application = application
        self.limits = limits
        self.deadlines = deadlines
        self.outbox = outbox
        self.watched = watched
        self.connections: set[ServerConnection] = set()
        self.surplus: set[ServerConnection] = set()
        """Those beyond the limit, while they are told so."""
        self.draining = False

    def drain(self) -> None:
        """Close what is idle; what is busy closes behind its answer."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        """Drop all connections."""
        for connection in [*self.connections, *self.surplus]:
            connection.drop()
