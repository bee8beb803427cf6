"""The story of a request without a key: through to the backend and back, streaming both ways, as if nobody were here.

It is sent again at most once, and only a GET or HEAD without a body, on a new connection, when a kept one died before
the first byte of the response (RFC 9112 §9.3.1: the upstream had closed it, idle, as we wrote).
"""

from proxy.core.refusal import Refusal
from proxy.deadlines import NEVER
from proxy.faults import REFUSALS
from proxy.http1.body import LAST_CHUNK, chunk
from proxy.http1.client import UpstreamConnection
from proxy.http1.connection import ServerConnection
from proxy.http1.forward import Peer, end_to_end, framed, hints
from proxy.http1.message import CHUNKED, Fault, RequestHead, ResponseHead
from proxy.http1.tunnel import UPGRADE, Tunnel, asks_for_tunnel
from proxy.parts import Parts
from proxy.reply import Reply

WINDOW = 64 * 1024
"""Bytes of a body that are kept while there is no connection yet; over it, the client's is paused."""


class Passage:
    """Is the receiver of the request, the borrower of a connection, and the listener to the response."""

    __slots__ = (
        "_answered", "_client", "_early", "_early_length", "_ended", "_head", "_held_back", "_parts", "_peer", "_reply",
        "_resendable", "_sent_at", "_upgrading", "_upstream", "deadline",
    )  # fmt: skip

    def __init__(self, parts: Parts, head: RequestHead, client: ServerConnection, peer: Peer) -> None:
        self.deadline = NEVER
        self._parts = parts
        self._head = head
        self._client = client
        self._peer = peer
        self._reply = Reply(parts, head, client)
        self._early: list[bytes] = []
        """What came of the body before there was a connection."""
        self._early_length = 0
        self._ended = False
        self._held_back = False
        """The upstream does not take the body as fast as it comes."""
        self._answered = False
        self._resendable = head.method in (b"GET", b"HEAD") and head.length == 0
        self._upgrading = parts.terms.max_tunnels > 0 and asks_for_tunnel(head)
        self._sent_at = NEVER
        self._upstream: UpstreamConnection | None = None

    # -- the request --------------------------------------------------------------------------------------------

    def whole(self, body: bytes) -> None:
        """All at once."""
        if body:
            self._early.append(body)
        self._ended = True
        self._borrow()

    def started(self) -> None:
        """A connection is wanted before the body is."""
        self._borrow()

    def _borrow(self, *, fresh: bool = False) -> None:
        if self._upgrading and self._crowded():
            return
        self.deadline = self._parts.deadlines.now() + self._parts.terms.connection_timeout
        self._parts.deadlines.add(self)
        if not self._parts.pool.borrow(self, fresh=fresh):
            self._fail(Refusal.OVERLOADED, "too many requests wait for a connection")

    def _crowded(self) -> bool:
        """Whether there are as many WebSockets as may be; then this one is refused."""
        most = self._parts.terms.max_tunnels
        if len(self._parts.tunnels) < most:
            return False
        self._fail(Refusal.OVERLOADED, f"as many WebSockets as may be: {most}")
        return True

    def connected(self, connection: UpstreamConnection) -> None:
        """Here is a connection."""
        head = self._head
        if not self._ended and self._early_length >= WINDOW:
            self._client.resume_reading()  # before anything is sent, which may pause it again
        request = self._parts.forwarding.request(head, self._peer, head.length, UPGRADE if self._upgrading else b"")
        self._upstream = connection
        body = b"".join(self._framed(piece) for piece in self._early)
        tail = LAST_CHUNK if self._ended and head.length == CHUNKED else b""
        data, uploading = request + body + tail, not self._ended
        if not connection.send(data, head.method, self, uploading=uploading, upgrading=self._upgrading):
            self._upstream = None
            self._borrow()
            return
        self._early.clear()
        self._sent_at = self._parts.deadlines.now()
        self._extend()
        if not self._ended:
            self._client.wants_body()

    def not_connected(self, why: str) -> None:
        """There is no connection to be had."""
        self._fail(Refusal.UNREACHABLE, why)

    def received(self, data: bytes) -> None:
        """A piece of the body."""
        if self._upstream is not None:
            self._upstream.upload(self._framed(data))
            return
        self._early.append(data)
        self._early_length += len(data)
        if self._early_length >= WINDOW:
            self._client.pause_reading()

    def ended(self) -> None:
        """The request is whole."""
        self._ended = True
        if self._upstream is not None:
            self._extend()
            if self._head.length == CHUNKED:
                self._upstream.upload(LAST_CHUNK)
            self._upstream.uploaded()

    def broken(self, fault: Fault | None) -> None:
        """The body will not become whole: the upstream must not take it for whole either."""
        self._leave()
        if fault is not None and not self._answered:
            self._reply.refuse(REFUSALS[fault])
        elif fault is not None:
            self._client.abort()

    def gone(self) -> None:
        """Nobody waits for the answer."""
        self._leave()

    def upload_paused(self) -> None:
        """The upstream is slow."""
        self._held_back = True
        self._extend()
        self._client.pause_reading()

    def upload_resumed(self) -> None:
        """It reads on."""
        self._held_back = False
        self._extend()
        self._client.resume_reading()

    def _framed(self, data: bytes) -> bytes:
        return chunk(data) if self._head.length == CHUNKED else data

    # -- the response -------------------------------------------------------------------------------------------

    def informed(self, head: ResponseHead) -> None:
        """Early hints."""
        self._client.inform(hints(head))

    def answered(self, head: ResponseHead, body: bytes) -> None:
        """The backend has answered, all at once."""
        self._parts.journal.responded(self._parts.deadlines.now() - self._sent_at)
        self._upstream = None
        self._parts.deadlines.discard(self)
        self._reply.tell(head.status, "passed")
        self._client.answer(head.status, head.reason, framed(head, self._head.method, len(body)), body)

    def responded(self, head: ResponseHead) -> None:
        """The backend answers in pieces."""
        self._parts.journal.responded(self._parts.deadlines.now() - self._sent_at)
        if head.status == 101:
            self._open_tunnel(head)
            return
        self._answered = True
        self._reply.tell(head.status, "passed")
        self._client.begin(head.status, head.reason, end_to_end(head), framed=head.length >= 0)
        self._extend()

    def _open_tunnel(self, head: ResponseHead) -> None:
        """From here on the two connections are one, and this story is over."""
        if self._crowded():  # many asked at once
            return
        self._reply.tell(head.status, "passed")
        parts, upstream, self._upstream = self._parts, self._upstream, None
        parts.deadlines.discard(self)
        if upstream is not None:
            parts.pool.detach(upstream)
            Tunnel(self._client, upstream, parts.deadlines, parts.terms.tunnel_idle, parts.tunnels).open(hints(head))

    def content(self, data: bytes) -> None:
        """A piece of its body."""
        self._client.send(data)
        if self.deadline is not NEVER:
            self._extend()

    def caught_up(self) -> None:
        """An event stream's reader waits for each piece."""
        self._client.flush()

    def completed(self) -> None:
        """The response is whole."""
        self._upstream = None
        self._leave()
        self._client.end()

    def failed(self, why: str) -> None:
        """No usable head came, or the body broke off."""
        upstream, self._upstream = self._upstream, None
        if self._answered:
            self._leave()
            self._client.abort()
        elif self._resendable and upstream is not None and upstream.used and not upstream.responding:
            self._resendable = False
            self._borrow(fresh=True)
        else:
            self._fail(Refusal.UPSTREAM_TIMEOUT, why)

    def unsent(self, why: str) -> None:
        """The connection was closed before the request was written."""
        self._upstream = None
        if self._resendable:
            self._resendable = False
            self._borrow(fresh=True)
        else:
            self._fail(Refusal.UNREACHABLE, why)

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

    def overdue(self) -> None:
        """What should have happened by now has not."""
        self.deadline = NEVER
        terms = self._parts.terms
        if self._upstream is None:
            self._parts.pool.forget(self)
            self._fail(Refusal.OVERLOADED, f"no connection within {terms.connection_timeout:g} s")
        elif self._answered:
            self._leave()
            self._client.abort()
        else:
            self._fail(Refusal.UPSTREAM_TIMEOUT, f"no answer within {terms.upstream_timeout:g} s")

    # -- the end ------------------------------------------------------------------------------------------------

    def _extend(self) -> None:
        """As long as the body is to come, it is the client that is waited for, and its connection knows how long."""
        waits = self._ended or self._held_back
        self.deadline = self._parts.deadlines.now() + self._parts.terms.upstream_timeout if waits else NEVER

    def _fail(self, refusal: Refusal, why: str) -> None:
        self._leave()
        self._parts.journal.failed(self._head.path, why)
        self._reply.refuse(refusal, "failed")

    def _leave(self) -> None:
        upstream, self._upstream = self._upstream, None
        self._parts.deadlines.discard(self)
        self._parts.pool.forget(self)
        if upstream is not None:
            upstream.abort()
