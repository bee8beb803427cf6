"""The composition root: from settings to parts, from parts to a running proxy, and down again in good order."""

import asyncio
import gc
import socket
import ssl
import time
from pathlib import Path

import structlog

from config.settings import Settings
from proxy.budget import Budget
from proxy.core.answer import Answers
from proxy.core.key import Hasher, KeyRule
from proxy.core.policy import Policy
from proxy.deadlines import Deadlines
from proxy.delivery import Delivery
from proxy.gateway import Gateway
from proxy.http1.connection import ServerConnection
from proxy.http1.fields import Watched, lookalikes
from proxy.http1.forward import Forwarding
from proxy.http1.handshake import Handshakes
from proxy.http1.message import REQUEST_FIELDS, Limits
from proxy.http1.outbox import Outbox
from proxy.http1.pool import Pool, Upstream
from proxy.http1.server import Server
from proxy.parts import Parts, Terms
from proxy.process import BACKLOG
from proxy.store.base import Store, StoreUnavailable
from proxy.store.open import make_store
from proxy.store.spool import Spool
from proxy.telemetry.access import AccessLog
from proxy.telemetry.journal import Journal
from proxy.telemetry.metrics import Metrics
from proxy.tls import BadFile, Pem, client_context, server_context
from proxy.tokens import Tokens

SETTLE_WAIT = 0.25
"""Seconds that an answer waits for the store to take it; then it is spooled."""
SPOOL_FULL = "the spool is full"
"""Why no traffic should come: the settlements of new requests might find no place."""
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
        send_within=settings.lease - settings.upstream.timeout - settings.idempotency.lease_margin,
        lease_ms=int(settings.lease * 1000),
        retention_ms=int(settings.idempotency.retention * 1000),
        upstream_timeout=settings.upstream.timeout,
        connection_timeout=settings.upstream.pool_timeout + settings.upstream.connect_timeout,
        store_deadline=settings.store.deadline,
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


def hasher_of(settings: Settings) -> Hasher:
    """What makes the names under which records lie."""
    return Hasher(settings.store.hash_secret.get_secret_value().encode("utf-8"))


def fingerprint(settings: Settings) -> bytes:
    """Of all that turns a request into the name of a record. Which keys are taken at all (their length and characters)
    is not among it: it may change, and a key that was used keeps its name."""
    return hasher_of(settings).fingerprint(settings.idempotency.header.lower())


def store_of(settings: Settings, deadlines: Deadlines) -> Store:
    """The store, not opened yet."""
    return make_store(
        settings.store.url,
        deadline=settings.store.deadline,
        prefix=settings.store.prefix,
        allow_eviction=settings.store.allow_eviction,
        durability=settings.store.durability,
        fingerprint=fingerprint(settings),
        deadlines=deadlines,
    )


def spool_of(settings: Settings, store: Store) -> Spool | None:
    """Where its settlements wait for *store*; None for one whose records end with the process anyway."""
    if settings.store.url == "memory://":
        return None
    name = f"{store.place} {settings.store.prefix}"
    return Spool(Path(settings.spool.path), name, max_size=settings.spool.max_size)


def listener_tls(settings: Settings) -> ssl.SSLContext | None:
    """Towards the clients; raise BadFile."""
    own = settings.tls
    if not own.certificate:
        return None
    client_ca = Pem("tls.client_ca", own.client_ca) if own.client_ca else None
    return server_context(
        Pem("tls.certificate", own.certificate),
        Pem("tls.key", own.key),
        client_ca,
        own.client_certificates,
        own.min_version,
    )


def _upstream_tls(settings: Settings) -> ssl.SSLContext | None:
    """Towards the API; raise BadFile."""
    own = settings.upstream
    if own.url.scheme != "https":
        return None
    files = {"upstream.ca": own.ca, "upstream.certificate": own.certificate, "upstream.key": own.key}
    return client_context(*(Pem(setting, path) if path else None for setting, path in files.items()))


def upstream(settings: Settings) -> Upstream:
    """Where the API is; raise BadFile."""
    own = settings.upstream
    return Upstream(
        host=own.url.host,
        port=own.url.port,
        tls=_upstream_tls(settings),
        connect_timeout=own.connect_timeout,
        idle_timeout=own.idle_timeout,
        max_connections=own.max_connections,
        max_waiting=own.max_waiting,
        server_name=own.server_name or None,
        path=own.url.path,
    )


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
    """One worker: everything between the client's connections and the store. Lives on one loop. Raises BadFile where a
    certificate or key cannot be used."""

    def __init__(self, settings: Settings) -> None:
        own = settings.idempotency
        self._settings = settings
        self._deadlines = Deadlines()
        outbox = Outbox()
        self.metrics = Metrics()
        self._access = AccessLog() if settings.log.requests else None
        self.store = store_of(settings, self._deadlines)
        self._spool = spool_of(settings, self.store)
        self._delivering: asyncio.Task[None] | None = None
        self._pool = Pool(upstream(settings), limits(settings), self._deadlines, outbox)
        policy = Policy(KeyRule(own.key_min, own.key_max, own.key_chars), own.methods, settings.responses.paths)
        texts = {"header": own.header, "key_min": own.key_min, "key_max": own.key_max, "key_chars": own.key_chars}
        tokens = Tokens()
        self._parts = Parts(
            terms=terms(settings),
            store=self.store,
            spool=self._spool,
            pool=self._pool,
            forwarding=_forwarding(settings, tokens),
            answers=Answers(own.dialect, texts, settings.responses.paths[0]),
            hasher=hasher_of(settings),
            deadlines=self._deadlines,
            journal=Journal(self.metrics, self._access, policy.mask),
            tokens=tokens,
            wall=time.time,
            bodies=Budget(settings.limits.bodies),
        )
        self._gateway = Gateway(self._parts, policy, own.header.lower().encode("ascii"))
        self._server = Server(self._gateway, limits(settings), self._deadlines, outbox, _watched(settings))
        tls = listener_tls(settings)
        self._handshakes = None if tls is None else Handshakes(self._server, tls)
        self._listener: asyncio.Server | None = None
        self.metrics.gauges = self._gauges
        self._deadlines.add(self.metrics)

    async def start(self, sock: socket.socket) -> None:
        """Open the store and the spool, then listen on *sock*; raise StoreUnavailable or StoreRefused."""
        await self.store.open()
        if self._spool is not None:
            await self._spool.open()
            delivery = Delivery(self._spool, self.store, self._parts.journal, self._parts.wall)
            self._delivering = asyncio.create_task(delivery.run())
        loop, handshakes = asyncio.get_running_loop(), self._handshakes
        protocol = (lambda: ServerConnection(self._server)) if handshakes is None else handshakes.protocol
        create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        self._listener = await create(protocol, sock=sock, backlog=BACKLOG)
        _settle_the_heap()

    async def reload(self) -> None:
        """Read the certificates anew, for connections from now on, on both sides; those that there are go on. A file
        that cannot be used is logged, and all stays as it is."""
        try:
            clients, api = await asyncio.to_thread(
                lambda: (listener_tls(self._settings), _upstream_tls(self._settings))
            )
        except BadFile as error:
            structlog.get_logger("proxy").error("certificates not reloaded", reason=str(error))
            return
        if self._handshakes is not None and clients is not None:
            self._handshakes.context = clients
        if api is not None:
            self._pool.renew(api)
        found = "certificates reloaded" if clients or api else "no certificates to reload"
        structlog.get_logger("proxy").info(found)

    async def ready(self) -> str | None:
        """Why no traffic should come."""
        if self._gateway.draining:
            return "draining"
        if self._spool is not None and self._spool.full:
            return SPOOL_FULL
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
        if self._handshakes is not None:
            await self._handshakes.close()
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
        if self._delivering is not None:
            self._delivering.cancel()
            await asyncio.gather(self._delivering, return_exceptions=True)
        await self.store.close()
        if self._spool is not None:  # behind the store: what it has not taken by now is written here
            await self._spool.close()
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
            **self._waiting(),
        }

    def _waiting(self) -> dict[str, float]:
        """What lies on the disk, which all processes share: told by the one that delivers it."""
        if self._spool is None or not self._spool.delivers:
            return {}
        entries, incidents, size = self._spool.tally
        return {"spooled": entries, "incidents": incidents, "spool_bytes": size}
