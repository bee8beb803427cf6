"""`Expect: 100-continue` (RFC 9110 §10.1.1): who asks before the body is told to go on, or why not."""

import asyncio

import pytest

from tests.integration.conftest import Flags, StartProxy
from tests.integration.test_every_limit import one_at_a_time
from tests.integration.test_flow import CHUNKED, backend, chunks
from tests.support.origin import Origin, after, head, respond, send
from tests.support.proxy import BODY, PATH, Connection, Proxy, new_key, post, refused, request
from tests.support.raw import Field, exchange, parse_all

EXPECT = (b"Expect", b"100-continue")


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("framing", [CHUNKED, (b"Content-Length", b"15")], ids=["chunked", "length"])
async def test_who_asks_whether_to_go_on_is_told_so_once(
    origin: Origin, proxy: Proxy, framing: Field, keyed: bool
) -> None:
    own = [(b"Idempotency-Key", new_key())] if keyed else []
    async with Connection(proxy.port) as client:
        for count in (1, 2):
            client.send(request(b"POST", PATH, [*own, EXPECT, framing]))
            assert (await client.reply()).status == 100
            assert len(origin.requests) < count
            client.send(chunks(BODY) + b"0\r\n\r\n" if framing is CHUNKED else BODY)
            reply = await client.reply()
            if count == 2 and keyed:
                refused(reply, 409, "idempotent_creation_conflict")
            else:
                assert reply.status == 200
    assert all(seen.body == BODY and seen.all(b"Expect") == [] for seen in origin.requests)
    assert len(origin.requests) == (1 if keyed else 2)


@pytest.mark.parametrize("keyed", [False, True])
async def test_who_asks_and_does_not_wait_is_served_all_the_same(origin: Origin, proxy: Proxy, keyed: bool) -> None:
    """RFC 9110 §10.1.1: no 100 where the body is there already."""
    data = post(new_key() if keyed else None, [EXPECT])
    replies = parse_all(await exchange(proxy.port, data))
    assert [reply.status for reply in replies if reply.status >= 200] == [200]
    assert [seen.body for seen in origin.requests] == [BODY]


@pytest.mark.parametrize(
    ("flags", "key", "status", "kind"),
    [
        ({"limits.body": 10}, b"a-key-of-its-own", 413, "request_too_large"),
        ({"limits.body": 10, "upstream.host": "preserve"}, b"short", 400, "idempotency_key_invalid"),
        ({"upstream.url": "http://127.0.0.1:1"}, None, 502, "upstream_unreachable"),
    ],
)
async def test_who_asks_and_must_not_go_on_is_told_why_in_place_of_a_100(
    origin: Origin, start_proxy: StartProxy, flags: Flags, key: bytes | None, status: int, kind: str
) -> None:
    proxy = await start_proxy(**flags)
    async with Connection(proxy.port) as client:
        client.send(post(key, [EXPECT])[: -len(BODY)])
        reply = await client.reply()
        refused(reply, status, kind)
        assert reply.field(b"Connection") == b"close"
        assert await client.rest() == b""  # without the body: it was not asked for
    assert origin.requests == []


async def test_who_asks_is_not_told_to_go_on_before_there_is_anybody_to_take_it(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**one_at_a_time(pool_timeout="150ms", connect_timeout="150ms"))
    origin.behave(after(asyncio.Event(), respond(200)))
    async with Connection(proxy.port) as first, Connection(proxy.port) as client:
        first.send(request(b"GET", b"/"))
        await origin.until(lambda: origin.requests)
        client.send(post(None, [EXPECT])[: -len(BODY)])
        refused(await client.reply(), 503, "overloaded")


async def test_a_backend_that_answers_before_the_body_is_heard(start_proxy: StartProxy) -> None:
    """The client had its 100 from us, and stops when it reads the answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await send(writer, head(401, [(b"Content-Length", b"0")]))
        await reader.read()

    async with backend(serve) as url:
        proxy = await start_proxy(**{"upstream.url": url})
        async with Connection(proxy.port) as client:
            client.send(post(None, [EXPECT])[: -len(BODY)])
            replies = parse_all(await client.rest())
        assert [reply.status for reply in replies] in ([100, 401], [401])
