"""The client goes away, or falls silent. The backend's answer is not lost for that."""

import asyncio
from collections.abc import Callable

import pytest

from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Origin, Recorded, after, respond, send, slowly
from tests.support.proxy import Connection, Proxy, new_key, post, request, responses
from tests.support.raw import eventually, parse

PAID = respond(201, [(b"Content-Type", b"application/json")], b'{"Id": "1"}')
GOES = [Connection.abort, Connection.reset]


async def settled(proxy: Proxy, key: bytes) -> dict[str, object]:
    """The record, when it is there."""

    async def is_settled() -> bool:
        return (await proxy.retrieve(key)).status == 200

    await eventually(is_settled)
    return await proxy.record(key)


@pytest.mark.parametrize("goes", GOES, ids=["ends", "resets"])
async def test_the_response_is_there_for_a_client_that_was_killed_in_mid_call(
    origin: Origin, start_proxy: StartProxy, store: Flags, goes: Callable[[Connection], None]
) -> None:
    proxy = await start_proxy(**store)
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, PAID))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        goes(client)
    assert (await proxy.post(key)).field(b"Idempotency-State") == b"in_progress"
    gate.set()
    record = await settled(proxy, key)
    assert (record["StatusCode"], record["Resource"]) == ("201", {"Id": "1"})
    assert (await proxy.post(key)).field(b"Idempotency-State") == b"completed"
    assert len(origin.requests) == 1


async def test_a_client_that_goes_right_after_its_request_is_served_all_the_same(origin: Origin, proxy: Proxy) -> None:
    origin.behave(PAID)
    keys = [new_key() for _ in range(20)]
    for key in keys:
        async with Connection(proxy.port) as client:
            client.send(post(key))
            client.close()
    await origin.until(lambda: len(origin.requests) == len(keys))
    for key in keys:
        assert (await settled(proxy, key))["Resource"] == {"Id": "1"}
    assert len(origin.requests) == len(keys)


async def test_a_client_that_goes_before_its_body_is_whole_has_used_no_key(origin: Origin, proxy: Proxy) -> None:
    key = new_key()
    async with Connection(proxy.port) as client:
        client.send(post(key)[:-1])
        client.abort()
    async with Connection(proxy.port) as client:
        client.send(post(key)[:-1])
        client.half_close()
        answer = await client.rest()
    assert answer == b"" or parse(answer).status == 400
    assert (await proxy.retrieve(key)).status == 404
    assert origin.requests == []
    assert (await proxy.post(key)).status == 200


@pytest.mark.parametrize("goes", GOES, ids=["ends", "resets"])
async def test_a_large_response_is_recorded_though_the_client_goes_while_it_comes(
    origin: Origin, proxy: Proxy, goes: Callable[[Connection], None]
) -> None:
    key, gate, body = new_key(), asyncio.Event(), b"x" * 300_000
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def in_two(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        await send(writer, head + body[:100_000])
        await gate.wait()
        await send(writer, body[100_000:])

    origin.behave(in_two)
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        goes(client)
    gate.set()
    assert (await settled(proxy, key))["Resource"] == {"Text": body.decode()}


@pytest.mark.parametrize("keyed", [True, False])
async def test_a_client_that_has_said_all_is_still_answered(origin: Origin, proxy: Proxy, keyed: bool) -> None:
    gate = asyncio.Event()
    origin.behave(after(gate, PAID))
    async with Connection(proxy.port) as client:
        client.send(post(new_key() if keyed else None))
        client.half_close()
        await origin.until(lambda: origin.requests)
        gate.set()
        reply = parse(await client.rest())
    assert (reply.status, reply.body) == (201, b'{"Id": "1"}')


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(b"GET", responses(b"a-key-that-nobody-used")), 404),
        (request(b"GET", responses(b"short")), 400),
        (post(b"short"), 400),
        (request(b"TRACE", b"/"), 405),
    ],
)
async def test_a_client_that_has_said_all_is_still_refused(proxy: Proxy, data: bytes, status: int) -> None:
    async with Connection(proxy.port) as client:
        client.send(data)
        client.half_close()
        reply = parse(await client.rest())
    assert reply.status == status


async def test_pipelined_requests_are_all_answered_though_the_client_has_said_all(origin: Origin, proxy: Proxy) -> None:
    origin.behave(PAID)
    taken = new_key()
    data = post(new_key()), post(), request(b"GET", responses(new_key())), post(taken), post(taken), post(new_key())
    async with Connection(proxy.port) as client:
        client.send(b"".join(data))
        client.half_close()
        statuses = [(await client.reply()).status for _ in data]
        assert await client.rest() == b""
    assert statuses == [201, 201, 404, 201, 409, 201]


async def test_a_stream_that_passes_through_ends_with_its_client(origin: Origin, proxy: Proxy) -> None:
    origin.behave(slowly([b"HTTP/1.1 200 OK\r\n\r\n", *[b"data: tick\n\n"] * 1000], 0.01))
    async with Connection(proxy.port) as client:
        client.send(request(b"GET", b"/events"))
        await client.until(b"tick")
    await origin.until(lambda: origin.open == 0)


async def test_a_client_that_reads_nothing_does_not_hold_its_key(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"limits.write_timeout": "300ms", "record.max_body": "64KiB"})
    size = 20_000_000
    origin.behave(respond(200, [(b"Content-Type", b"text/plain")], b"x" * size))
    key = new_key()
    async with Connection(proxy.port) as client:
        client.send(post(key))
        record = await settled(proxy, key)
        assert (record["Truncated"], record["Resource"]) == (True, None)
        await origin.until(lambda: origin.open == 0)  # the connection that nobody reads from is given up
        assert len(await client.rest()) < size
