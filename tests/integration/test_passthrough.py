"""What carries no key passes as if nobody were here: streaming both ways, transparent, and sent twice only where that
is safe."""

import asyncio
import json

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import (
    Behaviour,
    Origin,
    Recorded,
    after,
    cut,
    hang,
    head,
    in_turn,
    raw,
    reset,
    respond,
    respond_chunked,
    send,
    slowly,
)
from tests.support.proxy import BODY, PATH, Connection, Proxy, new_key, post, request
from tests.support.raw import Field, Incomplete, Reply, eventually, exchange, parse, parse_all

CLOSES = raw(b"", close=True)
DATE = (b"Date", b"Wed, 13 Jan 2016 22:25:56 GMT")
CHUNKED = (b"Transfer-Encoding", b"chunked")


def refused(reply: Reply, status: int, kind: str) -> None:
    assert (reply.status, json.loads(reply.body)["Type"]) == (status, kind)
    assert list(json.loads(reply.body)) == ["Message", "Type", "Id", "Date", "errors"]


def in_parts(*parts: bytes, gates: list[asyncio.Event]) -> Behaviour:
    """The first part at once, each other behind its gate."""

    async def behaviour(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        await send(writer, parts[0])
        for part, gate in zip(parts[1:], gates, strict=True):
            await gate.wait()
            await send(writer, part)
        if not parts[-1].endswith(b"0\r\n\r\n"):
            writer.close()

    return behaviour


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        [b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n", b"3\r\ntwo\r\n", b"5\r\nthree\r\n0\r\n\r\n"],
        [b"Content-Length: 11\r\n\r\none", b"two", b"three"],
        [b"\r\none", b"two", b"three"],
    ],
    ids=["chunked", "length", "until the end"],
)
async def test_an_answer_arrives_piece_by_piece(origin: Origin, proxy: Proxy, parts: list[bytes]) -> None:
    gates = [asyncio.Event(), asyncio.Event()]
    origin.behave(in_parts(b"HTTP/1.1 200 OK\r\n" + parts[0], *parts[1:], gates=gates))
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/events", [(b"Connection", b"close")]))
        given = await client.until(b"one")
        gates[0].set()
        given += await client.until(b"two")
        gates[1].set()
        given += await client.rest()
    assert parse(given).body == b"onetwothree"


async def test_an_event_stream_may_last_longer_than_an_answer_may_take(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"upstream.timeout": "300ms"})
    pieces = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"4\r\ntick\r\n"] * 8, b"0\r\n\r\n"]
    origin.behave(slowly(pieces, 0.1))
    assert (await proxy.call(request(b"GET", b"/events"))).body == b"tick" * 8


async def test_a_client_that_does_not_read_holds_the_backend_back(origin: Origin, proxy: Proxy) -> None:
    size, piece, written = 40_000_000, b"x" * 100_000, [0]

    async def behaviour(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        await send(writer, head(200, [(b"Content-Length", b"%d" % size)]))
        while written[0] < size:
            await send(writer, piece)
            written[0] += len(piece)

    origin.behave(behaviour)
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/large", [(b"Connection", b"close")]))
        await client.until(b"\r\n\r\n")
        seen = [0]

        async def stands_still() -> bool:
            before, seen[0] = seen[0], written[0]
            await asyncio.sleep(0.1)  # nothing moved in all that time
            return 0 < before == written[0]

        await eventually(stands_still)
        assert written[0] < size / 2  # what sockets and windows hold
        assert len(await client.rest()) == size
    assert written[0] == size


async def test_head_has_the_fields_of_get_and_no_body(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond(200, [DATE, (b"Content-Type", b"text/plain")], b"paid"))
    async with Connection(proxy.port) as client:
        for _ in range(2):
            client.send(request(b"HEAD", b"/") + request(b"GET", b"/"))
            asked, shown = await client.reply(head=True), await client.reply()
            assert asked.fields == shown.fields
            assert shown.body == b"paid"


@pytest.mark.parametrize(
    ("behaviour", "fields"),
    [
        (respond(204, [DATE, (b"ETag", b'"1"')]), [DATE, (b"ETag", b'"1"')]),
        (respond(304, [DATE, (b"ETag", b'"1"')]), [DATE, (b"ETag", b'"1"')]),
        (raw(head(304, [DATE, (b"Content-Length", b"471")])), [DATE, (b"Content-Length", b"471")]),
    ],
)
async def test_answers_that_have_no_body(
    origin: Origin, proxy: Proxy, behaviour: Behaviour, fields: list[Field]
) -> None:
    origin.behave(behaviour)
    async with Connection(proxy.port) as client:
        for _ in range(2):
            client.send(request(b"GET", b"/"))
            assert (await client.reply()).fields == fields
    assert origin.connections == 1


async def test_trailers_are_dropped_and_chunks_are_kept(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond_chunked([b"one", b"two"], fields=[DATE], trailers=[(b"X-Sum", b"1")]))
    reply = await proxy.call(request(b"GET", b"/"))
    assert (reply.fields, reply.body) == ([DATE, CHUNKED], b"onetwo")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_early_hints_are_passed_on_and_other_interim_answers_are_not(
    origin: Origin, proxy: Proxy, method: bytes
) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    origin.behave(raw(b"HTTP/1.1 102 Processing\r\n\r\n" + hints + b"HTTP/1.1 100 Continue\r\n\r\n" + hints + final))
    data = request(method, b"/", [(b"Content-Length", b"0")])
    replies = parse_all(await exchange(proxy.port, data))
    assert [reply.status for reply in replies] == [103, 103, 200]
    assert [reply.all(b"Link") for reply in replies] == [[b"</a.css>"], [b"</a.css>"], []]
    old = b"%b / HTTP/1.0\r\nContent-Length: 0\r\n\r\n" % method
    assert parse(await exchange(proxy.port, old, until_eof=True)).status == 200  # HTTP/1.0 does not know them


async def test_an_answer_that_breaks_off_does_not_look_whole(origin: Origin, proxy: Proxy) -> None:
    for lines, part in ((b"Content-Length: 100", b"half"), (b"Transfer-Encoding: chunked", b"4\r\nhalf\r\n")):
        origin.behave(cut(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % lines, part))
        async with Connection(proxy.port) as client:
            client.send(request(b"GET", b"/"))
            given = await client.rest()
        assert b"half" in given
        with pytest.raises(Incomplete):
            parse(given)


# -- uploads ---------------------------------------------------------------------------------------------------------


class Sink:
    """A backend that only listens: what came, as it comes; and whether it ended well."""

    def __init__(self) -> None:
        self.data = b""
        self.over = asyncio.Event()
        self.writer: asyncio.StreamWriter

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        try:
            while piece := await reader.read(65536):
                self.data += piece
        except ConnectionError:
            pass
        self.over.set()
        writer.close()

    async def until(self, marker: bytes) -> None:
        await eventually(lambda: marker in self.data)


@pytest.mark.parametrize(
    ("framing", "first", "second", "seen"),
    [
        ((b"Content-Length", b"9"), b"first", b"last", b"firstlast"),
        (CHUNKED, b"5\r\nfirst\r\n", b"4\r\nlast\r\n0\r\n\r\n", b"5\r\nfirst\r\n4\r\nlast\r\n0\r\n\r\n"),
    ],
)
async def test_an_upload_arrives_piece_by_piece(
    start_proxy: StartProxy, framing: Field, first: bytes, second: bytes, seen: bytes
) -> None:
    sink = Sink()
    server = await asyncio.start_server(sink, "127.0.0.1", 0)
    proxy = await start_proxy(**{"upstream.url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
    async with Connection(proxy.port) as client:
        client.send(request(b"PUT", b"/file", [framing], first))
        await sink.until(b"first")
        client.send(second)
        await sink.until(b"last")
        await eventually(lambda: sink.data.endswith(b"\r\n\r\n" + seen))
        sink.writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        assert (await client.reply()).status == 201
    assert b"%b: %b" % framing in sink.data
    server.close()


@pytest.mark.parametrize("end", ["malformed", "gone", "half"])
async def test_an_upload_that_breaks_off_never_looks_whole(start_proxy: StartProxy, end: str) -> None:
    sink = Sink()
    server = await asyncio.start_server(sink, "127.0.0.1", 0)
    proxy = await start_proxy(**{"upstream.url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
    async with Connection(proxy.port) as client:
        client.send(request(b"PUT", b"/file", [CHUNKED], b"5\r\nfirst\r\n"))
        await sink.until(b"first")
        match end:
            case "malformed":
                client.send(b"nonsense\r\n0\r\n\r\n")
                refused(parse(await client.rest()), 400, "bad_request")
            case "gone":
                client.abort()
            case _:
                client.half_close()
                await client.rest()
        async with asyncio.timeout(5):
            await sink.over.wait()
    assert sink.data.endswith(b"first") or sink.data.endswith(b"first\r\n")
    server.close()


async def test_an_upload_is_answered_before_it_is_whole(origin: Origin, start_proxy: StartProxy) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    proxy = await start_proxy(**{"upstream.url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
    async with Connection(proxy.port) as client:
        client.send(request(b"PUT", b"/file", [(b"Content-Length", b"1000000")], b"x" * 1000))
        reply = await client.reply()
    assert (reply.status, reply.body) == (403, b"no")
    server.close()


async def test_a_large_upload_arrives_whole(origin: Origin, proxy: Proxy) -> None:
    body = bytes(range(256)) * 40_000
    assert (await proxy.post(body=body)).status == 200
    assert origin.requests[0].body == body


async def test_who_waits_for_the_word_to_go_on_is_given_it_when_the_backend_is_there(
    origin: Origin, proxy: Proxy
) -> None:
    data = post(None, [(b"Expect", b"100-continue")])[: -len(BODY)]
    async with Connection(proxy.port) as client:
        client.send(data)
        assert (await client.reply()).status == 100
        client.send(BODY)
        assert (await client.reply()).status == 200
    assert origin.requests[0].all(b"Expect") == []
    await origin.stop()
    async with Connection(proxy.port) as client:
        client.send(data)
        refused(await client.reply(), 502, "upstream_unreachable")


# -- connections -----------------------------------------------------------------------------------------------------


async def test_connections_to_the_backend_are_kept(origin: Origin, proxy: Proxy) -> None:
    for _ in range(5):
        assert (await proxy.call(request(b"GET", b"/"))).status == 200
        assert (await proxy.post(new_key())).status == 200
    assert origin.connections == 1


@pytest.mark.parametrize("setting", [b"Connection: close\r\nContent-Length: 0", b"Content-Length: 0"])
async def test_a_connection_that_the_backend_closes_is_not_used_again(
    origin: Origin, proxy: Proxy, setting: bytes
) -> None:
    origin.behave(cut(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % setting))
    for _ in range(3):
        assert (await proxy.post()).status == 200
        await origin.until(lambda: origin.open == 0)
        assert (await proxy.post(new_key())).status == 200
        await origin.until(lambda: origin.open == 0)
    assert (len(origin.requests), origin.connections) == (6, 6)


async def test_an_idle_connection_to_the_backend_is_closed_in_time(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"upstream.idle_timeout": "200ms"})
    assert (await proxy.post()).status == 200
    assert origin.open == 1
    await origin.until(lambda: origin.open == 0)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("dies", [CLOSES, reset()], ids=["closes", "resets"])
async def test_a_get_is_sent_again_once_where_a_kept_connection_died(
    origin: Origin, proxy: Proxy, method: bytes, dies: Behaviour
) -> None:
    asked = request(method, b"/")
    origin.behave(in_turn(respond(200), dies, respond(200)))
    assert [(await proxy.call(asked, head=method == b"HEAD")).status for _ in range(2)] == [200, 200]
    assert (len(origin.requests), origin.connections) == (3, 2)


async def test_a_get_is_not_sent_a_third_time_nor_again_on_a_new_connection(origin: Origin, proxy: Proxy) -> None:
    origin.behave(in_turn(respond(200), CLOSES, CLOSES, respond(200)))
    assert (await proxy.call(request(b"GET", b"/"))).status == 200
    refused(await proxy.call(request(b"GET", b"/")), 504, "upstream_timeout")
    assert len(origin.requests) == 3
    origin.behave(in_turn(CLOSES, respond(200)))
    refused(await proxy.call(request(b"GET", b"/")), 504, "upstream_timeout")
    assert len(origin.requests) == 4


@pytest.mark.parametrize(
    "data",
    [
        post(),
        request(b"PUT", b"/", [(b"Content-Length", b"0")]),
        request(b"DELETE", b"/"),
        request(b"GET", b"/", [(b"Content-Length", b"4")], b"body"),
    ],
    ids=["POST", "PUT", "DELETE", "GET with a body"],
)
async def test_nothing_else_is_ever_sent_again(origin: Origin, proxy: Proxy, data: bytes) -> None:
    origin.behave(in_turn(respond(200), CLOSES, respond(200)))
    assert (await proxy.call(data)).status == 200
    refused(await proxy.call(data), 504, "upstream_timeout")
    assert len(origin.requests) == 2


async def test_a_get_whose_answer_had_begun_is_not_sent_again(origin: Origin, proxy: Proxy) -> None:
    origin.behave(in_turn(respond(200), cut(b"HTTP/1.1 2"), respond(200)))
    assert (await proxy.call(request(b"GET", b"/"))).status == 200
    refused(await proxy.call(request(b"GET", b"/")), 504, "upstream_timeout")
    assert len(origin.requests) == 2


async def test_pipelined_requests_are_answered_in_order(origin: Origin, proxy: Proxy) -> None:
    gate = asyncio.Event()

    async def echo(request_: Recorded, writer: asyncio.StreamWriter) -> None:
        if request_.target == b"/0":
            await gate.wait()
        await respond(200, body=request_.target)(request_, writer)

    origin.behave(echo)
    targets = [b"/%d" % number for number in range(20)]
    async with Connection(proxy.port) as client:
        client.send(b"".join(request(b"GET", target) for target in targets))
        await origin.until(lambda: origin.requests)
        assert len(origin.requests) == 1  # one at a time
        gate.set()
        assert [(await client.reply()).body for _ in targets] == targets


async def test_requests_in_small_pieces_are_requests(origin: Origin, proxy: Proxy) -> None:
    data = post(new_key()) + request(b"PUT", b"/", [CHUNKED], b"5\r\nhello\r\n0\r\n\r\n") + request(b"GET", b"/")
    async with Connection(proxy.port) as client:
        for at in range(0, len(data), 7):
            client.send(data[at : at + 7])
            await asyncio.sleep(0)
        assert [(await client.reply()).status for _ in range(3)] == [200, 200, 200]
    assert [seen.body for seen in origin.requests] == [BODY, b"hello", b""]


# -- other clients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", [respond(200, body=b"paid"), respond_chunked([b"pa", b"id"])])
@pytest.mark.parametrize("keyed", [True, False])
async def test_a_client_of_http_1_0(origin: Origin, proxy: Proxy, behaviour: Behaviour, keyed: bool) -> None:
    origin.behave(behaviour)
    line = b"Idempotency-Key: %b\r\n" % new_key() if keyed else b""
    data = b"POST / HTTP/1.0\r\n%bContent-Length: 2\r\n\r\n{}" % line
    reply = parse(await exchange(proxy.port, data, until_eof=True))
    assert (reply.status, reply.body, reply.all(b"Transfer-Encoding")) == (200, b"paid", [])
    (seen,) = origin.requests
    assert seen.raw_head.startswith(b"POST / HTTP/1.1\r\n")
    assert seen.all(b"Host") == [b"127.0.0.1:%d" % origin.port]
    assert seen.all(b"Via") == [b"1.0 idempotency-proxy"]


async def test_a_client_of_http_1_0_may_keep_its_connection(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond(200, body=b"paid"))
    async with Connection(proxy.port) as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            reply = await client.reply()
            assert (reply.body, (reply.field(b"Connection") or b"").lower()) == (b"paid", b"keep-alive")


async def test_a_client_that_wants_its_connection_closed(proxy: Proxy) -> None:
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/", [(b"Connection", b"close")]))
        reply = parse(await client.rest())
    assert (reply.status, reply.field(b"Connection")) == (200, b"close")


async def test_targets_of_every_form(origin: Origin, proxy: Proxy) -> None:
    targets = {
        b"http://api.example.com/a?b": b"/a?b",
        b"HTTP://API.example.com:80/a": b"/a",
        b"http://api.example.com": b"/",
        b"http://api.example.com?q": b"/?q",
        b"/%7e//a/../b;c?d[]=1": b"/%7e//a/../b;c?d[]=1",
    }
    for target in targets:
        assert (await proxy.call(request(b"GET", target))).status == 200
    assert [seen.target for seen in origin.requests] == list(targets.values())
    assert (await proxy.call(request(b"OPTIONS", b"*"))).status == 200
    assert origin.requests[-1].target == b"*"


async def test_an_upgrade_to_h2c_is_a_plain_request(origin: Origin, proxy: Proxy) -> None:
    upgrade = [(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"AAMAAABk")]
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/", upgrade) + post(None, upgrade) + request(b"GET", b"/last"))
        assert [(await client.reply()).status for _ in range(3)] == [200, 200, 200]
    for seen in origin.requests:
        assert (seen.all(b"Upgrade"), seen.all(b"Connection")) == ([], [])
    assert [seen.body for seen in origin.requests] == [b"", BODY, b""]


# -- a backend that fails --------------------------------------------------------------------------------------------


async def test_a_backend_that_refuses_the_connection(origin: Origin, proxy: Proxy) -> None:
    await origin.stop()
    refused(await proxy.call(request(b"GET", b"/")), 502, "upstream_unreachable")
    refused(await proxy.post(), 502, "upstream_unreachable")
    await origin.start()
    assert (await proxy.post()).status == 200


@pytest.mark.parametrize(
    "behaviour",
    [
        hang(),
        cut(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
        cut(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
    ],
    ids=["hangs", "no HTTP", "an odd coding", "an unasked tunnel"],
)
async def test_a_backend_without_a_usable_answer(origin: Origin, start_proxy: StartProxy, behaviour: Behaviour) -> None:
    proxy = await start_proxy(**{"upstream.timeout": "300ms"})
    origin.behave(behaviour)
    for data in (request(b"GET", b"/"), post()):
        refused(await proxy.call(data), 504, "upstream_timeout")
    assert len(origin.requests) == 2


async def test_a_backend_is_given_as_many_requests_at_a_time_as_it_may_have(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"upstream.max_connections": 2})
    gate = asyncio.Event()
    origin.behave(after(gate, respond(200)))
    calls = [
        asyncio.ensure_future(proxy.call(post(new_key() if number % 2 else None, path=PATH))) for number in range(10)
    ]
    await origin.until(lambda: len(origin.requests) == 2)
    gate.set()
    assert {reply.status for reply in await asyncio.gather(*calls)} == {200}
    assert origin.connections == 2
