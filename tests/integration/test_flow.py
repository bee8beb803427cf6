"""What flows: nothing is held back that could go on, nothing piles up that cannot, and who leaves is missed or not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.integration.conftest import StartProxy
from tests.integration.test_every_limit import one_at_a_time
from tests.support.origin import Origin, Recorded, after, head, raw, respond, send
from tests.support.proxy import Connection, Proxy, new_key, post, refused, request
from tests.support.raw import eventually

CHUNKED = (b"Transfer-Encoding", b"chunked")
EVENTS = 20
PIECE = b"x" * 100_000
HUGE = 100_000_000
"""More than anything on the way could hold."""
BETWEEN = 16_000_000
"""What sockets on both sides of the proxy and its windows hold at most."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def backend(serve: Serve) -> AsyncIterator[str]:
    """A backend that treats its connections as bytes; the URL of it."""
    serving: list[asyncio.Task[None]] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            await serve(reader, writer)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.get_running_loop().create_task(connection(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await eventually(lambda: serving and all(task.done() for task in serving))
    finally:
        server.close()
        for task in serving:
            task.cancel()
        for outcome in await asyncio.gather(*serving, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def standstill(count: Callable[[], int]) -> int:
    """What *count* says when it has not changed for a while, and is not 0."""
    seen = [-1, -1, -1]

    async def rests() -> bool:
        await asyncio.sleep(0.1)
        seen[:] = [*seen[1:], count()]
        return 0 < seen[0] == seen[1] == seen[2]

    await eventually(rests)
    return seen[-1]


# -- pieces go on as they come ---------------------------------------------------------------------------------------


def chunks(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


async def test_each_event_of_a_stream_arrives_before_the_next_is_sent(origin: Origin, proxy: Proxy) -> None:
    arrived = [asyncio.Event() for _ in range(EVENTS)]

    async def stream(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        await send(writer, head(200, [(b"Content-Type", b"text/event-stream"), CHUNKED]))
        for number, event in enumerate(arrived):
            await send(writer, chunks(b"id: %d\ndata: tick\n\n" % number))
            await event.wait()
        await send(writer, b"0\r\n\r\n")

    origin.behave(stream)
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/events", [(b"Accept", b"text/event-stream")]))
        for number, event in enumerate(arrived):
            await client.until(b"id: %d\ndata: tick\n\n" % number)
            event.set()
        await client.until(b"0\r\n\r\n")


async def test_both_directions_flow_at_once(start_proxy: StartProxy) -> None:
    """An answer that begins before its request is whole: an echo, piece by piece."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await send(writer, head(200, [(b"Content-Length", b"%d" % (EVENTS * 5))]))
        for _ in range(EVENTS):
            await send(writer, await reader.readexactly(5))
        await reader.read()

    async with backend(serve) as url:
        proxy = await start_proxy(**{"upstream.url": url})
        async with Connection(proxy.port) as client:
            client.send(request(b"POST", b"/echo", [(b"Content-Length", b"%d" % (EVENTS * 5))]))
            for number in range(EVENTS):
                client.send(b"%05d" % number)
                await client.until(b"%05d" % number)
        await proxy.stop(at_once=True)


async def test_an_answer_that_waits_for_the_end_of_a_long_upload_is_not_cut(start_proxy: StartProxy) -> None:
    """Its head came early; from then on it is the upload that moves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await send(writer, head(200, [(b"Content-Length", b"4")]))
        await reader.readexactly(EVENTS)
        await send(writer, b"done")
        await reader.read()

    async with backend(serve) as url:
        proxy = await start_proxy(**{"upstream.url": url, "upstream.timeout": "300ms"})
        async with Connection(proxy.port) as client:
            client.send(request(b"POST", b"/", [(b"Content-Length", b"%d" % EVENTS)]))
            for _ in range(EVENTS):
                client.send(b"x")
                await asyncio.sleep(0.03)
            await client.until(b"done")
        await proxy.stop(at_once=True)


# -- and no faster than they are taken -------------------------------------------------------------------------------


async def test_a_client_is_held_back_by_a_backend_that_does_not_read(start_proxy: StartProxy) -> None:
    reads, received = asyncio.Event(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await reads.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        while received < HUGE:
            received += len(await reader.readexactly(len(PIECE)))
        await send(writer, head(201, [(b"Content-Length", b"0")]))
        await reader.read()

    async with backend(serve) as url:
        proxy = await start_proxy(**{"upstream.url": url})
        async with Connection(proxy.port, within=20) as client:
            sent = 0

            async def upload() -> None:
                nonlocal sent
                client.send(request(b"PUT", b"/", [(b"Content-Length", b"%d" % HUGE)]))
                for _ in range(HUGE // len(PIECE)):
                    client.send(PIECE)
                    await client._writer.drain()
                    sent += len(PIECE)

            uploading = asyncio.ensure_future(upload())
            assert await standstill(lambda: sent) < BETWEEN
            (connection,) = proxy._app._pool._open
            assert connection._transport.get_write_buffer_size() < 400_000  # a window, and one read more
            reads.set()
            assert (await client.reply()).status == 201
            await uploading
        assert (sent, received) == (HUGE, HUGE)
        await proxy.stop(at_once=True)


async def test_a_client_is_not_blamed_for_a_backend_that_takes_nothing_for_a_while(start_proxy: StartProxy) -> None:
    idle = 0.1
    reads, sent = asyncio.Event(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reads.wait()
        for _ in range(BETWEEN // len(PIECE)):
            await reader.readexactly(len(PIECE))
        await send(writer, head(201, [(b"Content-Length", b"0")]))
        await reader.read()

    async with backend(serve) as url:
        proxy = await start_proxy(**{"upstream.url": url, "limits.body_idle_timeout": f"{idle * 1000:.0f}ms"})
        async with Connection(proxy.port) as client:

            async def upload() -> None:
                nonlocal sent
                client.send(request(b"PUT", b"/", [(b"Content-Length", b"%d" % BETWEEN)]))
                for _ in range(BETWEEN // len(PIECE)):
                    client.send(PIECE)
                    await client._writer.drain()
                    sent += len(PIECE)

            uploading = asyncio.ensure_future(upload())
            assert await standstill(lambda: sent) < BETWEEN
            loop = asyncio.get_running_loop()
            since = loop.time()
            await eventually(lambda: loop.time() - since > 4 * idle)  # for so long the client can send nothing
            reads.set()
            assert (await client.reply()).status == 201
            await uploading
        await proxy.stop(at_once=True)


# -- early hints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyed", [False, True])
async def test_early_hints_arrive_before_the_answer_is_made(origin: Origin, proxy: Proxy, keyed: bool) -> None:
    gate = asyncio.Event()
    hints = raw(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\nX: y\r\n\r\n")

    async def behaviour(seen: Recorded, writer: asyncio.StreamWriter) -> None:
        await hints(seen, writer)
        await after(gate, respond(200, body=b"paid"))(seen, writer)

    origin.behave(behaviour)
    key = new_key() if keyed else None
    async with Connection(proxy.port) as client:
        client.send(post(key))
        early = await client.reply()
        assert (early.status, early.fields) == (103, [(b"Link", b"</a.css>; rel=preload")])
        gate.set()
        reply = await client.reply()
    assert (reply.status, reply.body, reply.all(b"Link")) == (200, b"paid", [])


# -- clients that leave ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 2", head(200, [CHUNKED]), head(200, [CHUNKED]) + chunks(b"part")])
async def test_a_client_that_resets_cancels_what_passes_through(origin: Origin, proxy: Proxy, part: bytes) -> None:
    async def begins(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        if part:
            await send(writer, part)
        await writer.wait_closed()

    origin.behave(begins)
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/"))
        await origin.until(lambda: origin.requests)
        if part.startswith(b"HTTP/1.1 200"):
            await client.until(part[-4:])
        client.reset()
        await origin.until(lambda: origin.open == 0)
    assert not proxy._app._server.connections


async def test_a_client_that_resets_in_its_upload_cancels_it(start_proxy: StartProxy) -> None:
    begun, received = asyncio.Event(), bytearray()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        begun.set()
        while piece := await reader.read(65536):
            received.extend(piece)

    async with backend(serve) as url:
        proxy = await start_proxy(**{"upstream.url": url})
        async with Connection(proxy.port) as client:
            client.send(request(b"PUT", b"/", [CHUNKED], chunks(b"first")))
            await begun.wait()
            await eventually(lambda: b"first" in received)
            client.reset()
    assert not received.endswith(b"0\r\n\r\n")


async def test_a_client_that_resets_while_it_waits_for_a_connection_leaves_the_queue(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**one_at_a_time(pool_timeout="5s"))
    gate = asyncio.Event()
    origin.behave(after(gate, respond(200)))
    key = new_key()
    async with Connection(proxy.port) as first, Connection(proxy.port) as passed, Connection(proxy.port) as guarded:
        first.send(request(b"GET", b"/"))
        await origin.until(lambda: origin.requests)
        passed.send(post())
        guarded.send(post(key))
        await eventually(lambda: len(proxy._app._pool._waiting) == 2)
        passed.reset()
        guarded.reset()
        await eventually(lambda: len(proxy._app._pool._waiting) == 1)
        gate.set()
        assert (await first.reply()).status == 200

        async def completed() -> bool:
            return await proxy.state(key) == b"completed"

        await eventually(completed)  # from the claim on it goes its way
    assert len(origin.requests) == 2


PARTS = [head(200, [CHUNKED]), chunks(b"a" * 600), chunks(b"b" * 600), chunks(b"c" * 600), b"0\r\n\r\n"]


@pytest.mark.parametrize("limit", ["1KiB", "1MiB"])
@pytest.mark.parametrize("at", range(len(PARTS)))
async def test_a_guarded_exchange_goes_on_though_its_client_resets(
    origin: Origin, start_proxy: StartProxy, at: int, limit: str
) -> None:
    """At any piece of the answer; also where it is too large to be recorded: the record says so, and the rest is
    nobody's."""
    proxy = await start_proxy(**{"record.max_body": limit})
    gate = asyncio.Event()

    async def behaviour(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        await send(writer, b"".join(PARTS[:at]))
        await gate.wait()
        await send(writer, b"".join(PARTS[at:]))

    origin.behave(behaviour)
    key = new_key()
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        client.reset()
        await eventually(lambda: not proxy._app._server.connections)
    gate.set()

    async def completed() -> bool:
        return await proxy.state(key) == b"completed"

    await eventually(completed)
    record = await proxy.record(key)
    assert (record["StatusCode"], record.get("Truncated", False)) == ("200", limit == "1KiB")
    refused(await proxy.post(key), 409, "idempotent_creation_conflict")
    assert len(origin.requests) == 1
