"""`[[rules]]`: what holds for some requests in particular; the first that matches counts."""

import asyncio
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio

from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Origin, after, respond
from tests.support.proxy import BODY, Connection, Proxy, new_key, post, refusal, refused, request, responses
from tests.support.raw import Reply, eventually
from tests.support.valkey import Valkey

JSON = (b"Content-Type", b"application/json")
PAID = respond(201, [JSON], b'{"Id": "1"}')
HOUR = 3600
SHORT_LEASE = {
    "store.deadline": "100ms",
    "upstream.pool_timeout": "100ms",
    "upstream.connect_timeout": "100ms",
    "upstream.timeout": "300ms",
    "idempotency.lease_margin": "0s",
}


def rules(*own: dict[str, Any]) -> Flags:
    return {"rules": list(own)}


async def pay(proxy: Proxy, path: bytes, key: bytes | None = None, body: bytes = BODY) -> Reply:
    return await proxy.call(post(key, body=body, path=path))


def first_use(reply: Reply) -> int:
    """The Unix second, by a conflict."""
    return int(refusal(reply)["Id"].partition("#")[2])


def expires(reply: Reply) -> float:
    """The Unix second at which the key is free."""
    value = reply.field(b"Idempotency-Expires")
    assert value is not None
    return parsedate_to_datetime(value.decode()).timestamp()


# -- protect, and require_key ----------------------------------------------------------------------------------------


async def test_what_is_not_protected_passes_twice_with_its_key_untouched(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    proxy = await start_proxy(**store, **rules({"path": "/{_}/oauth/token", "protect": False}))
    origin.behave(respond(200, [JSON], b'{"access_token": "secret"}'))
    key = new_key()
    for path in (b"/v2.01/oauth/token", b"/v2.01/oauth/token/", b"/V2.01//OAuth/%74oken?a=1"):
        reply = await pay(proxy, path, key)
        assert (reply.status, reply.body) == (200, b'{"access_token": "secret"}')
        assert reply.field(b"Idempotency-Expires") is None
        assert (origin.requests[-1].target, origin.requests[-1].all(b"Idempotency-Key")) == (path, [key])
    assert len(origin.requests) == 3
    assert (await proxy.retrieve(key)).status == 404
    assert [(await pay(proxy, b"/v2.01/payouts", key)).status for _ in range(2)] == [200, 409]


@pytest.mark.parametrize("key", [b"bad", b"k" * 99, b"no, key"])
async def test_what_is_not_protected_may_have_any_key(origin: Origin, start_proxy: StartProxy, key: bytes) -> None:
    proxy = await start_proxy(**rules({"path": "/free/**", "protect": False}))
    assert (await pay(proxy, b"/free/1", key)).status == 200
    refused(await pay(proxy, b"/free/../paid", key), 400, "idempotency_key_invalid")
    assert len(origin.requests) == 1


async def test_without_a_key_where_one_is_required_nothing_is_forwarded(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**rules({"path": "/pay/**", "require_key": True}))
    for path in (b"/pay", b"/pay/1", b"/PAY//1", b"/x/../pay/1", b"/%70ay/1", b"/pay;v=1/1"):
        reply = await pay(proxy, path)
        refused(reply, 400, "idempotency_key_missing")
        for name in (b"Idempotency-State", b"Idempotency-Expires", b"Link"):
            assert reply.field(name) is None
    refused(await pay(proxy, b"/pay", b"bad"), 400, "idempotency_key_invalid")
    assert origin.requests == []
    key = new_key()
    assert [(await pay(proxy, b"/pay", key)).status for _ in range(2)] == [200, 409]
    assert (await pay(proxy, b"/other")).status == 200
    assert (await proxy.call(request(b"GET", b"/pay"))).status == 200
    assert (await proxy.call(request(b"PUT", b"/pay", [(b"Content-Length", b"0")]))).status == 200


async def test_a_large_body_without_its_key_is_answered_before_it_has_come(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**rules({"path": "/pay", "require_key": True}))
    fields = [(b"Content-Length", b"1000000"), (b"Expect", b"100-continue")]
    refused(await proxy.call(request(b"POST", b"/pay", fields)), 400, "idempotency_key_missing")
    assert origin.requests == []


@pytest.mark.parametrize(
    ("dialect", "member"), [("mangopay", b'"Type"'), ("problem", b'"code"'), ("stripe", b'"code"')]
)
async def test_it_is_told_so_in_each_dialect(start_proxy: StartProxy, dialect: str, member: bytes) -> None:
    proxy = await start_proxy(**rules({"path": "/pay", "require_key": True}), **{"idempotency.dialect": dialect})
    reply = await pay(proxy, b"/pay")
    assert reply.status == 400
    assert member + b': "idempotency_key_missing"' in reply.body


# -- which one -------------------------------------------------------------------------------------------------------


async def test_the_first_that_matches_counts_and_what_it_does_not_set_is_as_usual(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(
        **{"idempotency.on_reuse": "replay"},
        **rules(
            {"path": "/pay/cards", "on_reuse": "conflict"},
            {"path": "/pay/**", "require_key": True},
            {"path": "/pay/cards/{id}", "methods": ["POST", "PUT"], "protect": False},
        ),
    )
    origin.behave(PAID)

    async def later(path: bytes) -> int:
        key = new_key()
        return [(await pay(proxy, path, key)).status for _ in range(2)][1]

    assert (await pay(proxy, b"/pay/cards")).status == 201  # its rule does not require one
    refused(await pay(proxy, b"/pay/cards/1"), 400, "idempotency_key_missing")
    assert [await later(path) for path in (b"/pay/cards", b"/pay/cards/1", b"/x")] == [409, 201, 201]


async def test_a_rule_is_for_its_methods_and_may_guard_more_than_the_usual(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**rules({"path": "/pay/**", "methods": ["PUT", "DELETE"], "require_key": True}))

    async def call(method: bytes, path: bytes, key: bytes | None = None) -> int:
        own = [] if key is None else [(b"Idempotency-Key", key)]
        return (await proxy.call(request(method, path, [*own, (b"Content-Length", b"0")]))).status

    key = new_key()
    assert [await call(b"PUT", b"/pay/1", key) for _ in range(2)] == [200, 409]
    assert await call(b"DELETE", b"/pay/1", key) == 409
    assert await call(b"DELETE", b"/pay/1") == 400
    assert [await call(b"PUT", b"/x", key) for _ in range(2)] == [200, 200]
    assert await call(b"POST", b"/pay/1") == 200
    assert [await call(b"PATCH", b"/pay/1", key) for _ in range(2)] == [200, 200]


# -- each override ---------------------------------------------------------------------------------------------------


async def test_a_retention_of_its_own_is_told_and_kept(origin: Origin, start_proxy: StartProxy, valkey: Valkey) -> None:
    prefix = f"test:{uuid4()}:"
    flags = {"store.url": valkey.url, "store.prefix": prefix}
    proxy = await start_proxy(**flags, **rules({"path": "/short", "retention": "1h"}))
    async with redis.asyncio.Redis(port=valkey.port) as server:
        for path, retention in ((b"/short", HOUR), (b"/usual", 24 * HOUR)):
            key = new_key()
            first, later = await pay(proxy, path, key), await pay(proxy, path, key)
            assert expires(first) == expires(later) == expires(await proxy.retrieve(key))
            assert expires(first) - first_use(later) in (retention, retention + 1)  # each is rounded down
            left = await server.ttl(prefix + proxy._app._parts.hasher.key(key).hex())
            assert retention - 60 < left <= retention


async def test_when_the_retention_of_its_own_is_over_the_key_is_free(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**SHORT_LEASE, **rules({"path": "/short", "retention": "1s"}))
    short, usual = new_key(), new_key()
    assert [(await pay(proxy, path, key)).status for path, key in ((b"/short", short), (b"/usual", usual))] == [200] * 2

    async def free() -> bool:
        return (await proxy.retrieve(short)).status == 404

    assert (await pay(proxy, b"/short", short)).status == 409
    await eventually(free)
    assert (await pay(proxy, b"/short", short)).status == 200
    assert (await pay(proxy, b"/usual", usual)).status == 409


async def test_on_reuse(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**rules({"path": "/replayed", "on_reuse": "replay"}))
    origin.behave(PAID)
    key, other = new_key(), new_key()
    assert [(await pay(proxy, b"/replayed", key)).status for _ in range(2)] == [201, 201]
    assert [(await pay(proxy, b"/usual", other)).status for _ in range(2)] == [201, 409]
    assert (await pay(proxy, b"/usual", key)).status == 409  # by the rule of the later one, which does not replay
    assert (await pay(proxy, b"/replayed", other)).status == 409  # whose payload nobody has looked at
    assert len(origin.requests) == 2


async def test_on_reuse_may_be_less_than_the_usual(origin: Origin, start_proxy: StartProxy) -> None:
    flags = {"idempotency.on_reuse": "replay", **rules({"path": "/once", "on_reuse": "conflict"})}
    proxy = await start_proxy(**flags)
    key = new_key()
    assert [(await pay(proxy, b"/once", key)).status for _ in range(2)] == [200, 409]


async def test_on_mismatch(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**rules({"path": "/compared", "on_mismatch": "reject"}))
    for path, status in ((b"/compared", 422), (b"/usual", 409)):
        key = new_key()
        assert (await pay(proxy, path, key)).status == 200
        assert (await pay(proxy, path, key, b"another")).status == status
        assert (await pay(proxy, path, key)).status == 409


async def test_on_concurrent(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**rules({"path": "/patient", "on_concurrent": "wait"}))
    gate, patient, usual = asyncio.Event(), new_key(), new_key()
    origin.behave(after(gate, PAID))
    async with Connection(proxy.port) as one, Connection(proxy.port) as other, Connection(proxy.port) as waiter:
        one.send(post(patient, path=b"/patient"))
        other.send(post(usual, path=b"/usual"))
        await origin.until(lambda: len(origin.requests) == 2)
        assert (await pay(proxy, b"/usual", usual)).field(b"Idempotency-State") == b"in_progress"
        waiter.send(post(patient, path=b"/patient"))
        await eventually(lambda: proxy._app._parts.waiting._count == 1)
        gate.set()
        reply = await waiter.reply()
        assert (reply.status, reply.field(b"Idempotency-State")) == (409, b"completed")


async def test_release_statuses(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(
        **rules({"path": "/own", "release_statuses": [403]}, {"path": "/none", "release_statuses": []})
    )
    for path, freeing in ((b"/own", {403}), (b"/none", set()), (b"/usual", {401, 429})):
        for status in (401, 403, 429):
            origin.behave(respond(status))
            key = new_key()
            assert (await pay(proxy, path, key)).status == status
            state = await proxy.state(key)
            assert state == (None if status in freeing else b"completed"), (path, status)


@pytest.mark.parametrize(("own", "usual"), [(10, 1000), (1000, 10)])
async def test_the_body_of_a_request(origin: Origin, start_proxy: StartProxy, own: int, usual: int) -> None:
    proxy = await start_proxy(**{"limits.body": usual}, **rules({"path": "/own", "body": own}))
    for path, limit in ((b"/own", own), (b"/usual", usual)):
        for size, status in ((limit, 200), (limit + 1, 413)):
            key = new_key()
            assert (await pay(proxy, path, key, b"x" * size)).status == status
            chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
            fields = [(b"Idempotency-Key", new_key()), (b"Transfer-Encoding", b"chunked")]
            assert (await proxy.call(request(b"POST", path, fields, chunks))).status == status
            assert (await proxy.state(key) is None) == (status == 413)
        assert (await pay(proxy, path, None, b"x" * 2000)).status == 200  # what passes through has no limit


@pytest.mark.parametrize(("own", "usual"), [(10, 1000), (1000, 10)])
async def test_the_record_of_a_response(origin: Origin, start_proxy: StartProxy, own: int, usual: int) -> None:
    proxy = await start_proxy(**{"record.max_body": usual}, **rules({"path": "/own", "record": own}))
    for path, limit in ((b"/own", own), (b"/usual", usual)):
        for size in (limit, limit + 1):
            origin.behave(respond(200, [(b"Content-Type", b"text/plain")], b"x" * size))
            key = new_key()
            assert (await pay(proxy, path, key)).body == b"x" * size
            record = await proxy.record(key)
            assert record.get("Truncated", False) == (size > limit)
            assert record["Resource"] == (None if size > limit else {"Text": "x" * size})


async def test_records_are_shown_whatever_rule_their_requests_had(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**rules({"path": "/**", "require_key": True}))
    origin.behave(PAID)
    key = new_key()
    assert (await pay(proxy, b"/pay", key)).status == 201
    assert (await proxy.call(request(b"GET", responses(key)))).status == 200
    assert (await proxy.call(request(b"HEAD", responses(key)), head=True)).status == 200
