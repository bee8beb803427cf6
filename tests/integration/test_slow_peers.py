"""Peers that take their time, or much of it: many at once cost what is bounded, and hold nobody else up."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from tests.integration.conftest import StartProxy
from tests.integration.test_every_limit import deaf
from tests.support.origin import Origin, Recorded, hang, head, respond, send
from tests.support.proxy import BODY, PATH, Connection, Proxy, new_key, post, refused, request, responses
from tests.support.raw import Reply, eventually, exchange, parse

MANY = 300
"""Connections that do nothing, or little."""
LARGE = b"x" * 4_000_000
"""More than sockets and windows hold on the way."""
CHUNKED = (b"Transfer-Encoding", b"chunked")


async def byte_by_byte(port: int, data: bytes, *, pause: float = 0.0) -> Reply:
    """The answer to *data*, each byte of it in a segment of its own."""
    async with Connection(port) as client:
        client._writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            client.send(bytes([byte]))
            await asyncio.sleep(pause)
        return await client.reply()


@contextlib.asynccontextmanager
async def many(port: int, count: int = MANY) -> AsyncIterator[list[Connection]]:
    """So many connections."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Connection(port)) for _ in range(count)]


# -- slow heads and bodies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_request_a_byte_at_a_time_is_a_request(origin: Origin, proxy: Proxy, keyed: bool) -> None:
    key = new_key() if keyed else None
    own = [] if key is None else [(b"Idempotency-Key", key)]
    chunks = request(b"POST", PATH, [*own, CHUNKED], b"f;a=b\r\n" + BODY + b"\r\n0\r\nX: 1\r\n\r\n")
    assert (await byte_by_byte(proxy.port, chunks)).status == 200
    assert (await byte_by_byte(proxy.port, post(key))).status == (409 if keyed else 200)
    assert [seen.body for seen in origin.requests] == [BODY] * (1 if keyed else 2)


async def test_a_head_has_its_time_in_all_however_steadily_it_comes(origin: Origin, start_proxy: StartProxy) -> None:
    """A byte now and then would hold a connection for days."""
    proxy = await start_proxy(**{"limits.head_timeout": "200ms"})
    refused(await byte_by_byte(proxy.port, post(new_key())[:40], pause=0.02), 408, "request_timeout")
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/"))
        assert (await client.reply()).status == 200
        for byte in request(b"GET", b"/")[:40]:  # behind another, the time begins with its first byte
            client.send(bytes([byte]))
            await asyncio.sleep(0.02)
        refused(await client.reply(), 408, "request_timeout")
    assert len(origin.requests) == 1


async def test_the_time_of_a_head_begins_when_its_first_byte_is_there(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"limits.head_timeout": "200ms", "limits.keepalive_timeout": "5s"})
    async with Connection(proxy.port) as client:
        for _ in range(2):
            client.send(request(b"GET", b"/"))
            assert (await client.reply()).status == 200
            await asyncio.sleep(0.4)  # idle, which is another limit


async def test_an_upload_that_passes_through_may_take_any_time_as_long_as_it_moves(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"limits.body_idle_timeout": "200ms", "limits.body_timeout": "200ms"})
    data = post(None, body=b"x" * 20)
    async with Connection(proxy.port) as client:
        client.send(data[:-20])
        for _ in range(20):
            client.send(b"x")
            await asyncio.sleep(0.03)
        assert (await client.reply()).status == 200
    assert origin.requests[0].body == b"x" * 20


async def test_a_client_that_pauses_in_its_upload_is_not_the_backends_fault(
    origin: Origin, start_proxy: StartProxy
) -> None:
    """It may pause as long as a body may; what the backend has its time for is to answer a request."""
    proxy = await start_proxy(**{"limits.body_idle_timeout": "3s", "upstream.timeout": "200ms"})
    async with Connection(proxy.port) as client:
        client.send(post()[:-1])
        await origin.until(lambda: origin.open)
        await asyncio.sleep(0.5)
        client.send(BODY[-1:])
        assert (await client.reply()).status == 200
    assert [seen.body for seen in origin.requests] == [BODY]


@pytest.mark.parametrize(
    "begin",
    [
        post(b"short", body=b"x" * 100)[:-100],
        request(b"GET", responses(new_key()), [(b"Content-Length", b"100")]),
    ],
    ids=["refused", "retrieval"],
)
async def test_a_body_that_nobody_wants_has_its_time_in_all_too(start_proxy: StartProxy, begin: bytes) -> None:
    """It is read to its end before it is answered: a byte now and then would hold the connection for days."""
    proxy = await start_proxy(**{"limits.body_idle_timeout": "200ms", "limits.body_timeout": "300ms"})
    async with Connection(proxy.port) as client:
        client.send(begin)
        answered = asyncio.ensure_future(client.reply())
        for _ in range(20):
            client.send(b"x")
            await asyncio.sleep(0.05)
            if answered.done():
                break
        assert answered.done()
        assert (await answered).status in (400, 404, 408)


async def test_slow_clients_hold_nobody_up(origin: Origin, start_proxy: StartProxy) -> None:
    """Neither heads nor guarded bodies that are not whole take a connection to the backend."""
    proxy = await start_proxy(**{"upstream.max_connections": 1, "upstream.pool_timeout": "500ms"})
    async with many(proxy.port) as clients:
        for number, client in enumerate(clients):
            client.send(post(new_key())[: 40 if number % 2 else -1])
        for key in (None, new_key()):
            assert (await proxy.post(key)).status == 200
        assert len(origin.requests) == 2


# -- connections that do nothing -------------------------------------------------------------------------------------


async def test_hundreds_of_idle_connections_are_kept_and_each_is_served_again(origin: Origin, proxy: Proxy) -> None:
    async with many(proxy.port) as clients:
        for _ in range(2):
            for client in clients:
                client.send(request(b"GET", b"/"))
            assert {(await client.reply()).status for client in clients} == {200}
        assert len(proxy._app._server.connections) == MANY
        for client in clients[::2]:
            client.reset()
        await eventually(lambda: len(proxy._app._server.connections) == MANY // 2)
        for client in clients[1::2]:
            client.send(post(new_key()))
            assert (await client.reply()).status == 200
    await eventually(lambda: not proxy._app._server.connections)


async def test_hundreds_of_idle_connections_are_closed_in_time(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"limits.keepalive_timeout": "300ms", "limits.head_timeout": "400ms"})
    async with many(proxy.port) as clients:
        for client in clients[::2]:  # the others never say a word
            client.send(request(b"GET", b"/"))
            assert (await client.reply()).status == 200
        assert {await client.rest() for client in clients} == {b""}
    assert not proxy._app._server.connections


async def test_clients_too_many_do_not_pile_up(start_proxy: StartProxy) -> None:
    """Each is told so; none of them may stay for that, or the limit is none."""
    proxy = await start_proxy(**{"limits.connections": 10})
    async with many(proxy.port, 10) as served:
        for client in served:
            client.send(request(b"GET", b"/"))
            assert (await client.reply()).status == 200
        async with many(proxy.port, 200) as refused_:
            for client in refused_:
                refused(await client.reply(), 503, "overloaded")
            assert len(proxy._app._server.connections) <= 2 * 10
        served[0].reset()
        await eventually(lambda: len(proxy._app._server.connections) < 10)


async def test_a_place_that_becomes_free_is_given_to_the_next_at_once(start_proxy: StartProxy) -> None:
    """Those who were refused, and have not gone yet, do not count."""
    proxy = await start_proxy(**{"limits.connections": 1})
    async with Connection(proxy.port) as first:
        first.send(request(b"GET", b"/"))
        assert (await first.reply()).status == 200
        async with Connection(proxy.port) as refused_:
            refused(await refused_.reply(), 503, "overloaded")
            first.reset()

            async def served() -> bool:
                return (await proxy.post()).status == 200

            await eventually(served, 1.0)


# -- uploads that nobody will take -----------------------------------------------------------------------------------


async def test_a_large_upload_to_a_backend_that_is_not_there_can_read_why(origin: Origin, proxy: Proxy) -> None:
    await origin.stop()
    reply = parse(await exchange(proxy.port, post(None, body=LARGE[:900_000]), until_eof=True))
    refused(reply, 502, "upstream_unreachable")
    assert reply.field(b"Connection") == b"close"


async def test_a_large_upload_to_a_backend_that_does_not_read_is_a_504(start_proxy: StartProxy) -> None:
    """Its client is held back all the time, and can read why it has waited."""
    sock = socket.create_server(("127.0.0.1", 0))  # accepts in the kernel, and nobody reads
    with sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        proxy = await start_proxy(**{"upstream.url": url, "upstream.timeout": "300ms"})
        async with Connection(proxy.port) as client:
            client.send(post(None, body=LARGE * 4))
            reply = await client.reply()
        refused(reply, 504, "upstream_timeout")
        assert reply.field(b"Connection") == b"close"


async def test_a_large_upload_waits_for_its_connection_in_a_window(start_proxy: StartProxy) -> None:
    """Memory is bounded while it waits: the client is not read on."""
    with deaf() as port:
        url = f"http://127.0.0.1:{port}"
        proxy = await start_proxy(**{"upstream.url": url, "upstream.connect_timeout": "400ms"})
        async with Connection(proxy.port) as client:
            client.send(post(None, body=LARGE * 4))
            await asyncio.sleep(0.3)
            assert client._writer.transport.get_write_buffer_size() > len(LARGE)
            refused(await client.reply(), 502, "upstream_unreachable")


async def test_a_connection_whose_upload_waited_for_the_backend_carries_the_next_request(
    origin: Origin, start_proxy: StartProxy
) -> None:
    """The body was whole, and more than a window, before there was a connection to send it on."""
    proxy = await start_proxy(**{"upstream.max_connections": 1})
    origin.behave(hang())
    async with Connection(proxy.port) as first, Connection(proxy.port) as client:
        first.send(request(b"GET", b"/"))
        await origin.until(lambda: origin.requests)
        origin.behave(respond(200))
        data = post(None, body=b"x" * 100_000)
        client.send(data[:-100_000])
        await eventually(lambda: proxy._app._pool._waiting)
        client.send(data[-100_000:])
        await asyncio.sleep(0.1)
        first.reset()
        assert (await client.reply()).status == 200
        client.send(post())
        assert (await client.reply()).status == 200
    assert [len(seen.body) for seen in origin.requests] == [0, 100_000, len(BODY)]


# -- slow readers ----------------------------------------------------------------------------------------------------


async def test_clients_that_read_nothing_cost_a_window_each_and_hold_nobody_up(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"limits.write_timeout": "1s"})

    async def endless(seen: Recorded, writer: asyncio.StreamWriter) -> None:
        if seen.target != b"/endless":
            await respond(200)(seen, writer)
            return
        await send(writer, head(200, []))
        while True:
            await send(writer, LARGE[:500_000])

    origin.behave(endless)
    async with many(proxy.port, 20) as clients:
        for client in clients:  # each reads no more than its buffer takes
            client.send(request(b"GET", b"/endless"))
        await origin.until(lambda: len(origin.requests) == len(clients))
        connections = list(proxy._app._server.connections)
        await eventually(lambda: all(connection._stuck for connection in connections))
        held = [connection._transport.get_write_buffer_size() for connection in connections]
        assert max(held) < 400_000  # a window, and one read more
        for key in (None, new_key()):
            assert (await proxy.post(key)).status == 200
        await eventually(lambda: not proxy._app._server.connections)
    await origin.until(lambda: origin.open <= 1)


async def test_a_slow_reader_of_what_was_recorded_has_its_record_long_before(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond(200, [(b"Content-Type", b"text/plain")], LARGE))
    key = new_key()
    async with Connection(proxy.port) as client:
        client.send(post(key))

        async def settled() -> bool:
            return await proxy.state(key) == b"completed"

        await eventually(settled)
        assert (await proxy.record(key))["Truncated"] is True  # over the record limit
        reply = await client.reply()
    assert (reply.status, reply.body == LARGE) == (200, True)
    assert len(origin.requests) == 1


async def test_a_reader_that_falls_asleep_within_its_time_is_given_the_rest(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"limits.write_timeout": "2s", "upstream.timeout": "200ms"})
    origin.behave(respond(200, body=LARGE * 4))
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/", [(b"Connection", b"close")]))
        await client.until(b"\r\n\r\n")
        await asyncio.sleep(0.5)  # longer than the backend may pause, which it does not: nobody asks it to go on
        assert len(await client.rest()) == 4 * len(LARGE)
