"""Who lost the response asks for it, and is shown exactly what was given."""

import asyncio
import json
import re
import time

import pytest

from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Origin, after, hang, respond
from tests.support.proxy import PATH, Connection, Proxy, new_key, post, refusal, refused, request, responses
from tests.support.raw import parse_all

DATE = b"Wed, 13 Jan 2016 22:25:56 GMT"
JSON = (b"Content-Type", b"application/json; charset=utf-8")
PAYOUT = b'{"Id": "2241581", "Tag": null}'


async def test_a_completed_key_shows_its_response(origin: Origin, start_proxy: StartProxy, store: Flags) -> None:
    proxy = await start_proxy(**store)
    origin.behave(respond(200, [(b"Date", DATE), JSON], PAYOUT))
    key = new_key()
    first = await proxy.post(key)
    reply = await proxy.retrieve(key)
    assert reply.status == 200
    assert reply.field(b"Content-Type") == b"application/json"
    assert reply.field(b"Idempotency-State") == b"completed"
    assert reply.field(b"Idempotency-Expires") == first.field(b"Idempotency-Expires")
    assert reply.field(b"Retry-After") is None
    assert json.loads(reply.body) == {
        "StatusCode": "200",
        "ContentLength": str(len(PAYOUT)),
        "ContentType": "application/json; charset=utf-8",
        "Date": DATE.decode(),
        "RequestURL": "http://api.example.com/v2.01/acme/payouts/bankwire/",
        "Resource": {"Id": "2241581", "Tag": None},
    }
    assert (await proxy.retrieve(key)).body == reply.body
    assert len(origin.requests) == 1


async def test_an_error_of_the_backend_is_a_response_like_any_other(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond(500, [JSON], b'{"Message": "out of money"}'))
    key = new_key()
    assert (await proxy.post(key)).status == 500
    record = await proxy.record(key)
    assert (record["StatusCode"], record["Resource"]) == ("500", {"Message": "out of money"})
    assert (await proxy.post(key)).status == 409


async def test_the_url_is_shown_with_its_query_as_it_was_called(proxy: Proxy) -> None:
    key = new_key()
    await proxy.call(post(key, path=PATH + b"?a=%20&b"))
    assert (await proxy.record(key))["RequestURL"] == f"http://api.example.com{PATH.decode()}?a=%20&b"


async def test_a_response_without_a_date_is_shown_with_ours(origin: Origin, proxy: Proxy) -> None:
    key = new_key()
    given = (await proxy.post(key)).field(b"Date")
    assert given is not None
    date = (await proxy.record(key))["Date"]
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date)


async def test_an_unknown_key_shows_the_504_that_was_given(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    proxy = await start_proxy(**store, **{"upstream.timeout": "200ms"})
    origin.behave(hang())
    key = new_key()
    given = await proxy.post(key)
    reply = await proxy.retrieve(key)
    assert (reply.status, reply.field(b"Idempotency-State")) == (200, b"unknown")
    record = json.loads(reply.body)
    assert (record["StatusCode"], record["ContentLength"]) == ("504", str(len(given.body)))
    assert record["Resource"] == json.loads(given.body)


async def test_a_key_in_progress_is_a_409(origin: Origin, start_proxy: StartProxy, store: Flags) -> None:
    proxy = await start_proxy(**store)
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(200)))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        reply = await proxy.retrieve(key)
        gate.set()
        await client.reply()
    refused(reply, 409, "idempotent_request_in_progress")
    assert reply.field(b"Idempotency-State") == b"in_progress"
    assert re.fullmatch(rb"[1-9]\d*", reply.field(b"Retry-After") or b"")
    assert reply.field(b"Idempotency-Expires")


async def test_a_key_that_was_never_seen_is_a_404(origin: Origin, start_proxy: StartProxy, store: Flags) -> None:
    reply = await (await start_proxy(**store)).retrieve(new_key())
    refused(reply, 404, "idempotency_key_not_found")
    for name in (b"Idempotency-State", b"Idempotency-Expires", b"Retry-After"):
        assert reply.field(name) is None
    assert origin.requests == []


@pytest.mark.parametrize("key", [b"short", b"k" * 37, b"k" * 15 + b"_", b"k" * 16 + b"%2F", b"%FF" * 16])
async def test_a_malformed_key_is_a_400(origin: Origin, proxy: Proxy, key: bytes) -> None:
    reply = await proxy.retrieve(key)
    refused(reply, 400, "idempotency_key_invalid")
    assert origin.requests == []


async def test_an_asked_key_may_be_percent_encoded(proxy: Proxy) -> None:
    key = new_key()
    await proxy.post(key)
    assert (await proxy.retrieve(key.replace(b"-", b"%2d"))).status == 200


async def test_head_is_get_without_the_body(proxy: Proxy) -> None:
    key = new_key()
    await proxy.post(key)
    shown = await proxy.retrieve(key)
    asked = await proxy.call(request(b"HEAD", responses(key)), head=True)
    assert (asked.status, asked.body) == (200, b"")
    assert asked.field(b"Content-Length") == b"%d" % len(shown.body)
    assert [field for field in asked.fields if field[0] != b"Date"] == [
        field for field in shown.fields if field[0] != b"Date"
    ]
    unseen = await proxy.call(request(b"HEAD", responses(new_key())), head=True)
    assert unseen.status == 404


@pytest.mark.parametrize(
    "path", [b"/responses/%b", b"/responses/%b//", b"/responses//%b/", b"//responses//%b", b"/responses/%b?a=1"]
)
async def test_slashes_may_be_repeated(proxy: Proxy, path: bytes) -> None:
    key = new_key()
    await proxy.post(key)
    assert (await proxy.call(request(b"GET", path % key))).status == 200


@pytest.mark.parametrize("method", [b"PUT", b"DELETE", b"PATCH", b"OPTIONS"])
async def test_other_methods_there_pass_through(origin: Origin, proxy: Proxy, method: bytes) -> None:
    origin.behave(respond(202, body=b"mine"))
    assert (await proxy.call(request(method, responses(new_key())))).body == b"mine"
    assert [seen.method for seen in origin.requests] == [method]


@pytest.mark.parametrize(
    "path", [b"/responses", b"/responses/", b"/responses//", b"/v1/responses/%b/", b"/responses/%b/more"]
)
async def test_paths_that_ask_for_no_key_pass_through(origin: Origin, proxy: Proxy, path: bytes) -> None:
    target = path.replace(b"%b", new_key())
    assert (await proxy.call(request(b"GET", target))).status == 200
    assert [seen.target for seen in origin.requests] == [target]


async def test_a_post_with_a_key_to_that_path_is_guarded_like_any_other(origin: Origin, proxy: Proxy) -> None:
    key = new_key()
    assert [(await proxy.call(post(key, path=responses(key)))).status for _ in range(2)] == [200, 409]
    assert len(origin.requests) == 1


async def test_who_prefers_to_wait_is_answered_when_the_key_settles(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    proxy = await start_proxy(**store)
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(200, body=b"paid")))
    async with Connection(proxy.port) as client, Connection(proxy.port) as waiting:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        waiting.send(request(b"GET", responses(key), [(b"Prefer", b"respond-async, Wait=10")]))
        assert (await proxy.retrieve(key)).status == 409  # who does not wait, does not
        gate.set()
        assert (await client.reply()).body == b"paid"
        reply = await waiting.reply()
    assert (reply.status, json.loads(reply.body)["Resource"]) == (200, {"Text": "paid"})


@pytest.mark.parametrize(("wish", "cap"), [(b"wait=1", "30s"), (b"wait=600", "1s")])
async def test_the_wait_has_an_end(origin: Origin, start_proxy: StartProxy, wish: bytes, cap: str) -> None:
    proxy = await start_proxy(**{"responses.wait_max": cap})
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(200)))
    async with Connection(proxy.port) as client:
        client.send(post(key))
        await origin.until(lambda: origin.requests)
        asked = time.monotonic()
        reply = await proxy.retrieve(key, [(b"Prefer", wish)])
        gate.set()
        await client.reply()
    assert (reply.status, reply.field(b"Idempotency-State")) == (409, b"in_progress")
    assert 0.9 < time.monotonic() - asked < 3


async def test_who_waits_for_nothing_in_progress_does_not_wait(proxy: Proxy) -> None:
    key = new_key()
    await proxy.post(key)
    asked = time.monotonic()
    assert (await proxy.retrieve(key, [(b"Prefer", b"wait=20")])).status == 200
    assert (await proxy.retrieve(new_key(), [(b"Prefer", b"wait=20")])).status == 404
    assert time.monotonic() - asked < 3


MINE = [(b"Authorization", b"Bearer mine")]
APIKEY = [(b"X-Api-Key", b"mine")]


@pytest.mark.parametrize(
    ("made", "asks", "shown"),
    [
        (MINE, MINE, True),
        (MINE, [(b"authorization", b"Bearer mine")], True),
        (MINE, [(b"Authorization", b"Bearer another")], False),
        (MINE, [(b"X-Api-Key", b"Bearer mine")], False),
        (MINE, [], False),
        ([], [], True),
        ([], MINE, False),
        (APIKEY, APIKEY, True),
        (APIKEY, [(b"X-Api-Key", b"another")], False),
        ([*MINE, *APIKEY], MINE, True),  # the first that is present counts
        (MINE, [*MINE, *APIKEY], True),
        ([*MINE, *APIKEY], APIKEY, False),
    ],
)
async def test_a_record_is_shown_to_the_credential_that_made_the_request(
    proxy: Proxy, made: list[tuple[bytes, bytes]], asks: list[tuple[bytes, bytes]], shown: bool
) -> None:
    key = new_key()
    assert (await proxy.post(key, made)).status == 200
    reply = await proxy.retrieve(key, asks)
    if shown:
        assert reply.status == 200
        return
    never_seen = await proxy.retrieve(new_key(), asks)
    refused(reply, 404, "idempotency_key_not_found")
    assert [name for name, _ in reply.fields] == [name for name, _ in never_seen.fields]
    assert refusal(reply)["Message"] == refusal(never_seen)["Message"]


async def test_a_stranger_learns_nothing_of_a_key_in_progress(origin: Origin, proxy: Proxy) -> None:
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(200)))
    async with Connection(proxy.port) as client:
        client.send(post(key, MINE))
        await origin.until(lambda: origin.requests)
        assert (await proxy.retrieve(key)).status == 404
        assert (await proxy.retrieve(key, [(b"Prefer", b"wait=20")])).status == 404
        assert (await proxy.retrieve(key, MINE)).status == 409
        gate.set()
        await client.reply()


async def test_whoever_knows_the_key_is_shown_the_record_where_the_settings_say_so(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"responses.authorize": "none"})
    key = new_key()
    await proxy.post(key, MINE)
    assert (await proxy.retrieve(key)).status == 200


async def test_answers_to_pipelined_questions_all_arrive_though_the_client_has_said_all(proxy: Proxy) -> None:
    keys = [new_key() for _ in range(3)]
    await proxy.post(keys[0])
    async with Connection(proxy.port) as client:
        client.send(b"".join(request(b"GET", responses(key)) for key in keys))
        client.half_close()
        replies = parse_all(await client.rest())
    assert [reply.status for reply in replies] == [200, 404, 404]
