"""nginx as a reverse proxy in front of an origin, from a directory of its own; ends with `async with`."""

import asyncio
import shutil
import socket
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.raw import eventually
from tests.wire.client import Client
from tests.wire.stand import BODY_LIMIT

PATIENCE = 0.5
"""Seconds that nginx waits for its upstream: what an upstream leaves open in a row, it leaves open for ever."""
_STOP_WITHIN = 5.0
_CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_max_body_size {limit};
    upstream origin {{
        server 127.0.0.1:{port};
        keepalive 8;
    }}
    server {{
        listen unix:{socket};
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout {patience:.0f}ms;
        }}
    }}
}}
"""
"""As most people have it: keep-alive to the upstream, all else as it is by default."""


def executable() -> str | None:
    """Where it is; None: it is not installed."""
    return shutil.which("nginx")


def version() -> str:
    """Such as `1.22.1`."""
    said = subprocess.run([executable() or "nginx", "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition("/")[2]


def _start(folder: Path) -> subprocess.Popen[bytes]:
    arguments = ["-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    return subprocess.Popen([executable() or "nginx", *arguments], stdin=subprocess.DEVNULL)


class Nginx:
    """In front of the origin at *port*. It listens at a unix socket: no port can be somebody else's."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._directory = tempfile.TemporaryDirectory(prefix="nginx-")
        self._socket = Path(self._directory.name) / "s"
        self._process: subprocess.Popen[bytes]

    async def __aenter__(self) -> Self:
        folder = Path(self._directory.name)
        configuration = _CONFIGURATION.format(
            limit=BODY_LIMIT, port=self._port, socket=self._socket, patience=1000 * PATIENCE
        )
        (folder / "nginx.conf").write_text(configuration)
        self._process = _start(folder)
        try:
            await eventually(self._listens)
        except AssertionError:
            self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    async def connect(self) -> Client:
        """A client."""
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, str(self._socket))
        return Client(sock)

    async def _listens(self) -> bool:
        assert self._process.poll() is None, f"nginx has ended with {self._process.returncode}"
        try:
            with closing(await self.connect()):
                return True
        except OSError:
            return False

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()
