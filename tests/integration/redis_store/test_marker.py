"""A server that was emptied or came back without its data grants nothing."""

import asyncio
import logging

import pytest

from proxy.core.lifecycle import State
from proxy.store.base import Done, Found, Granted, StoreRefused, StoreUnavailable, Unavailable
from proxy.store.marker import FORGOTTEN
from tests.support.raw import eventually
from tests.support.redis_client import Client, OpenStore
from tests.support.stores import Asked, claim_of, completed
from tests.support.valkey import Valkey

pytestmark = pytest.mark.usefixtures("often")


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The marker is looked at as often as the store's deadline allows; that it is lost is no defect here."""
    monkeypatch.setattr("proxy.store.marker.EVERY", 0.1)
    monkeypatch.setattr(logging.getLogger("proxy.store.marker"), "propagate", False)


async def forgotten(store: Asked) -> bool:
    return await store.claim(claim_of()) == Unavailable(FORGOTTEN)


async def test_a_server_that_was_emptied_grants_nothing_until_the_proxy_is_started_anew(
    victim: Valkey, client: Client, open_store: OpenStore
) -> None:
    store, under_way = await open_store(victim.url, prefix="test:"), claim_of()
    await store.claim(under_way)
    await client.flushall()
    await eventually(lambda: forgotten(store))
    with pytest.raises(StoreUnavailable, match="lost its marker"):
        await store.store.ping()
    assert await store.settle(completed(under_way)) == Done(), "what the backend said is written down all the same"
    retry = claim_of(under_way.attempt.key_hash)
    assert await store.claim(retry) == Found(completed(under_way), State.COMPLETED), "and what is there is found"

    anew = await open_store(victim.url, prefix="test:")
    assert await anew.claim(claim_of()) == Granted()
    assert await store.claim(claim_of()) == Unavailable(FORGOTTEN), "its marker is another"


async def test_a_server_that_comes_back_without_its_data_grants_nothing_not_even_what_waits_for_it(
    victim: Valkey, client: Client, open_store: OpenStore
) -> None:
    await client.config_set("appendonly", "no")
    store = await open_store(victim.url, deadline=3.0)
    victim.kill()
    pending = asyncio.gather(*(store.claim(claim_of()) for _ in range(20)))
    for file in victim.directory.glob("appendonlydir/*"):
        file.unlink()
    await asyncio.to_thread(victim.start)
    assert set(await pending) == {Unavailable(FORGOTTEN)}


async def test_a_server_that_comes_back_with_its_data_is_trusted(victim: Valkey, open_store: OpenStore) -> None:
    store = await open_store(victim.url, deadline=3.0)
    victim.kill()
    pending = asyncio.create_task(store.claim(claim_of()))
    await asyncio.to_thread(victim.start)
    assert await pending == Granted()


async def test_a_proxy_that_makes_other_keys_is_refused(victim: Valkey, client: Client, open_store: OpenStore) -> None:
    await open_store(victim.url, prefix="test:", fingerprint=b"ours")
    await open_store(victim.url, prefix="test:", fingerprint=b"ours")
    with pytest.raises(StoreRefused, match="one key would become two"):
        await open_store(victim.url, prefix="test:", fingerprint=b"others")
    await open_store(victim.url, prefix="other:", fingerprint=b"others")
    assert await client.pttl("test:marker") == -1, "it does not expire"
