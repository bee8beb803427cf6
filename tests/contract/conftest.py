"""Every test of the contract runs on every kind of store."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis, RedisCluster

from tests.support.cluster import ValkeyCluster
from tests.support.sentinel import SentinelGroup
from tests.support.stores import Asked, Medium, MemoryMedium, RedisMedium, SqliteMedium
from tests.support.valkey import Valkey

KINDS = ["memory", "sqlite", "redis", "sentinel", "cluster"]


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelGroup]:
    with SentinelGroup(tmp_path_factory.mktemp("sentinels")) as group:
        yield group


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(params=KINDS)
def make_medium(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Medium]:
    """Makes a medium on the loop that runs then."""
    match request.param:
        case "memory":
            return MemoryMedium
        case "sqlite":
            return lambda: SqliteMedium(tmp_path / "records.db")
        case "redis":
            server: Valkey = request.getfixturevalue("valkey")
            return lambda: RedisMedium(server.url, Redis.from_url(server.url))
        case "sentinel":
            group: SentinelGroup = request.getfixturevalue("sentinels")
            return lambda: RedisMedium(group.url, Redis(port=group.primary.port))
        case "cluster":
            cluster: ValkeyCluster = request.getfixturevalue("cluster")
            return lambda: RedisMedium(cluster.url, RedisCluster(host="127.0.0.1", port=cluster.servers[0].port))
        case kind:
            raise AssertionError(kind)


@pytest.fixture
async def medium(make_medium: Callable[[], Medium]) -> AsyncIterator[Medium]:
    medium = make_medium()
    yield medium
    await medium.close()


@pytest.fixture
async def store(medium: Medium) -> Asked:
    return await medium.store()
