"""An answer that breaks off, or is too large to be recorded."""

import asyncio
import socket
import struct

import pytest

from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Behaviour, Origin, Recorded, cut, head, in_turn, raw, respond, send
from tests.support.proxy import Connection, Proxy, new_key, post, refused
from tests.support.raw import Incomplete, exchange, parse

FAST = {"upstream.timeout": "300ms"}
JSON = (b"Content-Type", b"application/json")


TOLD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n"
BROKEN = {
    "length, closed": (cut(TOLD, b"half of it"), b"half of it"),
    "length, nothing came": (cut(TOLD), b""),
    "length, hangs": (raw(TOLD + b"half of it"), b"half of it"),
    "chunked, closed": (cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nhalf\r\n"), b"half"),
    "chunked, closed in a chunk": (
        cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"9\r\nhalf"),
        b"half",
    ),
    "chunked, malformed": (
        cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nhalf\r\nx\r\n"),
        b"half",
    ),
}


@pytest.mark.parametrize(("behaviour", "part"), BROKEN.values(), ids=BROKEN)
async def test_of_an_answer_that_breaks_off_the_client_is_given_what_came(
    origin: Origin, start_proxy: StartProxy, behaviour: Behaviour, part: bytes
) -> None:
    proxy = await start_proxy(**FAST)
    origin.behave(behaviour)
    key = new_key()
    async with Connection(proxy.port) as client:
        client.send(post(key))
        given = await client.rest()
    lines, _, body = given.partition(b"\r\n\r\n")
    assert lines.startswith(b"HTTP/1.1 200 OK\r\n")
    assert part in body
    with pytest.raises(Incomplete):  # it does not look whole
        parse(given)
    record = await proxy.record(key)
    assert (record["StatusCode"], record["Truncated"], record["Resource"]) == ("200", True, None)
    later = await proxy.post(key)
    refused(later, 409, "idempotent_creation_conflict")
    assert later.field(b"Idempotency-State") == b"completed"
    assert len(origin.requests) == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_an_answer_over_the_record_limit_is_given_whole(
    origin: Origin, start_proxy: StartProxy, store: Flags, framing: str
) -> None:
    proxy = await start_proxy(**store, **{"record.max_body": "1KiB"})
    body = bytes(range(256)) * 8192  # 2 MiB

    async def behaviour(request: Recorded, writer: asyncio.StreamWriter) -> None:
        match framing:
            case "length":
                await respond(200, [JSON], body)(request, writer)
            case "chunked":
                chunks = b"".join(b"10000\r\n%b\r\n" % body[at : at + 65536] for at in range(0, len(body), 65536))
                await raw(head(200, [JSON, (b"Transfer-Encoding", b"chunked")]) + chunks + b"0\r\n\r\n")(
                    request, writer
                )
            case _:
                await cut(head(200, [JSON]), body)(request, writer)

    origin.behave(behaviour)
    key = new_key()
    reply = await proxy.post(key)
    assert (reply.status, reply.body) == (200, body)
    assert reply.field(b"Idempotency-Expires")
    record = await proxy.record(key)
    assert (record["StatusCode"], record["Truncated"], record["Resource"]) == ("200", True, None)
    assert (await proxy.post(key)).status == 409


async def test_an_answer_at_the_record_limit_is_recorded_whole(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"record.max_body": "1KiB"})
    for size, truncated in ((1024, None), (1025, True)):
        origin.behave(respond(200, [(b"Content-Type", b"text/plain")], b"x" * size))
        key = new_key()
        assert len((await proxy.post(key)).body) == size
        assert (await proxy.record(key)).get("Truncated") == truncated


async def test_an_answer_over_the_record_limit_is_settled_before_it_is_whole(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**{"record.max_body": "1KiB"})
    origin.behave(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 2000))  # and no more, ever
    key = new_key()
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await client.until(b"x" * 2000)  # it streams
        assert (await proxy.record(key))["Truncated"] is True
        assert (await proxy.post(key)).field(b"Idempotency-State") == b"completed"


async def test_a_large_answer_that_breaks_off_does_not_look_whole(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"record.max_body": "1KiB"})
    for framing in (b"Content-Length: 300000", b"Transfer-Encoding: chunked"):
        body = b"x" * 5000 if framing.startswith(b"C") else b"1388\r\n" + b"x" * 5000 + b"\r\n"
        origin.behave(cut(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing, body))
        async with Connection(proxy.port) as client:
            client.send(post(new_key()))
            given = await client.rest()
        assert given.count(b"x") >= 5000
        assert not given.endswith(b"0\r\n\r\n")


async def test_a_reset_that_overtakes_the_answer_does_not_lose_what_came(origin: Origin, proxy: Proxy) -> None:
    """The backend answers whole, and then resets: the answer stands."""
    kill = struct.pack("ii", 1, 0)

    async def behaviour(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        await send(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npaid")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, kill)
        writer.transport.close()

    origin.behave(behaviour)
    key = new_key()
    assert (await proxy.post(key)).body == b"paid"
    assert (await proxy.record(key))["StatusCode"] == "200"


@pytest.mark.parametrize("keyed", [True, False])
async def test_a_broken_answer_that_ends_with_its_connection_ends_with_a_reset(
    origin: Origin, start_proxy: StartProxy, keyed: bool
) -> None:
    """HTTP/1.0 has no chunks: a good end of the connection would mean that the answer is whole (RFC 9112 §8)."""
    proxy = await start_proxy(**{"record.max_body": "1KiB"})

    def asked() -> bytes:
        line = b"Idempotency-Key: %b\r\n" % new_key() if keyed else b""
        return b"POST / HTTP/1.0\r\n%bContent-Length: 2\r\n\r\n{}" % line

    chunks = b"1388\r\n" + b"x" * 5000 + b"\r\n"
    told = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    origin.behave(in_turn(cut(told, chunks), raw(told + chunks + b"0\r\n\r\n")))
    with pytest.raises(ConnectionResetError):
        await exchange(proxy.port, asked(), until_eof=True)
    assert parse(await exchange(proxy.port, asked(), until_eof=True)).body == b"x" * 5000


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_who_wants_the_connection_closed_is_given_what_came_of_a_broken_answer(
    origin: Origin, proxy: Proxy, keyed: bool, framing: str
) -> None:
    behaviour, part = BROKEN[f"{framing}, closed"]
    origin.behave(behaviour)
    asked = post(new_key() if keyed else None, [(b"Connection", b"close")])
    given = await exchange(proxy.port, asked, until_eof=True)  # no reset
    assert part in given.partition(b"\r\n\r\n")[2]
    with pytest.raises(Incomplete):
        parse(given)
