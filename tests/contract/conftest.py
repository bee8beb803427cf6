"""Every test of the contract runs on every kind of store."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis, RedisCluster

from proxy.deadlines import Deadlines
from proxy.store.keyring import KeyRing
from proxy.store.sealing import Sealing
from proxy.store.vault import Vault
from tests.support.cluster import ValkeyCluster
from tests.support.opening import Opening
from tests.support.sentinel import SentinelGroup
from tests.support.stores import DEADLINE, HOUR, Asked, Medium, MemoryMedium, RedisMedium, SqliteMedium
from tests.support.valkey import Valkey

KINDS = ["memory", "sqlite", "redis", "sentinel", "cluster", "sealed memory", "sealed sqlite", "sealed redis"]


class SealedMedium:
    """A medium whose records are compressed and encrypted."""

    def __init__(self, beneath: Medium) -> None:
        self.damage = beneath.damage
        self.expire_in = beneath.expire_in
        self.expires_in = beneath.expires_in
        self.close = beneath.close
        self._beneath = beneath
        self._deadlines = Deadlines()

    async def store(self) -> Asked:
        beneath = (await self._beneath.store()).store
        vault = Vault(compress=True, ring=KeyRing({1: bytes(32)}), limit=8 * 1024 * 1024)
        return Opening(
            Sealing(
                beneath,
                vault,
                deadline=DEADLINE,
                deadlines=self._deadlines,
                upstream=b"http://api",
                lifetime=HOUR,
                learns=False,
            )
        )


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
    kind = request.param.removeprefix("sealed ")
    make = _make_medium(kind, request, tmp_path)
    return make if kind == request.param else lambda: SealedMedium(make())


def _make_medium(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Medium]:
    match kind:
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
        case _:
            raise AssertionError(kind)


@pytest.fixture
async def medium(make_medium: Callable[[], Medium]) -> AsyncIterator[Medium]:
    medium = make_medium()
    yield medium
    await medium.close()


@pytest.fixture
async def store(medium: Medium) -> Asked:
    return await medium.store()
