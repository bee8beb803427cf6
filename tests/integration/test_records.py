"""Records that are compressed and encrypted: nobody who reads the store reads them, and no client sees a difference."""

import base64
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from proxy.core.record import Response
from proxy.store.codec import HASH_OFFSET, decode, encode
from proxy.store.keyring import KeyRing
from proxy.store.vault import Vault
from tests.integration.conftest import Flags, StartProxy
from tests.integration.test_spool import DEADLINE, completes, down, under_way
from tests.support.origin import Origin, respond
from tests.support.proxy import Proxy, new_key, refused
from tests.support.raw import eventually

OLD, NEW = (f"{number}:{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2))
BODY = json.dumps({"Id": "2241581", "Owner": "Olivia Martin", "Amount": 4711, "Tags": ["payout"] * 20}).encode()
FIELDS = [(b"Content-Type", b"application/json"), (b"X-Account", b"DE02120300000000202051"), (b"x-account", b"2")]
PAID = respond(201, FIELDS, BODY)
SECRETS = (b"Olivia", b"4711", b"DE0212", b"payouts", b"bankwire")
ENCRYPTED = {"record.encryption_keys": [OLD]}
KINDS: dict[str, dict[str, Any]] = {
    "zstd": {"record.compression": "zstd"},
    "AES": ENCRYPTED,
    "both": {"record.compression": "zstd", **ENCRYPTED},
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return KINDS[request.param]


async def values(store: Flags) -> list[bytes]:
    """All that lies in the store."""
    url = str(store["store.url"])
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite://"), timeout=5)) as connection:
            rows = connection.execute("SELECT data FROM record UNION ALL SELECT value FROM kept").fetchall()
        return [bytes(data) for (data,) in rows]
    async with Redis.from_url(url) as client:
        found = [await client.get(name) for name in await client.keys(f"{store['store.prefix']}*")]
    return [value for value in found if isinstance(value, bytes)]


def bytes_of(path: Path) -> bytes:
    """Of a SQLite file, and of what is to go into it."""
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


async def pays(proxy: Proxy, key: bytes) -> None:
    reply = await proxy.post(key)
    assert (reply.status, reply.body) == (201, BODY)
    assert reply.all(b"X-Account") == [b"DE02120300000000202051", b"2"]


async def knows(proxy: Proxy, key: bytes) -> None:
    """It shows the record, and refuses the key."""
    record = await proxy.record(key)
    assert (record["StatusCode"], record["Resource"]) == ("201", json.loads(BODY))
    assert record["RequestURL"].endswith("/v2.01/acme/payouts/bankwire/")
    refused(await proxy.post(key), 409, "idempotent_creation_conflict")


async def cannot_tell(proxy: Proxy, key: bytes) -> None:
    """The key is taken, and nobody can read by what: never 404, never sent. Whose it is lies in clear: a stranger is
    told the same as of a key that there is not."""
    refused(await proxy.retrieve(key), 503, "store_unavailable")
    refused(await proxy.post(key), 409, "idempotent_creation_conflict")
    stranger = [(b"Authorization", b"Bearer somebody else")]
    refused(await proxy.retrieve(key, stranger), 404, "idempotency_key_not_found")
    refused(await proxy.post(key, stranger), 409, "idempotent_creation_conflict")


async def test_proxies_that_seal_read_each_others_records(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags, kind: dict[str, Any]
) -> None:
    origin.behave(PAID)
    one, other = await start_proxy(**shared_store, **kind), await start_proxy(**shared_store, **kind)
    first, second = new_key(), new_key()
    await pays(one, first)
    await pays(other, second)
    for proxy in (one, other):
        await knows(proxy, first)
        await knows(proxy, second)
    assert len(origin.requests) == 2


async def test_who_reads_the_store_finds_neither_url_nor_response_in_it(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    proxy = await start_proxy(**shared_store, **KINDS["both"])
    async with under_way(origin, proxy, new_key()) as answer:
        (claim,) = [data for data in await values(shared_store) if data.startswith(b"\2i")]
        await answer()
    origin.behave(PAID)
    await pays(proxy, new_key())
    there = await values(shared_store)
    assert len(there) >= 2
    for data in (claim, *there):
        for secret in SECRETS:
            assert secret not in data


async def test_a_replay_of_what_was_sealed_is_exact(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags, kind: dict[str, Any]
) -> None:
    origin.behave(PAID)
    proxy, key = await start_proxy(**shared_store, **kind, **{"idempotency.on_reuse": "replay"}), new_key()
    first, again = await proxy.post(key), await proxy.post(key)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.all(b"X-Account") == first.all(b"X-Account")
    assert again.field(b"Date") == first.field(b"Date")
    assert again.field(b"Idempotent-Replayed") == b"true"
    assert len(origin.requests) == 1


async def test_a_replay_that_cannot_be_opened_is_a_conflict_and_is_not_sent_again(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    origin.behave(PAID)
    replays, key = {**shared_store, "idempotency.on_reuse": "replay"}, new_key()
    first = await start_proxy(**replays, **ENCRYPTED)
    await pays(first, key)
    await first.stop()
    proxy = await start_proxy(**replays, **{"record.encryption_keys": [NEW]})
    answer = await proxy.post(key)
    refused(answer, 409, "idempotent_creation_conflict")
    assert answer.field(b"Idempotency-State") == b"completed"
    assert len(origin.requests) == 1


async def test_what_was_written_in_clear_is_read_when_a_ring_is_there_and_what_is_new_is_encrypted(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    origin.behave(PAID)
    before, after = new_key(), new_key()
    plain = await start_proxy(**shared_store)
    await pays(plain, before)
    await plain.stop()
    proxy = await start_proxy(**shared_store, **KINDS["both"])
    await knows(proxy, before)
    await pays(proxy, after)
    await knows(proxy, after)
    clear = [b"Olivia" in data for data in await values(shared_store) if len(data) > 100]
    assert sorted(clear) == [False, True]


async def test_a_key_that_was_under_way_when_the_proxy_began_to_encrypt_is_settled(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    plain, key = await start_proxy(**shared_store), new_key()
    async with under_way(origin, plain, key) as answer:
        encrypting = await start_proxy(**shared_store, **ENCRYPTED)
        refused(await encrypting.post(key), 409, "idempotent_creation_conflict")
        await answer()
    assert await encrypting.state(key) == b"completed"


async def test_who_compresses_no_more_reads_what_was_compressed(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    origin.behave(PAID)
    key = new_key()
    compressing = await start_proxy(**shared_store, **KINDS["zstd"])
    await pays(compressing, key)
    await compressing.stop()
    await knows(await start_proxy(**shared_store), key)


async def test_after_a_rotation_old_records_are_read_and_without_their_key_they_are_a_503_never_a_404(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    origin.behave(PAID)
    old, new = new_key(), new_key()

    async def restarted(keys: Sequence[str]) -> Proxy:
        return await start_proxy(**shared_store, **{"record.encryption_keys": list(keys)})

    await pays(first := await restarted([OLD]), old)
    await first.stop()
    await pays(second := await restarted([NEW, OLD]), new)
    await knows(second, old)
    await knows(second, new)
    await second.stop()
    third = await restarted([NEW])
    await knows(third, new)
    await cannot_tell(third, old)
    assert len(origin.requests) == 2
    await third.stop()
    none = await start_proxy(**shared_store)
    await cannot_tell(none, new)
    await none.stop()
    await knows(await restarted([NEW, OLD]), old)


async def test_a_record_that_was_moved_to_another_key_is_not_shown(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path
) -> None:
    """Who can write to the store, and not encrypt, cannot give one client another's response."""
    file = tmp_path / "records.db"
    origin.behave(PAID)
    proxy = await start_proxy(**{"store.url": f"sqlite://{file}"}, **ENCRYPTED)
    mine, theirs = new_key(), new_key()
    await pays(proxy, mine)
    await pays(proxy, theirs)
    with closing(sqlite3.connect(file, timeout=5, isolation_level=None)) as connection:
        (one, data), (other, _) = connection.execute("SELECT hash, data FROM record").fetchall()
        forged = data[:HASH_OFFSET] + other + data[HASH_OFFSET + len(other) :]
        assert decode(forged, other).attempt.key_hash == other != one
        connection.execute("UPDATE record SET data = ? WHERE hash = ?", (forged, other))
    shown = [(await proxy.retrieve(key)).status for key in (mine, theirs)]
    assert sorted(shown) == [200, 503]


async def test_what_waited_in_clear_in_the_spool_when_a_ring_came_is_delivered_encrypted(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path
) -> None:
    file, spool = tmp_path / "records.db", tmp_path / "spool.db"
    settings: dict[str, Any] = {"store.url": f"sqlite:///{file}", "store.deadline": f"{DEADLINE}s"}
    plain, key = await start_proxy(**settings), new_key()
    async with under_way(origin, plain, key) as answer:
        with down(file):
            await answer()
            await plain.stop(at_once=True)
    assert b"X-Order" in bytes_of(spool)
    proxy = await start_proxy(**settings, **KINDS["both"])
    await eventually(completes(proxy, key), within=10.0)
    assert (await proxy.retrieve(key)).status == 200
    for data in await values(settings):
        for secret in (b"X-Order", b"Amount", b"payouts"):
            assert secret not in data


# -- somebody who can write to the store, and has no key --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["in clear", "compressed"])
async def test_where_encryption_is_required_a_response_that_somebody_without_a_key_has_written_is_not_shown(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "records.db"
    origin.behave(PAID)
    strict = {"store.url": f"sqlite://{file}", **ENCRYPTED, "record.require_encryption": True}
    proxy = await start_proxy(**strict, **{"idempotency.on_reuse": "replay"})
    key = new_key()
    await pays(proxy, key)
    assert (await proxy.retrieve(key)).status == 200
    with closing(sqlite3.connect(file, timeout=5, isolation_level=None)) as connection:
        ((name, data),) = connection.execute("SELECT hash, data FROM record").fetchall()
        there = decode(data, name)
        body = b'{"Status": "SUCCEEDED", "Amount": 1000000}' * 20
        response = Response(201, b"Created", b"", body, len(body), truncated=False, date=0)
        forged = there._replace(attempt=there.attempt._replace(url=b"https://api/"), sealed=b"", response=response)
        forged = Vault(compress=kind == "compressed", ring=None, limit=0).seal(forged)
        assert bool(forged.sealed) == (kind == "compressed")
        connection.execute("UPDATE record SET data = ?", (encode(forged),))
    refused(await proxy.retrieve(key), 503, "store_unavailable")
    refused(await proxy.post(key), 409, "idempotent_creation_conflict")
    assert len(origin.requests) == 1


# -- no memory --------------------------------------------------------------------------------------------------------


def no_memory(monkeypatch: pytest.MonkeyPatch, method: str, times: int) -> Callable[[], int]:
    """The ring fails so often, and then does what it is there for. How often it will, that tells."""
    left, real = times, getattr(KeyRing, method)

    def fails(*arguments: object) -> object:
        nonlocal left
        if left:
            left -= 1
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(KeyRing, method, fails)
    return lambda: left


@pytest.mark.parametrize("times", [1, 2, 4])
async def test_an_answer_of_the_api_that_cannot_be_sealed_for_a_moment_is_given_and_recorded_later(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Once: the settlement; twice: its way into the spool, too; then more than once from memory."""
    proxy, key = await start_proxy(**{"store.url": f"sqlite://{tmp_path / 'records.db'}"}, **ENCRYPTED), new_key()
    async with under_way(origin, proxy, key) as answer:
        left = no_memory(monkeypatch, "encrypt", times)
        assert (await answer()).status == 201
        assert left() <= 2
    await eventually(completes(proxy, key), within=10.0)
    assert left() == 0
    await eventually(lambda: proxy.gauge("unsettled") == 0)
    assert len(origin.requests) == 1


async def test_a_claim_that_cannot_be_sealed_is_a_503_and_nothing_is_sent(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, key = await start_proxy(**{"store.url": f"sqlite://{tmp_path / 'records.db'}"}, **ENCRYPTED), new_key()
    no_memory(monkeypatch, "encrypt", 1)
    refused(await proxy.post(key), 503, "store_unavailable")
    assert proxy.gauge("unsettled") == 0
    assert not origin.requests
    origin.behave(PAID)
    await pays(proxy, key)


async def test_who_asks_for_a_record_that_there_is_no_memory_to_open_is_told_503_and_may_ask_again(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.behave(PAID)
    proxy, key = await start_proxy(**{"store.url": f"sqlite://{tmp_path / 'records.db'}"}, **ENCRYPTED), new_key()
    await pays(proxy, key)
    no_memory(monkeypatch, "decrypt", 1)
    refused(await proxy.retrieve(key), 503, "store_unavailable")
    await knows(proxy, key)


# -- the spool --------------------------------------------------------------------------------------------------------


async def test_what_waits_in_the_spool_is_sealed_and_is_delivered_as_it_is(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path
) -> None:
    file, spool = tmp_path / "records.db", tmp_path / "spool.db"
    settings: Mapping[str, Any] = {"store.url": f"sqlite:///{file}", "store.deadline": f"{DEADLINE}s"}
    proxy, key = await start_proxy(**settings, **KINDS["both"]), new_key()
    async with under_way(origin, proxy, key) as answer:
        with down(file):
            await answer()
            for secret in (b"payouts", b"bankwire", b"Amount", b"X-Order"):
                assert secret not in bytes_of(spool)
            assert b"CREATE TABLE entry" in bytes_of(spool)
            await eventually(lambda: proxy.gauge("spooled") == 1)
        await eventually(completes(proxy, key))
    assert (await proxy.record(key))["RequestURL"].endswith("/payouts/bankwire/")
