"""Nobody reads the log any more, as when the collector behind a pipe has died. Payments go on."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.conftest import PAYS, Settings
from tests.support.origin import Origin, after, reset
from tests.support.process import COMMAND, START_TIMEOUT, ProxyProcess, decoded, environment
from tests.support.proxy import Connection, new_key, post
from tests.support.raw import eventually

BURST = 600
"""Over the lines of the access log that are written at once."""


def _piped(directory: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "serve"],
        cwd=directory,
        env=variables,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


class Unheard(ProxyProcess):
    """Its standard error is a pipe, whose reader leaves as soon as it has heard where the proxy listens."""

    async def start(self, **changes: object) -> None:
        """See `ProxyProcess`."""
        self._end()
        variables = environment({"listen": f"127.0.0.1:{self.port}", **self._settings, **changes})
        self._process = _piped(self.directory, variables)
        pipe = self._process.stderr
        assert pipe is not None
        with pipe:
            async with asyncio.timeout(START_TIMEOUT):
                while (line := json.loads(await asyncio.to_thread(pipe.readline)))["event"] != "started":
                    pass
        port = urlsplit(line["listen"]).port
        assert port is not None
        self.port = port


@pytest.fixture(params=[False, True], ids=["plain", "with access log"])
async def proxy(
    request: pytest.FixtureRequest, origin: Origin, sqlite: Settings, tmp_path: Path
) -> AsyncIterator[ProxyProcess]:
    settings = {"upstream.url": f"http://127.0.0.1:{origin.port}", "log.requests": request.param}
    async with Unheard(tmp_path, {**sqlite, **settings}) as proxy:
        yield proxy


async def test_a_payment_that_was_not_sent_is_refused_and_its_key_is_free(origin: Origin, proxy: ProxyProcess) -> None:
    key = new_key()
    await origin.stop()
    assert decoded(await proxy.post(key), 502)["Type"] == "upstream_unreachable"
    assert await proxy.state(key) is None
    await origin.start()
    assert (await proxy.post(key)).status == 200
    assert await proxy.stop() == 0


async def test_a_payment_whose_answer_is_lost_is_said_to_be_and_recorded(origin: Origin, proxy: ProxyProcess) -> None:
    key = new_key()
    origin.behave(reset())
    assert decoded(await proxy.post(key), 504)["Type"] == "upstream_outcome_unknown"
    assert await proxy.state(key) == b"unknown"
    assert (await proxy.post(key)).status == 409
    assert len(origin.requests) == 1
    assert await proxy.stop() == 0


async def test_every_request_of_a_burst_is_answered(origin: Origin, proxy: ProxyProcess) -> None:
    async with Connection(proxy.port) as client:
        for _ in range(2):
            client.send(b"".join(post(new_key()) for _ in range(BURST)))
            assert {(await client.reply()).status for _ in range(BURST)} == {200}
    assert len(origin.requests) == 2 * BURST
    assert await proxy.stop() == 0


async def test_a_stop_lets_the_payment_end(origin: Origin, proxy: ProxyProcess) -> None:
    key, answer = new_key(), asyncio.Event()
    origin.behave(after(answer, PAYS))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        stopping = asyncio.ensure_future(proxy.stop())

        async def closed() -> bool:
            try:
                async with Connection(proxy.port):
                    return False
            except ConnectionRefusedError:
                return True

        await eventually(closed)
        answer.set()
        assert (await client.reply()).status == 200
        assert await stopping == 0
    await proxy.start()
    assert (await proxy.record(key))["StatusCode"] == "200"
