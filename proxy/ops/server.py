"""The operator's plane: `/healthz` (is the process alive), `/readyz` (may traffic come), `/metrics`."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Ready = Callable[[], Awaitable[str | None]]
"""Says why no traffic should come; None: it may. Answers within a bounded time."""

_REGISTRY = web.AppKey("registry", CollectorRegistry)
_READY: web.AppKey[Ready] = web.AppKey("ready")


async def _healthz(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _readyz(request: web.Request) -> web.Response:
    why = await request.app[_READY]()
    if why is None:
        return web.json_response({"status": "ready"})
    return web.json_response({"status": "not ready", "reason": why}, status=503)


async def _metrics(request: web.Request) -> web.Response:
    body = generate_latest(request.app[_REGISTRY])
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def application(registry: CollectorRegistry, ready: Ready) -> web.Application:
    """The aiohttp application of the ops port."""
    app = web.Application()
    app[_REGISTRY] = registry
    app[_READY] = ready
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    return app


class OpsServer:
    """Listens from `start` to `stop`."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, ready: Ready) -> None:
        self._host = host
        self._port = port
        self._runner = web.AppRunner(application(registry, ready), access_log=None)

    async def start(self) -> str:
        """Listen; return HOST:PORT, as it is. Raise OSError where the address cannot be had."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        host, port = self._runner.addresses[0][:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()
