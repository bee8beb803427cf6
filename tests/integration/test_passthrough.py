"""What carries no key passes as if nobody were here: answers stream through, and nothing is made of them."""

import asyncio

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import Behaviour, Origin, Recorded, cut, head, raw, respond, respond_chunked, send, slowly
from tests.support.proxy import Connection, Proxy, request
from tests.support.raw import Field, Incomplete, eventually, exchange, parse, parse_all

DATE = (b"Date", b"Wed, 13 Jan 2016 22:25:56 GMT")
CHUNKED = (b"Transfer-Encoding", b"chunked")


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
