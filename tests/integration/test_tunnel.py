"""WebSockets: after the API's 101 the two connections are one. Nothing else gets a tunnel."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.typing import Subprotocol

from proxy.http1.client import UpstreamConnection
from tests.integration.conftest import StartProxy
from tests.integration.test_flow import backend as raw_backend
from tests.support.origin import Origin, after, raw, respond
from tests.support.proxy import Connection, Proxy, new_key, post, refused, request
from tests.support.raw import eventually, parse

SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
ASKS = [
    (b"Connection", b"keep-alive, Upgrade"),
    (b"Upgrade", b"websocket"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"Sec-WebSocket-Version", b"13"),
]
ASK = request(b"GET", b"/events", ASKS)
MIB = 1024 * 1024
PROTOCOL = Subprotocol("payments.v1")


class Backend:
    """A real WebSocket server: echoes, unless it is told something else."""

    def __init__(self, server: Server) -> None:
        self.port: int = next(iter(server.sockets)).getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = server


async def _backend(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "close":
            await connection.close(4001, "as you wish")
        elif message == "die":
            connection.transport.abort()
        elif message == "flood":
            while True:
                await connection.send(b"x" * 64 * 1024)
        else:
            await connection.send(message)


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    async with serve(_backend, "127.0.0.1", 0, subprotocols=[PROTOCOL], max_size=None) as server:
        yield Backend(server)


@pytest.fixture
async def proxy(start_proxy: StartProxy, backend: Backend) -> Proxy:
    return await start_proxy(**{"upstream.url": backend.url})


async def refuses_connections(port: int) -> bool:
    """It is being stopped."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


def _open(proxy: Proxy, **options: object) -> connect:
    options = {"proxy": None, "max_size": None, "subprotocols": [PROTOCOL], **options}
    return connect(f"ws://127.0.0.1:{proxy.port}/events?of=acme", **options)  # type: ignore[arg-type]


async def test_messages_of_every_size_go_both_ways_in_their_order(proxy: Proxy) -> None:
    async with _open(proxy) as client:
        messages: list[str | bytes] = ["", "paid", b"\x00\xff" * 30_000, "x" * 2 * MIB]
        for message in messages:
            await client.send(message)
            assert await client.recv() == message
        for number in range(100):
            await client.send(str(number))
        assert [await client.recv() for _ in range(100)] == [str(number) for number in range(100)]


async def test_pings_subprotocol_and_compression_are_agreed_on_by_the_two_ends(proxy: Proxy) -> None:
    async with _open(proxy) as client:
        assert client.subprotocol == PROTOCOL
        assert client.response is not None
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        await asyncio.wait_for(await client.ping(), 5)


async def test_many_at_once_do_not_mix(proxy: Proxy) -> None:
    async def talk(number: int) -> None:
        async with _open(proxy) as client:
            for message in range(20):
                await client.send(f"{number}: {message}")
                assert await client.recv() == f"{number}: {message}"

    await asyncio.gather(*(talk(number) for number in range(50)))


async def test_either_end_closes_and_the_other_is_told_why(proxy: Proxy) -> None:
    async with _open(proxy) as client:
        await client.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")
    client = await _open(proxy)
    await client.close(4002, "enough")
    assert client.protocol.close_sent == client.protocol.close_rcvd  # the backend has confirmed it
    await eventually(lambda: not proxy.tunnels)


async def test_a_backend_that_dies_takes_its_client_along(proxy: Proxy) -> None:
    async with _open(proxy) as client:
        await client.send("die")
        with pytest.raises(ConnectionClosedError):
            await client.recv()
    await eventually(lambda: not proxy.tunnels)


async def test_a_client_that_dies_is_noticed_by_the_backend(proxy: Proxy, backend: Backend) -> None:
    client = await _open(proxy)
    assert len(backend.server.connections) == 1
    client.transport.abort()
    await eventually(lambda: not backend.server.connections and not proxy.tunnels)


async def test_a_client_that_does_not_read_holds_the_backend_up_and_not_the_memory(
    start_proxy: StartProxy, origin: Origin
) -> None:
    sent = 0

    async def flood(_request: object, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(SWITCHED)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    origin.behave(flood)
    proxy = await start_proxy(**{"limits.write_timeout": "500ms"})
    async with Connection(proxy.port) as client:
        client.send(ASK)
        await client.until(b"\r\n\r\n")
        client.pause()
        await eventually(lambda: not proxy.tunnels, within=10)  # it read nothing for too long
    assert sent < 32 * MIB  # what the kernel's buffers hold, on both sides


async def test_what_comes_in_one_piece_with_the_101_reaches_the_client(start_proxy: StartProxy, origin: Origin) -> None:
    origin.behave(raw(SWITCHED + b"\x81\x05hello"))
    proxy = await start_proxy()
    async with Connection(proxy.port) as client:
        client.send(ASK)
        head = await client.until(b"\r\n\r\n")
        assert b"HTTP/1.1 101 Switching Protocols\r\n" in head
        assert head.lower().count(b"upgrade: websocket\r\n") == head.lower().count(b"connection: upgrade\r\n") == 1
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        assert await client.until(b"hello") == b"\x81\x05hello"
    [asked] = origin.requests
    assert asked.all(b"Connection") == [b"Upgrade"]
    assert asked.all(b"Upgrade") == [b"websocket"]


async def test_what_a_hasty_client_sent_before_the_101_reaches_the_backend(
    start_proxy: StartProxy, origin: Origin
) -> None:
    heard = bytearray()
    switch = asyncio.Event()

    async def listen(_request: object, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCHED)
        reader: asyncio.StreamReader = writer.transport.get_protocol()._stream_reader  # type: ignore[attr-defined]
        while piece := await reader.read(100):
            heard.extend(piece)

    origin.behave(after(switch, listen))
    proxy = await start_proxy()
    async with Connection(proxy.port) as client:
        client.send(ASK + b"\x81\x05hasty")
        await eventually(lambda: origin.requests)
        client.send(b"!")
        switch.set()
        await client.until(b"\r\n\r\n")
        await eventually(lambda: heard == b"\x81\x05hasty!")


async def test_a_refused_upgrade_is_an_answer_like_any_other_and_the_next_request_is_served(
    start_proxy: StartProxy, origin: Origin
) -> None:
    origin.behave(respond(426, [(b"Sec-WebSocket-Version", b"13")], b"another version"))
    proxy = await start_proxy()
    async with Connection(proxy.port) as client:
        client.send(ASK + request(b"GET", b"/next"))
        assert (await client.reply()).status == 426
        assert (await client.reply()).status == 426
    assert [asked.target for asked in origin.requests] == [b"/events", b"/next"]


async def test_a_real_client_learns_the_status_of_a_refusal(start_proxy: StartProxy, origin: Origin) -> None:
    origin.behave(respond(403, body=b"no"))
    proxy = await start_proxy()
    with pytest.raises(InvalidStatus) as refusal:
        await _open(proxy)
    assert refusal.value.response.status_code == 403


NO_TUNNEL = {
    "h2c": [
        (b"Connection", b"Upgrade, HTTP2-Settings"),
        (b"Upgrade", b"h2c"),
        (b"HTTP2-Settings", b"AAMAAABkAAQAoAAA"),
    ],
    "a list": [(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c, websocket")],
    "two fields": [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Upgrade", b"h2c")],
    "without Connection": [(b"Upgrade", b"websocket")],
    "TLS": [(b"Connection", b"Upgrade"), (b"Upgrade", b"TLS/1.3")],
}


@pytest.mark.parametrize("fields", NO_TUNNEL.values(), ids=NO_TUNNEL)
async def test_another_upgrade_is_dropped_and_a_101_to_it_is_unusable(
    start_proxy: StartProxy, origin: Origin, fields: list[tuple[bytes, bytes]]
) -> None:
    proxy = await start_proxy()
    assert (await proxy.call(request(b"GET", b"/", fields))).status == 200
    assert origin.requests[0].all(b"Upgrade") == origin.requests[0].all(b"Connection") == []
    origin.behave(raw(SWITCHED))
    refused(await proxy.call(request(b"GET", b"/", fields)), 504, "upstream_timeout")


@pytest.mark.parametrize("method", [b"POST", b"HEAD", b"OPTIONS"])
async def test_no_other_method_gets_a_tunnel(start_proxy: StartProxy, origin: Origin, method: bytes) -> None:
    proxy = await start_proxy()
    asked = request(method, b"/events", [*ASKS, (b"Content-Length", b"4")], b"body")
    assert (await proxy.call(asked, head=method == b"HEAD")).status == 200
    assert origin.requests[0].all(b"Upgrade") == []
    assert origin.requests[0].body == b"body"


async def test_a_guarded_request_that_asks_for_an_upgrade_is_guarded(start_proxy: StartProxy, origin: Origin) -> None:
    proxy = await start_proxy()
    key = new_key()
    assert (await proxy.post(key, ASKS)).status == 200
    refused(await proxy.post(key, ASKS), 409, "idempotent_creation_conflict")
    assert len(origin.requests) == 1


@pytest.mark.parametrize(
    "switched",
    [SWITCHED.replace(b"Upgrade: websocket", b"Upgrade: h2c"), SWITCHED.replace(b"Connection: Upgrade\r\n", b"")],
    ids=["another protocol", "no Connection"],
)
async def test_a_101_to_something_else_than_was_asked_for_is_unusable(
    start_proxy: StartProxy, origin: Origin, switched: bytes
) -> None:
    origin.behave(raw(switched))
    proxy = await start_proxy()
    refused(await proxy.call(ASK), 504, "upstream_timeout")


async def test_a_websocket_takes_no_place_that_a_payment_needs(start_proxy: StartProxy, origin: Origin) -> None:
    origin.behave(raw(SWITCHED))
    proxy = await start_proxy(**{"upstream.max_connections": 1, "upstream.pool_timeout": "300ms"})
    async with Connection(proxy.port) as one, Connection(proxy.port) as other:
        for client in (one, other):
            client.send(ASK)
            await client.until(b"\r\n\r\n")
        assert proxy.tunnels == 2
        origin.behave(respond())
        assert (await proxy.post(new_key())).status == 200


async def test_one_more_than_allowed_is_answered_503(start_proxy: StartProxy, origin: Origin) -> None:
    origin.behave(raw(SWITCHED))
    proxy = await start_proxy(**{"limits.tunnels": 1})
    async with Connection(proxy.port) as client:
        client.send(ASK)
        await client.until(b"\r\n\r\n")
        refused(await proxy.call(ASK), 503, "overloaded")
    await eventually(lambda: not proxy.tunnels)
    async with Connection(proxy.port) as client:
        client.send(ASK)
        assert b" 101 " in await client.until(b"\r\n\r\n")


async def test_of_many_that_ask_at_once_no_more_than_allowed_are_given_a_tunnel(
    start_proxy: StartProxy, origin: Origin
) -> None:
    many = 20
    switch = asyncio.Event()
    origin.behave(after(switch, raw(SWITCHED)))
    proxy = await start_proxy(**{"limits.tunnels": 1})
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Connection(proxy.port)) for _ in range(many)]
        for client in clients:
            client.send(ASK)
        await origin.until(lambda: len(origin.requests) == many)
        switch.set()
        replies = [await client.reply() for client in clients]
        assert sorted(reply.status for reply in replies) == [101] + [503] * (many - 1)
        assert proxy.tunnels == 1
        for reply in replies:
            if reply.status == 503:
                refused(reply, 503, "overloaded")
        await origin.until(lambda: origin.open == 1)  # the API keeps no half of a tunnel
    await eventually(lambda: not proxy.tunnels)


async def test_where_none_are_allowed_the_request_is_a_plain_one(start_proxy: StartProxy, origin: Origin) -> None:
    proxy = await start_proxy(**{"limits.tunnels": 0})
    assert (await proxy.call(ASK)).status == 200
    assert origin.requests[0].all(b"Upgrade") == []


async def test_a_silent_one_is_closed_after_its_time(start_proxy: StartProxy, backend: Backend) -> None:
    proxy = await start_proxy(**{"upstream.url": backend.url, "limits.tunnel_idle_timeout": "300ms"})
    client = await _open(proxy, ping_interval=None)
    with pytest.raises(ConnectionClosedError):
        await asyncio.wait_for(client.recv(), 5)
    await eventually(lambda: not backend.server.connections)


async def test_an_api_that_does_not_read_the_last_words_of_a_client_is_not_waited_for(
    start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.http1.tunnel.FINISH_SECONDS", 0.2)
    reads, heard = asyncio.Event(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        await reader.readuntil(b"\r\n\r\n")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(SWITCHED)
        await reads.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        while piece := await reader.read(65536):
            heard += len(piece)

    async with raw_backend(serve) as url:
        proxy = await start_proxy(**{"upstream.url": url})

        def held() -> list[UpstreamConnection]:
            return [each for each in proxy._app._deadlines._waiting if isinstance(each, UpstreamConnection)]

        async with Connection(proxy.port) as client:
            client.send(ASK)
            await client.until(b"\r\n\r\n")
            (upstream,) = held()
            transport = upstream._transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
            said, seen = 0, [0] * 5

            def fills() -> bool:
                nonlocal said
                if not transport.get_write_buffer_size():
                    client.send(b"x" * 8192)
                    said += 8192
                seen[:] = [*seen[1:], transport.get_write_buffer_size()]
                return seen[0] > 0 and len(set(seen)) == 1  # the kernel takes no more

            await eventually(fills)
            client.half_close()
            await eventually(lambda: not proxy.tunnels)
            await eventually(lambda: not held(), within=2)
        reads.set()
    assert heard < said


async def test_a_stop_does_not_wait_for_websockets_but_leaves_them_until_payments_are_done(
    start_proxy: StartProxy, origin: Origin
) -> None:
    origin.behave(raw(SWITCHED))
    proxy = await start_proxy(**{"limits.drain_timeout": "30s"})
    paid = asyncio.Event()
    async with Connection(proxy.port) as websocket, Connection(proxy.port) as client:
        websocket.send(ASK)
        await websocket.until(b"\r\n\r\n")
        origin.behave(after(paid, respond(body=b"paid")))
        client.send(post(new_key()))
        await eventually(lambda: len(origin.requests) == 2)
        stopping = asyncio.create_task(proxy.stop())
        await eventually(lambda: refuses_connections(proxy.port))
        assert proxy.tunnels == 1
        paid.set()
        assert parse(await client.rest()).body == b"paid"
        await asyncio.wait_for(stopping, 5)
        assert await websocket.rest() == b""


async def test_tunnels_are_counted(proxy: Proxy) -> None:
    clients: list[ClientConnection] = [await _open(proxy) for _ in range(3)]
    assert proxy.tunnels == 3
    for client in clients:
        await client.close()
    await eventually(lambda: proxy.tunnels == 0)
