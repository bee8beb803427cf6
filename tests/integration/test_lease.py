"""A claim is good for a time, its lease. Who is late does not send: the exchange could outlast it."""

import asyncio
import time

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, after, respond
from tests.support.proxy import Connection, new_key, post, refused, request


async def test_a_proxy_that_stood_still_before_it_could_send_does_not_send_any_more(
    start_proxy: StartProxy, origin: Origin
) -> None:
    """The lease is far from over, but what is left of it does not cover the answer's time: an operator could free the
    key of what reads unknown while the API is still at it."""
    gate = asyncio.Event()
    origin.behave(after(gate, respond(200)))
    waits = {"store.deadline": "1s", "upstream.pool_timeout": "1s", "upstream.connect_timeout": "1s"}
    proxy = await start_proxy(**waits, **{"upstream.max_connections": 1, "upstream.timeout": "60s"})
    key = new_key()
    async with Connection(proxy.port) as other, Connection(proxy.port) as late:
        other.send(request(b"GET", b"/"))
        await origin.until(lambda: origin.requests)
        late.send(post(key))
        await origin.until(lambda: proxy._app._parts.unsettled)
        proxy._app._deadlines.now = lambda: time.monotonic() + 3.5
        gate.set()
        refused(await late.reply(), 503, "overloaded")
        assert (await other.reply()).status == 200
    assert len(origin.requests) == 1
    proxy._app._deadlines.now = time.monotonic
    assert (await proxy.post(key)).status == 200  # the key is free
