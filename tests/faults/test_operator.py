"""An operator, who has looked at the API, settles and frees keys that read as unknown, beside proxies that run."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.faults.conftest import PAYS, Settings
from tests.faults.test_proxy_killed import SHORT_LEASE, abandoned
from tests.support.origin import Origin, hang
from tests.support.process import START_TIMEOUT, ProxyProcess, StartProxy, environment, run, spawn
from tests.support.proxy import PATH, new_key
from tests.support.raw import eventually
from tests.support.redis_client import through
from tests.support.relay import Relay
from tests.support.valkey import Valkey

USERS = ("LOGNAME", "USER", "LNAME", "USERNAME")
"""The variables that may say who it is."""
WITHOUT_A_NAME = """
import os, pwd
from proxy.__main__ import cli

def unnamed(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = unnamed
cli(prog_name="idempotency-proxy")
"""
"""The command, in a container that runs as a number that its image does not know."""


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
    def audited(self) -> list[dict[str, Any]]:
        """The lines of the log about what was asked for, and what came of it."""
        return audited(self.complained)


def audited(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if "an operator's" in line]


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
    asked, audit = operator.audited
    assert (asked.pop("result"), audit.pop("result")) == ("asked for", "done")
    for line in (asked, audit):
        assert (line["event"], line["status"]) == ("an operator's settle", 201)
        assert (line["key"], line["by_uid"]) == (before["key"], os.getuid())
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
    assert [(line["event"], line["result"]) for line in operator.audited] == [
        ("an operator's release", "asked for"),
        ("an operator's release", "done"),
    ]
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


async def test_a_key_that_has_a_scope_is_named_with_it(
    origin: Origin, start_proxy: StartProxy, store: Settings, tmp_path: Path
) -> None:
    scoped = {
        "scope.from": '["path", "header"]',
        "scope.path": "/{_}/{client}/",
        "scope.header": "X-Tenant",
        "responses.paths": '["/{version}/{client}/responses/{key}"]',
    }
    proxy, operator, key = await start_proxy(store, **scoped), Operator(tmp_path, {**store, **scoped}), new_key()
    origin.behave(PAYS)
    assert (await proxy.post(key, fields=[(b"X-Tenant", b"north")])).status == 200
    name = key.decode()
    shown = await operator.shown(name, "--scope", "ACME", "--scope", "north")
    assert shown["state"] == "completed"
    assert (await operator.shown(shown["key"], "--hash"))["state"] == "completed"
    for others in (("acme", "south"), ("acme", ""), ("", "north")):
        assert await operator.key("show", name, "--scope", others[0], "--scope", others[1]) == 1
        assert "there is no such key" in operator.complained
    assert await operator.key("show", name) == 1
    assert "a key's scope is made of path, header here: say --scope for each" in operator.complained


@pytest.mark.parametrize(("scope", "complaint"), [("credential", "give the key's hash"), ("none", "leave --scope out")])
async def test_a_scope_that_cannot_be_told_is_told_by_the_hash(
    tmp_path: Path, store: Settings, scope: str, complaint: str
) -> None:
    operator = Operator(tmp_path, {**store, "scope.from": scope})
    assert await operator.key("show", new_key().decode(), "--scope", "x") == 1
    assert complaint in operator.complained


async def test_a_store_in_memory_cannot_be_looked_into(tmp_path: Path) -> None:
    operator = Operator(tmp_path, {"store.url": "memory://"})
    assert await operator.key("show", new_key().decode()) == 1
    assert "memory://" in operator.complained


async def test_a_user_who_has_no_name_is_audited_by_number(
    proxy: ProxyProcess, origin: Origin, operator: Operator, tmp_path: Path, store: Settings
) -> None:
    key = new_key()
    await lost(proxy, origin, key)
    settings = {"upstream.url": "http://127.0.0.1:9", **store}
    variables = {name: value for name, value in environment(settings).items() if name not in USERS}

    async def released() -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", WITHOUT_A_NAME, "key", "release", "--yes", key.decode()],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT,
            check=False,
        )

    async def done() -> str | None:
        ended = await released()
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended.stderr if ended.returncode == 0 else None

    said = await eventually(done, within=10.0)
    assert isinstance(said, str)
    assert [(line["result"], line["by_uid"]) for line in audited(said)] == [
        ("asked for", os.getuid()),
        ("done", os.getuid()),
    ]
    assert (await proxy.post(key)).status == 200


async def test_who_is_killed_before_the_store_has_answered_has_left_a_line_all_the_same(
    origin: Origin, start_proxy: StartProxy, valkey: Valkey, tmp_path: Path
) -> None:
    settings: Settings = {"store.url": valkey.url, "store.prefix": f"test:{uuid4()}:"}
    proxy, key = await start_proxy(settings, **SHORT_LEASE), new_key()
    await lost(proxy, origin, key)
    output = tmp_path / "output"
    async with Relay(valkey.port) as relay:

        def and_no_further(data: bytes) -> bytes:
            """Once the operator has seen the record, the server hears nothing more."""
            if PATH in data:
                relay.hold()
            return data

        relay.change_replies = and_no_further
        variables = environment({**settings, "upstream.url": "http://127.0.0.1:9", "store.url": through(relay)})
        command = ("key", "release", "--yes", key.decode())
        process = spawn(*command, directory=tmp_path, output=output, variables=variables)
        try:
            await eventually(lambda: any(b"EVALSHA" in link.held for link in relay.links), 15)
        finally:
            process.kill()
            process.wait()
    (line,) = audited(output.read_text())
    assert (line["event"], line["result"], line["by_uid"]) == ("an operator's release", "asked for", os.getuid())
    assert await proxy.state(key) == b"unknown"
