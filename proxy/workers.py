"""Several workers on one port: a parent that starts them, watches them, and has the ops plane for all of them."""

import asyncio
import multiprocessing
import os
import signal
import socket
import tempfile
from multiprocessing.process import BaseProcess
from pathlib import Path

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from config.settings import Settings
from proxy import assembly
from proxy.app import SPOOL_FULL, App
from proxy.deadlines import Deadlines
from proxy.process import Signals, listen, tell_started, unlisten
from proxy.store.base import Store, StoreRefused, StoreUnavailable
from proxy.telemetry.logs import configure
from proxy.telemetry.metrics import Exposition
from proxy.telemetry.shared import bury, collect, publish
from proxy.tls import BadFile

RESTART_AFTER = 1.0
"""Seconds before a worker that died is started again: one that dies at once must not keep a core busy."""
_NOT_YET = {signal.SIGINT, signal.SIGHUP}
"""What a worker that is starting must not die of."""
KILL_AFTER = 5.0
"""Seconds beyond the drain timeout before a worker that does not end is killed."""


def work(settings: Settings, sock: socket.socket, metrics: Path) -> None:
    """A worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent passes it on, once
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until `Signals` hears it: the files are read after that anyway
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_YET)
    configure(settings.log.level, settings.log.format)
    try:
        uvloop.run(_work(settings, sock, metrics))
    except (StoreUnavailable, StoreRefused, BadFile) as error:
        structlog.get_logger("proxy").error("worker cannot start", reason=str(error))
        raise SystemExit(1) from None


async def _work(settings: Settings, sock: socket.socket, metrics: Path) -> None:
    signals = Signals(signal.SIGTERM)
    _end_with_the_parent(signals)
    app = App(settings)
    publishing = asyncio.create_task(publish(app.metrics.snapshot, metrics, str(os.getpid())))
    reloading = asyncio.create_task(signals.at_hangup(app.reload))
    try:
        await app.start(sock)
        await signals.stop.wait()
    finally:
        reloading.cancel()
        await asyncio.gather(reloading, return_exceptions=True)
        await app.stop(asyncio.Event())  # never in a hurry: that is the parent's to say, and it kills
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


def _end_with_the_parent(signals: Signals) -> None:
    """A parent that was killed watches nobody, and its successor wants the port."""
    parent, loop = multiprocessing.parent_process(), asyncio.get_running_loop()
    if parent is None:
        return

    def ended(sentinel: int = parent.sentinel) -> None:
        loop.remove_reader(sentinel)
        signals.stop.set()

    loop.add_reader(parent.sentinel, ended)


class Workers:
    """The processes. They are started afresh, not forked: a worker inherits the listening socket and nothing else."""

    def __init__(self, settings: Settings, sock: socket.socket, metrics: Path) -> None:
        self._settings = settings
        self._sock = sock
        self._metrics = metrics
        self._context = multiprocessing.get_context("spawn")
        self._running: set[BaseProcess] = set()

    @property
    def alive(self) -> int:
        """How many are."""
        return sum(process.is_alive() for process in self._running)

    async def keep(self) -> None:
        """Keep one alive, for ever."""
        while True:
            process = self._context.Process(target=work, args=(self._settings, self._sock, self._metrics))
            signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_YET)  # inherited, until the worker can ignore them
            process.start()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _NOT_YET)
            self._running.add(process)
            await _ended(process)
            self._running.discard(process)
            structlog.get_logger("proxy").error("worker died", pid=process.pid, exit=process.exitcode)
            bury(self._metrics, str(process.pid))
            await asyncio.sleep(RESTART_AFTER)

    async def hang_up(self) -> None:
        """Pass SIGHUP on."""
        for process in self._running:
            if process.pid is not None and process.is_alive():  # looked at, and not reaped: the number is still its own
                os.kill(process.pid, signal.SIGHUP)

    async def stop(self, hurry: asyncio.Event, within: float) -> None:
        """End all: well, within *within* seconds or until *hurry*; then by force."""
        for process in self._running:
            process.terminate()
        ended = [asyncio.create_task(_ended(process)) for process in self._running]
        until = asyncio.get_running_loop().time() + within
        while self.alive and not hurry.is_set() and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.05)
        for process in self._running:
            if process.is_alive():
                process.kill()
        await asyncio.gather(*ended)


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
    """The whole proxy in several processes; raise StoreUnavailable, StoreRefused, BadFile or OSError where it cannot
    start."""
    with tempfile.TemporaryDirectory(prefix="idempotency-proxy-metrics-") as directory:
        await _supervise(settings, Path(directory))


async def _try_spool(settings: Settings, store: Store) -> None:
    """Told once, and here, where the workers could not use it."""
    spool = assembly.spool(settings, store)
    if spool is not None:
        try:
            await spool.open()
        finally:
            await spool.close()


async def _supervise(settings: Settings, metrics: Path) -> None:
    log = structlog.get_logger("proxy")
    signals = Signals(signal.SIGTERM, signal.SIGINT)
    store = assembly.store(settings, Deadlines())
    assembly.listener_tls(settings)  # what cannot be used is told once, and here
    assembly.upstream(settings)
    sock = listen(settings)
    workers = Workers(settings, sock, metrics)

    async def ready() -> str | None:
        if signals.stop.is_set():
            return "draining"
        if workers.alive < settings.workers:
            return f"{workers.alive} of {settings.workers} workers are alive"
        if sum(worker["gauges"].get("spool_bytes", 0) for worker in collect(metrics)) >= settings.spool.max_size:
            return SPOOL_FULL
        try:
            await store.ping()
        except StoreUnavailable as error:
            return str(error)
        return None

    registry = CollectorRegistry()
    registry.register(Exposition(lambda: collect(metrics)))
    from proxy.ops.server import OpsServer  # noqa: PLC0415  # aiohttp, which no worker needs: 0.1 s and 10 MB each

    ops = OpsServer(settings.ops_listen.host, settings.ops_listen.port, registry, ready)
    keeping = [asyncio.create_task(signals.at_hangup(workers.hang_up))]
    try:
        await store.open()
        await _try_spool(settings, store)
        ops_address = await ops.start()
        keeping += [asyncio.create_task(workers.keep()) for _ in range(settings.workers)]
        tell_started(settings, sock, store.place, ops_address)
        await signals.stop.wait()
        log.info("stopping")
    finally:
        unlisten(sock)
        sock.close()  # the workers close theirs as they stop: nobody shall connect to a door that stays shut
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        await workers.stop(signals.hurry, settings.limits.drain_timeout + KILL_AFTER)
        await ops.stop()
        await store.close()
    log.info("stopped")
