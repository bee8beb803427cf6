"""What a process of the proxy has of the machine: its listening socket, its signals, its files."""

import asyncio
import errno
import fcntl
import os
import resource
import signal
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from config.advice import advice
from config.settings import Settings
from proxy.http1.server import MOST_LINGERING

BACKLOG = 4096
SPARE_FILES = 100
"""File descriptors for all but connections."""


def listen(settings: Settings) -> socket.socket:
    """The listening socket; raise OSError."""
    own = settings.listen
    if own.path:
        return _listen_unix(own.path, settings.listen_mode)
    family = socket.AF_INET6 if ":" in own.host else socket.AF_INET
    return socket.create_server((own.host, own.port), family=family, backlog=BACKLOG)


def _listen_unix(path: str, mode: int) -> socket.socket:
    """On *path*, whose file gets *mode*. The file of a process that died is replaced, another's is not. Who start at
    once take turns: a socket that is bound and does not listen yet looks like a dead one."""
    with _alone(path):
        _clear(path)
        sock = socket.socket(socket.AF_UNIX)
        before = os.umask(0o777 & ~mode)  # not chmod: there would be a moment for anyone to connect in
        try:
            sock.bind(path)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise OSError(error.errno, f"{path}: {error.strerror}") from None
        finally:
            os.umask(before)
    return sock


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Of those that want to listen on *path*; raise OSError."""
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise OSError(error.errno, f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # for as long as it takes to bind: nobody holds it longer
        yield
    finally:
        os.close(lock)


def _clear(path: str) -> None:
    """Remove the socket at *path* if nobody listens; raise OSError if somebody does, or if it is something else."""
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise OSError(errno.EEXIST, f"{path}: there is a file, and it is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        reached = probe.connect_ex(path)
    if reached in (0, errno.EAGAIN):  # EAGAIN: whoever listens has a full backlog
        raise OSError(errno.EADDRINUSE, f"{path}: another process listens there")
    if reached not in (errno.ECONNREFUSED, errno.ENOENT):
        raise OSError(reached, f"{path}: {os.strerror(reached)}")
    Path(path).unlink(missing_ok=True)


def unlisten(sock: socket.socket) -> None:
    """Take the file of a unix socket away, before nobody listens any more: then it may be a successor's. One that stays
    is replaced at the next start."""
    if sock.family == socket.AF_UNIX:
        with suppress(OSError):
            Path(sock.getsockname()).unlink()


def place(sock: socket.socket, settings: Settings) -> str:
    """Where clients find it: http://HOST:PORT, https://HOST:PORT or unix:PATH."""
    if sock.family == socket.AF_UNIX:
        return str(settings.listen)
    return f"{'https' if settings.tls.certificate else 'http'}://{_address(sock)}"


def _address(sock: socket.socket) -> str:
    """HOST:PORT, as it is."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Signals:
    """The first of *numbers* asks for a good end, the second for a quick one; SIGHUP for the files to be read again."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._hangup = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hangup.set)
        for number in numbers:
            asyncio.get_running_loop().add_signal_handler(number, self._received)

    async def at_hangup(self, act: Callable[[], Awaitable[None]]) -> None:
        """*act* at each SIGHUP, also one that came before; until it is cancelled: then a SIGHUP means nothing more."""
        try:
            while True:
                await self._hangup.wait()
                self._hangup.clear()
                try:
                    await act()
                except Exception:  # the next one counts, too
                    structlog.get_logger("proxy").exception("SIGHUP: the files could not be read again")
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # a loop that is closed leaves it deadly

    def _received(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


def tell_started(settings: Settings, sock: socket.socket, store: str, ops: str) -> None:
    """Where it listens, what is behind it, and what its settings mean that may not be what was meant."""
    log = structlog.get_logger("proxy")
    log.info(
        "started",
        listen=place(sock, settings),
        upstream=str(settings.upstream.url),
        store=store,
        ops=f"http://{ops}",
        workers=settings.workers,
    )
    for sentence in advice(settings):
        log.info("a setting to think about", what=sentence)


def raise_file_limit(settings: Settings) -> None:
    """Each connection is a file descriptor, and the usual soft limit is far below what the settings allow."""
    own = settings.limits
    wanted = own.connections + MOST_LINGERING + settings.upstream.max_connections + own.tunnels + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < wanted:
        structlog.get_logger("proxy").warning(
            "fewer files may be open than there may be connections", limit=possible, wanted=wanted
        )
