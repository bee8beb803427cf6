"""Proxies as people run them: they learn a dictionary together, rings turn at a SIGHUP, operators read records."""

import asyncio
import base64
import json
import random
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from proxy.core.lifecycle import State
from proxy.store import entries as spooled
from proxy.store.codec import decode
from proxy.store.entries import Delivered
from proxy.store.keyring import KeyRing
from proxy.store.spool import Spool
from proxy.store.vault import Vault
from tests.e2e.test_tls_processes import ready
from tests.integration.conftest import Flags
from tests.support.origin import Behaviour, Origin, Recorded, hang
from tests.support.origin import head as head_of
from tests.support.origin import send as write
from tests.support.process import ProxyProcess, StartProxy, run, starter
from tests.support.proxy import new_key, post
from tests.support.raw import eventually, exchange
from tests.support.stores import claim_of, completed

KEYS = {number: bytes([number]) * 32 for number in (1, 2)}
ONE, TWO = (f"{number}:{base64.b64encode(key).decode()}" for number, key in KEYS.items())
SHORT_LEASE = {
    "store.deadline": "100ms",
    "upstream.pool_timeout": "100ms",
    "upstream.connect_timeout": "100ms",
    "upstream.timeout": "200ms",
    "idempotency.lease_margin": "0s",
}


@pytest.fixture
async def start(origin: Origin, tmp_path: Path) -> AsyncIterator[StartProxy]:
    """See `starter`."""
    async with starter(tmp_path, origin.port) as start:
        yield start


def pays() -> Behaviour:
    """Each payment has its own id and amount."""
    chance = random.Random("payments")

    async def behaviour(request: Recorded, writer: asyncio.StreamWriter) -> None:
        payout = {
            "Id": str(chance.randrange(10**9)),
            "Status": chance.choice(["CREATED", "SUCCEEDED"]),
            "DebitedFunds": {"Currency": "EUR", "Amount": chance.randrange(10**6)},
            "BankAccountId": str(chance.randrange(10**9)),
        }
        body = json.dumps(payout).encode()
        fields = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        await write(writer, head_of(201, fields) + body)

    return behaviour


async def pay(proxy: ProxyProcess, keys: list[bytes]) -> None:
    """One payment behind the other, over one connection."""
    data = b"".join(post(key) for key in keys)
    received = await exchange(proxy.port, data, replies=len(keys), within=30)
    assert received.count(b"HTTP/1.1 201 ") == len(keys)


async def lies(store: Flags) -> dict[str, bytes]:
    """All that lies in a store, by its name without the prefix."""
    url = str(store["store.url"])
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite://"), timeout=5)) as connection:
            records = connection.execute("SELECT hash, data FROM record").fetchall()
            kept = connection.execute("SELECT name, value FROM kept").fetchall()
        return {key_hash.hex(): data for key_hash, data in records} | {name.decode(): value for name, value in kept}
    prefix = str(store["store.prefix"])
    async with Redis.from_url(url) as client:
        names = [name for name in await client.keys(f"{prefix}*") if isinstance(name, bytes)]
        found = {name.decode().removeprefix(prefix): await client.get(name) for name in names}
    return {name: value for name, value in found.items() if isinstance(value, bytes)}


async def sealed(store: Flags) -> list[bytes]:
    """What was sealed of the records there; the trials at the start of a proxy were not."""
    found = [(name, value) for name, value in (await lies(store)).items() if value[:1] == b"\2"]
    records = [decode(value, bytes.fromhex(name)) for name, value in found]
    return [record.sealed for record in records if record.sealed]


@pytest.fixture
def redis_store(request: pytest.FixtureRequest) -> Flags:
    server = request.getfixturevalue("valkey")
    return {"store.url": server.url, "store.prefix": f"test:{new_key().decode()}:"}


@pytest.mark.parametrize(
    "shared_store", [pytest.param("sqlite", marks=pytest.mark.full), "redis"], indirect=True
)  # ten seconds each, in which next to nothing is done
async def test_workers_learn_one_dictionary_and_all_proxies_use_it_and_read_each_others_records(
    origin: Origin, start: StartProxy, shared_store: Flags
) -> None:
    origin.behave(pays())
    settings = {**shared_store, "record.compression": "zstd", "record.encryption_keys": json.dumps([ONE])}
    first = await start(settings, workers=2)
    before = [new_key() for _ in range(20)]
    await pay(first, before)
    learnt: list[dict[str, Any]] = []

    async def learns() -> bool:
        await pay(first, [new_key() for _ in range(100)])
        learnt[:] = [line for line in first.log if " learnt, " in line["event"]]
        return bool(learnt)

    await eventually(learns, 40.0)
    other = await start(settings)
    after = [new_key() for _ in range(20)]
    await pay(other, after)
    for proxy in (first, other):
        for key in (*before, *after):
            assert (await proxy.record(key))["StatusCode"] == "201"
    own = learnt[0]["event"].split()[1]
    with_it = [data for data in await sealed(shared_store) if data[0] & 2]
    assert len(with_it) >= len(after)
    assert {data[1:5].hex() for data in with_it} == {own}
    assert len(learnt) == 1
    assert not [line for line in other.log if " learnt, " in line["event"]]

    await first.stop()
    await first.start()
    await pay(first, [key := new_key()])
    assert (await other.record(key))["StatusCode"] == "201"

    rotated = {**settings, "record.encryption_keys": json.dumps([TWO, ONE])}
    third = await start(rotated)
    for key in (before[0], after[0]):
        assert (await third.record(key))["StatusCode"] == "201"
    await eventually(lambda: third.said("started"))

    async def under_the_new_key() -> bool:
        value = (await lies(shared_store))[f"dictionary:{own}"]
        assert b"CREATED" not in value
        return value[:2] == b"\4\2"

    await eventually(under_the_new_key, 10.0)
    checked = run(
        "check", directory=third.directory, settings=rotated | {"upstream.url": f"http://127.0.0.1:{origin.port}"}
    )
    assert checked.returncode == 0, checked.stdout
    assert "records are compressed" in checked.stdout
    assert f"dictionary {own}: " in checked.stdout
    assert "can be read" in checked.stdout
    assert "records are encrypted with key 2; those of 2, 1 are read" in checked.stdout


async def test_a_ring_in_a_file_turns_at_a_sighup_and_one_that_is_spoilt_is_told_and_not_taken(
    origin: Origin, start: StartProxy, tmp_path: Path, redis_store: Flags
) -> None:
    origin.behave(pays())
    ring = tmp_path / "ring"
    ring.write_text(f"# the first encrypts\n{ONE}\n")
    proxy = await start(redis_store, workers=2, record__encryption_keys_file=str(ring))
    await eventually(lambda: ready(proxy), 15.0)
    old, new = new_key(), new_key()
    await pay(proxy, [old])
    ring.write_text(f"{TWO}\n\n{ONE}\n")
    proxy.send(signal.SIGHUP)
    await eventually(lambda: [line["keys"] for line in proxy.said("encryption keys reloaded")] == [[2, 1]] * 2, 10.0)
    await pay(proxy, [new])
    assert sorted(data[:2] for data in await sealed(redis_store)) == [b"\4\1", b"\4\2"]

    ring.write_text(f"{TWO[:-5]}\n")
    proxy.send(signal.SIGHUP)
    await eventually(lambda: len(proxy.said("encryption keys not reloaded")) == 2, 10.0)
    (reason, _) = [line["reason"] for line in proxy.said("encryption keys not reloaded")]
    assert f"record.encryption_keys_file = '{ring}': line 1 must be ID:KEY" in reason
    ring.write_text(f"2:{ONE.partition(':')[2]}\n")
    proxy.send(signal.SIGHUP)
    await eventually(lambda: len(proxy.said("encryption keys not reloaded")) == 4, 10.0)
    assert (
        "whose encryption key 2 is another than this one's" in proxy.said("encryption keys not reloaded")[-1]["reason"]
    )
    for key in (old, new):
        assert (await proxy.record(key))["StatusCode"] == "201"

    ring.write_text(f"{TWO}\n")
    proxy.send(signal.SIGHUP)
    await eventually(lambda: [line["keys"] for line in proxy.said("encryption keys reloaded")][2:] == [[2]] * 2, 10.0)
    assert (await proxy.retrieve(old)).status == 503
    why = proxy.said("store unavailable")[-1]["why"]
    assert why == "a record cannot be opened: it is encrypted with key 1, and the ring has 2"
    assert TWO[2:20] not in proxy.text
    assert ONE[2:20] not in proxy.text


async def test_a_proxy_whose_ring_cannot_be_read_does_not_start_and_says_why_without_the_key(
    tmp_path: Path, origin: Origin
) -> None:
    ring = tmp_path / "ring"
    settings = {
        "upstream.url": f"http://127.0.0.1:{origin.port}",
        "listen": "127.0.0.1:0",
        "ops_listen": "127.0.0.1:0",
        "record.encryption_keys_file": str(ring),
    }

    async def is_told(command: str, why: str, workers: int = 1) -> None:
        done = await asyncio.to_thread(run, command, directory=tmp_path, settings={**settings, "workers": workers})
        assert done.returncode == 1, done
        assert why in done.stdout + done.stderr
        assert ONE[2:20] not in done.stdout + done.stderr

    await is_told("check", "No such file")
    for text, why in (
        ("# nothing\n", "there is no key in it"),
        (f"{ONE}\n{ONE}\n", "line 2 has the id 1 again"),
        (f"one:{ONE}\n", "line 1 must be ID:KEY"),
    ):
        ring.write_text(text)
        await is_told("check", why)
    await asyncio.gather(*(is_told("serve", why, workers) for workers in (1, 2)))


def test_a_ring_that_others_may_read_is_told_by_check(tmp_path: Path, origin: Origin) -> None:
    ring = tmp_path / "ring"
    ring.write_text(f"{ONE}\n")
    url = f"http://127.0.0.1:{origin.port}"
    for mode, told in ((0o644, True), (0o660, True), (0o640, False), (0o600, False)):
        ring.chmod(mode)
        settings = {"upstream.url": url, "record.encryption_keys_file": str(ring)}
        done = run("check", directory=tmp_path, settings=settings)
        assert (f"has the permissions {mode:04o}: others may read it" in done.stdout) == told
        assert "records are encrypted with key 1" in done.stdout


async def test_an_operator_reads_and_rules_over_records_that_are_encrypted(
    origin: Origin, start: StartProxy, redis_store: Flags, tmp_path: Path
) -> None:
    settings = {**redis_store, **SHORT_LEASE, "record.compression": "zstd", "record.encryption_keys": json.dumps([ONE])}
    proxy, key = await start(settings), new_key()
    origin.behave(hang())
    assert (await proxy.post(key)).status == 504

    async def operator(*arguments: str, **others: object) -> tuple[int, str, str]:
        own = {"upstream.url": "http://127.0.0.1:9", **settings, "store.deadline": "2s", **others}
        done = await asyncio.to_thread(run, "key", *arguments, directory=tmp_path, settings=own)
        return done.returncode, done.stdout, done.stderr

    status, said, _ = await operator("show", key.decode())
    assert status == 0
    assert json.loads(said)["url"].endswith("/v2.01/acme/payouts/bankwire/")
    other = {"record.encryption_keys": json.dumps([TWO])}
    status, said, complained = await operator("show", key.decode(), **other)
    assert status == 0
    line = json.loads(said)
    assert (line["state"], line["url"], line["status"], line["truncated"]) == ("unknown", None, None, None)
    assert "encrypted with key 1, and the ring has 2" in complained

    body = tmp_path / "body.json"
    body.write_text('{"Id": "Olivia Martin"}')

    async def settled() -> bool:
        return (await operator("settle", key.decode(), "--status", "201", "--body", str(body)))[0] == 0

    await eventually(settled, 15.0)
    assert (await proxy.record(key))["Resource"] == {"Id": "Olivia Martin"}
    (data,) = await sealed(redis_store)
    assert b"Olivia" not in data


@pytest.mark.parametrize("store", ["sqlite:records.db", "redis+cluster://127.0.0.1:1"], ids=["up", "down"])
async def test_an_incident_is_listed_with_its_url_where_the_key_is_there_and_without_it_where_it_is_not(
    tmp_path: Path, store: str
) -> None:
    """Whatever the store is at, which may be why there are incidents."""
    path = tmp_path / "spool.db"
    vault = Vault(compress=True, ring=KeyRing({1: KEYS[1]}), limit=10**6)
    lost, owner = completed(claim_of()), claim_of()
    spool = Spool(path, f"sqlite://{tmp_path / 'records.db'} idempotency:", max_size=10**6, encrypt=vault.encrypt)
    await spool.open()
    kept: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    spool.put(lost, 0.0, kept.set_result)
    await kept
    (entry,) = (await spool.batch()).entries  # type: ignore[union-attr]  # the disk is there
    assert (entry.record.sealed, entry.record.state) != (b"", State.ABSENT)
    assert await spool.delivered(Delivered([], [], [(entry.id, vault.seal(owner))])) is None
    await spool.close()
    with closing(sqlite3.connect(path)) as connection:
        (incident,) = spooled.incidents(connection)
    assert isinstance(incident, spooled.Incident)
    assert incident.owner.sealed

    async def incidents(*arguments: str, keys: list[str]) -> tuple[int, str, str]:
        settings = {
            "upstream.url": "http://127.0.0.1:9",
            "store.url": store,
            "spool.path": path,
            "record.encryption_keys": json.dumps(keys),
        }
        done = await asyncio.to_thread(run, "incidents", *arguments, directory=tmp_path, settings=settings)
        return done.returncode, done.stdout, done.stderr

    status, said, _ = await incidents(keys=[TWO, ONE])
    assert status == 0
    line = json.loads(said)
    assert (line["status"], line["url"]) == (200, lost.attempt.url.decode())
    status, said, _ = await incidents("--show", str(incident.id), keys=[ONE])
    assert json.loads(said)["Resource"] == {"Id": "2241581"}

    status, said, complained = await incidents(keys=[TWO])
    line = json.loads(said)
    assert (status, line["status"], line["url"]) == (0, None, None)
    assert line["key"] == lost.attempt.key_hash.hex()
    assert "encrypted with key 1, and the ring has 2" in complained
    status, said, complained = await incidents("--show", str(incident.id), keys=[])
    assert "encrypted with key 1, and there is no key" in complained
    assert "2241581" not in said
