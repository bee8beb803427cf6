"""Connections to the backend: kept, counted, and never a reason to send twice what must be sent once."""

import asyncio
from typing import cast

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import Behaviour, Origin, after, cut, hang, head, in_turn, raw, reset, respond, slowly
from tests.support.proxy import PATH, Proxy, new_key, post, refused, request

CLOSES = raw(b"", close=True)


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


async def test_a_connection_that_was_held_back_at_the_last_piece_of_an_answer_carries_the_next(
    origin: Origin, start_proxy: StartProxy
) -> None:
    """The piece that is too much for the record is the last: there is nothing more to hold back."""
    proxy = await start_proxy(**{"record.max_body": "1KiB", "upstream.timeout": "1s"})
    body = b"x" * 1100
    large = slowly([head(200, [(b"Content-Length", b"1100")]) + body[:600], body[600:]], 0.05)
    origin.behave(in_turn(large, respond(200, body=b"paid")))
    assert (await proxy.post(new_key())).body == body
    for key in (new_key(), None):
        assert (await proxy.post(key)).body == b"paid"
    assert origin.connections == 1


class Early(asyncio.Protocol):
    """A backend that answers at the first bytes, and reads no more."""

    def __init__(self, connections: list["Early"]) -> None:
        connections.append(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.pause_reading()
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npaid")


async def test_a_connection_whose_request_was_not_taken_whole_is_not_used_again(start_proxy: StartProxy) -> None:
    """The next request would queue behind a body that nobody takes."""
    connections: list[Early] = []
    server = await asyncio.get_running_loop().create_server(lambda: Early(connections), "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        proxy = await start_proxy(**{"upstream.url": f"http://127.0.0.1:{port}", "upstream.timeout": "1s"})
        assert (await proxy.post(new_key(), body=b"x" * 9_000_000)).body == b"paid"
        assert (await proxy.post(new_key())).body == b"paid"
        assert len(connections) == 2
    finally:
        server.close()
        for connection in connections:
            connection.transport.abort()
