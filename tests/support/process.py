"""The proxy as people run it: `python -m proxy …` in processes of its own, which can be killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from config.problems import PREFIX, variable_of
from tests.support.command import forked
from tests.support.proxy import BODY, post, request, responses
from tests.support.raw import Field, Reply, eventually, exchange, parse

START_TIMEOUT = 15.0
STOP_TIMEOUT = 15.0
COMMAND = (sys.executable, "-m", "proxy")
Samples = dict[str, float]
"""What is left of a scrape: `name{label="value"}` → value."""


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment with *settings* (dotted names) and no other variable of ours."""
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return clean | {variable_of(tuple(name.split("."))): str(value) for name, value in settings.items()}


def run(
    *arguments: str, directory: Path, settings: Mapping[str, object] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself. `serve`, which starts processes of its own, in an interpreter of its own."""
    variables = environment(settings or {})
    if "serve" not in arguments:
        return forked(arguments, directory=directory, variables=variables, within=START_TIMEOUT)
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT,
        check=False,
    )


def spawn(*arguments: str, directory: Path, output: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A command that runs until it is told to end, in a group of processes of its own; *output* is appended to."""
    with output.open("ab") as log:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=directory,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


class ProxyProcess:
    """`serve`, in *directory*, with *settings* (dotted names) in its environment. Takes free ports, and keeps the
    clients' port over restarts. Its processes are a group of their own, and are not reaped before the end: so their
    numbers cannot come to mean others, and whatever is left of them is killed by `async with`.
    """

    def __init__(self, directory: Path, settings: Mapping[str, object]) -> None:
        self.port = 0
        self.ops_port = 0
        self.directory = directory
        self._settings = {"ops_listen": "127.0.0.1:0", **settings}
        self._output = directory / "proxy.log"
        self._begun = 0
        """Where in the log the run of now begins."""
        self._process: subprocess.Popen[bytes] | None = None

    # -- its life -----------------------------------------------------------------------------------------------

    async def start(self, **changes: object) -> None:
        """Start it, with *changes* of its settings (`__` for the dot), and wait until it says that it listens."""
        self._end()
        self._settings |= {name.replace("__", "."): value for name, value in changes.items()}
        self._begun = len(self.text)
        variables = environment({"listen": f"127.0.0.1:{self.port}", **self._settings})
        self._process = spawn("serve", directory=self.directory, output=self._output, variables=variables)
        await eventually(lambda: self.said("started") or self.status is not None, START_TIMEOUT)
        assert self.status is None, f"it did not start:\n{self.text[self._begun :]}"
        (started,) = self.said("started")
        self.port, self.ops_port = _port(started["listen"]), _port(started["ops"])

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """A signal to the process that was started; *group*: and to its workers, as a terminal sends it."""
        process = self._running()
        (os.killpg if group else os.kill)(process.pid, number)

    async def kill(self) -> None:
        """`kill -9`, and its workers with it, as a power cut would."""
        os.killpg(self._running().pid, signal.SIGKILL)
        await self.ended()

    async def restart(self, **changes: object) -> None:
        """Kill it, and start it anew on the same port."""
        await self.kill()
        await self.start(**changes)

    async def stop(self) -> int:
        """End it in good order; return its exit status."""
        self.send(signal.SIGTERM)
        return await self.ended()

    async def ended(self, within: float = STOP_TIMEOUT) -> int:
        """Its exit status, once it has ended; the negative number of the signal that killed it."""
        await eventually(lambda: self.status is not None, within)
        assert self.status is not None
        return self.status

    @property
    def status(self) -> int | None:
        """Its exit status; None: it runs."""
        result = os.waitid(os.P_PID, self._running().pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._running().pid

    @property
    def workers(self) -> list[int]:
        """The numbers of its worker processes."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        """Kill what is left of it, and reap it."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process

    # -- what it says -------------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """All that it has written, over all its runs."""
        return self._output.read_text() if self._output.exists() else ""

    @property
    def log(self) -> list[dict[str, Any]]:
        """What the run of now has written: every line must be a JSON object, but one that is not whole yet."""
        lines = self.text[self._begun :].rpartition("\n")[0].splitlines()
        events = [json.loads(line) for line in lines]
        assert all(isinstance(event, dict) for event in events), lines
        return events

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log about *event*."""
        return [line for line in self.log if line["event"] == event]

    async def call(self, data: bytes, *, within: float = 10.0) -> Reply:
        """Send one request over a connection of its own; return its response, which must be complete."""
        return parse(await exchange(self.port, data, within=within))

    async def post(self, key: bytes | None = None, fields: Sequence[Field] = (), body: bytes = BODY) -> Reply:
        """See `tests.support.proxy.post`."""
        return await self.call(post(key, fields, body))

    async def retrieve(self, key: bytes, fields: Sequence[Field] = ()) -> Reply:
        """Ask for the response that was given under *key*."""
        return await self.call(request(b"GET", responses(key), fields))

    async def record(self, key: bytes) -> dict[str, Any]:
        """The record of a settled key."""
        return decoded(await self.retrieve(key), 200)

    async def state(self, key: bytes) -> bytes | None:
        """What is said of *key*; None: nothing is known of it."""
        return (await self.retrieve(key)).field(b"Idempotency-State")

    async def ops(self, path: str) -> Reply:
        """GET from the operator's port."""
        return parse(await exchange(self.ops_port, request(b"GET", path.encode("ascii"))))

    async def metrics(self) -> Samples:
        """A scrape, read as Prometheus reads it."""
        reply = await self.ops("/metrics")
        assert reply.status == 200, reply
        samples = [
            sample for family in text_string_to_metric_families(reply.body.decode("utf-8")) for sample in family.samples
        ]
        return {_named(sample.name, sample.labels): sample.value for sample in samples}

    async def outcomes(self) -> dict[str, int]:
        """How many requests had which outcome, those that none had left out."""
        start, end = 'idempotency_proxy_requests_total{outcome="', '"}'
        counts = {name: value for name, value in (await self.metrics()).items() if name.startswith(start)}
        return {name.removeprefix(start).removesuffix(end): int(value) for name, value in counts.items() if value}


StartProxy = Callable[..., Awaitable[ProxyProcess]]


@asynccontextmanager
async def starter(directory: Path, upstream: int) -> AsyncIterator[StartProxy]:
    """Starts a proxy with the settings *store* and others (`upstream__timeout="1s"`) in front of that port, each in a
    directory of its own below *directory*."""
    numbers = count(1)
    async with AsyncExitStack() as stack:

        async def start(store: Mapping[str, object], **settings: object) -> ProxyProcess:
            own = directory / f"proxy-{next(numbers)}"
            own.mkdir()
            named = {name.replace("__", "."): value for name, value in settings.items()}
            proxy = ProxyProcess(own, {"upstream.url": f"http://127.0.0.1:{upstream}", **store, **named})
            return await stack.enter_async_context(proxy)

        yield start


def decoded(reply: Reply, status: int) -> dict[str, Any]:
    """The JSON object of a reply that must have *status*."""
    assert reply.status == status, reply
    value = json.loads(reply.body)
    assert isinstance(value, dict)
    return value


def _named(name: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
