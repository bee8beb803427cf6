"""One connection from a client: requests come in, one at a time, and each is handed to a receiver, which answers it.

What comes behind a request that is being treated waits in a buffer of one read; then reading is paused. So memory is
bounded by construction, and pipelined requests are answered in order.
"""

import asyncio
import logging
import socket
import struct
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from typing import cast

from proxy.deadlines import NEVER
from proxy.http1.body import LAST_CHUNK, BodyReader, MalformedBody, body_reader, chunk
from proxy.http1.message import Fault, RequestHead, read_request
from proxy.http1.server import MOST_LINGERING, Receiver, Server

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LINGER_SECONDS = 2.0
LINGER_BYTES = 1024 * 1024
"""How long, and for how much, a connection is still read that was answered before its request was whole: closed at
once, the client would see a broken pipe in the place of its answer (RFC 9112 §9.6)."""
_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds


class _Phase(Enum):
    HEAD = auto()  # a request is awaited, or part of its head is there
    WORK = auto()  # it is whole, and being treated
    BODY = auto()  # its body is being read
    TUNNEL = auto()  # it speaks another protocol now
    LINGER = auto()  # answered; what still comes is thrown away
    CLOSED = auto()


_HEAD, _WORK, _BODY, _TUNNEL, _LINGER, _CLOSED = _Phase  # to look one up in its Enum costs as much as a call


class ServerConnection(asyncio.Protocol):
    """See the module."""

    def __init__(self, server: Server) -> None:
        self.deadline = NEVER
        self.peer = ""
        """The client's address, without port."""
        self.wire: asyncio.Transport | None = None
        """What carries the records of TLS; None: the client came without."""
        self.context: object = None
        """Whatever the application keeps for the connection."""
        self._server = server
        self._limits = server.limits
        self._now = server.deadlines.now
        self._outbox = server.outbox
        self._transport: asyncio.Transport
        self._phase = _HEAD
        self._buffer = b""
        self._searched = 0
        """How much of the buffer was looked through for the end of a head; 0: nobody has looked yet."""
        self._head: RequestHead | None = None
        self._body: BodyReader | None = None
        self._body_deadline = NEVER
        self._receiver: Receiver | None = None
        self._begun = False
        """The answer's head is given."""
        self._chunked = False
        self._held: list[bytes] = []
        """Given, and not handed to the transport yet: a write is a system call."""
        self._keep_alive = True
        self._half_closed = False
        self._stuck = False
        """More is written than the client takes: no further request is looked at."""
        self._backlog = 0
        """Bytes that were not taken yet when the client was last found slow."""
        self._skipped = False
        """The one empty line that may stand before a request was there."""
        self._until_close = False
        """The answer's body ends with the connection."""
        self._lingered = 0

    @property
    def certificate(self) -> bytes:
        """The one that the client has shown, in DER, verified; empty: none."""
        tls = self._transport.get_extra_info("ssl_object")
        return b"" if tls is None else tls.getpeercert(binary_form=True) or b""

    # -- towards the receiver -----------------------------------------------------------------------------------

    def body_within(self, seconds: float) -> None:
        """The whole body of this request must be there in this time."""
        self._body_deadline = self._now() + seconds

    def wants_body(self) -> None:
        """The body is wanted: a client that waits for the word (RFC 9110 §10.1.1) is given it."""
        if self._phase is _BODY and self._head is not None and self._head.expects_continue and not self._begun:
            self._write(CONTINUE)

    def inform(self, fields: bytes) -> None:
        """103 Early Hints from the upstream; HTTP/1.0 does not know them (RFC 9110 §15.2)."""
        if not self._begun and self._head is not None and self._head.minor:
            self._write(b"HTTP/1.1 103 Early Hints\r\n" + fields + b"\r\n")

    def answer(self, status: int, reason: bytes, fields: bytes, body: bytes) -> None:
        """Give a whole answer. *fields*: lines, each with its CRLF, complete but for Connection. A HEAD is not given
        the *body*."""
        head = self._begin(status, reason, fields)
        self._write(head + body if body and not self._bodiless(status) else head)
        self._finish()

    def begin(self, status: int, reason: bytes, fields: bytes, *, framed: bool) -> None:
        """Give the head of an answer whose body follows through `send`; both leave with the next `flush`, at the latest
        with `end`. *framed*: *fields* say how long it is; else it is sent in chunks, or up to the connection's end."""
        if not framed and not self._bodiless(status):
            if self._head is not None and self._head.minor:
                self._chunked = True
                fields += b"Transfer-Encoding: chunked\r\n"
            else:
                self._keep_alive = False  # HTTP/1.0: the body ends with the connection
                self._until_close = True
        self._held.append(self._begin(status, reason, fields))

    def send(self, data: bytes) -> None:
        """A piece of the answer's body, not empty."""
        self._held.append(chunk(data) if self._chunked else data)

    def flush(self) -> None:
        """Nothing more follows at once: what there is of the answer shall go."""
        if self._held:
            held, self._held = self._held, []
            self._write(b"".join(held))

    def end(self) -> None:
        """The answer's body is whole."""
        if self._chunked:
            self._held.append(LAST_CHUNK)
        self.flush()
        self._finish()

    def hand_over(self, receiver: Receiver) -> None:
        """From here on *receiver* hears of the client."""
        self._receiver = receiver

    def switch(self, fields: bytes, receiver: Receiver) -> None:
        """Answer 101: from here on *receiver* hears every byte that comes, until `ended`; and `send`, `flush` and `end`
        give it the other direction. *fields*: all of the head's."""
        self._write(_status_line(101, b"") + fields + b"\r\n")
        self._begun, self._keep_alive = True, False
        self._phase, self._receiver = _TUNNEL, receiver
        early, self._buffer = self._buffer, b""
        self._transport.resume_reading()
        if early:
            receiver.received(early)
        if self._half_closed:
            receiver.ended()

    def abort(self) -> None:
        """Break off: the client gets what was given of the answer, and cannot take it for whole. A body that ends with
        its connection would look so, unless the connection is reset (RFC 9112 §8)."""
        self.flush()
        self._receiver = None
        if self._until_close and not self._transport.is_closing():
            self._outbox.flush()
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()
        else:
            self._close()

    def pause_reading(self) -> None:
        """The upstream does not keep up with the body."""
        if self._phase is _BODY or self._phase is _TUNNEL:
            if not self._stuck:
                self.deadline = NEVER  # it is not the client that is slow
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """It does again."""
        if self._phase is _BODY:
            self._await_body()
        if self._phase is _BODY or self._phase is _TUNNEL:
            self._transport.resume_reading()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by descent
        peername = transport.get_extra_info("peername")
        if isinstance(peername, tuple):
            self.peer = peername[0]
            self._socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio leaves it out at times
        server = self._server
        server.deadlines.add(self)
        self.deadline = self._now() + self._limits.head_timeout
        if len(server.connections) < self._limits.connections:
            server.connections.add(self)
        else:
            self._turn_away()

    def data_received(self, data: bytes) -> None:
        try:
            phase = self._phase
            if phase is _HEAD and not self._stuck:
                self._read_head(data)
            elif phase is _WORK or phase is _HEAD:
                self._buffer += data
                self._transport.pause_reading()
            elif phase is _BODY:
                self._read_body(data)
            elif phase is _TUNNEL and self._receiver is not None:
                self._receiver.received(data)
            elif phase is _LINGER:
                self._lingered += len(data)
                if self._lingered > LINGER_BYTES:
                    self._transport.abort()
        except Exception:  # a receiver's defect must end its connection, and nothing else
            logging.getLogger(__name__).exception("a request's receiver failed")
            self.drop()

    def eof_received(self) -> bool:
        """The client has said all it will say. It still reads what it has asked for (RFC 9112 §9.6)."""
        self._half_closed = True
        unread = self._phase is _HEAD and self._buffer and not self._searched  # `_next` is going to look at it
        self._outbox.flush()
        if self._phase is _TUNNEL and self._receiver is not None:
            self._receiver.ended()
        return (self._phase is _WORK or bool(unread)) and self._transport.can_write_eof()  # TLS has no half-close here

    def connection_lost(self, _error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._server.surplus.discard(self)
        self._server.deadlines.discard(self)
        self._drop_receiver()
        self._phase = _CLOSED

    def pause_writing(self) -> None:
        self._stuck = True
        self._backlog = self._unsent()
        self.deadline = self._now() + self._limits.write_timeout
        if self._receiver is not None:
            self._receiver.answer_paused()

    def resume_writing(self) -> None:
        self._stuck, self._backlog = False, 0
        if self._phase is _HEAD:
            self.deadline = self._now() + self._limits.keepalive_timeout
            self._next()
        elif self._phase is _WORK or self._phase is _TUNNEL:
            self.deadline = NEVER
        elif self._phase is _BODY:
            self._await_body()
        if self._receiver is not None:
            self._receiver.answer_resumed()

    def overdue(self) -> None:
        """The client is too slow, with whatever it is at."""
        self.deadline = NEVER
        before, self._backlog = self._backlog, self._unsent()
        if self._backlog and (self._backlog < before or not before):  # it reads, if slowly
            self.deadline = self._now() + self._limits.write_timeout
        elif self._backlog or self._phase is _LINGER or self._phase is _CLOSED:
            self.drop()
        elif self._phase is _BODY and self._receiver is not None:
            self._keep_alive = False
            self._receiver.broken(Fault.TIMEOUT)
        elif self._phase is _HEAD and self._buffer:
            self._refuse(Fault.TIMEOUT)
        elif self._phase is not _WORK:  # what is being treated has a deadline of its own
            self._close()

    def drain(self) -> None:
        """See `Server.drain`."""
        self._keep_alive = False
        if self._phase is _HEAD and not self._buffer:
            self._close()

    def drop(self) -> None:
        """End it now, whatever is under way."""
        self._drop_receiver()
        self._transport.abort()

    # -- reading ------------------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if not self._skipped and data[:2] == b"\r\n":  # RFC 9112 §2.2: one empty line before a request is ignored
            self._skipped = True
            self._buffer, self._searched, data = b"", 0, data[2:]
            if not data:
                if self._half_closed:
                    self._close()
                return
        end = data.find(b"\r\n\r\n", self._searched) + 4
        if end < 4:
            self._await_head(data)
        elif end > self._limits.head:
            self._refuse(Fault.FIELDS_TOO_LARGE)
        else:
            self._buffer, self._searched = b"", 0
            head = read_request(data[:end], self._limits, self._server.watched)
            if isinstance(head, Fault):
                self._refuse(head)
            else:
                self._receive(head, data[end:])

    def _await_head(self, data: bytes) -> None:
        """The head is not whole yet: keep it, as long as it can still become one within the limits."""
        if not self._buffer:
            self.deadline = self._now() + self._limits.head_timeout
        self._buffer, self._searched = data, max(1, len(data) - 3)
        if not (b"!" <= data[:1] <= b"~" or data[:1] == b"\r"):  # TLS to a port without it, most likely
            self._refuse(Fault.BAD_REQUEST)
            return
        if len(data) > self._limits.request_line + 1 and b"\r\n" not in data:  # the last byte may be its CR
            self._refuse(Fault.URI_TOO_LONG)
        elif len(data) > self._limits.head:
            self._refuse(Fault.FIELDS_TOO_LARGE)
        elif self._half_closed:
            self._close()

    def _receive(self, head: RequestHead, rest: bytes) -> None:
        self._head = head
        self._begun = self._skipped = False
        self._keep_alive = head.keep_alive and not self._server.draining
        length = head.length
        receiver = self._receiver = self._server.application.receive(head, self)
        if 0 <= length <= len(rest):
            self._phase, self.deadline = _WORK, NEVER
            self._buffer = rest[length:]
            receiver.whole(rest[:length])
            return
        self._phase = _BODY
        self._body = body_reader(length, self._limits)
        self._body_deadline = NEVER
        receiver.started()
        if self._phase is _BODY:
            self._await_body()
            if rest:
                self._read_body(rest)

    def _await_body(self) -> None:
        self.deadline = min(self._now() + self._limits.body_idle_timeout, self._body_deadline)

    def _read_body(self, data: bytes) -> None:
        body, receiver = self._body, self._receiver
        if body is None or receiver is None:
            return
        try:
            content, rest = body.feed(data)
        except MalformedBody:
            self._keep_alive = False
            receiver.broken(Fault.BAD_REQUEST)
            return
        done = body.done
        if not done:
            self._await_body()  # before the receiver, which may pause it
        if content:
            receiver.received(content)
        if self._phase is not _BODY or not done:
            return  # in another phase the receiver has answered already: the rest is of no interest
        self._phase, self.deadline, self._buffer, self._body = _WORK, NEVER, rest, None
        self._transport.resume_reading()  # which the receiver may have paused with its last piece
        receiver.ended()

    def _refuse(self, fault: Fault) -> None:
        """Answer what is no usable request. Nothing behind it can be trusted."""
        self._keep_alive = False
        self._server.application.refuse(fault, self)

    def _turn_away(self) -> None:
        """One connection too many."""
        surplus = self._server.surplus
        surplus.add(self)
        if len(surplus) > MOST_LINGERING:
            self._phase = _CLOSED
        self._refuse(Fault.OVERLOADED)
        if self._phase is _CLOSED:
            self._close()

    # -- answering ----------------------------------------------------------------------------------------------

    def _bodiless(self, status: int) -> bool:
        return status in (204, 304) or (self._head is not None and self._head.method == b"HEAD")

    def _begin(self, status: int, reason: bytes, fields: bytes) -> bytes:
        """An answer's head."""
        self._begun = True
        if self._phase is not _WORK:
            self._keep_alive = False  # the request is not whole: what follows on this connection is not a request
        if not self._keep_alive:
            fields += b"Connection: close\r\n"
        elif self._head is not None and self._head.minor == 0:
            fields += b"Connection: keep-alive\r\n"
        return _status_line(status, reason) + fields + b"\r\n"

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._outbox.write(self._transport, data)

    def _finish(self) -> None:
        """The answer is given: on to the next request, or the end."""
        self._receiver = self._head = self._body = None
        self._chunked = False
        if self._phase is not _WORK:
            self._linger()
        elif self._keep_alive and (self._buffer or not self._half_closed):
            self._phase = _HEAD
            if not self._stuck:  # else `resume_writing` does it
                self.deadline = self._now() + self._limits.keepalive_timeout
            if self._buffer:
                asyncio.get_running_loop().call_soon(self._next)
        else:
            self._close()

    def _next(self) -> None:
        """What has come behind the request that was just answered."""
        if self._phase is _HEAD and not self._stuck and not self._transport.is_closing():
            data, self._buffer = self._buffer, b""
            self._transport.resume_reading()
            if data:
                self.data_received(data)

    def _close(self) -> None:
        """Close, when what was given is written; an answer that nobody takes is dropped."""
        self._phase = _CLOSED
        self._outbox.flush()
        self.deadline = self._now() + (self._limits.write_timeout if self._unsent() else LINGER_SECONDS)
        self._transport.close()

    def _linger(self) -> None:
        if self._phase is _CLOSED or self._transport.is_closing():
            return
        self._phase = _LINGER
        self.deadline = self._now() + LINGER_SECONDS
        self._outbox.flush()
        if self._half_closed:
            self._close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()  # TLS says so to the client, and reads on, for nobody, until the client closes, too

    def _drop_receiver(self) -> None:
        """The client is gone."""
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        try:
            if self._phase is _BODY and not self._begun:
                receiver.broken(None)
            else:
                receiver.gone()
        except Exception:  # as in data_received
            logging.getLogger(__name__).exception("a request's receiver failed as its client went")

    def _unsent(self) -> int:
        """Bytes that the client has not taken yet."""
        beneath = 0 if self.wire is None else self.wire.get_write_buffer_size()
        return self._transport.get_write_buffer_size() + beneath

    def _socket(self) -> socket.socket:
        return cast("socket.socket", self._transport.get_extra_info("socket"))


@lru_cache(maxsize=256)
def _status_line(status: int, reason: bytes) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, reason or _REASONS.get(status, b""))
