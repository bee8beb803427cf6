"""Clients that read slowly, or not at all: they cost what is bounded, and only who reads nothing is given up."""

import asyncio
import socket
from collections.abc import Callable

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, respond
from tests.support.proxy import Connection, Proxy, new_key, post, request, responses
from tests.support.raw import eventually, take

TEXT = (b"Content-Type", b"text/plain")
MANY = 300
LARGE = b"x" * 200_000
QUIET = 0.2
"""Seconds."""
PIECE = 256 * 1024
"""Bytes that the slow client reads at a time."""


def unsent(proxy: Proxy) -> int:
    """Bytes that the proxy holds for its clients, and the kernel has not taken."""
    return sum(connection._transport.get_write_buffer_size() for connection in proxy._app._server.connections)


async def rest[T](look: Callable[[], T]) -> T:
    """What *look* gives, when it has not changed for a while."""
    loop = asyncio.get_running_loop()
    seen, since = look(), loop.time()

    def quiet() -> bool:
        nonlocal seen, since
        if (now := look()) != seen:
            seen, since = now, loop.time()
        return loop.time() - since > QUIET

    await eventually(quiet, 10)
    return seen
