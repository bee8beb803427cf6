"""The connections to the upstream: kept alive, counted, lent to one request at a time."""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from proxy.deadlines import NEVER, Deadlines
from proxy.http1.client import UpstreamConnection
from proxy.http1.message import Limits
from proxy.http1.outbox import Outbox

CLOSE_SECONDS = 5.0
"""How long an upstream may take to close TLS as well, once it was told."""


class Borrower(Protocol):
    """Who wants a connection. Hears exactly one of these, unless it was forgotten before."""

    def connected(self, connection: UpstreamConnection) -> None:
        """Here is one. Who does not send on it gives it back with `Pool.give_back`."""

    def not_connected(self, why: str) -> None:
        """There is none to be had: refused, no such host, connecting took too long."""


class Upstream(NamedTuple):
    """Where the backend is, and how its connections are kept. Times in seconds. *server_name*: the one that its
    certificate must be for; None: *host*. *path*: of a unix socket, in the place of host and port."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    connect_timeout: float
    idle_timeout: float
    max_connections: int
    max_waiting: int
    server_name: str | None = None
    path: str = ""

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> asyncio.BaseTransport:
        """A new connection, TLS included; raise TimeoutError, OSError, or UnicodeError for a host that IDNA refuses."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.connect_timeout):
            if self.path:
                transport, _ = await loop.create_unix_connection(protocol, self.path)
            else:
                secured = self.tls is not None
                transport, _ = await loop.create_connection(
                    protocol,
                    self.host,
                    self.port,
                    ssl=self.tls,
                    server_hostname=self.server_name if secured else None,
                    ssl_shutdown_timeout=CLOSE_SECONDS if secured else None,
                )
        return transport


class Pool:
    """Who waits, waits in order; how long, is the borrower's own affair: it calls `forget`."""

    def __init__(self, upstream: Upstream, limits: Limits, deadlines: Deadlines, outbox: Outbox) -> None:
        self._upstream = upstream
        self._limits = limits
        self._deadlines = deadlines
        self._outbox = outbox
        self._open: set[UpstreamConnection] = set()
        self._idle: list[UpstreamConnection] = []
        self._waiting: deque[Borrower] = deque()
        self._dialling: set[asyncio.Task[None]] = set()
        self._closed = False

    def borrow(self, borrower: Borrower, *, fresh: bool = False) -> bool:
        """Ask for a connection; False where too many wait already. *fresh*: none that lay idle."""
        connection = None if fresh else self._take()
        if connection is not None:
            self._lend(borrower, connection)
            return True
        if self._closed or self._crowded():
            return False
        if fresh:
            self._close_idle()
        self._waiting.append(borrower)
        self._dial()
        return True

    def forget(self, borrower: Borrower) -> None:
        """The borrower waits no longer."""
        if borrower in self._waiting:
            self._waiting.remove(borrower)

    def give_back(self, connection: UpstreamConnection) -> None:
        """The connection is free: for the next who waits, or to be kept for a while."""
        if self._closed:
            connection.close()
        elif connection.tls is not self._upstream.tls:  # made with certificates that are not those of now
            connection.abort()  # who waits needs its place now, not when TLS is closed in good order
        elif self._waiting:
            if connection.used and not connection.fit():  # bytes behind the last response
                connection.close()
            else:
                self._lend(self._waiting.popleft(), connection)
        else:
            connection.deadline = self._deadlines.now() + self._upstream.idle_timeout
            self._idle.append(connection)

    def detach(self, connection: UpstreamConnection) -> None:
        """It carries a tunnel from now on, for hours perhaps: requests get another in its place."""
        self._open.discard(connection)
        self._dial()

    def renew(self, tls: ssl.SSLContext | None) -> None:
        """From now on connect with *tls*. A connection that is lent is closed when it is given back."""
        self._upstream = self._upstream._replace(tls=tls)
        self._close_idle()

    async def close(self) -> None:
        """Close what is idle and stop dialling. Lent connections close when they are given back."""
        self._closed = True
        self._close_idle()
        while self._waiting:
            self._refuse("the proxy is being stopped")
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)

    def _crowded(self) -> bool:
        """Whether as many wait for somebody else's connection as may. Who waits for one that is being made is not among
        them."""
        at = self._upstream
        all_made = len(self._dialling) + len(self._open) >= at.max_connections
        return all_made and len(self._waiting) - len(self._dialling) >= at.max_waiting

    def _take(self) -> UpstreamConnection | None:
        """The youngest that is fit: the one that the upstream will close last."""
        while self._idle:
            connection = self._idle.pop()
            if connection.fit():
                connection.deadline = NEVER
                return connection
            connection.close()
        return None

    def _close_idle(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _lend(self, borrower: Borrower, connection: UpstreamConnection) -> None:
        connection.deadline = NEVER
        try:
            borrower.connected(connection)
        except Exception:  # one borrower's defect must not harm whose connection or task this was
            logging.getLogger(__name__).exception("a request failed when it got its connection")
            connection.abort()

    def _dial(self) -> None:
        """One dial for each who waits, as far as connections are allowed."""
        while (
            len(self._dialling) < len(self._waiting)
            and len(self._dialling) + len(self._open) < self._upstream.max_connections
            and not self._closed
        ):
            task = asyncio.get_running_loop().create_task(self._connect())
            self._dialling.add(task)
            task.add_done_callback(self._dialled)

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self._dialling.discard(task)
        self._dial()

    async def _connect(self) -> None:
        at = self._upstream
        connection = UpstreamConnection(self._limits, self._outbox, self.give_back, self._lost)
        connection.tls = at.tls
        try:
            await at.connect(lambda: connection)
        except TimeoutError:
            self._refuse(f"no connection within {at.connect_timeout:g} s")
        except (OSError, UnicodeError) as error:  # ssl.SSLError is an OSError
            self._refuse(str(error))
        else:
            self._connected(connection)

    def _connected(self, connection: UpstreamConnection) -> None:
        if connection.is_closing():
            self._refuse("the upstream closes its connections at once")
            return
        self._open.add(connection)
        self._deadlines.add(connection)
        self.give_back(connection)

    def _refuse(self, why: str) -> None:
        """The dial was made for one who waits: the one who waits longest."""
        if self._waiting:
            borrower = self._waiting.popleft()
            try:
                borrower.not_connected(why)
            except Exception:  # see _lend
                logging.getLogger(__name__).exception("a request failed when it got no connection")

    def _lost(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        self._deadlines.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._dial()
