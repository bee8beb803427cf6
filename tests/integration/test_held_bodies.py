"""Bodies of guarded requests are held, each until its exchange is over; together they have a limit."""

import asyncio

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, after, hang, raw, respond
from tests.support.proxy import BODY, Connection, Proxy, new_key, post, refused
from tests.support.raw import eventually

KIB = 1024
LIMITS = {"limits.bodies": "100KiB", "limits.body": "64KiB"}
LARGE = b"x" * 60 * KIB


async def answered(proxy: Proxy, status: int) -> bool:
    """Another large body is."""
    return (await proxy.post(new_key(), body=LARGE)).status == status


async def test_one_more_than_fits_is_answered_503_and_its_key_is_free_when_there_is_room(
    start_proxy: StartProxy, origin: Origin
) -> None:
    paid = asyncio.Event()
    origin.behave(after(paid, respond()))
    proxy = await start_proxy(**LIMITS)
    key = new_key()
    async with Connection(proxy.port) as first:
        first.send(post(new_key(), body=LARGE))
        await origin.until(lambda: origin.requests)
        refused(await proxy.post(key, body=LARGE), 503, "overloaded")
        assert len(origin.requests) == 1
        paid.set()
        assert (await first.reply()).status == 200
    assert (await proxy.post(key, body=LARGE)).status == 200


async def test_a_body_that_is_half_there_counts_and_one_that_will_not_come_does_not(
    start_proxy: StartProxy, origin: Origin
) -> None:
    proxy = await start_proxy(**LIMITS)
    half = post(new_key(), body=LARGE)[:-KIB]
    async with Connection(proxy.port) as first:
        first.send(half)
        await eventually(lambda: answered(proxy, 503))
        first.reset()
    await eventually(lambda: answered(proxy, 200))


@pytest.mark.parametrize(("size", "status"), [(40, 200), (400, 503)])
async def test_a_body_in_tiny_pieces_counts_with_the_room_that_each_piece_takes(
    start_proxy: StartProxy, origin: Origin, size: int, status: int
) -> None:
    """A piece of one byte takes many times that: what counted its bytes alone would bound nothing."""
    proxy = await start_proxy(**{"limits.bodies": "8KiB", "limits.body": "8KiB"})
    bodies = proxy._app._parts.bodies
    room, body = bodies._left, b"x" * size
    async with Connection(proxy.port) as client, asyncio.timeout(5):
        client.send(post(new_key(), body=body)[:-size])
        for number in range(size):
            before = bodies._left
            client.send(body[number : number + 1])
            while bodies._left == before:
                await asyncio.sleep(0)
            if bodies._left == room:
                break  # it was answered
        assert (await client.reply()).status == status
    assert bodies._left == room
    assert (await proxy.post(new_key(), body=b"x" * 8000)).status == 200
    assert bodies._left == room


@pytest.mark.parametrize("end", ["conflict", "store", "release", "unknown", "too large", "refused"])
async def test_however_an_exchange_ends_its_room_is_free_again(
    start_proxy: StartProxy, origin: Origin, end: str
) -> None:
    proxy = await start_proxy(**{**LIMITS, "upstream.timeout": "200ms", "upstream.connect_timeout": "200ms"})
    key = new_key()
    if end == "conflict":
        await proxy.post(key)
    elif end == "release":
        origin.behave(respond(429))
    elif end == "unknown":
        origin.behave(hang())
    elif end == "refused":
        await origin.stop()
    size = 70 * KIB if end == "too large" else 60 * KIB
    for _ in range(4):
        await proxy.post(key if end == "conflict" else new_key(), body=b"x" * size)
    if end == "refused":
        await origin.start()
    origin.behave(respond())
    assert (await proxy.post(new_key(), body=LARGE)).status == 200


async def test_what_is_not_guarded_is_not_held_and_does_not_count(start_proxy: StartProxy, origin: Origin) -> None:
    origin.behave(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    proxy = await start_proxy(**{"limits.bodies": len(LARGE), "limits.body": len(LARGE)})  # not a byte for its piece
    assert (await proxy.post(body=LARGE)).status == 200
    refused(await proxy.post(new_key(), body=LARGE), 503, "overloaded")
    assert (await proxy.post(new_key(), body=BODY)).status == 200
