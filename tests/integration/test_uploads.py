"""Bodies of requests that carry no key: they stream, and what breaks off never looks whole."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin
from tests.support.proxy import BODY, Connection, Proxy, post, refused, request
from tests.support.raw import Field, eventually, parse

CHUNKED = (b"Transfer-Encoding", b"chunked")


class Sink:
    """A backend that only listens: what came, as it comes; and whether it ended. *writer*: to its one client."""

    def __init__(self) -> None:
        self.data = b""
        self.over = asyncio.Event()
        self.writer: asyncio.StreamWriter

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                self.data += piece
        self.over.set()
        writer.close()

    async def until(self, marker: bytes) -> None:
        await eventually(lambda: marker in self.data)


@pytest.fixture
async def sink() -> Sink:
    return Sink()


@pytest.fixture
async def proxy_of_sink(start_proxy: StartProxy, sink: Sink) -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(sink.accept, "127.0.0.1", 0)
    try:
        proxy = await start_proxy(**{"upstream.url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
        yield proxy
        await proxy.stop(at_once=True)
    finally:
        server.close()
        sink.writer.transport.abort()
        await sink.over.wait()


@pytest.mark.parametrize(
    ("framing", "first", "second", "seen"),
    [
        ((b"Content-Length", b"9"), b"first", b"last", b"firstlast"),
        (CHUNKED, b"5\r\nfirst\r\n", b"4\r\nlast\r\n0\r\n\r\n", b"5\r\nfirst\r\n4\r\nlast\r\n0\r\n\r\n"),
    ],
)
async def test_an_upload_arrives_piece_by_piece(
    proxy_of_sink: Proxy, sink: Sink, framing: Field, first: bytes, second: bytes, seen: bytes
) -> None:
    async with Connection(proxy_of_sink.port) as client:
        client.send(request(b"PUT", b"/file", [framing], first))
        await sink.until(b"first")
        client.send(second)
        await sink.until(b"last")
        await eventually(lambda: sink.data.endswith(b"\r\n\r\n" + seen))
        sink.writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        assert (await client.reply()).status == 201
    assert b"%b: %b" % framing in sink.data


@pytest.mark.parametrize("end", ["malformed", "gone", "half"])
async def test_an_upload_that_breaks_off_never_looks_whole(proxy_of_sink: Proxy, sink: Sink, end: str) -> None:
    async with Connection(proxy_of_sink.port) as client:
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


async def test_an_upload_is_answered_before_it_is_whole(proxy_of_sink: Proxy, sink: Sink) -> None:
    async with Connection(proxy_of_sink.port) as client:
        client.send(request(b"PUT", b"/file", [(b"Content-Length", b"1000000")], b"x" * 1000))
        await sink.until(b"x" * 1000)
        sink.writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        reply = await client.reply()
        assert (reply.status, reply.body) == (403, b"no")
        async with asyncio.timeout(5):
            await sink.over.wait()  # the rest of it is of no interest to anybody


@pytest.mark.parametrize(("framing", "piece"), [((b"Content-Length", b"10"), b"hello"), (CHUNKED, b"5\r\nhello\r\n")])
async def test_an_early_answer_that_meets_a_piece_of_its_upload_reaches_the_client(
    proxy_of_sink: Proxy, sink: Sink, framing: Field, piece: bytes
) -> None:
    """Both come in the same turn of the loop: the piece has not left yet when the answer is read."""
    async with Connection(proxy_of_sink.port) as client:
        client.send(request(b"PUT", b"/file", [framing]))
        await sink.until(b"\r\n\r\n")
        client.send(piece)
        sink.writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
        reply = await client.reply()
        assert (reply.status, reply.body) == (401, b"no")


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
