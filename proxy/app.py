"""One worker: its parts put together, brought up, and down again in good order."""

import asyncio
import gc
import socket
import time

import structlog

from config.settings import Settings
from proxy import assembly
from proxy.budget import Budget
from proxy.deadlines import Deadlines
from proxy.delivery import Delivery
from proxy.gateway import Gateway
from proxy.http1.connection import ServerConnection
from proxy.http1.handshake import Handshakes
from proxy.http1.outbox import Outbox
from proxy.http1.pool import Pool
from proxy.http1.server import Server
from proxy.parts import Parts
from proxy.process import BACKLOG
from proxy.ring import ring
from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.telemetry.access import AccessLog
from proxy.telemetry.journal import Journal
from proxy.telemetry.metrics import Metrics
from proxy.tls import BadFile
from proxy.tokens import Tokens
from proxy.waiting import Waiting

SPOOL_FULL = "the spool is full"
"""Why no traffic should come: the settlements of new requests might find no place."""
COLLECT_EVERY = 50_000
"""Objects made and not freed between two runs of the garbage collector."""


def _settle_the_heap() -> None:
    """What is there at the start stays, and a request leaves no cycles behind: the collector need not look often."""
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY)


class App:
    """One worker: everything between the client's connections and the store. Lives on one loop. Raises BadFile where a
    certificate or key cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._deadlines = Deadlines()
        outbox = Outbox()
        self.metrics = Metrics()
        self._access = AccessLog() if settings.log.requests else None
        self.store = assembly.store(settings, self._deadlines, learns=True)
        self._spool = assembly.spool(settings, self.store, self.store.encrypt)
        self._delivering: asyncio.Task[None] | None = None
        limits = assembly.limits(settings)
        self._pool = Pool(assembly.upstream(settings), limits, self._deadlines, outbox)
        policy = assembly.policy(settings)
        tokens = Tokens()
        forwarding = assembly.forwarding(settings, tokens)
        self._keys = assembly.jwks(settings)
        verifier = None if self._keys is None else assembly.verifier(settings, self._keys, time.time)
        self._parts = Parts(
            terms=assembly.terms(settings),
            store=self.store,
            spool=self._spool,
            pool=self._pool,
            forwarding=forwarding,
            answers=assembly.answers(settings),
            hasher=assembly.hasher(settings),
            fingerprints=assembly.fingerprints(settings),
            identifier=assembly.identifier(settings, verifier),
            prober=assembly.prober(settings, self._pool, forwarding, self._deadlines, time.time),
            waiting=Waiting(self.store, self._deadlines, settings.limits.waiters),
            deadlines=self._deadlines,
            journal=Journal(self.metrics, self._access, policy.mask),
            tokens=tokens,
            wall=time.time,
            bodies=Budget(settings.limits.bodies),
        )
        self._gateway = Gateway(self._parts, policy, settings.idempotency.header.lower().encode("ascii"))
        self._server = Server(self._gateway, limits, self._deadlines, outbox, assembly.watched(settings))
        tls = assembly.listener_tls(settings)
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
        if self._keys is not None:
            await self._keys.open()
        loop, handshakes = asyncio.get_running_loop(), self._handshakes
        protocol = (lambda: ServerConnection(self._server)) if handshakes is None else handshakes.protocol
        create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        self._listener = await create(protocol, sock=sock, backlog=BACKLOG)
        _settle_the_heap()

    async def reload(self) -> None:
        """Read anew the ring of keys, the issuer's keys and the certificates: these for connections from now on, on
        both sides; those that there are go on. A file that cannot be used is logged, and all stays as it is."""
        await self._reload_ring()
        if self._keys is not None:
            await self._keys.reload()
        try:
            clients, api = await asyncio.to_thread(
                lambda: (assembly.listener_tls(self._settings), assembly.upstream_tls(self._settings))
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

    async def _reload_ring(self) -> None:
        if not self._settings.record.encryption_keys_file:
            return
        try:
            found = await asyncio.to_thread(ring, self._settings)
            if found is not None:
                await self.store.use(found)
        except (BadFile, StoreRefused, StoreUnavailable) as error:
            structlog.get_logger("proxy").error("encryption keys not reloaded", reason=str(error))
            return
        if found is not None:
            structlog.get_logger("proxy").info("encryption keys reloaded", keys=list(found.ids))

    async def ready(self) -> str | None:
        """Why no traffic should come."""
        if self._gateway.draining:
            return "draining"
        if self._spool is not None and self._spool.full:
            return SPOOL_FULL
        if self._keys is not None and self._keys.trouble:
            return self._keys.trouble
        try:
            await self.store.ping()
        except StoreUnavailable as error:
            return str(error)
        return None

    async def stop(self, hurry: asyncio.Event) -> None:
        """Take no new requests, end those under way within the drain timeout (or until *hurry*), and let go."""
        self._gateway.draining = self._parts.waiting.draining = True
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
        if self._keys is not None:
            await self._keys.close()
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
