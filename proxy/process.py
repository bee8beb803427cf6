"""What a process of the proxy has of the machine: its listening socket, its signals, its files."""

import asyncio
import resource
import signal
import socket

import structlog

from config.settings import Settings

BACKLOG = 4096
SPARE_FILES = 100
"""File descriptors for all but connections."""


def listen(settings: Settings) -> socket.socket:
    """The listening socket; raise OSError."""
    host, port = settings.listen
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def address(sock: socket.socket) -> str:
    """HOST:PORT, as it is."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Signals:
    """The first of *numbers* asks for a good end, the second for a quick one."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        for number in numbers:
            asyncio.get_running_loop().add_signal_handler(number, self._received)

    def _received(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


def raise_file_limit(settings: Settings) -> None:
    """Each connection is a file descriptor, and the usual soft limit is far below what the settings allow."""
    wanted = settings.limits.connections + settings.upstream.max_connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    if possible < wanted:
        structlog.get_logger("proxy").warning(
            "fewer files may be open than there may be connections", limit=possible, wanted=wanted
        )
