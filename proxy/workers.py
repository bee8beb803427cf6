"""Several workers on one port: a parent that starts them, watches them, and has the ops plane for all of them."""

import asyncio
import multiprocessing
import os
import shutil
import socket
import tempfile
from multiprocessing.process import BaseProcess

import structlog
import uvloop
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead  # type: ignore[attr-defined,unused-ignore]

from config.settings import Settings
from proxy.app import Signals, address, listen, run_worker, store_of
from proxy.deadlines import Deadlines
from proxy.ops.server import OpsServer
from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.telemetry.logs import configure

RESTART_AFTER = 1.0
"""Seconds before a worker that died is started again: one that dies at once must not keep a core busy."""
METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"


def work(settings: Settings, sock: socket.socket) -> None:
    """A worker's process."""
    configure(settings.log.level, settings.log.format)
    try:
        uvloop.run(run_worker(settings, sock, CollectorRegistry()))
    except (StoreUnavailable, StoreRefused) as error:
        structlog.get_logger("proxy").error("worker cannot start", reason=str(error))
        raise SystemExit(1) from None


class Workers:
    """The processes. They are started afresh (not forked): a worker inherits the listening socket and nothing else."""

    def __init__(self, settings: Settings, sock: socket.socket) -> None:
        self._settings = settings
        self._sock = sock
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[int, BaseProcess] = {}

    def start(self) -> BaseProcess:
        """One more."""
        process = self._context.Process(target=work, args=(self._settings, self._sock))
        process.start()
        assert process.pid is not None  # noqa: S101 - it is started
        self._running[process.pid] = process
        return process

    @property
    def alive(self) -> int:
        """How many are."""
        return sum(process.is_alive() for process in self._running.values())

    async def keep(self) -> None:
        """Keep one alive, for ever."""
        while True:
            process = self.start()
            await _ended(process)
            structlog.get_logger("proxy").error("worker died", pid=process.pid, exit=process.exitcode)
            self._forget(process)
            await asyncio.sleep(RESTART_AFTER)

    async def stop(self, hurry: asyncio.Event, within: float) -> None:
        """End all: well within *within* seconds, else by force."""
        for process in self._running.values():
            process.terminate()
        ended = asyncio.gather(*(_ended(process) for process in self._running.values()))
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait([ended, hurried], timeout=within, return_when=asyncio.FIRST_COMPLETED)
        for process in self._running.values():
            if process.is_alive():
                process.kill()
        hurried.cancel()
        await asyncio.gather(ended, hurried, return_exceptions=True)

    def _forget(self, process: BaseProcess) -> None:
        if process.pid is not None:
            self._running.pop(process.pid, None)
            mark_process_dead(process.pid)


async def _ended(process: BaseProcess) -> None:
    """Return when *process* has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)
    process.join()


async def supervise(settings: Settings) -> None:
    """The whole proxy in several processes; raise StoreUnavailable, StoreRefused or OSError where it cannot start."""
    log = structlog.get_logger("proxy")
    signals = Signals()
    metrics_dir = os.environ[METRICS_DIR] = tempfile.mkdtemp(prefix="idempotency-proxy-metrics-")
    store = store_of(settings, Deadlines())
    sock = listen(settings)
    workers = Workers(settings, sock)

    async def ready() -> str | None:
        if signals.stop.is_set():
            return "draining"
        if workers.alive < settings.workers:
            return f"{workers.alive} of {settings.workers} workers are alive"
        try:
            await store.ping()
        except StoreUnavailable as error:
            return str(error)
        return None

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=metrics_dir)
    ops = OpsServer(*settings.ops_listen, registry, ready)
    keeping: list[asyncio.Task[None]] = []
    try:
        await store.open()
        ops_address = await ops.start()
        keeping = [asyncio.create_task(workers.keep()) for _ in range(settings.workers)]
        log.info(
            "started",
            listen=f"http://{address(sock)}",
            upstream=str(settings.upstream.url),
            store=store.place,
            ops=f"http://{ops_address}",
            workers=settings.workers,
        )
        await signals.stop.wait()
        log.info("stopping")
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        await workers.stop(signals.hurry, settings.limits.drain_timeout + 5)
        await ops.stop()
        await store.close()
        sock.close()
        shutil.rmtree(metrics_dir, ignore_errors=True)
    log.info("stopped")
