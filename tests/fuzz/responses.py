"""Bytes from an upstream: which responses do we see in them, and does h11 see the same?

The first byte says what is asked for: `H` a HEAD, `P` a POST whose body is still on its way, `U` a GET that asks for a
WebSocket, anything else a GET. When a response is whole and its connection is kept, the next request follows.
Marks: `e` the upstream closes its side, `r` it resets, `p` it stops reading, `g` it reads again, `b` a piece of the
POST's body is sent, `u` it was the last, `f` a tunnel is closed, `h` the listener pauses the upstream, `H` goes on,
`x` drops it, `t` the idle time is over.
"""

from collections.abc import Callable

from proxy.deadlines import NEVER
from proxy.http1.client import UpstreamConnection
from proxy.http1.message import Limits, ResponseHead
from proxy.http1.outbox import Outbox
from tests.fuzz.oracle import Reading, explained, judge_given, judge_response_head, read_response
from tests.fuzz.script import steps
from tests.fuzz.transport import MemoryTransport, no_errors_logged

LIMITS = Limits(response_head=2048, fields=20, trailers=64, chunk_extensions=32)
Event = Callable[[], object]
_METHODS = {b"H": b"HEAD", b"P": b"POST"}


class Asking:
    """Sends one request, and listens."""

    def __init__(self, connection: UpstreamConnection, kind: bytes, came_before: int) -> None:
        self.method = _METHODS.get(kind, b"GET")
        self.head: ResponseHead | None = None
        self.body = b""
        self.ending = ""
        """Which of the last calls it was; `dropped`: it wants to hear no more."""
        self.came_before = came_before
        """How many pieces the upstream had sent before."""
        self._upgrading = kind == b"U"
        self.sent = connection.send(
            b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % self.method,
            self.method,
            self,
            uploading=kind == b"P",
            upgrading=self._upgrading,
        )

    def _hears(self) -> None:
        assert not self.ending, f"called after {self.ending}"

    def informed(self, head: ResponseHead) -> None:
        self._hears()
        assert head.status == 103
        assert self.head is None

    def answered(self, head: ResponseHead, body: bytes) -> None:
        self._hears()
        assert self.head is None
        self.head, self.body, self.ending = head, body, "answered"

    def responded(self, head: ResponseHead) -> None:
        self._hears()
        assert self.head is None
        assert head.status != 101 or self._upgrading, "a 101 that nobody asked for"
        self.head = head

    def content(self, data: bytes) -> None:
        self._hears()
        assert data
        assert self.head is not None
        self.body += data

    def caught_up(self) -> None:
        self._hears()
        assert self.head is not None

    def completed(self) -> None:
        self._hears()
        assert self.head is not None
        self.ending = "completed"

    def failed(self, why: str) -> None:
        self._hears()
        assert why != "defect of the proxy"
        self.ending = "failed"

    def unsent(self, why: str) -> None:
        self._hears()
        assert self.head is None
        self.ending = "failed"

    def upload_paused(self) -> None:
        self._hears()

    def upload_resumed(self) -> None:
        self._hears()


class Upstream:
    """One connection, and all that was asked on it."""

    def __init__(self, kind: bytes) -> None:
        self.asked: list[Asking] = []
        self._kind = kind
        self._idle = False
        self._closed = 0
        self._connection = UpstreamConnection(LIMITS, Outbox(), self._is_idle, self._is_closed)
        self.transport = MemoryTransport(self._connection)

    async def run(self, data: bytes) -> None:
        """The script, and then the end."""
        await self._ask()
        for mark, wire in steps(data):
            if self._idle and mark != b"t":
                await self._ask()
            if self.transport.lost:
                break
            self._happens(mark)
            self.transport.comes(wire)
            await self.transport.deliver()
        self.transport.lose(None)
        await self.transport.deliver()
        assert self._closed == 1
        for asking in self.asked:
            assert asking.ending or not asking.sent, "nobody told the listener"

    async def _ask(self) -> None:
        self._idle = False
        self.asked.append(Asking(self._connection, self._kind, len(self.transport.delivered)))
        if not self.asked[-1].sent:
            self.asked.pop()
        await self.transport.deliver()

    def _is_idle(self, _connection: UpstreamConnection) -> None:
        assert not self._idle, "idle twice"
        assert not self.transport.is_closing()
        self._idle = True

    def _is_closed(self, _connection: UpstreamConnection) -> None:
        self._closed += 1

    def _happens(self, mark: bytes) -> None:
        events: dict[bytes, Event] = {
            b"e": lambda: self.transport.comes(None),
            b"r": lambda: self.transport.lose(ConnectionResetError()),
            b"p": self.transport.stall,
            b"g": self.transport.drain,
            b"b": self._upload,
            b"u": self._connection.uploaded,
            b"f": self._finish,
            b"h": self._connection.pause_reading,
            b"H": self._connection.resume_reading,
            b"x": self._drop,
            b"t": self._connection.overdue if self._idle else bool,
        }
        events.get(mark, bool)()

    def _upload(self) -> None:
        if not self.asked[-1].ending:
            self._connection.upload(b"y" * 40)

    def _finish(self) -> None:
        asking = self.asked[-1]
        if not asking.ending and asking.head is not None and asking.head.status == 101:
            asking.ending = "dropped"
            self._connection.finish(NEVER)

    def _drop(self) -> None:
        asking = self.asked[-1]
        if not asking.ending:
            asking.ending = "dropped"
            self._connection.abort()


async def responses(data: bytes) -> None:
    """Run the script that *data* is; raise AssertionError."""
    with no_errors_logged():
        upstream = Upstream(data[:1])
        await upstream.run(data[1:])
    pieces = upstream.transport.delivered
    bounds = [*(asking.came_before for asking in upstream.asked), len(pieces)]
    for asking, begin, end in zip(upstream.asked, bounds, bounds[1:], strict=False):
        _judge(asking, b"".join(pieces[begin:end]))


def _judge(asking: Asking, came: bytes) -> None:
    head = asking.head
    if head is None:
        assert asking.ending in ("failed", "dropped")
        return
    if head.status == 101:
        assert came.endswith(asking.body)
        return
    theirs = read_response(came, asking.method, ended=asking.ending == "completed")
    judge_response_head(head, theirs)
    if explained(theirs, came):
        return
    if asking.ending in ("answered", "completed"):
        _judge_whole(asking, head, theirs, came)
    else:
        assert theirs.body.startswith(asking.body) or asking.body.startswith(theirs.body), (theirs, asking.body, came)


def _judge_whole(asking: Asking, head: ResponseHead, theirs: Reading, came: bytes) -> None:
    assert theirs.whole, (theirs, came)
    assert theirs.body == asking.body, (theirs, asking.body, came)
    judge_given(head, asking.method, asking.body)
