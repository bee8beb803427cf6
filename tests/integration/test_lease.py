"""A claim is good for a time, its lease. Who is late does not send: the exchange could outlast it."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, after, respond
from tests.support.proxy import Connection, Proxy, new_key, post, refused, request

STOOD_STILL = 3.5
"""Seconds."""
ONE_CONNECTION = {
    "store.deadline": "1s",
    "upstream.pool_timeout": "1s",
    "upstream.connect_timeout": "1s",
    "upstream.max_connections": 1,
    "upstream.timeout": "60s",
}


def advance(proxy: Proxy, clock: str, seconds: float) -> None:
    """Let one clock of *proxy* be ahead: each sees alone what the other may not. The monotonic one of Linux does not go
    on while the machine sleeps; the wall clock can be set back meanwhile."""
    if clock == "monotonic":
        proxy._app._deadlines.now = lambda: time.monotonic() + seconds
    else:
        object.__setattr__(proxy._app._parts, "wall", lambda: time.time() + seconds)  # it is frozen


@pytest.mark.parametrize("clock", ["monotonic", "wall"])
async def test_a_proxy_that_stood_still_before_it_could_send_does_not_send_any_more(
    start_proxy: StartProxy, origin: Origin, clock: str
) -> None:
    """The lease is far from over, but what is left of it does not cover the answer's time: an operator could free the
    key of what reads unknown while the API is still at it."""
    gate = asyncio.Event()
    origin.behave(after(gate, respond(200)))
    proxy = await start_proxy(**ONE_CONNECTION)
    key = new_key()
    async with Connection(proxy.port) as other, Connection(proxy.port) as late:
        other.send(request(b"GET", b"/"))
        await origin.until(lambda: origin.requests)
        late.send(post(key))
        await origin.until(lambda: proxy._app._parts.unsettled)
        advance(proxy, clock, STOOD_STILL)
        gate.set()
        refused(await late.reply(), 503, "overloaded")
        assert (await other.reply()).status == 200
    assert len(origin.requests) == 1
    advance(proxy, clock, 0.0)
    assert (await proxy.post(key)).status == 200  # the key is free


async def test_hundreds_who_wait_for_a_connection_when_the_machine_wakes_are_all_refused_and_the_connection_is_kept(
    start_proxy: StartProxy, origin: Origin
) -> None:
    """Each hands the connection on to the next, who is late as well: one after the other, not one within the other.
    (What is logged as an error fails the test: see `_no_defects`.)"""
    crowd = 400
    gate = asyncio.Event()
    origin.behave(after(gate, respond(200)))
    proxy = await start_proxy(**{**ONE_CONNECTION, "upstream.pool_timeout": "5s"})
    async with Connection(proxy.port) as other, AsyncExitStack() as stack:
        other.send(request(b"GET", b"/"))
        await origin.until(lambda: origin.requests)
        late = [await stack.enter_async_context(Connection(proxy.port)) for _ in range(crowd)]
        for each in late:
            each.send(post(new_key()))
        await origin.until(lambda: len(proxy._app._parts.pool._waiting) == crowd)
        advance(proxy, "wall", 8.0)
        gate.set()
        for each in late:
            refused(await each.reply(), 503, "overloaded")
        assert (await other.reply()).status == 200
        advance(proxy, "wall", 0.0)
        assert (await proxy.post(new_key())).status == 200
    assert (len(origin.requests), origin.connections) == (2, 1)
    assert proxy.gauge("unsettled") == 0
