"""What `make run` runs: the proxy, and the sandbox where nothing else is to be fronted; both end together."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from config.problems import PREFIX
from tests.support.raw import eventually
from tests.support.valkey import free_port

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("idempotency-proxy")
PAYOUT = "/v2.01/acme/payouts/bankwire/"
BODY = {
    "AuthorId": "8494559",
    "DebitedFunds": {"Currency": "EUR", "Amount": 1000},
    "Fees": {"Currency": "EUR", "Amount": 0},
    "DebitedWalletId": "8519987",
    "BankAccountId": "8494563",
}


class Run:
    """A run in its own directory, on free ports."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, sandbox: int) -> None:
        self.process = process
        self.sandbox = sandbox
        self._output = output

    @property
    def text(self) -> str:
        return self._output.read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    async def started(self) -> dict[str, Any]:
        await eventually(lambda: "started" in self.text or self.process.poll() is not None, 15)
        (event,) = [event for event in self.events if event["event"] == "started"]
        return event

    async def ended(self) -> int:
        await eventually(lambda: self.process.poll() is not None, 15)
        return self.process.wait()


@contextmanager
def run(directory: Path, **variables: str) -> Iterator[Run]:
    sandbox = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    own = {"SANDBOX": f"127.0.0.1:{sandbox}", "LISTEN": "127.0.0.1:0", "ARGS": "--ops-listen 127.0.0.1:0"}
    output = directory / "output"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [ROOT / "deploy" / "run", COMMAND],
            cwd=directory,
            env=clean | own | variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield Run(process, output, sandbox)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(15)


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


async def executed(client: aiohttp.ClientSession, sandbox: int) -> bool:
    async with client.get(f"http://127.0.0.1:{sandbox}/executions") as response:
        counted = await response.json()
    return bool(counted["total"] == 1)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_ends_the_payment_under_way_and_then_both(tmp_path: Path, number: signal.Signals) -> None:
    with run(tmp_path) as running:
        started = await running.started()
        assert started["upstream"] == f"http://127.0.0.1:{running.sandbox}"
        assert (tmp_path / "var" / "idempotency.db").exists()

        key = {"Idempotency-Key": "a-payment-under-way-1", "X-Sandbox-Delay": "0.7"}
        async with aiohttp.ClientSession(started["listen"]) as client:
            payment = asyncio.create_task(client.post(PAYOUT, json=BODY, headers=key))
            await eventually(lambda: executed(client, running.sandbox))
            os.killpg(running.process.pid, number)  # as a terminal does: the group is the one of `make run`
            await eventually(lambda: "stopping" in running.text)
            if number == signal.SIGTERM:
                running.process.send_signal(number)  # make passes on what its whole group got already
            response = await payment
            assert (response.status, (await response.json())["DebitedFunds"]) == (200, BODY["DebitedFunds"])

        assert await running.ended() == 0
        assert refuses(running.sandbox)
        assert refuses(port_of(started["listen"]))
        assert refuses(port_of(started["ops"]))
        assert [event["event"] for event in running.events][-1] == "stopped"


async def test_a_sandbox_that_finds_its_port_taken_stops_the_run_before_anything_is_fronted(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with run(tmp_path, SANDBOX=taken) as running:
            assert await running.ended() == 1
            assert f"{taken} is taken" in running.text
            assert running.events == []


async def test_a_proxy_that_cannot_start_takes_the_sandbox_with_it(tmp_path: Path) -> None:
    with run(tmp_path, ARGS="--workers none") as running:
        assert await running.ended() == 2
        assert "workers" in running.text
        assert refuses(running.sandbox)


async def test_an_upstream_and_a_store_of_ones_own_are_used_and_there_is_no_sandbox(tmp_path: Path) -> None:
    store = f"sqlite://{tmp_path}/own.db"
    with run(tmp_path, UPSTREAM="http://127.0.0.1:1", STORE=store) as running:
        started = await running.started()
        assert (started["upstream"], started["store"]) == ("http://127.0.0.1:1", store)
        assert refuses(running.sandbox)
    assert {path.name for path in (tmp_path / "var").iterdir() if path.name.startswith("idempotency.db")} == set()
    assert (tmp_path / "var" / "idempotency-spool.db").exists()


@pytest.mark.parametrize("how", ["file", "environment"])
async def test_what_a_file_or_the_environment_says_is_not_overridden(tmp_path: Path, how: str) -> None:
    store, config = f"sqlite://{tmp_path}/named.db", tmp_path / "own.toml"
    config.write_text(f'[upstream]\nurl = "http://127.0.0.1:1"\n[store]\nurl = "{store}"\n')
    environment = {f"{PREFIX}UPSTREAM__URL": "http://127.0.0.1:1", f"{PREFIX}STORE__URL": store}

    with run(tmp_path, **({"CONFIG": str(config)} if how == "file" else environment)) as running:
        started = await running.started()
        assert (started["upstream"], started["store"]) == ("http://127.0.0.1:1", store)
        assert refuses(running.sandbox)
