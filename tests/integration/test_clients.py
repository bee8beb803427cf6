"""Clients of every kind: old ones, pipelining ones, slow ones, ones that would rather speak something else."""

import asyncio

import pytest

from tests.support.origin import Behaviour, Origin, Recorded, respond, respond_chunked
from tests.support.proxy import BODY, Connection, Proxy, new_key, post, request
from tests.support.raw import eventually, exchange, parse

CHUNKED = (b"Transfer-Encoding", b"chunked")


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


# -- empty lines (RFC 9112 §2.2) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(6))
async def test_one_empty_line_before_a_request_is_ignored_wherever_it_is_split(
    origin: Origin, proxy: Proxy, at: int
) -> None:
    """Old clients send one behind the body of a POST."""
    async with Connection(proxy.port) as client:
        for key in (new_key(), new_key()):
            data = b"\r\n" + post(key)
            client.send(data[:at])
            await asyncio.sleep(0.01)  # so that it comes alone
            client.send(data[at:])
            assert (await client.reply()).status == 200
    assert [seen.body for seen in origin.requests] == [BODY, BODY]


async def test_an_empty_line_between_pipelined_requests_is_ignored(origin: Origin, proxy: Proxy) -> None:
    async with Connection(proxy.port) as client:
        client.send(b"\r\n".join([post(new_key()), post(), post(new_key()), b""]))
        assert [(await client.reply()).status for _ in range(3)] == [200, 200, 200]
        client.send(post())
        assert (await client.reply()).status == 200
    assert len(origin.requests) == 4


@pytest.mark.parametrize("at", range(6))
async def test_a_second_empty_line_is_no_request(origin: Origin, proxy: Proxy, at: int) -> None:
    data = b"\r\n\r\n" + post(new_key())
    async with Connection(proxy.port) as client:
        client.send(data[:at])
        await asyncio.sleep(0.01)  # so that it comes alone
        client.send(data[at:])
        assert parse(await client.rest()).status == 400
    assert origin.requests == []


async def test_an_empty_line_gives_a_client_no_more_time(proxy: Proxy) -> None:
    async with Connection(proxy.port) as client:
        server = proxy._app._server
        await eventually(lambda: server.connections)
        (connection,) = server.connections
        until = connection.deadline
        client.send(b"\r\n")
        await eventually(lambda: connection._skipped)
        assert connection.deadline == until
        client.send(request(b"GET", b"/"))
        assert (await client.reply()).status == 200
