"""The composition root: from settings to parts, from parts to a running proxy, and down again in good order."""

import asyncio
import gc
import socket
import ssl
import time

import structlog

from config.settings import Settings
from proxy.budget import Budget
from proxy.core.answer import Answers
from proxy.core.key import Hasher, KeyRule
from proxy.core.policy import Policy
from proxy.deadlines import Deadlines
from proxy.gateway import Gateway
from proxy.http1.connection import ServerConnection
from proxy.http1.fields import Watched, lookalikes
from proxy.http1.forward import Forwarding
from proxy.http1.message import REQUEST_FIELDS, Limits
from proxy.http1.outbox import Outbox
from proxy.http1.pool import Pool, Upstream
from proxy.http1.server import Server
from proxy.parts import Parts, Terms
from proxy.process import BACKLOG
from proxy.store.base import Store, StoreUnavailable
from proxy.store.open import make_store
from proxy.telemetry.access import AccessLog
from proxy.telemetry.journal import Journal
from proxy.telemetry.metrics import Metrics
from proxy.tokens import Tokens

SETTLE_WAIT = 0.25
"""Seconds that an answer waits for the store to take it; then it is given first."""
COLLECT_EVERY = 50_000
"""Objects made and not freed between two runs of the garbage collector."""


def limits(settings: Settings) -> Limits:
    """The wire's limits."""
    own = settings.limits
    return Limits(
        request_line=own.request_line,
        head=own.head,
        fields=own.fields,
        response_head=own.response_head,
        trailers=own.trailers,
        chunk_extensions=own.chunk_extensions,
        head_timeout=own.head_timeout,
        body_idle_timeout=own.body_idle_timeout,
        write_timeout=own.write_timeout,
        keepalive_timeout=own.keepalive_timeout,
        connections=own.connections,
    )


def terms(settings: Settings) -> Terms:
    """What holds for every request."""
    return Terms(
        lease=settings.lease,
        lease_ms=int(settings.lease * 1000),
        retention_ms=int(settings.idempotency.retention * 1000),
        upstream_timeout=settings.upstream.timeout,
        connection_timeout=settings.upstream.pool_timeout + settings.upstream.connect_timeout,
        settle_wait=SETTLE_WAIT,
        max_body=settings.limits.body,
        body_timeout=settings.limits.body_timeout,
        max_record=settings.record.max_body,
        release_statuses=frozenset(settings.idempotency.release_statuses),
        prove=settings.responses.authorize == "credential",
        credential_headers=tuple(name.lower().encode("ascii") for name in settings.responses.credential_headers),
        wait_max=settings.responses.wait_max,
        view_limit=settings.responses.view_limit,
        max_tunnels=settings.limits.tunnels,
        tunnel_idle=settings.limits.tunnel_idle_timeout,
    )


def store_of(settings: Settings, deadlines: Deadlines) -> Store:
    """The store, not opened yet."""
    return make_store(
        settings.store.url,
        deadline=settings.store.deadline,
        prefix=settings.store.prefix,
        allow_eviction=settings.store.allow_eviction,
        deadlines=deadlines,
    )


def upstream_tls(settings: Settings) -> ssl.SSLContext | None:
    """Certificates are verified, by the system's authorities."""
    return ssl.create_default_context() if settings.upstream.url.scheme == "https" else None


def _pool(settings: Settings, deadlines: Deadlines, outbox: Outbox) -> Pool:
    own = settings.upstream
    upstream = Upstream(
        host=own.url.host,
        port=own.url.port,
        tls=upstream_tls(settings),
        connect_timeout=own.connect_timeout,
        idle_timeout=own.idle_timeout,
        max_connections=own.max_connections,
        max_waiting=own.max_waiting,
    )
    return Pool(upstream, limits(settings), deadlines, outbox)


def _forwarding(settings: Settings, tokens: Tokens) -> Forwarding:
    names = {"upstream": settings.upstream.url.authority, "preserve": None}
    host = names.get(settings.upstream.host, settings.upstream.host)
    return Forwarding(
        tokens=tokens,
        host=None if host is None else host.encode("ascii"),
        via=settings.forwarded.via,
        trusted=settings.forwarded.trusted,
        kept=[name.lower().encode("ascii") for name in _ours(settings)],
    )


def _ours(settings: Settings) -> list[str]:
    """The fields by which a request and its sender are known. The API must see the same of them."""
    return [settings.idempotency.header, *settings.responses.credential_headers]


def _watched(settings: Settings) -> Watched:
    """The fields of a request that somebody looks at."""
    names = [name.lower().encode("ascii") for name in _ours(settings)]
    return Watched([*REQUEST_FIELDS, *names, *lookalikes(names[0])])


def _settle_the_heap() -> None:
    """What is there at the start stays, and a request leaves no cycles behind: the collector need not look often."""
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY)


class App:
    """One worker: everything between the client's connections and the store. Lives on one loop."""

    def __init__(self, settings: Settings) -> None:
        own = settings.idempotency
        self._settings = settings
        self._deadlines = Deadlines()
        outbox = Outbox()
        self.metrics = Metrics()
        self._access = AccessLog() if settings.log.requests else None
        self.store = store_of(settings, self._deadlines)
        self._pool = _pool(settings, self._deadlines, outbox)
        policy = Policy(KeyRule(own.key_min, own.key_max, own.key_chars), own.methods, settings.responses.paths)
        texts = {"header": own.header, "key_min": own.key_min, "key_max": own.key_max, "key_chars": own.key_chars}
        tokens = Tokens()
        self._parts = Parts(
            terms=terms(settings),
            store=self.store,
            pool=self._pool,
            forwarding=_forwarding(settings, tokens),
            answers=Answers(own.dialect, texts, settings.responses.paths[0]),
            hasher=Hasher(settings.store.hash_secret.get_secret_value().encode("utf-8")),
            deadlines=self._deadlines,
            journal=Journal(self.metrics, self._access, policy.mask),
            tokens=tokens,
            wall=time.time,
            bodies=Budget(settings.limits.bodies),
        )
        self._gateway = Gateway(self._parts, policy, own.header.lower().encode("ascii"))
        self._server = Server(self._gateway, limits(settings), self._deadlines, outbox, _watched(settings))
        self._listener: asyncio.Server | None = None
        self.metrics.gauges = self._gauges
        self._deadlines.add(self.metrics)

    async def start(self, sock: socket.socket) -> None:
        """Open the store, then listen on *sock*; raise StoreUnavailable or StoreRefused."""
        await self.store.open()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: ServerConnection(self._server), sock=sock, backlog=BACKLOG)
        _settle_the_heap()

    async def ready(self) -> str | None:
        """Why no traffic should come."""
        if self._gateway.draining:
            return "draining"
        try:
            await self.store.ping()
        except StoreUnavailable as error:
            return str(error)
        return None

    async def stop(self, hurry: asyncio.Event) -> None:
        """Take no new requests, end those under way within the drain timeout (or until *hurry*), and let go."""
        self._gateway.draining = True
        if self._listener is not None:
            self._listener.close()
        self._server.drain()
        await self._wait(self._settings.limits.drain_timeout, hurry)
        if self._busy():
            structlog.get_logger("proxy").warning(
                "stopped before all was settled",
                connections=len(self._server.connections),
                unsettled=len(self._parts.unsettled),
            )
        self._server.abort()
        await self._pool.close()
        await self._wait(self._settings.store.deadline, asyncio.Event())  # for claims that are on their way back
        await self.store.close()
        if self._access is not None:
            self._access.flush()

    async def _wait(self, seconds: float, hurry: asyncio.Event) -> None:
        """Until nothing is under way, but not longer."""
        until = self._deadlines.now() + seconds
        while self._busy() and self._deadlines.now() < until and not hurry.is_set():
            await asyncio.sleep(0.02)

    def _busy(self) -> bool:
        """Tunnels have no end that one could wait for: they last as long as the others do."""
        return len(self._server.connections) > len(self._parts.tunnels) or bool(self._parts.unsettled)

    def _gauges(self) -> dict[str, float]:
        return {
            "unsettled": len(self._parts.unsettled),
            "connections": len(self._server.connections),
            "tunnels": len(self._parts.tunnels),
        }
