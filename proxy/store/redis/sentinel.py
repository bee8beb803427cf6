"""A server behind sentinels: they are asked who is the primary whenever a connection is made.

**What a failover means for what was sent before.** Commands that the old primary did not answer are repeated on the new
one, in their order. `CLIENT KILL` cannot reach the old connection there, and need not: whatever the old primary still
applies of it is lost. It was demoted by the sentinels, or will be as soon as they reach it, and then takes over the new
primary's data and drops its own; a replica that was promoted takes nothing more from its old primary. So a copy of a
claim that the old one applies late blocks no key behind its withdrawal, which goes to the new one.

**What it does not protect from.** Replication is asynchronous: a claim that was granted and had not reached the replica
that is promoted is forgotten, and so is one that is granted by an old primary that the sentinels have given up and that
we still reach (a split network). Its key can then be used a second time. `replicas:N` closes both holes, since such a
claim finds too few replicas and is not granted; `min-replicas-to-write` on the server narrows the second one.
"""

import asyncio

import hiredis

from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.store.redis import handshake
from proxy.store.redis.address import Address, Sentinels
from proxy.store.redis.connection import Identity, Reply, Words, pack
from proxy.store.redis.errors import explain
from proxy.store.redis.topology import agreed

_MORE = object()


class Primary:
    """Wherever the sentinels say that it is. *guards*: see `handshake.connect`."""

    def __init__(self, sentinels: Sentinels, guards: handshake.Guards) -> None:
        self._sentinels = sentinels
        self._guards = guards
        self._last: Address | None = None

    async def connect(self, limit: float, previous: Identity | None) -> handshake.Ready:
        """See `handshake.connect`; *limit* seconds for the connection, and half of them for the sentinels before. A
        server that is a replica is not used: the sentinels may lag behind."""
        own = self._sentinels
        host, port = await agreed([_where(sentinel, own.service) for sentinel in own.sentinels], limit / 2)
        address = own.primary.at(host, port)
        same = address == self._last
        ready = await handshake.connect(address, limit, previous if same else None, self._guards, must_be_primary=True)
        self._last = address
        return ready


async def _where(sentinel: Address, service: str) -> tuple[str, int]:
    """Host and port of the primary, as *sentinel* has them; raise StoreUnavailable or StoreRefused."""
    try:
        reply = await _question(sentinel, (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service))
    except (OSError, UnicodeError, hiredis.ProtocolError) as error:
        raise StoreUnavailable(f"{sentinel.place} (sentinel): {error}") from None
    match reply:
        case [bytes(host), bytes(port)]:
            return host.decode(), int(port)
        case hiredis.ReplyError():
            raise StoreRefused(f"{sentinel.place} (sentinel): {explain(reply)}")
        case _:
            raise StoreRefused(f"{sentinel.place} (sentinel): it watches no service of the name {service!r}")


async def _question(sentinel: Address, words: Words) -> Reply:
    """The reply of a sentinel, or its error. Its connection is not one of ours: sentinels know no ECHO."""
    commands = [words]
    if sentinel.password is not None:
        commands.insert(0, (b"AUTH", *((sentinel.username,) if sentinel.username else ()), sentinel.password))
    reader, writer = await asyncio.open_connection(
        sentinel.host, sentinel.port, ssl=sentinel.tls, server_hostname=sentinel.host if sentinel.tls else None
    )
    try:
        writer.write(b"".join(pack(command) for command in commands))
        parser, replies = hiredis.Reader(notEnoughData=_MORE), list[Reply]()
        while len(replies) < len(commands):
            data = await reader.read(4096)
            if not data:
                raise ConnectionError("closed by the sentinel")
            parser.feed(data)
            while (reply := parser.gets()) is not _MORE:
                replies.append(reply)
    finally:
        writer.transport.abort()
    errors = [reply for reply in replies if isinstance(reply, hiredis.ReplyError)]
    return errors[0] if errors else replies[-1]
