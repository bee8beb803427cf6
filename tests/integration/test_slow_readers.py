"""Clients that read slowly, or not at all: they cost what is bounded, and only who reads nothing is given up."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, Recorded, head, respond, send
from tests.support.proxy import Connection, Proxy, new_key, post, request, responses
from tests.support.raw import eventually, take

TEXT = (b"Content-Type", b"text/plain")
MANY = 300
LARGE = b"x" * 200_000
KIB = 1024
MIB = 1024 * KIB
QUIET = 0.2
"""Seconds."""
PIECE = 256 * 1024
"""Bytes that the slow client reads at a time."""


def unsent(proxy: Proxy) -> int:
    """Bytes that the proxy holds for its clients, and the kernel has not taken."""
    return sum(connection._transport.get_write_buffer_size() for connection in proxy._app._server.connections)


async def at_rest(origin: Origin, proxy: Proxy) -> tuple[int, int]:
    """How often the origin was asked, and what is unsent, when nothing moves any more."""
    loop = asyncio.get_running_loop()
    seen, since = (0, 0), loop.time()

    def rests() -> bool:
        nonlocal seen, since
        now = len(origin.requests), unsent(proxy)
        if now != seen:
            seen, since = now, loop.time()
        return seen[1] > 0 and loop.time() - since > QUIET

    await eventually(rests, 10)
    return seen


async def test_pipelined_requests_wait_until_their_client_reads(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond(200, [TEXT], LARGE))
    async with Connection(proxy.port) as client:
        client.send(b"".join(request(b"GET", b"/%d" % number) for number in range(MANY)))
        asked, held = await at_rest(origin, proxy)
        assert asked < MANY / 3  # what the kernel's buffers take, and one more
        assert held < 2 * len(LARGE)
        for _ in range(MANY):
            assert (await client.reply()).body == LARGE
    assert [seen.target for seen in origin.requests] == [b"/%d" % number for number in range(MANY)]


async def test_pipelined_retrievals_of_a_large_record_wait_too(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond(200, [TEXT], LARGE))
    key = new_key()
    assert (await proxy.post(key)).body == LARGE
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", responses(key)) * MANY + post(key))
        _, held = await at_rest(origin, proxy)
        assert held < 2 * len(LARGE)
        for _ in range(MANY):
            reply = await client.reply()
            assert (reply.status, LARGE in reply.body) == (200, True)
        assert (await client.reply()).status == 409
    assert len(origin.requests) == 1


async def test_behind_answers_that_nobody_reads_a_download_is_not_begun(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond(200, [TEXT], LARGE))
    key = new_key()
    assert (await proxy.post(key)).body == LARGE
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", responses(key)) * MANY + request(b"GET", b"/download"))
        asked, held = await at_rest(origin, proxy)
        assert (asked, held < 2 * len(LARGE)) == (1, True)


async def test_a_client_that_half_closes_and_reads_late_is_given_all_it_asked_for(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond(200, [TEXT], LARGE))
    async with Connection(proxy.port) as client:
        client.send(b"".join(request(b"GET", b"/%d" % number) for number in range(MANY)))
        client.half_close()
        await at_rest(origin, proxy)
        for _ in range(MANY):
            assert (await client.reply()).body == LARGE
        assert await client.rest() == b""


async def answer_read_slowly(port: int, data: bytes, pause: float) -> bytes:
    """What comes for *data* up to the end of the connection, a piece every *pause* seconds."""
    received = bytearray()
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, data)
        async with asyncio.timeout(20):
            while piece := await loop.sock_recv(sock, PIECE):
                received += piece
                await asyncio.sleep(pause)
    return bytes(received)


async def test_a_client_that_reads_slowly_but_steadily_is_given_the_whole_answer(
    origin: Origin, start_proxy: StartProxy
) -> None:
    """It takes many times as long as a client may take that reads nothing."""
    proxy = await start_proxy(**{"limits.write_timeout": "300ms", "record.max_body": "64MiB"})
    body = bytes(range(256)) * 65536  # 16 MiB
    origin.behave(respond(200, [TEXT], body))
    key = new_key()
    data = await answer_read_slowly(proxy.port, post(key, [(b"Connection", b"close")]), 0.02)
    reply, rest = take(data, head=False, ended=True)
    assert (reply.status, reply.body == body, rest) == (200, True, b"")


async def test_a_client_that_reads_nothing_of_a_recorded_answer_is_given_up(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"limits.write_timeout": "300ms", "record.max_body": "64MiB"})
    size = 16 * 1024 * 1024
    origin.behave(respond(200, [TEXT], b"x" * size))
    key = new_key()
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await eventually(lambda: unsent(proxy) > 0)
        await eventually(lambda: not proxy._app._server.connections)
        assert len(await client.rest()) < size
    assert (await proxy.post(key)).field(b"Idempotency-State") == b"completed"


# -- answers that are too large to be recorded ---------------------------------------------------------------------


@asynccontextmanager
async def client_that_does_not_read(proxy: Proxy) -> AsyncIterator[Connection]:
    """Between it and the proxy the kernel holds little."""
    async with Connection(proxy.port) as client:
        await eventually(lambda: proxy._app._server.connections)
        (connection,) = proxy._app._server.connections
        connection._socket().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * KIB)
        client._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        client.pause()
        yield client


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_a_client_that_is_slow_with_the_end_of_a_large_answer_is_no_concern_of_the_next(
    origin: Origin, start_proxy: StartProxy
) -> None:
    """The API's connection carries somebody else's request by then."""
    proxy = await start_proxy(**{"record.max_body": "1KiB", "upstream.timeout": "2s", "upstream.max_connections": 1})
    sent, seen = 0, [0] * 5

    async def large(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await send(writer, head(200, [TEXT, (b"Transfer-Encoding", b"chunked")]))

        def fills() -> bool:
            nonlocal sent
            if unsent(proxy) < 8 * KIB:
                writer.write(chunk(b"x" * 8 * KIB))
                sent += 8 * KIB
            seen[:] = [*seen[1:], unsent(proxy)]
            return seen[0] >= 8 * KIB and len(set(seen)) == 1  # and not so much yet that the API is held up

        await eventually(fills)
        await send(writer, chunk(b"x" * 58 * KIB) + b"0\r\n\r\n")
        sent += 58 * KIB

    origin.behave(large)
    async with client_that_does_not_read(proxy) as slow:
        slow.send(post(new_key()))
        await eventually(lambda: unsent(proxy) > 64 * KIB)
        origin.behave(respond(201, body=b"paid"))
        assert (await proxy.post(new_key())).body == b"paid"
        slow._writer.transport.resume_reading()  # type: ignore[attr-defined]  # it is a duplex one
        reply = await slow.reply()
        assert (reply.status, len(reply.body)) == (200, sent)
    assert (origin.connections, len(origin.requests)) == (1, 2)


async def test_a_client_that_reads_nothing_of_a_large_answer_holds_the_api_up_and_not_the_memory(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"record.max_body": "1MiB"})
    size, sent = 64 * MIB, 0

    async def flood(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await send(writer, head(200, [TEXT, (b"Content-Length", b"%d" % size)]))
        while sent < size:
            await send(writer, b"x" * 64 * KIB)
            sent += 64 * KIB

    origin.behave(flood)
    key = new_key()
    async with client_that_does_not_read(proxy) as client:
        client.send(post(key))
        _, held = await at_rest(origin, proxy)
        assert held < 2 * MIB  # what was collected until it was too large, and a read or two
        assert sent < 16 * MIB  # and what the kernel's buffers hold
    assert (await proxy.record(key))["Truncated"] is True
