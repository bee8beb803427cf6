"""How a connection is made ready: entered, named, furnished with the scripts, and its predecessor known to be dead."""

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import hiredis

from proxy.deadlines import NEVER
from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.store.redis.address import Address
from proxy.store.redis.connection import Connection, Identity, Question, Reply, Wait, Words, pack
from proxy.store.redis.errors import explain, is_refusal
from proxy.store.redis.scripts import RELEASE, SETTLE

_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds, seconds, probes: so that no firewall forgets an idle connection. Not every platform has them."""
_IDENTITY = re.compile(rb"id=(\d+) addr=(\S+) ")


class Guards(NamedTuple):
    """What each connection of a store sees to."""

    wait: Wait | None
    """Ends batches with writes that must last."""
    markers: Sequence[bytes]
    """What is looked at before the connection is used: a server may come back without its data."""
    seen: Callable[[bytes, bytes | None], None]
    """Is told what lies under each."""


class Ready(NamedTuple):
    """A connection that may be used."""

    connection: Connection
    alone: bool
    """Its predecessor, if there was one that had to be, is known to be dead."""


async def connect(
    address: Address,
    limit: float,
    previous: Identity | None = None,
    guards: Guards | None = None,
    *,
    must_be_primary: bool = False,
) -> Ready:
    """Connect within *limit* seconds and see that *previous* is dead at the server: whatever a stalled server still has
    in that connection's socket is not applied later than this. *guards*: what a store's connections see to. Raise
    StoreUnavailable or StoreRefused."""
    try:
        async with asyncio.timeout(limit):
            connection = await _open(address, guards and guards.wait)
            try:
                alone = await _introduce(connection, address, previous, must_be_primary=must_be_primary)
                if guards is not None:
                    await _look(connection, address, guards)
            except BaseException:
                connection.drop("given up")
                raise
    except TimeoutError:
        raise StoreUnavailable(f"{address.place}: no answer within {limit:g} s") from None
    except (OSError, UnicodeError) as error:  # the latter: a host name that no resolver takes
        raise StoreUnavailable(f"{address.place}: {error}") from None
    return Ready(connection, alone)


async def _open(address: Address, wait: Wait | None) -> Connection:
    loop = asyncio.get_running_loop()
    make = partial(Connection, wait)
    if address.path is not None:
        _, connection = await loop.create_unix_connection(make, address.path)
        return connection
    transport, connection = await loop.create_connection(
        make, address.host, address.port, ssl=address.tls, server_hostname=address.host if address.tls else None
    )
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return connection


async def _introduce(
    connection: Connection, address: Address, previous: Identity | None, *, must_be_primary: bool
) -> bool:
    entry: list[Words] = []
    if address.password is not None:
        entry.append((b"AUTH", *((address.username,) if address.username else ()), address.password))
    if address.database:
        entry.append((b"SELECT", str(address.database)))
    for reply in await ask(connection, address, *entry, (b"PING",)):  # PING, since ECHO answers while data is loaded
        if isinstance(reply, hiredis.ReplyError):
            raise _no(address, explain(reply))
    if must_be_primary:
        (role,) = await ask(connection, address, (b"ROLE",))
        if not isinstance(role, list) or role[:1] != [b"master"]:
            raise _no(address, explain(role) if isinstance(role, hiredis.ReplyError) else "it is a replica")
    loads: list[Words] = [(b"SCRIPT", b"LOAD", script.text) for script in (SETTLE, RELEASE)]
    name: Words = (b"CLIENT", b"SETNAME", b"idempotency-proxy")
    *_, info = await ask(connection, address, name, *loads, (b"CLIENT", b"INFO"))  # we can do without any of it
    connection.identity = _identity(info)
    if previous is None:
        return True
    kill: Words = (b"CLIENT", b"KILL", b"ID", previous.id, b"ADDR", previous.address)
    (killed,) = await ask(connection, address, kill)
    return isinstance(killed, int)


async def _look(connection: Connection, address: Address, guards: Guards) -> None:
    looks: list[Words] = [(b"GET", marker) for marker in guards.markers]
    for marker, there in zip(guards.markers, await ask(connection, address, *looks), strict=True):
        if there is None or isinstance(there, bytes):  # an error, as a cluster's MOVED is, says nothing of it
            guards.seen(marker, there)


async def ask(connection: Connection, address: Address, *commands: Words) -> list[Reply]:
    """The replies to *commands*, on a connection that nobody else uses yet; raise StoreUnavailable or StoreRefused."""
    questions = [Question(pack(command), due=NEVER) for command in commands]
    connection.send(questions)
    last = questions[-1].reply
    either: set[asyncio.Future[Any]] = {last, connection.lost}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not last.done():
        raise _no(address, connection.lost.result())
    return [question.reply.result() for question in questions]


def _identity(info: Reply) -> Identity | None:
    match = _IDENTITY.match(info) if isinstance(info, bytes) else None
    return Identity(*match.groups()) if match else None


def _no(address: Address, why: str) -> StoreRefused | StoreUnavailable:
    return (StoreRefused if is_refusal(why) else StoreUnavailable)(f"{address.place}: {why}")
