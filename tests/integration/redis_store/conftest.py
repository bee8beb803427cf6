"""Stores on a server that may be harmed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from proxy.deadlines import Deadlines
from proxy.store.redis.store import RedisStore
from tests.support.cluster import ValkeyCluster
from tests.support.redis_client import DEADLINE, Client, OpenStore
from tests.support.sentinel import SentinelGroup
from tests.support.stores import Asked
from tests.support.valkey import Valkey


@pytest.fixture(scope="session")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelGroup]:
    """A group that is never harmed, with passwords."""
    directory = tmp_path_factory.mktemp("sentinels")
    with SentinelGroup(directory, password="of-servers", sentinel_password="of-sentinels") as group:
        yield group


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    """One with a password. Who harms it heals it."""
    with ValkeyCluster(tmp_path_factory.mktemp("cluster"), password="of-nodes") as cluster:
        yield cluster


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own, to be harmed. It writes every command to disk."""
    with Valkey(tmp_path, appendonly=True) as server:
        yield server


@pytest.fixture
async def open_store() -> AsyncIterator[OpenStore]:
    """Opens a store, with a prefix of its own where none is given."""
    async with AsyncExitStack() as stack:

        async def start(
            url: str,
            *,
            deadline: float = DEADLINE,
            prefix: str = "",
            allow_eviction: bool = False,
            durability: str = "memory",
            fingerprint: bytes = b"",
        ) -> Asked:
            store = RedisStore(
                url,
                deadline=deadline,
                prefix=prefix or f"test:{uuid4()}:",
                deadlines=Deadlines(),
                allow_eviction=allow_eviction,
                durability=durability,
                fingerprint=fingerprint,
            )
            await store.open()
            stack.push_async_callback(store.close)
            return Asked(store)

        yield start


@pytest.fixture
async def client(victim: Valkey) -> AsyncIterator[Client]:
    """Looks at the victim beside the store."""
    client = Client.from_url(victim.url)
    yield client
    await client.aclose()
