"""Several proxy processes on one store: a payment that many send at once is made once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.origin import Origin, after, respond
from tests.support.process import ProxyProcess, StartProxy, decoded, starter
from tests.support.proxy import HOST, PATH, new_key, request, responses
from tests.support.raw import Reply, eventually
from tests.support.valkey import Valkey

CROWD = 50
CLAIMS = 'idempotency_proxy_store_seconds_count{operation="claim"}'
PAYOUT = b'{"Id": "2241581"}'
PAYS = respond(200, [(b"Content-Type", b"application/json")], PAYOUT)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin(PAYS) as origin:
        yield origin


@pytest.fixture
async def start_proxy(origin: Origin, tmp_path: Path) -> AsyncIterator[StartProxy]:
    """See `starter`."""
    async with starter(tmp_path, origin.port) as start:
        yield start


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    directory = tmp_path / "valkey"
    directory.mkdir()
    with Valkey(directory) as server:
        yield server.url


@pytest.fixture(params=["two proxies on one Redis", "two proxies on one SQLite file", "two workers on SQLite"])
async def proxies(
    request: pytest.FixtureRequest, start_proxy: StartProxy, tmp_path: Path
) -> tuple[ProxyProcess, ProxyProcess]:
    """Two ways in; the same twice, where two workers share one port."""
    sqlite = f"sqlite:///{tmp_path / 'records.db'}"
    if request.param == "two workers on SQLite":
        one = await start_proxy({"store.url": sqlite}, workers=2)
        await eventually(lambda: both_ready(one))
        return one, one
    on_redis = request.param == "two proxies on one Redis"
    store = {"store.url": request.getfixturevalue("redis") if on_redis else sqlite}
    return await start_proxy(store), await start_proxy(store)


async def both_ready(proxy: ProxyProcess) -> bool:
    return (await proxy.ops("/readyz")).status == 200 and len(proxy.workers) == 2


async def pay_at_once(proxies: tuple[ProxyProcess, ProxyProcess], key: bytes) -> list[Reply]:
    """The answers to the crowd's payments, all with the same key."""
    return await asyncio.gather(*(proxies[number % 2].post(key) for number in range(CROWD)))


async def test_fifty_payments_at_once_with_one_key_are_one_payment(
    origin: Origin, proxies: tuple[ProxyProcess, ProxyProcess]
) -> None:
    answer, key = asyncio.Event(), new_key()
    origin.behave(after(answer, PAYS))
    crowd = asyncio.create_task(pay_at_once(proxies, key))
    await origin.until(lambda: origin.requests)
    answer.set()
    replies = await crowd
    assert Counter(reply.status for reply in replies) == {200: 1, 409: CROWD - 1}
    (paid,) = [reply for reply in replies if reply.status == 200]
    assert paid.body == PAYOUT
    refusals = [decoded(reply, 409) for reply in replies if reply.status == 409]
    assert {refusal["Type"] for refusal in refusals} == {"idempotent_creation_conflict"}
    assert len({refusal["Id"] for refusal in refusals}) == 1
    assert all(set(refusal) == {"Message", "Type", "Id", "Date", "errors"} for refusal in refusals)
    assert len(origin.requests) == 1

    for proxy in proxies:
        assert (await proxy.record(key))["Resource"] == {"Id": "2241581"}
        assert (await proxy.post(key)).status == 409


async def test_a_response_is_shown_by_the_proxy_that_did_not_get_it(
    origin: Origin, proxies: tuple[ProxyProcess, ProxyProcess]
) -> None:
    first, second = proxies
    answer, key = asyncio.Event(), new_key()
    origin.behave(after(answer, PAYS))
    payment = asyncio.create_task(first.post(key))
    await origin.until(lambda: origin.requests)
    assert decoded(await second.retrieve(key), 409)["Type"] == "idempotent_request_in_progress"
    waiting = asyncio.create_task(second.call(request(b"GET", responses(key), [(b"Prefer", b"wait=10")])))
    answer.set()
    assert (await payment).status == 200
    record = decoded(await waiting, 200)
    assert (record["StatusCode"], record["Resource"]) == ("200", {"Id": "2241581"})
    assert record["RequestURL"] == f"http://{HOST.decode()}{PATH.decode()}"


async def test_fifty_keys_at_once_are_fifty_payments_and_are_counted(
    origin: Origin, proxies: tuple[ProxyProcess, ProxyProcess]
) -> None:
    keys = [new_key() for _ in range(CROWD)]
    sent = [(proxies[number % 2], key) for number, key in enumerate([*keys, *keys])]
    replies = await asyncio.gather(*(proxy.post(key) for proxy, key in sent))
    assert Counter(reply.status for reply in replies) == {200: CROWD, 409: CROWD}
    assert sorted(key for recorded in origin.requests for key in recorded.all(b"Idempotency-Key")) == sorted(keys)

    async def counted() -> bool:
        total: Counter[str] = Counter()
        for proxy in set(proxies):
            total.update(await proxy.outcomes())
        return total == {"completed": CROWD, "conflict": CROWD}

    await eventually(counted)  # several workers: once a second
    claims = sum([(await proxy.metrics())[CLAIMS] for proxy in set(proxies)])
    assert claims == 2 * CROWD
