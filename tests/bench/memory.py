"""What a worker's memory is made of: `make bench-memory`, or `python -m tests.bench.memory [CONNECTIONS [MEGABYTES]]`.

A real worker process, with an origin and clients in this one. It is not a test: figures depend on the interpreter and
the machine. Linux only (`/proc`). The exit status is 1 where a goal is missed.
"""

import asyncio
import resource
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import click

from tests.support.process import ProxyProcess
from tests.support.proxy import new_key, post, request
from tests.support.raw import eventually, only, parse, take

KIB, MB = 1024, 1_000_000
IDLE_GOAL = 6 * KIB
"""Bytes a connection."""
STANDING_GOAL = 512 * KIB
"""Bytes a reader that stands still: a window of 64 KiB, and one read of 256 KiB more."""
STANDING = 50
"""Such readers."""
BODY_GOAL = 20 * MB
"""Bytes that the peak may grow by, whatever the size of the body."""
AT_A_TIME = 100
"""Clients that connect at a time."""
PORTS = 20_000
"""Connections from one address; the next has the next address of 127.0.0.0/8."""
PIECE = 256 * KIB
PAUSE = 0.003
"""Seconds between two pieces of a slow peer: about 80 MB a second."""
STALL = 1.0
"""Seconds that a slow peer takes nothing at all, at first: what can fill up does so."""
WITHIN = 120.0
"""Seconds for the whole of a body."""
SETTINGS = {
    "store.url": "memory://",
    "limits.keepalive_timeout": "1h",
    "limits.connections": 100_000,
}


class Memory(NamedTuple):
    """Of a process, in bytes."""

    rss: int
    pss: int
    peak: int


class Row(NamedTuple):
    """A line of the table: bytes, and what they are not to exceed."""

    what: str
    figure: float
    goal: int

    @property
    def met(self) -> bool:
        return self.figure <= self.goal


def memory(pid: int) -> Memory:
    """What the kernel says."""
    status = _in_bytes(f"/proc/{pid}/status")
    return Memory(status["VmRSS"], _in_bytes(f"/proc/{pid}/smaps_rollup")["Pss"], status["VmHWM"])


def _in_bytes(path: str) -> dict[str, int]:
    """The lines `Name:  123 kB` of a file in /proc."""
    lines = (line.split() for line in Path(path).read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * KIB for words in lines if words[-1:] == ["kB"]}


def forget_peak(pid: int) -> None:
    """From here on the peak counts anew: proc(5), clear_refs."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


# -- an origin ------------------------------------------------------------------------------------------------------


class Origin:
    """Answers `/large` with a body of *size*, all else with the number of bytes that it was sent, and reads slowly."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.port = 0
        self._serving: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for writer in self._serving:
                writer.transport.abort()
            await eventually(lambda: not self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        self._serving.discard(writer)
        writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *lines = head[:-4].split(b"\r\n")
        fields = [(name, value.strip()) for name, _, value in (field.partition(b":") for field in lines)]
        received = await read_slowly(reader, int(only(fields, b"Content-Length") or 0))
        body = None if b" /large " in line else b"%d" % received
        size = self.size if body is None else len(body)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % size)
        if body is None:
            await write(writer, size)
        else:
            writer.write(body)


async def write(writer: asyncio.StreamWriter, size: int) -> None:
    """So many bytes, as fast as they are taken."""
    piece = bytes(PIECE)
    for done in range(0, size, PIECE):
        writer.write(piece[: size - done])
        await writer.drain()


async def read_slowly(reader: asyncio.StreamReader, size: int) -> int:
    """So many bytes, in their own time where there are many; return how many came."""
    received, pause = 0, STALL
    while received < size:
        if size > PIECE:
            await asyncio.sleep(pause)
        piece = await reader.readexactly(min(PIECE, size - received))
        received, pause = received + len(piece), PAUSE
    return received


# -- what is measured -----------------------------------------------------------------------------------------------


async def connect(number: int, port: int) -> socket.socket:
    """A connection that has had one request, and stays."""
    loop, sock = asyncio.get_running_loop(), socket.socket()
    sock.setblocking(False)
    sock.bind((f"127.0.0.{1 + number // PORTS}", 0))
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, request(b"GET", b"/"))
    received = b""
    while not received.endswith(b"\r\n\r\n0"):
        piece = await loop.sock_recv(sock, 4096)
        assert piece, f"connection {number} was closed: {received!r}"
        received += piece
    assert parse(received).status == 200
    return sock


async def connect_many(first: int, count: int, port: int) -> list[socket.socket]:
    """So many, a few at a time."""
    kept: list[socket.socket] = []
    for at in range(first, first + count, AT_A_TIME):
        numbers = range(at, min(at + AT_A_TIME, first + count))
        kept += await asyncio.gather(*(connect(number, port) for number in numbers))
    return kept


async def idle(proxy: ProxyProcess, connections: int) -> list[Row]:
    """What a connection costs that does nothing."""
    for sock in await connect_many(0, AT_A_TIME, proxy.port):  # what is made once a process is there now
        sock.close()
    before = memory(proxy.pid)
    kept = await connect_many(0, connections, proxy.port)
    after = memory(proxy.pid)
    held = (await proxy.metrics())["idempotency_proxy_connections"]
    assert held >= connections, f"only {held:g} connections are open"
    for sock in kept:
        sock.close()
    what = f"idle connection, of {connections:,}, each after one request: "
    return [
        Row(f"{what}RSS", (after.rss - before.rss) / connections, IDLE_GOAL),
        Row(f"{what}PSS", (after.pss - before.pss) / connections, IDLE_GOAL),
    ]


async def download(proxy: ProxyProcess, data: bytes, size: int) -> int:
    """Bytes by which the peak grows while a slow client takes a response of *size*."""
    before = memory(proxy.pid).rss
    forget_peak(proxy.pid)
    async with asyncio.timeout(WITHIN):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(data)
        reply, _ = take(await reader.readuntil(b"\r\n\r\n"), head=True, ended=False)
        assert (reply.status, reply.field(b"Content-Length")) == (200, b"%d" % size), reply
        await read_slowly(reader, size)
        writer.close()
    return memory(proxy.pid).peak - before


async def standing(proxy: ProxyProcess) -> float:
    """Bytes that a client costs which asks for a large response, and then reads nothing of it."""
    loop, before = asyncio.get_running_loop(), memory(proxy.pid).rss
    with ExitStack() as stack:
        for _ in range(STANDING):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", proxy.port))
            await loop.sock_sendall(sock, request(b"GET", b"/large"))
        await asyncio.sleep(STALL)
        return (memory(proxy.pid).rss - before) / STANDING


async def upload(proxy: ProxyProcess, size: int) -> int:
    """Bytes by which the peak grows while a slow upstream takes a request of *size*."""
    before = memory(proxy.pid).rss
    forget_peak(proxy.pid)
    async with asyncio.timeout(WITHIN):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(request(b"POST", b"/", [(b"Content-Length", b"%d" % size), (b"Connection", b"close")]))
        await write(writer, size)
        reply = parse(await reader.read())
        assert (reply.status, reply.body) == (200, b"%d" % size), reply
        writer.close()
    return memory(proxy.pid).peak - before


async def measure(directory: Path, connections: int, size: int) -> list[Row]:
    """Everything, each with a process of its own: what one has left behind must not serve the next."""
    origin, rows = Origin(size), []
    large = f"{size // MB} MB"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(origin.listening())

        async def start(name: str) -> ProxyProcess:
            own = directory / name
            own.mkdir()
            proxy = ProxyProcess(own, {**SETTINGS, "upstream.url": f"http://127.0.0.1:{origin.port}"})
            await stack.enter_async_context(proxy)
            assert (await proxy.call(request(b"GET", b"/"))).status == 200
            assert (await proxy.post(new_key())).status == 200
            return proxy

        rows += await idle(await start("idle"), connections)
        rows.append(Row("reader that stands still: RSS", await standing(await start("standing")), STANDING_GOAL))
        passed, guarded = request(b"GET", b"/large"), post(new_key(), path=b"/large")
        for name, data in (("passed", passed), ("guarded", guarded)):
            grown = await download(await start(name), data, size)
            rows.append(Row(f"response of {large} to a slow reader, {name}: peak RSS", grown, BODY_GOAL))
        grown = await upload(await start("upload"), size)
        rows.append(Row(f"upload of {large} to a slow upstream: peak RSS", grown, BODY_GOAL))
    return rows


def shown(count: float) -> str:
    """Bytes for people."""
    return f"{count / MB:.1f} MB" if count >= MB else f"{count / KIB:.2f} KiB"


def main(connections: int = 10_000, megabytes: int = 200) -> int:
    """Measure, print, judge."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as directory:
        rows = asyncio.run(measure(Path(directory), connections, megabytes * MB))
    width = max(len(row.what) for row in rows)
    click.echo(f"{'growth of the worker':{width}}  {'figure':>10}  {'goal':>10}")
    for row in rows:
        verdict = "" if row.met else "  MISSED"
        click.echo(f"{row.what:{width}}  {shown(row.figure):>10}  {shown(row.goal):>10}{verdict}")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
