"""The store is killed, holds still, and comes back: nothing is forwarded without it, and no response is lost by it."""

import asyncio

from tests.faults.conftest import PAYOUT, PAYS
from tests.support.origin import Origin, after
from tests.support.process import ProxyProcess, StartProxy, decoded
from tests.support.proxy import Connection, new_key, post
from tests.support.raw import Reply, eventually
from tests.support.valkey import Valkey

QUICK = {"store__deadline": "300ms"}


async def settled(proxy: ProxyProcess, key: bytes) -> None:
    """Wait until the record of the payment is there, and look at it."""

    async def there() -> bool:
        return await proxy.state(key) == b"completed"

    await eventually(there, 10)
    record = await proxy.record(key)
    assert (record["StatusCode"], record["Resource"]) == ("200", {"Id": "2241581"})


async def under_way(proxy: ProxyProcess, origin: Origin, key: bytes, answer: asyncio.Event) -> "asyncio.Task[Reply]":
    """A payment that is at the API, which answers at *answer*."""
    origin.behave(after(answer, PAYS))
    arrived = len(origin.requests) + 1
    payment = asyncio.create_task(proxy.post(key))
    await origin.until(lambda: len(origin.requests) == arrived)
    return payment


async def test_a_store_that_was_killed_between_two_payments_still_has_the_records(
    origin: Origin, start_proxy: StartProxy, victim: Valkey
) -> None:
    proxy = await start_proxy({"store.url": victim.url}, **QUICK)
    key, other = new_key(), new_key()
    assert (await proxy.post(key)).status == 200

    victim.kill()
    for one in (key, other):
        refused = await proxy.post(one)
        assert decoded(refused, 503)["Type"] == "store_unavailable"
        assert refused.field(b"Retry-After") is not None
    asked = await proxy.retrieve(key)
    assert decoded(asked, 503)["Type"] == "store_unavailable"  # not a 404: nobody knows
    assert (await proxy.ops("/readyz")).status == 503
    assert (await proxy.ops("/healthz")).status == 200
    assert len(origin.requests) == 1

    victim.start()

    async def ready() -> bool:
        return (await proxy.ops("/readyz")).status == 200

    await eventually(ready)
    assert (await proxy.post(key)).status == 409
    await settled(proxy, key)
    assert (await proxy.post(other)).status == 200  # the 503 left it free
    assert len(origin.requests) == 2
    assert {line["operation"] for line in proxy.said("store unavailable")} == {"claim", "read"}


async def test_a_response_that_finds_the_store_dead_is_given_and_recorded_when_the_store_is_back(
    origin: Origin, start_proxy: StartProxy, victim: Valkey
) -> None:
    proxy = await start_proxy({"store.url": victim.url}, **QUICK)
    key, answer = new_key(), asyncio.Event()
    payment = await under_way(proxy, origin, key, answer)
    victim.kill()
    answer.set()
    reply = await payment
    assert (reply.status, reply.body) == (200, PAYOUT)
    (given,) = proxy.said("response given before the store has it")
    assert given["spooled"] is True

    async def spooled() -> bool:
        return (await proxy.metrics())["idempotency_proxy_spooled"] == 1

    await eventually(spooled)
    assert (await proxy.metrics())["idempotency_proxy_unsettled"] == 0

    victim.start()
    await settled(proxy, key)
    assert (await proxy.post(key)).status == 409

    async def delivered() -> bool:
        return (await proxy.metrics())["idempotency_proxy_spooled"] == 0

    await eventually(delivered)
    assert len(origin.requests) == 1


async def test_a_store_that_holds_still_delays_no_answer_and_gets_the_record_when_it_goes_on(
    origin: Origin, start_proxy: StartProxy, victim: Valkey
) -> None:
    proxy = await start_proxy({"store.url": victim.url}, **QUICK)
    key, answer = new_key(), asyncio.Event()
    payment = await under_way(proxy, origin, key, answer)
    victim.pause()
    answer.set()
    assert (await payment).body == PAYOUT
    assert decoded(await proxy.post(new_key()), 503)["Type"] == "store_unavailable"
    victim.resume()
    await settled(proxy, key)
    assert len(origin.requests) == 1


async def test_a_stop_does_not_wait_for_the_store_and_the_next_start_delivers_the_record(
    origin: Origin, start_proxy: StartProxy, victim: Valkey
) -> None:
    proxy = await start_proxy({"store.url": victim.url}, **QUICK)
    key, answer = new_key(), asyncio.Event()
    payment = await under_way(proxy, origin, key, answer)
    victim.kill()
    answer.set()
    assert (await payment).status == 200
    assert await proxy.stop() == 0
    assert not proxy.said("stopped before all was settled")

    victim.start()
    await proxy.start()
    assert (await proxy.post(key)).status == 409
    await settled(proxy, key)
    assert len(origin.requests) == 1


async def test_a_proxy_and_its_store_killed_together_pay_once(
    origin: Origin, start_proxy: StartProxy, victim: Valkey
) -> None:
    proxy = await start_proxy({"store.url": victim.url}, **QUICK)
    earlier, key = new_key(), new_key()
    assert (await proxy.post(earlier)).status == 200
    answer = asyncio.Event()
    origin.behave(after(answer, PAYS))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: len(origin.requests) == 2)
        victim.kill()
        await proxy.kill()
    answer.set()
    victim.start()
    await proxy.start()
    assert (await proxy.post(key)).status == 409
    await settled(proxy, earlier)
    assert len(origin.requests) == 2
