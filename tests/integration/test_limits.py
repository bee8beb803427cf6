"""What is too large, too slow or no HTTP is refused before anything is claimed, and the client can read why."""

import asyncio

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, respond
from tests.support.proxy import BODY, PATH, Connection, Proxy, new_key, post, refusal, refused, request
from tests.support.raw import Reply, exchange, parse

HEAD = b"Host: api.example.com\r\n"


def assert_refused(reply: Reply, status: int, kind: str) -> None:
    """On no behalf of any key: the Id is the request's own."""
    refused(reply, status, kind)
    fields = refusal(reply)
    assert fields["Id"].endswith(f"#{fields['Date']}")
    for name in (b"Idempotency-State", b"Idempotency-Expires", b"Link"):
        assert reply.field(name) is None


async def refuses(proxy: Proxy, data: bytes, status: int, kind: str) -> None:
    """*data* is answered so, and the connection is closed: what follows cannot be trusted."""
    async with Connection(proxy.port) as client:
        client.send(data)
        reply = parse(await client.rest())
    assert_refused(reply, status, kind)
    assert reply.field(b"Connection") == b"close"


# -- too large -------------------------------------------------------------------------------------------------------


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"limits.body": "1KiB"})
    key = new_key()
    data = post(key, [(b"Expect", b"100-continue")], b"x" * 1025)
    await refuses(proxy, data[:-1025], 413, "request_too_large")
    assert (await proxy.retrieve(key)).status == 404
    assert origin.requests == []
    assert (await proxy.post(key, body=b"x" * 1024)).status == 200


async def test_a_body_that_was_refused_is_not_read_as_requests(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"limits.body": "1KiB"})
    async with Connection(proxy.port) as client:
        client.send(post(new_key(), body=request(b"DELETE", PATH) * 50))
        assert_refused(await client.reply(), 413, "request_too_large")
        client.half_close()
        assert await client.rest() == b""
    assert origin.requests == []


async def test_a_body_that_turns_out_too_large_is_refused(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"limits.body": "1KiB"})
    key = new_key()
    fields = [(b"Idempotency-Key", key), (b"Transfer-Encoding", b"chunked")]
    chunk = b"100\r\n" + b"x" * 256 + b"\r\n"
    await refuses(proxy, request(b"POST", PATH, fields, chunk * 5), 413, "request_too_large")
    assert (await proxy.retrieve(key)).status == 404
    assert origin.requests == []
    assert (await proxy.call(request(b"POST", PATH, fields, chunk * 4 + b"0\r\n\r\n"))).status == 200


async def test_the_413_can_be_read_by_a_client_that_is_still_sending(origin: Origin, proxy: Proxy) -> None:
    async with Connection(proxy.port) as client:
        client.send(post(new_key(), body=b"x" * 11_000_000))
        assert_refused(await client.reply(), 413, "request_too_large")
    assert origin.requests == []


async def test_what_passes_through_may_be_larger(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"limits.body": "1KiB"})
    assert (await proxy.post(body=b"x" * 200_000)).status == 200
    assert len(origin.requests[0].body) == 200_000


async def test_a_request_line_that_is_too_long(origin: Origin, proxy: Proxy) -> None:
    line = b"GET /%b HTTP/1.1"
    fits = line % (b"a" * (8192 - len(line) + 2))
    assert (await proxy.call(fits + b"\r\n" + HEAD + b"\r\n")).status == 200
    for target in (b"a" * 8192, b"a" * 30_000):
        await refuses(proxy, b"GET /%b HTTP/1.1\r\n%b\r\n" % (target, HEAD), 414, "uri_too_long")
    await refuses(proxy, b"GET /" + b"a" * 9000, 414, "uri_too_long")  # no end in sight
    assert len(origin.requests) == 1


async def test_fields_that_are_too_large_or_too_many(origin: Origin, proxy: Proxy) -> None:
    kind = "header_fields_too_large"
    await refuses(proxy, request(b"GET", b"/", [(b"X", b"a" * 32_768)]), 431, kind)
    await refuses(proxy, b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, 431, kind)  # no end in sight
    await refuses(proxy, request(b"GET", b"/", [(b"X", b"1")] * 100), 431, kind)
    await refuses(proxy, post(new_key(), [(b"X", b"1")] * 100), 431, kind)
    assert (await proxy.call(request(b"GET", b"/", [(b"X", b"1")] * 99))).status == 200
    assert len(origin.requests) == 1


async def test_a_connection_field_with_more_options_than_anybody_needs(origin: Origin, proxy: Proxy) -> None:
    kind, fits = "header_fields_too_large", b"a" * 512
    for fields in ([(b"Connection", fits + b"a")], [(b"Connection", fits), (b"connection", b"close")]):
        await refuses(proxy, request(b"GET", b"/", fields), 431, kind)
        await refuses(proxy, post(new_key(), fields), 431, kind)
    assert origin.requests == []
    assert (await proxy.call(request(b"GET", b"/", [(b"Connection", fits)]))).status == 200
    origin.behave(respond(200, [(b"Connection", fits + b"a")]))
    refused(await proxy.call(request(b"GET", b"/")), 504, "upstream_timeout")


# -- too slow --------------------------------------------------------------------------------------------------------


async def test_a_head_that_comes_too_slowly(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"limits.head_timeout": "200ms"})
    await refuses(proxy, post(new_key())[:40], 408, "request_timeout")
    async with Connection(proxy.port) as client:
        assert await client.rest() == b""  # who says nothing is told nothing
    assert origin.requests == []


@pytest.mark.parametrize("setting", ["limits.body_idle_timeout", "limits.body_timeout"])
async def test_a_body_that_comes_too_slowly(origin: Origin, start_proxy: StartProxy, setting: str) -> None:
    proxy = await start_proxy(**{setting: "200ms"})
    key = new_key()
    await refuses(proxy, post(key)[:-1], 408, "request_timeout")
    assert (await proxy.retrieve(key)).status == 404
    assert origin.requests == []
    assert (await proxy.post(key)).status == 200


async def test_a_guarded_body_that_trickles_for_ever_is_ended(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"limits.body_idle_timeout": "300ms", "limits.body_timeout": "500ms"})
    data = post(new_key(), body=b"x" * 1000)
    async with Connection(proxy.port) as client:
        client.send(data[:-1000])

        async def trickle() -> None:
            while True:
                client.send(b"x")
                await asyncio.sleep(0.05)

        task = asyncio.ensure_future(trickle())
        reply = await client.reply()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert_refused(reply, 408, "request_timeout")
    assert origin.requests == []


async def test_an_upload_that_passes_through_and_pauses_too_long_is_not_taken_for_whole(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"limits.body_idle_timeout": "200ms"})
    await refuses(proxy, post()[:-1], 408, "request_timeout")
    await origin.until(lambda: origin.open == 0)
    assert origin.requests == []


async def test_an_idle_connection_is_closed(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"limits.keepalive_timeout": "200ms"})
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/"))
        assert (await client.reply()).status == 200
        assert await client.rest() == b""


async def test_a_connection_too_many_is_told_so(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"limits.connections": 1})
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/"))
        assert (await client.reply()).status == 200
        async with Connection(proxy.port) as another:
            refused = await another.rest()
        if refused:
            assert_refused(parse(refused), 503, "overloaded")
        client.send(request(b"GET", b"/"))
        assert (await client.reply()).status == 200


# -- no HTTP, or none that is served ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"CONNECT api.example.com:443 HTTP/1.1\r\n" + HEAD + b"\r\n", 405),
        (b"TRACE / HTTP/1.1\r\n" + HEAD + b"\r\n", 405),
        (b"SETUP / HTTP/1.1\r\n" + HEAD + b"\r\n", 405),
        (b"POST / HTTP/2.0\r\n" + HEAD + b"\r\n", 505),
        (b"POST / HTTP/1.2\r\n" + HEAD + b"\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / RTSP/1.0\r\n" + HEAD + b"\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
        (b"GET /a#b HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
        (b"GET ftp://api.example.com/ HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
        (b"GET http://user@api.example.com/ HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
        (b"GET http://another.example.com/ HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HEAD * 2 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X : 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X: 1\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X: a\0b\r\n\r\n", 400),
        (b"\r\n\r\nGET / HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
        (request(b"POST", PATH, [(b"Content-Length", b"15"), (b"Expect", b"a-miracle")], BODY), 417),
        (request(b"POST", PATH, [(b"Content-Length", b"15")] * 2, BODY), 400),
        (request(b"POST", PATH, [(b"Content-Length", b"15, 15")], BODY), 400),
        (request(b"POST", PATH, [(b"Content-Length", b"+15")], BODY), 400),
        (request(b"POST", PATH, [(b"Content-Length", b"9223372036854775808")], BODY), 400),
        (request(b"POST", PATH, [(b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")], b"0\r\n\r\n"), 400),
        (request(b"POST", PATH, [(b"Transfer-Encoding", b"chunked")] * 2, b"0\r\n\r\n"), 400),
        (request(b"POST", PATH, [(b"Transfer-Encoding", b"gzip, chunked")], b"0\r\n\r\n"), 501),
        (request(b"POST", PATH, [(b"Transfer-Encoding", b"identity")], b"0\r\n\r\n"), 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
)
@pytest.mark.parametrize("keyed", [False, True])
async def test_what_is_no_request_reaches_nobody(
    origin: Origin, proxy: Proxy, data: bytes, status: int, keyed: bool
) -> None:
    if keyed:
        data = data.replace(b"\r\n", b"\r\nIdempotency-Key: 0123456789abcdef\r\n", 1)
    await refuses(proxy, data, status, "bad_request")
    await proxy.post(b"0123456789abcdef")
    assert [seen.body for seen in origin.requests] == [BODY]  # the good one alone, and its key was free


@pytest.mark.parametrize(
    "chunks", [b"5\r\nhelloX\r\n0\r\n\r\n", b"x\r\n", b"-1\r\n", b"5\nhello\r\n", b"1" * 17 + b"\r\n"]
)
async def test_a_malformed_chunk_claims_nothing(origin: Origin, proxy: Proxy, chunks: bytes) -> None:
    key = new_key()
    fields = [(b"Idempotency-Key", key), (b"Transfer-Encoding", b"chunked")]
    await refuses(proxy, request(b"POST", PATH, fields, chunks), 400, "bad_request")
    assert (await proxy.retrieve(key)).status == 404
    assert origin.requests == []


@pytest.mark.parametrize("hello", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x80\x2e\x01\x03\x01", b"\n"])
async def test_who_speaks_tls_to_a_port_without_it_is_not_left_waiting(proxy: Proxy, hello: bytes) -> None:
    reply = parse(await exchange(proxy.port, hello, until_eof=True, within=3.0))
    refused(reply, 400, "bad_request")
