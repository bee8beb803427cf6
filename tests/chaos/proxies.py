"""The proxies, and what can be done to them."""

import asyncio
import json
import resource
import signal
import socket
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from pathlib import Path

from tests.chaos.api import RECORD_LIMIT, TIMEOUT
from tests.chaos.schedule import DISK_FULL, FREEZE, KILL, LONG_FREEZE
from tests.support.process import ProxyProcess
from tests.support.raw import eventually

SETTINGS = {
    "store.deadline": "500ms",
    "upstream.pool_timeout": "500ms",
    "upstream.connect_timeout": "500ms",
    "upstream.timeout": f"{TIMEOUT * 1000:g}ms",
    "idempotency.lease_margin": "500ms",
    "record.max_body": RECORD_LIMIT,
}
LEASE = TIMEOUT + 2.0
"""Seconds: what these come to."""
START = 60.0
"""Seconds within which a proxy must have started, its store being there again."""
GIVEN = 0.7
"""Seconds: an answer waits for the store for 250 ms, and a little for the spool."""
FULL = 4096
"""Bytes: where a file ends on a disk that is full. No page of SQLite's fits."""
IN_MEMORY = "response given before the store has it"
_PORTS = range(21_000, 31_000)
"""Below those from which the kernel takes: nobody else gets the port of a proxy that is down."""


class Port:
    """One that nobody listens on, and that no other run takes as long as this object lives: a name in the kernel's
    abstract namespace (unix(7)) is the lock."""

    def __init__(self) -> None:
        for self.number in _PORTS:
            self._lock = socket.socket(socket.AF_UNIX)
            try:
                self._lock.bind(f"\0idempotency-proxy-chaos-{self.number}")
                with socket.create_server(("127.0.0.1", self.number)):
                    return
            except OSError:
                self._lock.close()
        raise AssertionError("there is none")

    def close(self) -> None:
        """Let others have it."""
        self._lock.close()


class Proxy(ProxyProcess):
    """One of them, on a port that nobody takes from it. *busy*: something is being done to it."""

    def __init__(self, directory: Path, settings: Mapping[str, object], port: Port) -> None:
        super().__init__(directory, {**SETTINGS, **settings})
        self.port = port.number
        self.busy = asyncio.Lock()
        self._runs = 0
        self.events: Counter[str] = Counter()
        """What its logs say, and how often."""
        self.tracebacks: list[str] = []
        self.unsafe: set[str] = set()
        """Hashes of keys whose responses it gave while they were on no disk."""

    async def start(self, **changes: object) -> None:
        """See ProxyProcess; as an orchestrator does, again and again while the store is down."""
        async with asyncio.timeout(START):
            while True:
                try:
                    await super().start(**changes)
                except AssertionError:
                    self.read_log()
                    self.events["not started: the store was down"] += 1
                    await asyncio.sleep(0.1)
                else:
                    return

    async def kill(self) -> None:
        """See ProxyProcess."""
        await super().kill()
        self.read_log()

    def read_log(self) -> None:
        """Remember what matters of it, and put it aside. The process must be dead."""
        for line in self.text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                self.tracebacks += [line] if "Traceback" in line else []
                continue
            self.events[entry["event"]] += 1
            if "exception" in entry or "Traceback" in line:
                self.tracebacks.append(line)
            if entry["event"] == IN_MEMORY and not entry["spooled"]:
                self.unsafe.add(entry["key"])
        self._runs += 1
        with suppress(FileNotFoundError):
            (self.directory / "proxy.log").rename(self.directory / f"proxy.{self._runs}.log")

    @property
    def spooled(self) -> int:
        """Settlements that wait on its disk."""
        path = self.directory / "idempotency-spool.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM entry").fetchone()[0])

    async def settled(self) -> bool:
        """Whether the store has all that it knows."""
        return self.spooled == 0 and (await self.metrics())["idempotency_proxy_unsettled"] == 0


@asynccontextmanager
async def fault(proxy: Proxy, kind: str) -> AsyncIterator[None]:
    """It is there within, and is lifted behind it."""
    async with proxy.busy, _fault(proxy, kind):
        yield


@asynccontextmanager
async def killed_amid(proxy: Proxy, of_store: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    """It is killed once it has given what the store did not take, and is started when the store is there again."""
    async with proxy.busy:
        async with of_store:
            await asyncio.sleep(GIVEN)
            await proxy.kill()
            yield
        await proxy.start()


@asynccontextmanager
async def _fault(proxy: Proxy, kind: str) -> AsyncIterator[None]:
    match kind:
        case _ if kind == KILL:
            await proxy.kill()
            yield
            await proxy.start()
        case _ if kind in (FREEZE, LONG_FREEZE):
            proxy.send(signal.SIGSTOP)
            yield
            proxy.send(signal.SIGCONT)
        case _ if kind == DISK_FULL:
            _, most = resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (FULL, most))
            yield
            resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (most, most))
            await eventually(proxy.settled, START)  # what was given lies in its memory: not to be killed before
        case _:
            raise AssertionError(kind)
