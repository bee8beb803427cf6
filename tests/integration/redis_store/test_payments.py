"""Payments that go on while the store fails over."""

import asyncio
import time

import pytest

from tests.integration.conftest import StartProxy
from tests.support.cluster import ValkeyCluster
from tests.support.origin import Origin, respond
from tests.support.proxy import BODY, Proxy, new_key
from tests.support.raw import eventually

CLIENTS = 16


@pytest.mark.full
async def test_a_node_is_killed_and_no_payment_is_made_twice_and_no_answer_is_lost(
    start_proxy: StartProxy, origin: Origin, cluster: ValkeyCluster
) -> None:
    proxies = [await start_proxy(**{"store.url": cluster.url, "store.deadline": "500ms"}) for _ in range(2)]
    origin.behave(respond(200, (), BODY))
    paid: list[bytes] = []
    refused = 0
    longest = 0.0
    ending = False

    async def client(proxy: Proxy) -> None:
        nonlocal refused, longest
        while not ending:
            key, status = new_key(), 503
            while status == 503:
                began = time.monotonic()
                status = (await proxy.post(key)).status
                longest = max(longest, time.monotonic() - began)
                refused += status == 503
            assert status == 200
            paid.append(key)

    clients = [asyncio.create_task(client(proxies[n % 2])) for n in range(CLIENTS)]
    try:
        await eventually(lambda: len(paid) > 100)
        cluster.primaries[0].kill()
        killed = len(paid)
        await eventually(lambda: refused > 0)
        await eventually(lambda: len(cluster.primaries) == 3, within=15.0)
        before = len(paid)
        await eventually(lambda: len(paid) > before + 100)
    finally:
        ending = True
        await asyncio.gather(*clients)
        await asyncio.to_thread(cluster.heal)

    executed = [value for request in origin.requests for value in request.all(b"Idempotency-Key")]
    assert sorted(executed) == sorted(paid), "each once"
    assert longest < 2.0

    async def all_answers_are_kept() -> bool:
        return all([(await proxies[0].state(key)) == b"completed" for key in paid[killed:]])

    await eventually(all_answers_are_kept, within=15.0)
