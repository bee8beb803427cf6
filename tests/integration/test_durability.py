"""A payment is sent only once its claim is where the settings want it; and a store that forgot gets none sent."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.store.base import StoreRefused
from proxy.store.marker import FORGOTTEN
from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, after, respond
from tests.support.proxy import Connection, Proxy, new_key, post, refused
from tests.support.raw import eventually
from tests.support.redis_client import Client, follow
from tests.support.valkey import Valkey


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Valkey]:
    (tmp_path / "primary").mkdir()
    with Valkey(tmp_path / "primary") as server:
        yield server


@pytest.fixture
async def client(primary: Valkey) -> AsyncIterator[Client]:
    client = Client.from_url(primary.url)
    yield client
    await client.aclose()


@pytest.fixture
async def replica(tmp_path: Path, primary: Valkey, client: Client) -> AsyncIterator[Valkey]:
    (tmp_path / "replica").mkdir()
    with Valkey(tmp_path / "replica") as server:
        async with Client.from_url(server.url) as replica:
            await follow(replica, client, primary.port)
        yield server


@pytest.fixture
async def proxy(start_proxy: StartProxy, primary: Valkey, replica: Valkey) -> Proxy:
    return await start_proxy(**{"store.url": primary.url, "store.durability": "replicas:1", "store.deadline": "600ms"})


async def test_a_payment_whose_claim_no_replica_has_is_not_sent_and_its_key_stays_usable(
    origin: Origin, proxy: Proxy, replica: Valkey
) -> None:
    key = new_key()
    replica.pause()
    refused(await proxy.post(key), 503, "store_unavailable")
    assert (await proxy.retrieve(key)).status == 404
    replica.resume()
    assert (await proxy.post(key)).status == 200
    assert len(origin.requests) == 1


async def test_a_response_that_no_replica_has_is_given_and_recorded_once_one_has_it(
    origin: Origin, proxy: Proxy, primary: Valkey, replica: Valkey
) -> None:
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(201, body=b"paid")))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        replica.pause()
        gate.set()
        assert (await client.reply()).status == 201
    assert proxy.gauge("spooled") == 1
    replica.resume()
    await eventually(lambda: proxy.gauge("spooled") == 0, within=10.0)
    primary.kill()
    async with Client.from_url(replica.url) as promoted:
        await promoted.replicaof("NO", "ONE")
        records = [await promoted.get(name) for name in await promoted.keys("idempotency:*")]
        assert [record for record in records if isinstance(record, bytes) and record[1:2] == b"c" and b"paid" in record]
    await proxy.stop(at_once=True)


async def test_a_store_that_was_emptied_gets_no_payment_sent(
    origin: Origin,
    start_proxy: StartProxy,
    primary: Valkey,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.store.marker.EVERY", 0.1)
    monkeypatch.setattr(logging.getLogger("proxy.store.marker"), "propagate", False)  # no defect here
    flags = {"store.url": primary.url, "store.deadline": "300ms", "store.on_forgotten": "refuse"}
    proxy, key = await start_proxy(**flags), new_key()
    assert (await proxy.post(key)).status == 200
    await client.flushall()

    async def unready() -> bool:
        return FORGOTTEN in (await proxy.unready() or "")

    await eventually(unready)
    refused(await proxy.post(key), 503, "store_unavailable")
    refused(await proxy.post(new_key()), 503, "store_unavailable")
    assert (await proxy.post()).status == 200, "without a key"
    assert len(origin.requests) == 2
    anew = await start_proxy(**flags)
    assert (await anew.post(new_key())).status == 200


@pytest.mark.parametrize(
    "flags", [{"store.hash_secret": "another"}, {"idempotency.header": "X-Key"}], ids=["secret", "header"]
)
async def test_a_proxy_that_would_make_two_keys_of_one_does_not_start(
    start_proxy: StartProxy, tmp_path: Path, flags: dict[str, str]
) -> None:
    store = {"store.url": f"sqlite:///{tmp_path / 'records.db'}"}
    await start_proxy(**store)
    await start_proxy(**store, **{"idempotency.key_max": 64, "idempotency.header": "idempotency-KEY"})
    with pytest.raises(StoreRefused, match="one key would become two"):
        await start_proxy(**store, **flags)
