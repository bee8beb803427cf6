"""An origin, a proxy in front of it, and each kind of store behind. The loop is the one of production."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import uvloop

from tests.support.origin import Origin
from tests.support.proxy import Proxy
from tests.support.valkey import Valkey

Flags = dict[str, Any]
StartProxy = Callable[..., Awaitable[Proxy]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], uvloop.Loop]]:
    """See pytest-asyncio."""
    return {"uvloop": uvloop.new_event_loop}


class _Defects(logging.Handler):
    """What the proxy, or the loop, logs as an error is one: no test passes over it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


@pytest.fixture(autouse=True)
def _no_defects() -> Iterator[None]:
    handler = _Defects()
    loggers = [logging.getLogger(name) for name in ("proxy", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    yield
    for logger in loggers:
        logger.removeHandler(handler)
    assert not handler.found, "\n".join(handler.found)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def start_proxy(origin: Origin, tmp_path: Path) -> AsyncIterator[StartProxy]:
    """Starts a proxy in front of the origin; *flags* over a memory store."""
    async with AsyncExitStack() as stack:

        async def start(**flags: object) -> Proxy:
            spool = tmp_path / "spool.db"  # one machine, one spool
            url = f"http://127.0.0.1:{origin.port}"
            defaults = {"upstream.url": url, "store.url": "memory://", "spool.path": str(spool)}
            return await stack.enter_async_context(Proxy({**defaults, **flags}))

        yield start


@pytest.fixture
async def proxy(start_proxy: StartProxy) -> Proxy:
    """With a memory store."""
    return await start_proxy()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One that is never harmed."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


def _store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Flags:
    match kind:
        case "memory":
            return {"store.url": "memory://"}
        case "sqlite":
            return {"store.url": f"sqlite:///{tmp_path / 'records.db'}"}
        case "redis":
            server: Valkey = request.getfixturevalue("valkey")
            return {"store.url": server.url, "store.prefix": f"test:{uuid4()}:"}
        case _:
            raise AssertionError(kind)


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Flags:
    """The settings of each kind of store, empty."""
    return _store(request.param, request, tmp_path)


@pytest.fixture(params=["sqlite", "redis"])
def shared_store(request: pytest.FixtureRequest, tmp_path: Path) -> Flags:
    """The settings of each kind of store that two proxies can share, empty."""
    return _store(request.param, request, tmp_path)
