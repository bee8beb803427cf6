"""One connection to the upstream, one request at a time.

The line between *not sent* and *maybe sent* is the first write of request bytes to the transport. `send` says whether
the request is on its way there; where it did not arrive, because the connection was closed meanwhile, the listener
hears `unsent`. Before that line a request may be refused as never sent; behind it, nobody may send the request again.
"""

import asyncio
import logging
import select
from collections.abc import Callable
from typing import Protocol, cast

from proxy.deadlines import NEVER
from proxy.http1.body import BodyReader, CloseReader, MalformedBody, body_reader
from proxy.http1.message import Limits, ResponseHead, read_response
from proxy.http1.outbox import Outbox

MAX_INFORMATIONAL = 8
"""1xx responses before the final one; an upstream that sends more of them is not going to answer."""
UNUSABLE = "unusable answer"


class Listener(Protocol):
    """Who sent the request. After `answered`, `completed`, `failed` or `unsent` nothing more is called."""

    def informed(self, head: ResponseHead) -> None:
        """103 Early Hints: to be passed on."""

    def answered(self, head: ResponseHead, body: bytes) -> None:
        """A whole response, that came in one piece: the last call, without any of those that follow."""

    def responded(self, head: ResponseHead) -> None:
        """The head of the final response; the body is to come."""

    def content(self, data: bytes) -> None:
        """A piece of its body, not empty."""

    def caught_up(self) -> None:
        """Nothing more of the response has come for now."""

    def completed(self) -> None:
        """The response is whole."""

    def failed(self, why: str) -> None:
        """The connection is lost, or the answer unusable; after `responded`: the body broke off."""

    def unsent(self, why: str) -> None:
        """The connection is lost, and not a byte of the request was written to it."""

    def upload_paused(self) -> None:
        """The upstream does not keep up with the request's body."""

    def upload_resumed(self) -> None:
        """It does again."""


class UpstreamConnection(asyncio.Protocol):
    """*idle* is called when a response is whole and the connection can carry another request; *closed* once, at the
    end of its life."""

    def __init__(
        self,
        limits: Limits,
        outbox: Outbox,
        idle: Callable[["UpstreamConnection"], None],
        closed: Callable[["UpstreamConnection"], None],
    ) -> None:
        self.deadline = NEVER
        self.tls: object = None
        """What it was made with."""
        self.used = False
        """It has carried a request before: the upstream may have closed it meanwhile."""
        self._limits = limits
        self._outbox = outbox
        self._idle = idle
        self._closed = closed
        self._transport: asyncio.Transport
        self._readable = select.poll()
        self._listener: Listener | None = None
        self._method = b""
        self._buffer = b""
        self._head: ResponseHead | None = None
        self._body: BodyReader | None = None
        self._informational = 0
        self.responding = False
        """At least one byte of the response has come."""
        self._uploading = False
        self._upgrading = False
        self._paused = False
        self._turn = 0
        """Of the outbox, when the request was given to it."""
        self._skipped = False
        """The request was not written: the transport was closed by then."""

    # -- towards the listener -----------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._transport.is_closing()

    def fit(self) -> bool:
        """Whether a request may be sent: open, and nothing has come unasked, not even an end of file that the loop
        has not seen yet. Each request that is sent into a closed connection costs a key its certainty."""
        return not self._transport.is_closing() and not self._readable.poll(0)

    def send(
        self, request: bytes, method: bytes, listener: Listener, *, uploading: bool = False, upgrading: bool = False
    ) -> bool:
        """Write the first bytes of a request. False: nothing was written, and nothing will be.
        *uploading*: more of the body follows through `upload`, until `uploaded`. *upgrading*: it asks for a WebSocket;
        `responded` may then bring a 101, and `upload` goes on until `finish`."""
        if self._transport.is_closing():
            return False
        self.deadline = NEVER
        if self._paused:  # by whoever had it before
            self.resume_reading()
        self._listener, self._method, self._uploading, self._upgrading = listener, method, uploading, upgrading
        self._buffer, self._head, self._body, self._informational = b"", None, None, 0
        self.responding = False
        self._turn, self._skipped = self._outbox.turn, False
        self._outbox.write(self._transport, request, self._skip)
        return True

    def _skip(self) -> None:
        self._skipped = True

    def upload(self, data: bytes) -> None:
        """More of the request's body."""
        if not self._transport.is_closing():
            self._outbox.write(self._transport, data)

    def uploaded(self) -> None:
        """The request is whole."""
        self._uploading = False

    def pause_reading(self) -> None:
        """The client does not keep up with the response."""
        self._paused = True
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """It does again."""
        self._paused = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def hand_over(self, listener: Listener) -> None:
        """From here on *listener* hears of the response."""
        self._listener = listener

    def finish(self, deadline: float) -> None:
        """Close the connection behind what was uploaded, at the latest at *deadline*; the listener hears nothing
        more."""
        self._listener = None
        self.deadline = deadline
        self._outbox.flush()
        self._transport.close()

    def abort(self) -> None:
        """Drop the connection; the listener hears nothing more."""
        self._listener = None
        self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        self._transport.close()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by descent
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        try:
            self._read(data)
            if self._head is not None and self._listener is not None:
                self._listener.caught_up()
        except Exception:  # a listener's defect must not take the loop's callback down with it
            logging.getLogger(__name__).exception("a response's listener failed")
            self._fail("defect of the proxy")

    def eof_received(self) -> None:
        if isinstance(self._body, CloseReader) and self._listener is not None:
            self._complete(b"")

    def connection_lost(self, error: Exception | None) -> None:
        self._closed(self)
        if self._listener is not None:
            self._fail(f"connection lost: {error}" if error else "connection closed by the upstream")

    def pause_writing(self) -> None:
        if self._listener is not None:
            self._listener.upload_paused()

    def resume_writing(self) -> None:
        if self._listener is not None:
            self._listener.upload_resumed()

    def overdue(self) -> None:
        """Idle for too long: closed by us before the upstream does it; or too slow to let itself be closed."""
        self.deadline = NEVER
        if self._transport.is_closing():
            self._transport.abort()
        else:
            self._transport.close()

    # -- reading ------------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        while data:
            if self._listener is None:
                # Bytes that no request asked for: they must not become the next client's response.
                self._transport.abort()
                return
            if not self.responding and self._turn == self._outbox.turn:
                self._fail("an answer before the request")
                return
            self.responding = True
            if self._head is None:
                data = self._read_head(data)
            elif self._body is not None:
                data = self._read_body(self._body, self._listener, data)

    def _read_body(self, body: BodyReader, listener: Listener, data: bytes) -> bytes:
        """Hand on what is there of the body; return what is behind it, where that is somebody else's."""
        try:
            content, rest = body.feed(data)
        except MalformedBody as error:
            if error.content:
                listener.content(error.content)
            self._fail(str(error))
            return b""
        if content:
            listener.content(content)
        if body.done:
            self._complete(rest)
        return b""

    def _read_head(self, data: bytes) -> bytes:
        """Read a head out of the buffer and *data*; return what is behind it."""
        assert self._listener is not None  # noqa: S101
        searched = max(0, len(self._buffer) - 3)
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        end = data.find(b"\r\n\r\n", searched) + 4
        if (end if end > 3 else len(data)) > self._limits.response_head:
            self._fail("the response's head is too large")
            return b""
        if end < 4:
            self._buffer = data
            return b""
        head = read_response(data[:end], self._method)
        if head is None or (head.status == 101 and not self._may_switch(head)):
            self._fail(UNUSABLE)
            return b""
        if head.status < 200 and head.status != 101:
            self._inform(head)
            return data[end:]
        length, rest = head.length, data[end:]
        if 0 <= length <= len(rest):
            listener = self._listener
            self._end(head, rest[length:])
            try:
                listener.answered(head, rest[:length])
            except Exception:
                _charge(listener)
            return b""
        self._head = head
        self._body = body_reader(length, self._limits)
        self._listener.responded(head)
        return rest

    def _may_switch(self, head: ResponseHead) -> bool:
        """Whether a 101 is to what was asked for (RFC 9110 §7.8)."""
        return self._upgrading and b"upgrade" in head.connection and head.found.get(b"upgrade") == b"websocket"

    def _inform(self, head: ResponseHead) -> None:
        self._informational += 1
        if self._informational > MAX_INFORMATIONAL:
            self._fail("too many informational responses")
        elif head.status == 103 and self._listener is not None:
            self._listener.informed(head)

    def _complete(self, rest: bytes) -> None:
        """The response is whole: first the connection finds its place, then the listener hears of it."""
        listener, head = self._listener, self._head
        if listener is None or head is None:
            return  # the listener has dropped the connection meanwhile
        self._end(head, rest)
        try:
            listener.completed()
        except Exception:
            _charge(listener)

    def _end(self, head: ResponseHead, rest: bytes) -> None:
        self._listener = self._body = None
        self.used = True
        if self._uploading or self._transport.get_write_buffer_size():
            self._transport.abort()  # not all of the request was taken: the next would queue behind it
        elif rest or not head.keep_alive:
            self._transport.close()
        else:
            if self._paused:  # by the listener, with the last piece
                self.resume_reading()
            self._idle(self)

    def _fail(self, why: str) -> None:
        listener = self._listener
        self._listener = self._body = None
        self._transport.abort()  # what waits in the outbox is not written any more
        if listener is not None:
            (listener.unsent if self._skipped or self._turn == self._outbox.turn else listener.failed)(why)


def _charge(listener: Listener) -> None:
    """A listener's defect is its own: the connection may carry another's request by now."""
    log = logging.getLogger(__name__)
    log.exception("a response's listener failed")  # noqa: LOG004 - called where it is handled
    try:
        listener.failed("defect of the proxy")
    except Exception:
        log.exception("and failed again")
