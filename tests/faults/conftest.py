"""An origin in this process, and proxies in front of it in their own, to be killed."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.origin import Origin, respond
from tests.support.process import StartProxy, starter
from tests.support.valkey import Valkey

Settings = dict[str, object]
PAYOUT = b'{"Id": "2241581"}'
PAYS = respond(200, [(b"Content-Type", b"application/json")], PAYOUT)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """Makes payouts."""
    async with Origin(PAYS) as origin:
        yield origin


@pytest.fixture
async def start_proxy(origin: Origin, tmp_path: Path) -> AsyncIterator[StartProxy]:
    """See `starter`."""
    async with starter(tmp_path, origin.port) as start:
        yield start


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One that is never harmed."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def sqlite(tmp_path: Path) -> Settings:
    """A file of the test's own."""
    return {"store.url": f"sqlite:///{tmp_path / 'records.db'}"}


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, sqlite: Settings) -> Settings:
    """Each kind of store that outlives a proxy, empty."""
    if request.param == "sqlite":
        return sqlite
    server: Valkey = request.getfixturevalue("valkey")
    return {"store.url": server.url, "store.prefix": f"test:{uuid4()}:"}


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Valkey]:
    """A server to be killed. It writes every command to disk."""
    with Valkey(tmp_path, appendonly=True) as server:
        yield server
