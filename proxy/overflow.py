"""The rest of a response that is too large to be recorded: the record says so, and the client gets it as it comes."""

from proxy.deadlines import NEVER
from proxy.http1.client import UpstreamConnection
from proxy.http1.connection import ServerConnection
from proxy.http1.message import Fault, ResponseHead
from proxy.parts import Parts


class Overflow:
    """Takes the place of the exchange, on both sides: as the listener to the upstream, and the client's receiver."""

    __slots__ = ("_client", "_parts", "_upstream", "deadline")

    def __init__(self, parts: Parts, client: ServerConnection, upstream: UpstreamConnection) -> None:
        self._parts = parts
        self._client = client
        self._upstream: UpstreamConnection | None = upstream
        self.deadline = NEVER
        self._extend()
        parts.deadlines.add(self)
        upstream.hand_over(self)
        upstream.resume_reading()
        client.hand_over(self)
        client.flush()  # at once, maybe, it is too much for the client: the last to be said

    # -- http1.client.Listener ----------------------------------------------------------------------------------

    def content(self, data: bytes) -> None:
        """Straight through."""
        self._client.send(data)
        if self.deadline is not NEVER:
            self._extend()

    def caught_up(self) -> None:
        """What there is, goes."""
        self._client.flush()

    def completed(self) -> None:
        """All is given. The connection is somebody else's by now."""
        self._upstream = None
        self._parts.deadlines.discard(self)
        self._client.end()

    def failed(self, _why: str) -> None:
        """It broke off, and so does the answer."""
        self._upstream = None
        self._parts.deadlines.discard(self)
        self._client.abort()

    def overdue(self) -> None:
        """The upstream is silent."""
        if self._upstream is not None:
            self._upstream.abort()
        self.failed("silent")

    def informed(self, head: ResponseHead) -> None:
        """The head is long there."""

    def responded(self, head: ResponseHead) -> None:
        """See `informed`."""

    def answered(self, head: ResponseHead, body: bytes) -> None:
        """See `informed`."""

    def unsent(self, why: str) -> None:
        """See `informed`."""

    def upload_paused(self) -> None:
        """The request was written whole."""

    def upload_resumed(self) -> None:
        """See `upload_paused`."""

    # -- http1.server.Receiver ----------------------------------------------------------------------------------

    def gone(self) -> None:
        """Nobody reads the rest, and its record is made."""
        self._parts.deadlines.discard(self)
        if self._upstream is not None:
            self._upstream.abort()

    def answer_paused(self) -> None:
        """The client is slow; how slow it may be, its connection knows."""
        if self._upstream is not None:
            self.deadline = NEVER
            self._upstream.pause_reading()

    def answer_resumed(self) -> None:
        """It reads on."""
        if self._upstream is not None:
            self._extend()
            self._upstream.resume_reading()

    def whole(self, body: bytes) -> None:
        """The request is long there."""

    def started(self) -> None:
        """See `whole`."""

    def received(self, data: bytes) -> None:
        """See `whole`."""

    def ended(self) -> None:
        """See `whole`."""

    def broken(self, fault: Fault | None) -> None:
        """See `whole`."""

    def _extend(self) -> None:
        self.deadline = self._parts.deadlines.now() + self._parts.terms.upstream_timeout
