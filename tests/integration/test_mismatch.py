"""`on_mismatch = "reject"`: who comes with the key of another request is told so, whatever has become of that one."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Behaviour, Origin, Recorded, after, hang, in_turn, respond
from tests.support.proxy import BODY, PATH, Connection, Proxy, new_key, post, refusal, refused, request, responses
from tests.support.raw import Field, Reply, eventually

REJECT = {"idempotency.on_mismatch": "reject", "upstream.timeout": "500ms"}
MODES: dict[str, Flags] = {
    "conflict": REJECT,
    "replay": {**REJECT, "idempotency.on_reuse": "replay"},
    "wait": {**REJECT, "idempotency.on_concurrent": "wait"},
    "replay and wait": {**REJECT, "idempotency.on_reuse": "replay", "idempotency.on_concurrent": "wait"},
}
JSON = (b"Content-Type", b"application/json")
SECRET = respond(201, [JSON], b'{"secret": 1}')
MINE, ANOTHERS = (b"Authorization", b"Bearer mine"), (b"Authorization", b"Bearer anothers")
STATES = (b"in_progress", b"completed", b"unknown")

every_mode = pytest.mark.parametrize("mode", MODES)
every_state = pytest.mark.parametrize("state", STATES, ids=bytes.decode)


def sent(method: bytes, path: bytes, body: bytes) -> Callable[[bytes], bytes]:
    """A request with a key, of the one who made the first."""

    def made(key: bytes) -> bytes:
        fields = [MINE, (b"Idempotency-Key", key), (b"Content-Length", b"%d" % len(body))]
        return request(method, path, fields, body)

    return made


OTHERS = {
    "body": sent(b"POST", PATH, BODY + b" "),
    "no body": sent(b"POST", PATH, b""),
    "path": sent(b"POST", PATH[:-1], BODY),
    "query": sent(b"POST", PATH + b"?a=1", BODY),
    "method": sent(b"PUT", PATH, BODY),
}
every_other = pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)


@asynccontextmanager
async def key_in(
    state: bytes, origin: Origin, proxy: Proxy, fields: tuple[Field, ...] = (MINE,), body: bytes = BODY
) -> AsyncIterator[bytes]:
    """A key whose first request is in that state."""
    key, gate = new_key(), asyncio.Event()
    behaviours: dict[bytes, Behaviour] = {b"in_progress": after(gate, SECRET), b"completed": SECRET, b"unknown": hang()}
    origin.behave(behaviours[state])
    async with Connection(proxy.port) as client:
        client.send(post(key, fields, body))
        await origin.until(lambda: origin.requests)
        if state != b"in_progress":
            await client.reply()
        yield key
        gate.set()


def reused(reply: Reply, state: bytes, key: bytes) -> None:
    """It is the 422, with what is known of the key."""
    refused(reply, 422, "idempotency_key_reused")
    assert reply.field(b"Idempotency-State") == state
    assert reply.field(b"Idempotency-Expires")
    assert reply.field(b"Link") == b'<%b>; rel="describedby"' % responses(key)
    assert (reply.field(b"Retry-After") is not None) == (state == b"in_progress")
    assert "another request" in refusal(reply)["Message"]


def plain(reply: Reply, state: bytes) -> None:
    """It is the 409 that everybody gets, and has nothing of the first's response."""
    refused(reply, 409, "idempotent_creation_conflict")
    assert reply.field(b"Idempotency-State") == state
    assert b"secret" not in reply.body


@every_other
@every_state
@every_mode
async def test_another_request_is_told_so_in_every_state_and_every_mode_at_once(
    origin: Origin, start_proxy: StartProxy, mode: str, state: bytes, other: Callable[[bytes], bytes]
) -> None:
    proxy = await start_proxy(**MODES[mode], **{"idempotency.methods": ["POST", "PUT"]})
    async with key_in(state, origin, proxy) as key:
        reused(await proxy.call(other(key), within=2), state, key)
        assert proxy._app._parts.waiting._count == 0
    assert len(origin.requests) == 1


async def test_in_every_store_the_payload_is_known_again(origin: Origin, start_proxy: StartProxy, store: Flags) -> None:
    proxy = await start_proxy(**store, **MODES["replay"])
    async with key_in(b"completed", origin, proxy) as key:
        reused(await proxy.call(OTHERS["body"](key)), b"completed", key)
        assert (await proxy.post(key, [MINE])).field(b"Idempotent-Replayed") == b"true"


@pytest.mark.parametrize(("dialect", "status"), [("mangopay", 422), ("problem", 422), ("stripe", 400)])
async def test_in_stripes_dialect_it_is_a_400(
    origin: Origin, start_proxy: StartProxy, dialect: str, status: int
) -> None:
    """stripe-python 16.1 raises an IdempotencyError for 400 and 404 only."""
    proxy = await start_proxy(**REJECT, **{"idempotency.dialect": dialect})
    async with key_in(b"completed", origin, proxy) as key:
        reply = await proxy.call(OTHERS["body"](key))
    assert reply.status == status
    assert reply.field(b"Idempotency-State") == b"completed"
    members = json.loads(reply.body)
    if dialect == "stripe":
        assert members["error"]["type"] == "idempotency_error"
        assert reply.field(b"Stripe-Should-Retry") == b"false"
    elif dialect == "problem":
        assert (members["status"], members["title"]) == (422, "Idempotency-Key is already used")


# -- the same request ------------------------------------------------------------------------------------------------


@every_state
async def test_an_equal_payload_is_no_other_request(origin: Origin, start_proxy: StartProxy, state: bytes) -> None:
    """In pieces, in chunks, with other fields: method, target and body are the same."""
    proxy = await start_proxy(**REJECT)
    async with key_in(state, origin, proxy) as key:
        plain(await proxy.post(key, [MINE, (b"X-Try", b"2"), (b"Content-Type", b"text/x")]), state)
        chunks = b"4\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:4], len(BODY) - 4, BODY[4:])
        fields = [MINE, (b"Idempotency-Key", key), (b"Transfer-Encoding", b"chunked")]
        plain(await proxy.call(request(b"POST", PATH, fields, chunks)), state)
    assert len(origin.requests) == 1


def multipart(boundary: bytes, amount: bytes = b"471") -> tuple[Field, bytes]:
    """A form as a client makes it, with a boundary of its own for each try."""
    part = b'--%b\r\nContent-Disposition: form-data; name="amount"\r\n\r\n%b\r\n' % (boundary, amount)
    file = b'--%b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n\x00\xff\r\n' % boundary
    return (b"Content-Type", b"multipart/form-data; boundary=%b" % boundary), part + file + b"--%b--\r\n" % boundary


@every_state
async def test_a_form_with_another_boundary_is_the_same_request_and_one_with_another_part_is_not(
    origin: Origin, start_proxy: StartProxy, state: bytes
) -> None:
    proxy = await start_proxy(**REJECT)
    field, body = multipart(b"first-boundary")
    async with key_in(state, origin, proxy, (MINE, field), body) as key:
        field, body = multipart(b"second-boundary-which-is-longer")
        plain(await proxy.post(key, [MINE, field], body), state)
        field, body = multipart(b"second-boundary-which-is-longer", b"472")
        reused(await proxy.post(key, [MINE, field], body), state, key)
    assert len(origin.requests) == 1


async def test_a_form_of_two_types_is_compared_by_its_bytes(origin: Origin, start_proxy: StartProxy) -> None:
    """Which boundary does the backend take? By the second, these bodies may be two payments."""
    proxy = await start_proxy(**REJECT)
    (one, body), (other, retried) = multipart(b"first-boundary"), multipart(b"another-boundary")
    async with key_in(b"completed", origin, proxy, (MINE, one, one), body) as key:
        plain(await proxy.post(key, [MINE, one, one], body), b"completed")
        reused(await proxy.post(key, [MINE, other, one], retried), b"completed", key)


async def test_a_form_with_another_boundary_is_replayed(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**MODES["replay"])
    field, body = multipart(b"first-boundary")
    async with key_in(b"completed", origin, proxy, (MINE, field), body) as key:
        field, body = multipart(b"another-boundary")
        reply = await proxy.post(key, [MINE, field], body)
    assert (reply.status, reply.field(b"Idempotent-Replayed")) == (201, b"true")


async def test_a_record_from_before_the_mode_was_on_is_of_no_other_request(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    before = await start_proxy(**shared_store)
    async with key_in(b"completed", origin, before) as key:
        now = await start_proxy(**shared_store, **REJECT)
        plain(await now.call(OTHERS["body"](key)), b"completed")


# -- who waits -------------------------------------------------------------------------------------------------------


async def test_another_request_that_waits_is_a_conflict_and_is_never_given_the_firsts_response(
    origin: Origin, start_proxy: StartProxy
) -> None:
    """Where mismatches are conflicts, it waits like all others: it might go next."""
    modes = {"idempotency.on_reuse": "replay", "idempotency.on_concurrent": "wait"}
    proxy, gate, key = await start_proxy(**modes), asyncio.Event(), new_key()
    origin.behave(after(gate, SECRET))
    async with Connection(proxy.port) as client, Connection(proxy.port) as other:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        other.send(post(key, body=b"another"))
        await eventually(lambda: proxy._app._parts.waiting._count == 1)
        gate.set()
        assert (await client.reply()).status == 201
        plain(await other.reply(), b"completed")
    assert len(origin.requests) == 1


async def test_another_request_that_waited_behind_a_released_one_is_the_first_then(
    origin: Origin, start_proxy: StartProxy
) -> None:
    """What was turned away has used nothing: its payload is not the key's."""
    proxy, gate, key = await start_proxy(**MODES["replay and wait"]), asyncio.Event(), new_key()
    origin.behave(after(gate, respond(401)))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        gate.set()
        assert (await client.reply()).status == 401
    origin.behave(SECRET)
    assert (await proxy.post(key, body=b"another")).status == 201
    reused(await proxy.post(key), b"completed", key)
    assert [seen.body for seen in origin.requests] == [BODY, b"another"]


# -- who may not see the record --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shown", [[ANOTHERS], []], ids=["another's", "none"])
@every_state
@pytest.mark.parametrize("mode", ["conflict", "replay"])
async def test_who_may_not_see_the_record_does_not_learn_whether_the_requests_are_the_same(
    origin: Origin, start_proxy: StartProxy, mode: str, state: bytes, shown: list[Field]
) -> None:
    proxy = await start_proxy(**MODES[mode])
    async with key_in(state, origin, proxy) as key:
        same, other = await proxy.post(key, shown), await proxy.post(key, shown, b"another")
    for reply in (same, other):
        plain(reply, state)
    assert refusal(same)["Message"] == refusal(other)["Message"]
    assert [name for name, _ in same.fields] == [name for name, _ in other.fields]


async def test_who_may_not_see_the_record_waits_like_all_others(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**MODES["replay and wait"])
    async with (
        key_in(b"in_progress", origin, proxy) as key,
        Connection(proxy.port) as one,
        Connection(proxy.port) as other,
    ):
        one.send(post(key, [ANOTHERS]))
        other.send(post(key, [ANOTHERS], b"another"))
        await eventually(lambda: proxy._app._parts.waiting._count == 2)


PROBE: Flags = {
    "scope.from": "path",
    "scope.path": "/{_}/{client}/",
    "responses.paths": ["/{version}/{client}/responses/{key}"],
    "responses.authorize": "probe",
    "responses.probe": "/v2.01/{client}/clients",
}


def guarded(behaviour: Behaviour) -> Behaviour:
    """A backend that shows /v2.01/acme/clients to its client alone."""
    granted, denied = respond(200, [JSON], b"{}"), respond(403, [JSON], b'{"error": "not yours"}')

    async def answer(seen: Recorded, writer: asyncio.StreamWriter) -> None:
        if seen.method == b"GET":
            await (granted if seen.all(b"Authorization") == [MINE[1]] else denied)(seen, writer)
        else:
            await behaviour(seen, writer)

    return answer


@every_state
@pytest.mark.parametrize("mode", ["conflict", "replay"])
async def test_whom_the_backend_does_not_let_see_the_record_does_not_learn_whether_the_requests_are_the_same(
    origin: Origin, start_proxy: StartProxy, mode: str, state: bytes
) -> None:
    """`probe`: the path alone proves nothing, everybody can write it. It is the 409 for both requests or, where the
    backend has been asked, what it says."""
    proxy, key, gate = await start_proxy(**MODES[mode], **PROBE), new_key(), asyncio.Event()
    behaviours: dict[bytes, Behaviour] = {b"in_progress": after(gate, SECRET), b"completed": SECRET, b"unknown": hang()}
    origin.behave(guarded(behaviours[state]))
    async with Connection(proxy.port) as client:
        client.send(post(key, [MINE]))
        await origin.until(lambda: origin.requests)
        if state != b"in_progress":
            await client.reply()
        same, other = await proxy.post(key, [ANOTHERS]), await proxy.post(key, [ANOTHERS], b"another")
        gate.set()
    assert same.status == other.status
    assert same.status in (403, 409)
    assert [name for name, _ in same.fields] == [name for name, _ in other.fields]
    assert b"secret" not in same.body + other.body


async def test_by_probe_who_waits_was_asked_about_once(origin: Origin, start_proxy: StartProxy) -> None:
    proxy, gate, key = await start_proxy(**MODES["replay and wait"], **PROBE), asyncio.Event(), new_key()
    origin.behave(guarded(after(gate, SECRET)))
    async with Connection(proxy.port) as client, Connection(proxy.port) as waiter:
        client.send(post(key, [MINE]))
        await origin.until(lambda: origin.requests)
        waiter.send(post(key, [MINE]))
        await eventually(lambda: proxy._app._parts.waiting._count == 1)
        gate.set()
        assert [(await each.reply()).status for each in (client, waiter)] == [201, 201]
    assert [seen.method for seen in origin.requests] == [b"POST", b"GET"]


async def test_by_probe_who_goes_while_the_backend_is_asked_about_it_does_not_wait_and_is_not_sent(
    origin: Origin, start_proxy: StartProxy
) -> None:
    flags = {**MODES["replay and wait"], **PROBE, "upstream.timeout": "10s"}
    proxy, key = await start_proxy(**flags), new_key()
    turned_away, asked = asyncio.Event(), asyncio.Event()
    origin.behave(in_turn(after(turned_away, respond(401)), after(asked, respond(200)), SECRET))
    parts = proxy._app._parts
    async with Connection(proxy.port) as client, Connection(proxy.port) as gone:
        client.send(post(key, [MINE]))
        await origin.until(lambda: origin.requests)
        gone.send(post(key, [MINE]))
        await origin.until(lambda: len(origin.requests) == 2)
        gone.reset()
        await eventually(lambda: len(proxy._app._server.connections) == 1)
        asked.set()
        assert (await proxy.call(request(b"GET", b"/v2.01/acme/payouts"))).status == 201
        assert parts.waiting._count == 0
        turned_away.set()
        assert (await client.reply()).status == 401
    assert [seen.method for seen in origin.requests] == [b"POST", b"GET", b"GET"]
    await eventually(lambda: not parts.unsettled)


async def test_by_probe_the_one_who_may_see_the_record_is_told_that_it_is_another_request(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**MODES["replay"], **PROBE)
    origin.behave(guarded(SECRET))
    key = new_key()
    assert (await proxy.post(key, [MINE])).status == 201
    assert (await proxy.post(key, [MINE], b"another")).status == 422
    reply = await proxy.post(key, [MINE])
    assert (reply.status, reply.field(b"Idempotent-Replayed")) == (201, b"true")
    assert [seen.body for seen in origin.requests if seen.method == b"POST"] == [BODY]


@pytest.mark.parametrize("mode", ["replay", "conflict"])
async def test_where_the_backend_is_told_the_clients_host_another_host_is_another_request(
    origin: Origin, start_proxy: StartProxy, mode: str
) -> None:
    """Else the second shop's payment would be answered with the first's, and never made."""
    proxy = await start_proxy(**MODES[mode], **{"upstream.host": "preserve"})
    origin.behave(SECRET)
    key = new_key()

    def at(host: bytes) -> bytes:
        return post(key, (MINE,)).replace(b"Host: ", b"Host: " + host + b".", 1)

    assert (await proxy.call(at(b"shop-a"))).status == 201
    refused(await proxy.call(at(b"shop-b")), 422, "idempotency_key_reused")
    again = await proxy.call(at(b"SHOP-A"))
    assert again.status == (201 if mode == "replay" else 409)
    assert len(origin.requests) == 1
