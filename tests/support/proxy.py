"""The whole proxy, in this process and on the test's loop, with sockets at both ends."""

import asyncio
import json
import re
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from socket import AF_UNIX, SO_LINGER, SOL_SOCKET
from ssl import SSLContext, SSLObject
from types import TracebackType
from typing import Any
from uuid import uuid4

from config.load import load
from proxy.app import App
from proxy.process import listen
from proxy.telemetry.metrics import Snapshot
from tests.support.raw import Field, Incomplete, Reply, exchange, parse, take

HOST = b"api.example.com"
PATH = b"/v2.01/acme/payouts/bankwire/"
BODY = b'{"Amount": 471}'
QUIET = {"listen": "127.0.0.1:0", "log.requests": False}


def new_key() -> bytes:
    """A key that nobody has used."""
    return str(uuid4()).encode("ascii")


def request(
    method: bytes, target: bytes, fields: Sequence[Field] = (), body: bytes = b"", *, host: bytes = HOST
) -> bytes:
    """A request with these fields behind its Host, as they are; and the bytes of a body, however it is framed."""
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: %b" % host, *(b"%b: %b" % field for field in fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def post(key: bytes | None = None, fields: Sequence[Field] = (), body: bytes = BODY, *, path: bytes = PATH) -> bytes:
    """A POST of *body*, with a key or without."""
    own = [] if key is None else [(b"Idempotency-Key", key)]
    return request(b"POST", path, [*own, *fields, (b"Content-Length", b"%d" % len(body))], body)


def responses(key: bytes) -> bytes:
    """Where the record of *key* is shown."""
    return b"/responses/%b/" % key


def refusal(reply: Reply) -> dict[str, Any]:
    """What an answer of the proxy's own says, which is always in the five fields."""
    assert reply.field(b"Content-Type") == b"application/json"
    fields: dict[str, Any] = json.loads(reply.body)
    assert list(fields) == ["Message", "Type", "Id", "Date", "errors"]
    assert fields["Message"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}#\d+", fields["Id"])
    assert type(fields["Date"]) is int
    assert abs(fields["Date"] - time.time()) < 10
    assert fields["errors"] is None
    return fields


def refused(reply: Reply, status: int, kind: str) -> None:
    """It is an answer of the proxy's own, and of this kind."""
    assert (reply.status, refusal(reply)["Type"]) == (status, kind)


class Proxy:
    """Listens on a free port of 127.0.0.1 within `async with`. *flags*: settings by their dotted names."""

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self._settings = load(None, {**QUIET, **flags})
        self._app = App(self._settings)
        self._listening = ExitStack()
        self._running = False
        self.port = 0

    async def start(self) -> None:
        """Open the store, and listen."""
        with ExitStack() as stack:
            sock = stack.enter_context(listen(self._settings))
            if sock.family != AF_UNIX:
                self.port = sock.getsockname()[1]
            await self._app.start(sock)
            self._listening = stack.pop_all()
        self._running = True

    async def stop(self, *, at_once: bool = False) -> None:
        """End in good order, with what is under way; *at_once*: without it. A second call does nothing."""
        if not self._running:
            return
        self._running = False
        hurry = asyncio.Event()
        if at_once:
            hurry.set()
        with self._listening:
            await self._app.stop(hurry)

    async def reload(self) -> None:
        """Read the certificates anew, as on SIGHUP."""
        await self._app.reload()

    async def __aenter__(self) -> "Proxy":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(at_once=True)

    def metrics(self) -> Snapshot:
        """What it has counted."""
        return self._app.metrics.snapshot()

    def gauge(self, name: str) -> int:
        """What is open now; 0 where it says nothing of it."""
        return int(self.metrics()["gauges"].get(name, 0))

    @property
    def tunnels(self) -> int:
        """WebSockets that are open."""
        return self.gauge("tunnels")

    async def unready(self) -> str | None:
        """Why no traffic should come."""
        return await self._app.ready()

    async def call(self, data: bytes, *, head: bool = False, within: float = 5.0) -> Reply:
        """Send one request over a connection of its own; return its response, which must be complete."""
        return parse(await exchange(self.port, data, head=head, within=within), head=head)

    async def post(self, key: bytes | None = None, fields: Sequence[Field] = (), body: bytes = BODY) -> Reply:
        """See `post`."""
        return await self.call(post(key, fields, body))

    async def retrieve(self, key: bytes, fields: Sequence[Field] = ()) -> Reply:
        """Ask for the response that was given under *key*."""
        return await self.call(request(b"GET", responses(key), fields))

    async def record(self, key: bytes) -> dict[str, Any]:
        """The record of a settled key."""
        reply = await self.retrieve(key)
        assert reply.status == 200, reply
        record: dict[str, Any] = json.loads(reply.body)
        return record

    async def state(self, key: bytes) -> bytes | None:
        """What is said of *key*; None: nothing is known of it."""
        return (await self.retrieve(key)).field(b"Idempotency-State")


class Connection:
    """A client's connection, kept: for what one exchange of bytes cannot show. Each wait has a deadline. *tls*: to
    `localhost` through TLS. *path*: by a unix socket."""

    def __init__(self, port: int, within: float = 5.0, *, tls: SSLContext | None = None, path: str = "") -> None:
        self._port = port
        self._within = within
        self._tls = tls
        self._path = path
        self._received = bytearray()
        self.ended = False

    async def __aenter__(self) -> "Connection":
        name = None if self._tls is None else "localhost"
        if self._path:
            opened = asyncio.open_unix_connection(self._path, ssl=self._tls, server_hostname=name)
        else:
            opened = asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls, server_hostname=name)
        async with asyncio.timeout(self._within):
            self._reader, self._writer = await opened
        return self

    @property
    def tls(self) -> SSLObject:
        """What TLS knows of the connection."""
        found = self._writer.get_extra_info("ssl_object")
        assert isinstance(found, SSLObject)
        return found

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def send(self, data: bytes) -> None:
        """Write."""
        self._writer.write(data)

    def pause(self) -> None:
        """Read nothing more."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a duplex one

    def half_close(self) -> None:
        """Nothing more will be said, but the answer is waited for."""
        self._writer.write_eof()

    def close(self) -> None:
        """Close it, behind what was sent."""
        self._writer.close()

    def abort(self) -> None:
        """Gone, as when a process ends: to the proxy it looks like a half-close until it writes."""
        self._writer.transport.abort()

    def reset(self) -> None:
        """Gone, and the proxy is told by a RST."""
        at_once = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
        self._writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, at_once)
        self._writer.transport.abort()

    async def until(self, marker: bytes) -> bytes:
        """All bytes up to the end of *marker*; raise AssertionError where it does not come."""
        while marker not in self._received:
            assert not self.ended, f"{marker!r} is not in {self._received!r}, and the connection has ended"
            await self._read()
        end = self._received.index(marker) + len(marker)
        data = bytes(self._received[:end])
        del self._received[:end]
        return data

    async def reply(self, *, head: bool = False) -> Reply:
        """The next response, interim ones too."""
        while True:
            try:
                reply, rest = take(bytes(self._received), head=head, ended=self.ended)
            except Incomplete:
                assert not self.ended, f"the connection has ended with {self._received!r}"
                await self._read()
            else:
                self._received[:] = rest
                return reply

    async def rest(self) -> bytes:
        """All bytes up to the end of the connection, also where that is a reset."""
        while not self.ended:
            await self._read()
        data = bytes(self._received)
        self._received.clear()
        return data

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(self._within):
                piece = await self._reader.read(65536)
        except ConnectionError:
            piece = b""
        except TimeoutError:
            raise AssertionError(f"nothing within {self._within} s; so far: {self._received[:500]!r}") from None
        self._received += piece
        self.ended = not piece
