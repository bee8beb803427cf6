"""Bytes from a client: which requests do we see in them, and does h11 see the same?

Marks: `e` the client half-closes, `r` it resets, `p` it stops reading, `g` it reads again, `t` a second passes, `T` a
hundred, `l` answers wait for `a` from here on, `n` they are given at the head, `h` the application pauses the client,
`H` goes on, `x` it breaks its answer off, `s` it switches to another protocol, `d` the server drains.
"""

from collections.abc import Callable

from proxy.http1.connection import ServerConnection
from proxy.http1.fields import Watched
from proxy.http1.message import CHUNKED, REQUEST_FIELDS, Limits
from proxy.http1.outbox import Outbox
from proxy.http1.server import Server
from tests.fuzz.application import Recorder, State
from tests.fuzz.oracle import explained, judge_forwarded, judge_request_head, read_request
from tests.fuzz.script import steps
from tests.fuzz.transport import Clock, MemoryTransport, no_errors_logged
from tests.support.raw import Incomplete, Reply, take

LIMITS = Limits(request_line=256, head=2048, fields=20, trailers=64, chunk_extensions=32)
Event = Callable[[], object]
WATCHED = Watched([*REQUEST_FIELDS, b"idempotency-key", b"authorization"])


async def requests(data: bytes) -> None:
    """Run the script that *data* is; raise AssertionError."""
    recorder, clock = Recorder(), Clock()
    server = Server(recorder, LIMITS, clock, Outbox(), WATCHED)
    with no_errors_logged():
        connection = ServerConnection(server)
        transport = MemoryTransport(connection)
        for mark, wire in steps(data):
            if not transport.lost:
                _happens(mark, transport, recorder, server, clock)
                transport.comes(wire)
                await transport.deliver()
        await _until_nothing_happens(transport, recorder)
        idle = not (transport.is_closing() or transport.stalled or recorder.busy)
        assert not (idle and transport.heard_all), "kept open for a client that says no more"
        assert not (idle and transport.unread), "reading is paused for ever"
        transport.lose(None)
        await transport.deliver()
    assert not server.connections
    assert not clock.waiting
    for request in recorder.requests:
        assert request.answered or request.is_gone, "nobody told the receiver"
        assert request.tunnel is None or request.tunnel.is_over, "nobody told the tunnel"
    _judge_requests(b"".join(transport.delivered), recorder, idle=idle)
    _judge_answers(transport, recorder)


async def _until_nothing_happens(transport: MemoryTransport, recorder: Recorder) -> None:
    """Each pipelined request has a turn of its own."""
    before = -1, -1
    while (now := (len(recorder.requests), len(transport.delivered))) != before:
        before = now
        await transport.deliver()


def _happens(
    mark: bytes,
    transport: MemoryTransport,
    recorder: Recorder,
    server: Server,
    clock: Clock,
) -> None:
    events: dict[bytes, Event] = {
        b"e": lambda: transport.comes(None),
        b"r": lambda: transport.lose(ConnectionResetError()),
        b"p": transport.stall,
        b"g": transport.drain,
        b"t": lambda: clock.advance(1),
        b"T": lambda: clock.advance(100),
        b"l": recorder.answer_later,
        b"n": recorder.answer_early,
        b"a": recorder.answer,
        b"h": recorder.hold,
        b"H": recorder.go_on,
        b"x": recorder.break_off,
        b"s": recorder.switch,
        b"d": server.drain,
    }
    events.get(mark, bool)()


def _judge_requests(came: bytes, recorder: Recorder, *, idle: bool) -> None:
    """*idle*: the connection waits for the next request, so that there must be none."""
    for request in recorder.requests:
        came = came.removeprefix(b"\r\n")  # RFC 9112 §2.2: one empty line; h11 takes none
        theirs = read_request(came)
        judge_request_head(request.head, theirs)
        judge_forwarded(request.head)
        if request.head.length == CHUNKED and explained(theirs, came):
            return  # h11 has lost its way, not we
        if request.state is not State.WHOLE:
            assert request is recorder.requests[-1], "a request behind half a body"
            assert theirs.body.startswith(request.body) or request.body.startswith(theirs.body), (request, theirs)
            return
        assert theirs.whole, (request.head, theirs)
        assert theirs.body == request.body, (theirs, request.body)
        came = theirs.rest
        if request.tunnel is not None:
            assert came.startswith(request.tunnel.heard), (came, request.tunnel.heard)
            assert request is recorder.requests[-1], "a request out of a tunnel"
            return
    if idle and recorder.refused is None:
        assert b"\r\n\r\n" not in came.removeprefix(b"\r\n"), "a request that is not looked at"


def _judge_answers(transport: MemoryTransport, recorder: Recorder) -> None:
    """Those that were given are there, in order, each to its request."""
    data = transport.written
    heads = [request.head.method == b"HEAD" for request in recorder.requests]
    given = list[Reply]()
    while data:
        head = len(given) < len(heads) and heads[len(given)]
        try:
            reply, data = take(data, head=head, ended=True)
        except Incomplete:
            assert transport.cut_short or transport.lost, data
            break
        if reply.status == 101:
            tunnel = recorder.requests[len(given)].tunnel
            assert tunnel is not None
            assert tunnel.heard.startswith(data), (tunnel.heard, data)
            return
        if reply.status == 200:
            assert reply.body == (b"" if head else b"%d" % len(given)), (reply, len(given))
            given.append(reply)
        else:
            assert reply.status == 100 or (reply.status == 400 and recorder.refused is not None), reply
    assert len(given) <= len(recorder.requests)
