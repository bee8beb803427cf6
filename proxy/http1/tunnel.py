"""A WebSocket's tunnel: after the upstream's 101 the two connections are one, byte by byte.

No other protocol is given one: through a tunnel of h2c, say, requests would pass by the guard.
"""

from proxy.deadlines import NEVER, Deadlines
from proxy.http1.client import UpstreamConnection
from proxy.http1.connection import ServerConnection
from proxy.http1.message import Fault, RequestHead, ResponseHead

UPGRADE = b"\r\nConnection: Upgrade\r\nUpgrade: websocket"
"""What asks for it, and what grants it: a block of fields, see `http1.fields`."""

FINISH_SECONDS = 5.0
"""How long an upstream may take for the last that the client has said."""


def asks_for_tunnel(head: RequestHead) -> bool:
    """Whether the client means to open a WebSocket (RFC 6455 §4.1), and nothing else."""
    return (
        b"upgrade" in head.connection
        and head.method == b"GET"
        and head.minor == 1  # RFC 9110 §7.8: a 1.0 request cannot ask
        and head.length == 0
        and [value.lower() for value in head.values(b"upgrade")] == [b"websocket"]
    )


class Tunnel:
    """Is the client's receiver and the listener to the upstream. Ends with whichever side ends first: what that side
    has said still reaches the other. *idle*: seconds without a byte in either direction after which it is closed.
    *tunnels*: it is in there as long as it lives."""

    __slots__ = ("_client", "_deadlines", "_idle", "_tunnels", "_upstream", "deadline")

    def __init__(
        self,
        client: ServerConnection,
        upstream: UpstreamConnection,
        deadlines: Deadlines,
        idle: float,
        tunnels: "set[Tunnel]",
    ) -> None:
        self.deadline = NEVER
        self._client = client
        self._upstream = upstream
        self._deadlines = deadlines
        self._idle = idle
        self._tunnels = tunnels

    def open(self, fields: bytes) -> None:
        """Tell the client. *fields*: what the upstream's 101 says from end to end."""
        self._tunnels.add(self)
        self._deadlines.add(self)
        self._extend()
        self._upstream.hand_over(self)
        self._upstream.resume_reading()
        self._client.switch(fields + UPGRADE[2:] + b"\r\n", self)

    # -- http1.server.Receiver: the client speaks ---------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Some bytes."""
        self._extend()
        self._upstream.upload(data)

    def ended(self) -> None:
        """It has said all."""
        self._leave()
        self._upstream.finish(self._deadlines.now() + FINISH_SECONDS)
        self._client.end()

    def broken(self, _fault: Fault | None) -> None:
        """See `gone`."""
        self.gone()

    def gone(self) -> None:
        """It is no longer there."""
        self._leave()
        self._upstream.abort()

    def answer_paused(self) -> None:
        """It is slow; how slow it may be, its connection knows."""
        self._upstream.pause_reading()

    def answer_resumed(self) -> None:
        """It reads on."""
        self._upstream.resume_reading()

    def whole(self, body: bytes) -> None:
        """The request is long there."""

    def started(self) -> None:
        """See `whole`."""

    # -- http1.client.Listener: the upstream speaks -------------------------------------------------------------

    def content(self, data: bytes) -> None:
        """Some bytes."""
        self._extend()
        self._client.send(data)

    def caught_up(self) -> None:
        """Each message is waited for."""
        self._client.flush()

    def completed(self) -> None:
        """It has said all."""
        self._leave()
        self._client.end()

    def failed(self, _why: str) -> None:
        """It is no longer there."""
        self._leave()
        self._client.abort()

    def unsent(self, why: str) -> None:
        """See `informed`."""

    def upload_paused(self) -> None:
        """It is slow."""
        self._client.pause_reading()

    def upload_resumed(self) -> None:
        """It reads on."""
        self._client.resume_reading()

    def informed(self, head: ResponseHead) -> None:
        """The head is long there."""

    def responded(self, head: ResponseHead) -> None:
        """See `informed`."""

    def answered(self, head: ResponseHead, body: bytes) -> None:
        """See `informed`."""

    # -- the end ------------------------------------------------------------------------------------------------

    def overdue(self) -> None:
        """Both are silent, or one reads nothing."""
        self._leave()
        self._upstream.abort()
        self._client.abort()

    def _extend(self) -> None:
        self.deadline = self._deadlines.now() + self._idle

    def _leave(self) -> None:
        self._tunnels.discard(self)
        self._deadlines.discard(self)
