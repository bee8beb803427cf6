"""An operator, who has looked at the API, settles and frees keys that read as unknown, beside proxies that run."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import PAYS, Settings
from tests.faults.test_proxy_killed import SHORT_LEASE, abandoned
from tests.support.origin import Origin, hang
from tests.support.process import ProxyProcess, StartProxy, run
from tests.support.proxy import new_key
from tests.support.raw import eventually


@pytest.fixture
async def proxy(origin: Origin, start_proxy: StartProxy, store: Settings) -> ProxyProcess:
    return await start_proxy(store, **SHORT_LEASE)


class Operator:
    """Runs `key` with the settings of a store."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._directory = directory
        self._settings = {"upstream.url": "http://127.0.0.1:9", **settings}
        self.said = self.complained = ""

    async def key(self, *arguments: str) -> int:
        done = await asyncio.to_thread(run, "key", *arguments, directory=self._directory, settings=self._settings)
        self.said, self.complained = done.stdout, done.stderr
        return done.returncode

    async def shown(self, *arguments: str) -> dict[str, Any]:
        assert await self.key("show", *arguments) == 0, self.complained
        shown = json.loads(self.said)
        assert isinstance(shown, dict)
        return shown

    @property
    def audited(self) -> dict[str, Any]:
        """The line of the log about what was done."""
        (line,) = [json.loads(line) for line in self.complained.splitlines() if "operator" in line]
        assert isinstance(line, dict)
        return line


@pytest.fixture
def operator(tmp_path: Path, store: Settings) -> Operator:
    return Operator(tmp_path, store)


async def lost(proxy: ProxyProcess, origin: Origin, key: bytes) -> None:
    """A payment whose outcome nobody knows."""
    origin.behave(hang())
    assert (await proxy.post(key)).status == 504
    origin.behave(PAYS)


async def lapsed(operator: Operator, key: bytes, *act: str) -> None:
    """Its lease is over: the operator, who could not do it before, does it."""

    async def done() -> bool:
        if await operator.key(act[0], key.decode(), *act[1:]) == 0:
            return True
        assert "lease is not over" in operator.complained
        return False

    await eventually(done, within=10.0)


async def test_a_key_that_an_operator_settled_shows_that_response_and_is_never_sent_again(
    proxy: ProxyProcess, origin: Origin, operator: Operator, tmp_path: Path
) -> None:
    key = new_key()
    await lost(proxy, origin, key)
    before = await operator.shown(key.decode())
    assert (before["state"], before["by_operator"], before["status"]) == ("unknown", False, 504)

    body = tmp_path / "body.json"
    body.write_text('{"Id": "4711", "Amount": 1.10}')
    await lapsed(operator, key, "settle", "--status", "201", "--body", str(body))
    audit = operator.audited
    assert (audit["event"], audit["result"], audit["status"]) == ("an operator's settle", "done", 201)
    assert audit["key"] == before["key"]
    assert audit["by"]
    assert key.decode() not in operator.complained

    record = await proxy.record(key)
    assert (record["StatusCode"], record["ContentType"]) == ("201", "application/json")
    assert record["Resource"] == {"Id": "4711", "Amount": 1.10}
    assert (await proxy.post(key)).status == 409
    after_ = await operator.shown("--hash", before["key"])
    assert (after_["state"], after_["by_operator"], after_["expires"]) == ("completed", True, before["expires"])
    assert await operator.key("settle", key.decode(), "--status", "200") == 1
    assert "completed" in operator.complained
    assert await operator.key("release", key.decode(), "--yes") == 1
    assert len(origin.requests) == 1


async def test_a_key_that_an_operator_freed_can_be_used_again(
    proxy: ProxyProcess, origin: Origin, operator: Operator
) -> None:
    key = new_key()
    await lost(proxy, origin, key)
    assert await operator.key("release", key.decode()) == 2, "without --yes"
    assert await proxy.state(key) == b"unknown"
    await lapsed(operator, key, "release", "--yes")
    assert operator.audited["event"] == "an operator's release"
    assert (await proxy.post(key)).status == 200
    assert len(origin.requests) == 2


async def test_a_key_in_progress_is_left_alone_until_its_lease_is_over(
    origin: Origin, start_proxy: StartProxy, store: Settings, operator: Operator
) -> None:
    proxy, key = await start_proxy(store, **SHORT_LEASE), new_key()
    await abandoned(proxy, origin, key)
    assert await operator.key("release", key.decode(), "--yes") == 1
    assert "lease is not over" in operator.complained
    await lapsed(operator, key, "release", "--yes")


async def test_what_cannot_be_done_is_told(operator: Operator) -> None:
    nobodys = new_key().decode()
    for arguments, why in (
        (("show", nobodys), "there is no such key"),
        (("release", nobodys, "--yes"), "there is no such key"),
        (("show", "short"), "that is no key"),
        (("show", "--hash", "xyz"), "32 hexadecimal digits"),
        (("settle", nobodys, "--status", "200", "--content-type", "a\nb"), "content type"),
    ):
        assert await operator.key(*arguments) == 1
        assert why in operator.complained
    assert await operator.key("settle", nobodys, "--status", "99") == 2


async def test_a_store_in_memory_cannot_be_looked_into(tmp_path: Path) -> None:
    operator = Operator(tmp_path, {"store.url": "memory://"})
    assert await operator.key("show", new_key().decode()) == 1
    assert "memory://" in operator.complained
