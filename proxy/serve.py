"""`idempotency-proxy serve`: the proxy in one process, or in several."""

import asyncio
import signal

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from config.settings import Settings
from proxy.app import App
from proxy.ops.server import OpsServer
from proxy.process import Signals, listen, raise_file_limit, tell_started, unlisten
from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.telemetry.logs import configure
from proxy.telemetry.metrics import Exposition
from proxy.tls import BadFile
from proxy.workers import supervise


def serve(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; return the exit status."""
    configure(settings.log.level, settings.log.format)
    raise_file_limit(settings)
    try:
        if settings.workers == 1:
            uvloop.run(_run_alone(settings))
        else:
            uvloop.run(supervise(settings))
    except (StoreUnavailable, StoreRefused, BadFile) as error:
        structlog.get_logger("proxy").error("cannot start", reason=str(error))
        return 1
    except OSError as error:
        structlog.get_logger("proxy").error("cannot start", reason=f"cannot listen: {error}")
        return 1
    return 0


async def _run_alone(settings: Settings) -> None:
    """The whole proxy in one process; raise StoreUnavailable, StoreRefused, BadFile or OSError where it cannot
    start."""
    log = structlog.get_logger("proxy")
    signals = Signals(signal.SIGTERM, signal.SIGINT)
    app = App(settings)
    sock = listen(settings)
    registry = CollectorRegistry()
    registry.register(Exposition(lambda: [app.metrics.snapshot()]))
    ops = OpsServer(settings.ops_listen.host, settings.ops_listen.port, registry, app.ready)
    reloading = asyncio.create_task(signals.at_hangup(app.reload))
    try:
        ops_address = await ops.start()
        await app.start(sock)
        tell_started(settings, sock, app.store.place, ops_address)
        await signals.stop.wait()
        log.info("stopping")
    finally:
        reloading.cancel()
        await asyncio.gather(reloading, return_exceptions=True)
        unlisten(sock)
        await app.stop(signals.hurry)
        await ops.stop()
        sock.close()
    log.info("stopped")
