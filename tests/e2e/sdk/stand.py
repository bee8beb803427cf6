"""Where the official SDKs run: the sandbox, proxies in front of it, and networks that fail. The SDKs block, so all this
lives on a loop in a thread of its own."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

import requests
from aiohttp import web

from proxy.sandbox import application
from tests.support.process import ProxyProcess
from tests.support.relay import Relay

DEADLINE = 20.0
Result = TypeVar("Result")


class Stand:
    """The sandbox asks for credentials, from the first request to the last."""

    def __init__(self, directory: Path) -> None:
        self.sandbox = ""
        """Its URL."""
        self._directory = directory
        self._numbers = count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._stack = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """On the loop of the thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    def __enter__(self) -> Self:
        self._thread.start()
        self.run(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> None:
        runner = web.AppRunner(application(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.sandbox = f"http://127.0.0.1:{runner.addresses[0][1]}"

    def proxy(self, **settings: object) -> ProxyProcess:
        """A proxy in front of the sandbox, with *settings* (`__` for the dot)."""
        own = self._directory / f"proxy-{next(self._numbers)}"
        own.mkdir()
        named = {name.replace("__", "."): value for name, value in settings.items()}
        proxy = ProxyProcess(own, {"upstream.url": self.sandbox, "store.url": "memory://", **named})
        return self.run(self._stack.enter_async_context(proxy))

    def relay(self, proxy: ProxyProcess) -> Relay:
        """A network between a client and *proxy*."""
        return self.run(self._stack.enter_async_context(Relay(proxy.port)))

    def break_links(self, network: Relay) -> None:
        """Break every connection through it."""

        async def reset() -> None:
            network.reset()

        self.run(reset())

    def faults(self, **faults: object) -> None:
        """What is to go wrong from now on, in the place of what was before."""
        asked = {"credentials": "required", **faults}
        requests.put(f"{self.sandbox}/faults", json=asked, timeout=DEADLINE).raise_for_status()

    def executions(self) -> dict[str, int]:
        """How often each key was executed since `forget`."""
        keys: dict[str, int] = requests.get(f"{self.sandbox}/executions", timeout=DEADLINE).json()["keys"]
        return keys

    def forget(self) -> None:
        """As if nothing had been asked yet, and nothing went wrong."""
        requests.delete(f"{self.sandbox}/executions", timeout=DEADLINE).raise_for_status()
        self.faults()


def until(holds: Callable[[], bool]) -> None:
    """Ask again and again until it does."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)
