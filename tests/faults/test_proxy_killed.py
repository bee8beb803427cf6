"""`kill -9` of the proxy: whatever it was at, no payment is made twice, and no response that was given is lost."""

import asyncio
import os

import pytest

from tests.faults.conftest import PAYOUT, PAYS, Settings
from tests.support.origin import Behaviour, Origin, Recorded, hang, send
from tests.support.process import ProxyProcess, StartProxy, decoded
from tests.support.proxy import BODY, Connection, new_key, post
from tests.support.raw import Incomplete, Reply, eventually

CREATED = "A resource has already been created with this Idempotency Key"
SHORT_LEASE = {
    "upstream__timeout": "1s",
    "upstream__connect_timeout": "250ms",
    "upstream__pool_timeout": "250ms",
    "idempotency__lease_margin": "0",
}


async def abandoned(proxy: ProxyProcess, origin: Origin, key: bytes) -> None:
    """A payment reaches the API, which does not answer; then the proxy is killed."""
    arrived = len(origin.requests) + 1
    origin.behave(hang())
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: len(origin.requests) == arrived)
        await proxy.kill()
        assert await client.rest() == b""


async def test_a_proxy_killed_in_mid_call_never_sends_the_payment_again(
    origin: Origin, start_proxy: StartProxy, store: Settings
) -> None:
    proxy = await start_proxy(store)
    earlier, key = [new_key() for _ in range(3)], new_key()
    for one in earlier:
        assert (await proxy.post(one)).status == 200
    await abandoned(proxy, origin, key)
    origin.behave(PAYS)
    await proxy.start()

    again = await proxy.post(key)
    refused = decoded(again, 409)
    assert refused["Type"] == "idempotent_creation_conflict"
    assert "still being processed" in refused["Message"]
    assert again.field(b"Idempotency-State") == b"in_progress"
    assert again.field(b"Retry-After") is not None
    asked = await proxy.retrieve(key)
    assert decoded(asked, 409)["Type"] == "idempotent_request_in_progress"
    assert asked.field(b"Retry-After") is not None
    assert len(origin.requests) == 4

    for one in earlier:
        assert decoded(await proxy.post(one), 409)["Message"] == CREATED
        record = await proxy.record(one)
        assert (record["StatusCode"], record["Resource"]) == ("200", {"Id": "2241581"})
    assert len(origin.requests) == 4


async def test_a_key_whose_proxy_was_killed_reads_as_unknown_once_the_lease_is_over(
    origin: Origin, start_proxy: StartProxy, store: Settings
) -> None:
    proxy = await start_proxy(store, **SHORT_LEASE)
    key = new_key()
    await abandoned(proxy, origin, key)
    origin.behave(PAYS)
    await proxy.start()

    async def unknown() -> bool:
        return await proxy.state(key) == b"unknown"

    await eventually(unknown)
    record = await proxy.record(key)
    assert record["StatusCode"] == "504"
    assert record["RequestURL"] == "http://api.example.com/v2.01/acme/payouts/bankwire/"
    assert record["Resource"]["Type"] == "upstream_outcome_unknown"

    again = await proxy.post(key)
    refused = decoded(again, 409)
    assert refused["Type"] == "idempotent_creation_conflict"
    assert "not known" in refused["Message"]
    assert refused["Id"] == record["Resource"]["Id"]
    assert again.field(b"Idempotency-State") == b"unknown"
    assert again.field(b"Retry-After") is None
    assert len(origin.requests) == 1


async def test_a_proxy_killed_before_the_request_is_whole_leaves_the_key_free(
    origin: Origin, start_proxy: StartProxy, sqlite: Settings
) -> None:
    proxy = await start_proxy(sqlite)
    key = new_key()
    head, _, body = post(key, [(b"Expect", b"100-continue")]).partition(b"\r\n\r\n")
    async with Connection(proxy.port) as client:
        client.send(head + b"\r\n\r\n")
        await client.until(b"HTTP/1.1 100 Continue\r\n\r\n")  # it reads the body now
        client.send(body[:5])
        await proxy.kill()
    await proxy.start()

    assert (await proxy.retrieve(key)).status == 404
    assert (await proxy.post(key)).status == 200
    assert [recorded.body for recorded in origin.requests] == [BODY]


async def test_a_response_that_was_given_outlives_a_proxy_killed_right_after(
    origin: Origin, start_proxy: StartProxy, store: Settings
) -> None:
    proxy = await start_proxy(store)
    key = new_key()
    assert (await proxy.post(key)).body == PAYOUT
    await proxy.restart()

    record = await proxy.record(key)
    assert (record["StatusCode"], record["ContentLength"]) == ("200", str(len(PAYOUT)))
    assert decoded(await proxy.post(key), 409)["Message"] == CREATED
    assert len(origin.requests) == 1


async def answer_of(proxy: ProxyProcess, key: bytes) -> Reply | None:
    """The answer to a payment; None where there is none."""
    try:
        return await proxy.post(key)
    except (ConnectionError, Incomplete):
        return None


def numbered() -> Behaviour:
    """A payout with a number for each, after a while that differs."""

    async def behaviour(request: Recorded, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02 * (os.urandom(1)[0] % 4))
        (key,) = request.all(b"Idempotency-Key")
        body = b'{"Id": "%b"}' % key
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        await send(writer, head + body)

    return behaviour


@pytest.mark.parametrize("answered", [5, 60])
async def test_a_kill_in_a_crowd_of_payments_loses_no_answer_and_repeats_none(
    origin: Origin, start_proxy: StartProxy, store: Settings, answered: int
) -> None:
    origin.behave(numbered())
    proxy = await start_proxy(store)
    keys = [new_key() for _ in range(150)]
    answers: dict[bytes, Reply] = {}
    room = asyncio.Semaphore(30)

    async def pay(key: bytes) -> None:
        async with room:
            reply = await answer_of(proxy, key)
        if reply is not None:
            answers[key] = reply

    async with asyncio.TaskGroup() as payments:
        for key in keys:
            payments.create_task(pay(key))
        await eventually(lambda: len(answers) >= answered)
        await proxy.kill()
    assert {reply.status for reply in answers.values()} == {200}
    assert len(answers) < len(keys), "it was killed too late to prove anything"
    await proxy.start()

    async def pay_again(key: bytes) -> None:
        again = await proxy.post(key)
        if key in answers:
            assert decoded(again, 409)["Message"] == CREATED
            assert (await proxy.record(key))["Resource"] == {"Id": key.decode()}
        else:
            assert again.status in (200, 409)

    async with asyncio.TaskGroup() as payments:
        for key in keys:
            payments.create_task(pay_again(key))
    executed = [key for recorded in origin.requests for key in recorded.all(b"Idempotency-Key")]
    assert len(executed) == len(set(executed)), "a payment was made twice"
    assert set(answers) <= set(executed)
