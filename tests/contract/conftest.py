"""Every test of the contract runs on every kind of store."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.stores import Asked, Medium, MemoryMedium, RedisMedium, SqliteMedium
from tests.support.valkey import Valkey

KINDS = ["memory", "sqlite", "redis"]


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


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
            return lambda: RedisMedium(server.url)
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
