"""Whoever comes later with a key is refused, and told the truth of its state."""

import asyncio
import re
import time
from collections import Counter
from email.utils import parsedate_to_datetime

import pytest

from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Origin, after, hang, respond
from tests.support.proxy import PATH, Connection, Proxy, new_key, post, refusal, request, responses

ALREADY = "A resource has already been created with this Idempotency Key"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


async def test_a_later_post_is_refused_with_refusal(origin: Origin, start_proxy: StartProxy, store: Flags) -> None:
    proxy = await start_proxy(**store)
    key = new_key()
    began = int(time.time())
    first = await proxy.post(key)
    done = int(time.time())
    later = [await proxy.post(key, body=b"another body"), await proxy.post(key)]
    ids = []
    for reply in later:
        assert (reply.status, reply.reason) == (409, b"Conflict")
        assert reply.field(b"Content-Type") == b"application/json"
        fields = refusal(reply)
        assert (fields["Message"], fields["Type"], fields["errors"]) == (ALREADY, "idempotent_creation_conflict", None)
        assert type(fields["Date"]) is int
        assert done <= fields["Date"] <= time.time()
        ids.append(fields["Id"])
        assert reply.field(b"Idempotency-State") == b"completed"
        assert reply.field(b"Idempotency-Expires") == first.field(b"Idempotency-Expires")
        assert reply.field(b"Link") == b'<%b>; rel="describedby"' % responses(key)
        assert reply.field(b"Retry-After") is None
    assert ids[0] == ids[1]
    found = re.fullmatch(rf"({UUID})#(\d+)", ids[0])
    assert found is not None
    assert began <= int(found[2]) <= done
    assert len(origin.requests) == 1


async def test_the_id_names_the_first_use_and_not_the_answer(origin: Origin, proxy: Proxy) -> None:
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(200)))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        meanwhile = refusal(await proxy.post(key))
        gate.set()
        first = await client.reply()
    afterwards = refusal(await proxy.post(key))
    assert meanwhile["Id"] == afterwards["Id"]
    expires = first.field(b"Idempotency-Expires")
    assert expires is not None
    first_used = int(meanwhile["Id"].partition("#")[2])
    assert parsedate_to_datetime(expires.decode()).timestamp() - first_used == 86_400


async def test_a_key_in_progress_says_when_to_ask_again(origin: Origin, start_proxy: StartProxy, store: Flags) -> None:
    proxy = await start_proxy(**store)
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(200, body=b"paid")))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        reply = await proxy.post(key)
        gate.set()
        assert (await client.reply()).body == b"paid"
    assert (reply.status, reply.field(b"Idempotency-State")) == (409, b"in_progress")
    assert re.fullmatch(rb"[1-9]\d*", reply.field(b"Retry-After") or b"")
    assert reply.field(b"Idempotency-Expires")
    assert reply.field(b"Link") == b'<%b>; rel="describedby"' % responses(key)
    fields = refusal(reply)
    assert fields["Type"] == "idempotent_creation_conflict"
    assert "still being processed" in fields["Message"]
    assert len(origin.requests) == 1


async def test_a_key_whose_outcome_is_not_known_says_so(origin: Origin, start_proxy: StartProxy, store: Flags) -> None:
    proxy = await start_proxy(**store, **{"upstream.timeout": "200ms"})
    key = new_key()
    origin.behave(hang())
    assert (await proxy.post(key)).status == 504
    origin.behave(respond(200))
    reply = await proxy.post(key)
    assert (reply.status, reply.field(b"Idempotency-State")) == (409, b"unknown")
    assert reply.field(b"Retry-After") is None
    fields = refusal(reply)
    assert fields["Type"] == "idempotent_creation_conflict"
    assert "not known" in fields["Message"]
    assert len(origin.requests) == 1


async def race(origin: Origin, proxies: list[Proxy]) -> None:
    """Fifty at once, with one key: one is executed, forty-nine are refused, and all speak of the same attempt."""
    gate = asyncio.Event()
    origin.behave(after(gate, respond(201, body=b'{"Id": "1"}')))
    key = new_key()
    racing = [asyncio.ensure_future(proxies[number % len(proxies)].post(key)) for number in range(50)]
    await origin.until(lambda: sum(task.done() for task in racing) == 49)
    gate.set()
    replies = await asyncio.gather(*racing)
    assert Counter(reply.status for reply in replies) == {201: 1, 409: 49}
    refused = [reply for reply in replies if reply.status == 409]
    assert {reply.field(b"Idempotency-State") for reply in refused} == {b"in_progress"}
    assert len({refusal(reply)["Id"] for reply in refused}) == 1
    assert len(origin.requests) == 1
    for proxy in proxies:
        assert (await proxy.record(key))["StatusCode"] == "201"


async def test_of_fifty_at_once_one_is_executed(origin: Origin, start_proxy: StartProxy, store: Flags) -> None:
    await race(origin, [await start_proxy(**store)])


async def test_of_fifty_at_once_at_two_proxies_one_is_executed(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    await race(origin, [await start_proxy(**shared_store), await start_proxy(**shared_store)])


async def test_a_record_outlives_its_proxy(origin: Origin, start_proxy: StartProxy, shared_store: Flags) -> None:
    key = new_key()
    origin.behave(respond(200, body=b"paid"))
    before = await start_proxy(**shared_store)
    assert (await before.post(key)).status == 200
    refused = refusal(await before.post(key))
    await before.stop()
    restarted = await start_proxy(**shared_store)
    assert refusal(await restarted.post(key))["Id"] == refused["Id"]
    assert (await restarted.record(key))["Resource"] == {"Text": "paid"}
    assert len(origin.requests) == 1


async def test_a_renewed_bearer_meets_its_own_key(origin: Origin, proxy: Proxy) -> None:
    key = new_key()
    replies = [await proxy.post(key, [(b"Authorization", b"Bearer %d" % number)]) for number in range(3)]
    assert [reply.status for reply in replies] == [200, 409, 409]
    assert len(origin.requests) == 1


async def test_a_key_is_taken_on_every_path(origin: Origin, proxy: Proxy) -> None:
    key = new_key()
    assert (await proxy.post(key)).status == 200
    for path in (PATH + b"?retry=1", b"/v2.01/another/transfers/", b"/"):
        assert (await proxy.call(post(key, path=path))).status == 409
    assert len(origin.requests) == 1


async def test_a_refusal_leaves_the_connection_usable(origin: Origin, proxy: Proxy) -> None:
    key = new_key()
    async with Connection(proxy.port) as client:
        client.send(post(key) * 3 + post(new_key()))  # pipelined
        assert [(await client.reply()).status for _ in range(4)] == [200, 409, 409, 200]
    assert len(origin.requests) == 2


async def test_the_link_leads_to_the_record_whatever_a_key_is_made_of(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"idempotency.key_chars": "A-Za-z0-9%:?~-"})
    key = b"a%2f:?~-0123456789"
    assert (await proxy.post(key)).status == 200
    link = (await proxy.post(key)).field(b"Link")
    assert link == b'</responses/a%252f%3A%3F~-0123456789/>; rel="describedby"'
    assert (await proxy.call(request(b"GET", link[1:].partition(b">")[0]))).status == 200


@pytest.mark.parametrize(
    ("path", "link"),
    [
        (PATH, b"/v2.01/acme/responses/%b/"),
        (b"//v2.01//acme", b"/v2.01/acme/responses/%b/"),
        (b"/v2.01/%61c me;a=1/x?b=2".replace(b" ", b"%20"), b"/v2.01/ac%%20me/responses/%b/"),
        (b"/v2.01/other/../acme/pay", b"/v2.01/acme/responses/%b/"),  # as a scope sees it
        (b"/payouts", None),
        (b"/", None),
    ],
)
async def test_the_captures_of_the_link_are_those_of_the_request_or_there_is_none(
    start_proxy: StartProxy, path: bytes, link: bytes | None
) -> None:
    proxy = await start_proxy(**{"responses.paths": ["/{version}/{client}/responses/{key}"]})
    key = new_key()
    assert (await proxy.call(post(key, path=path))).status == 200
    reply = await proxy.call(post(key, path=path))
    found = reply.field(b"Link")
    assert (reply.status, found) == (409, None if link is None else b'<%b>; rel="describedby"' % (link % key))
    target = b"/v2.01/acme/responses/%b/" % key if found is None else found[1:].partition(b">")[0]
    assert (await proxy.call(request(b"GET", target))).status == 200


async def test_a_key_is_free_again_when_its_retention_is_over(origin: Origin, start_proxy: StartProxy) -> None:
    waits = {"store.deadline": "100ms", "upstream.pool_timeout": "100ms", "upstream.connect_timeout": "100ms"}
    proxy = await start_proxy(
        **waits, **{"upstream.timeout": "300ms", "idempotency.lease_margin": "0s", "idempotency.retention": "1s"}
    )
    key = new_key()
    assert [(await proxy.post(key)).status for _ in range(2)] == [200, 409]

    async def free() -> bool:
        return (await proxy.retrieve(key)).status == 404

    await origin.until(free)
    assert (await proxy.post(key)).status == 200
    assert len(origin.requests) == 2
