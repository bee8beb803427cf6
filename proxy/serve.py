"""`idempotency-proxy serve`: the proxy in one process, or in several."""

import signal

import structlog
import uvloop
from prometheus_client import CollectorRegistry

from config.settings import Settings
from proxy.app import App
from proxy.ops.server import OpsServer
from proxy.process import Signals, address, listen, raise_file_limit
from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.telemetry.logs import configure
from proxy.telemetry.metrics import Exposition
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
    except (StoreUnavailable, StoreRefused) as error:
        structlog.get_logger("proxy").error("cannot start", reason=str(error))
        return 1
    except OSError as error:
        structlog.get_logger("proxy").error("cannot start", reason=f"cannot listen: {error}")
        return 1
    return 0


async def _run_alone(settings: Settings) -> None:
    """The whole proxy in one process; raise StoreUnavailable, StoreRefused or OSError where it cannot start."""
    log = structlog.get_logger("proxy")
    signals = Signals(signal.SIGTERM, signal.SIGINT)
    sock = listen(settings)
    app = App(settings)
    registry = CollectorRegistry()
    registry.register(Exposition(lambda: [app.metrics.snapshot()]))
    ops = OpsServer(*settings.ops_listen, registry, app.ready)
    try:
        ops_address = await ops.start()
        await app.start(sock)
        log.info(
            "started",
            listen=f"http://{address(sock)}",
            upstream=str(settings.upstream.url),
            store=app.store.place,
            ops=f"http://{ops_address}",
            workers=1,
        )
        await signals.stop.wait()
        log.info("stopping")
    finally:
        await app.stop(signals.hurry)
        await ops.stop()
        sock.close()
    log.info("stopped")
