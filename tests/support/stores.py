"""Stores for tests: records to put in, an awaitable face for the callbacks, and the media on which a store lies, where
a test can look at what is there, damage it, or make its end come sooner."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import redis.asyncio

from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record, Response
from proxy.deadlines import Deadlines
from proxy.store.base import ClaimResult, OverruleResult, ReadResult, SettleResult, Store
from proxy.store.codec import HASH_OFFSET
from proxy.store.decide import Row
from proxy.store.memory import MemoryStore
from proxy.store.redis.store import RedisStore
from proxy.store.sqlite import SqliteStore

DEADLINE = 2.0
HOUR = 3_600_000
R = TypeVar("R")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def claim_of(key_hash: bytes | None = None, **changes: Any) -> Record:
    """The claim of a new attempt, on a new key where none is given."""
    attempt = Attempt(
        key_hash=key_hash or os.urandom(16),
        token=os.urandom(16),
        first_used=now_ms(),
        lease=60_000,
        retention=HOUR,
        credential=bytes(16),
        url=b"https://api.example.com/v2.01/acme/payouts/bankwire/",
    )
    return Record(attempt._replace(**changes), State.IN_PROGRESS, None)


def completed(claim: Record, body: bytes = b'{"Id": "2241581"}') -> Record:
    fields = b"Content-Type: application/json\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"
    response = Response(200, b"OK", fields, body, len(body), truncated=False, date=1452723956)
    return claim._replace(state=State.COMPLETED, response=response)


def unknown(claim: Record) -> Record:
    return claim._replace(state=State.UNKNOWN)


def ruling(claim: Record, body: bytes = b'{"Id": "2241581"}') -> Record:
    """What an operator says of it."""
    return completed(claim._replace(attempt=claim.attempt._replace(token=os.urandom(16))), body)


class Asked:
    """A store whose operations can be awaited."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def claim(self, record: Record) -> ClaimResult:
        return await answer(lambda done: self.store.claim(record, done))

    async def settle(self, record: Record) -> SettleResult:
        return await answer(lambda done: self.store.settle(record, done))

    async def release(self, record: Record) -> SettleResult:
        return await answer(lambda done: self.store.release(record, done))

    async def overrule(self, attempt: Attempt, ruling: Record | None) -> OverruleResult:
        return await answer(lambda done: self.store.overrule(attempt, ruling, done))

    async def read(self, key_hash: bytes) -> ReadResult:
        return await answer(lambda done: self.store.read(key_hash, done))


async def answer(operation: Callable[[Callable[[R], None]], None]) -> R:
    """The result that *operation* gives its callback; a second call of it raises in the store's face."""
    future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
    operation(future.set_result)
    async with asyncio.timeout(DEADLINE + 2):
        return await future


class Medium(Protocol):
    """Where the records of one test lie. Needs a running loop."""

    async def store(self) -> Asked:
        """One more store on the same records, open."""

    async def damage(self, key_hash: bytes, data: bytes) -> None:
        """Put *data* in the place of what lies there."""

    async def expire_in(self, key_hash: bytes, ms: int) -> None:
        """Let what lies there expire in *ms*."""

    async def expires_in(self, key_hash: bytes) -> int:
        """In how many ms it expires."""

    async def close(self) -> None:
        """Close all stores, and remove what they left."""


class MemoryMedium:
    """Has one store only: its records are its own."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._rows = self._store._rows

    async def store(self) -> Asked:
        await self._store.open()
        return Asked(self._store)

    async def damage(self, key_hash: bytes, data: bytes) -> None:
        self._rows.put(key_hash, self._row(key_hash)._replace(data=data))

    async def expire_in(self, key_hash: bytes, ms: int) -> None:
        self._rows.put(key_hash, self._row(key_hash)._replace(expires=self._rows.now() + ms))

    async def expires_in(self, key_hash: bytes) -> int:
        return self._row(key_hash).expires - self._rows.now()

    async def close(self) -> None:
        await self._store.close()

    def _row(self, key_hash: bytes) -> Row:
        row = self._rows.get(key_hash)
        assert row is not None
        return row


class SqliteMedium:
    """A file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._deadlines = Deadlines()
        self._stores: list[SqliteStore] = []

    async def store(self) -> Asked:
        store = SqliteStore(self._path, deadline=DEADLINE, deadlines=self._deadlines)
        await store.open()
        self._stores.append(store)
        return Asked(store)

    async def damage(self, key_hash: bytes, data: bytes) -> None:
        self._execute("UPDATE record SET data = ? WHERE hash = ?", data, key_hash)

    async def expire_in(self, key_hash: bytes, ms: int) -> None:
        self._execute("UPDATE record SET expires = ? WHERE hash = ?", now_ms() + ms, key_hash)

    async def expires_in(self, key_hash: bytes) -> int:
        ((expires,),) = self._execute("SELECT expires FROM record WHERE hash = ?", key_hash)
        return int(expires) - now_ms()

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    def _execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path, timeout=DEADLINE, isolation_level=None)) as connection:
            return connection.execute(statement, values).fetchall()


class RedisMedium:
    """A prefix of its own on one server, or on several. *client*: looks at the same ones; closed at the end."""

    def __init__(self, url: str, client: redis.asyncio.Redis | redis.asyncio.RedisCluster) -> None:
        self._url = url
        self._prefix = f"test:{uuid4()}:"
        self._deadlines = Deadlines()
        self._stores: list[RedisStore] = []
        self._client = client

    async def store(self) -> Asked:
        store = RedisStore(self._url, deadline=DEADLINE, prefix=self._prefix, deadlines=self._deadlines)
        await store.open()
        self._stores.append(store)
        return Asked(store)

    async def damage(self, key_hash: bytes, data: bytes) -> None:
        await self._client.set(await self._name(key_hash), data, keepttl=True)

    async def expire_in(self, key_hash: bytes, ms: int) -> None:
        await self._client.pexpire(await self._name(key_hash), ms)

    async def expires_in(self, key_hash: bytes) -> int:
        return int(await self._client.pttl(await self._name(key_hash)))

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        for name in await self._names():
            await self._client.delete(name)
        await self._client.aclose()

    async def _name(self, key_hash: bytes) -> bytes:
        """By the hash in the record: how names are made is the store's own affair."""
        for name in await self._names():
            data = await self._client.get(name)
            assert isinstance(name, bytes)
            assert isinstance(data, bytes)
            if data[HASH_OFFSET : HASH_OFFSET + len(key_hash)] == key_hash:
                return name
        raise AssertionError("there is no record of this key")

    async def _names(self) -> list[bytes]:
        everywhere = {"target_nodes": "primaries"} if isinstance(self._client, redis.asyncio.RedisCluster) else {}
        names = await self._client.keys(f"{self._prefix}*", **everywhere)
        return [name for name in names if isinstance(name, bytes)]
