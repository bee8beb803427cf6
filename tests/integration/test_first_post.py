"""The first POST with a key: the backend sees what the client sent, the client sees what the backend answered."""

import asyncio
import re
import time
from email.utils import parsedate_to_datetime

import pytest

from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Behaviour, Origin, Recorded, cut, raw, respond, respond_chunked
from tests.support.proxy import BODY, HOST, PATH, Connection, Proxy, new_key, post, request
from tests.support.raw import Field, Reply

DAY = 86_400
DATE = (b"Date", b"Wed, 13 Jan 2016 22:25:56 GMT")
PAYOUT = b'{"Id": "2241581", "Amount": 1.10}\n'


def without_expires(reply: Reply) -> list[Field]:
    return [field for field in reply.fields if field[0] != b"Idempotency-Expires"]


async def test_the_first_answer_is_the_backends_byte_for_byte(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    fields = [
        (b"x-ODD-case", b"1"),
        DATE,
        (b"Set-Cookie", b"a=1; Path=/"),
        (b"Server", b"bank/1.0"),
        (b"Content-Type", b"application/json; charset=utf-8"),
        (b"set-cookie", b"b=2"),
        (b"X-Latin", b"caf\xe9"),
        (b"X-Empty", b""),
    ]
    origin.behave(respond(201, fields, PAYOUT))
    reply = await (await start_proxy(**store)).post(new_key())
    assert (reply.status, reply.reason, reply.body) == (201, b"Created", PAYOUT)
    assert without_expires(reply) == [*fields, (b"Content-Length", b"%d" % len(PAYOUT))]
    assert reply.field(b"Idempotency-Expires")


async def test_a_reason_that_is_not_the_usual_one_is_kept(origin: Origin, proxy: Proxy) -> None:
    origin.behave(raw(b"HTTP/1.1 299 Paid, more or less\r\nContent-Length: 0\r\n\r\n"))
    reply = await proxy.post(new_key())
    assert (reply.status, reply.reason) == (299, b"Paid, more or less")


async def test_the_key_is_said_to_be_taken_for_24_hours(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond(200, [(b"Idempotency-Expires", b"tomorrow"), (b"idempotency-expires", b"never")], PAYOUT))
    asked = int(time.time())
    reply = await proxy.post(new_key())
    expires = reply.field(b"Idempotency-Expires")  # one field, ours: the upstream's own give way
    assert expires is not None
    assert re.fullmatch(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", expires)
    assert asked + DAY - 1 <= parsedate_to_datetime(expires.decode()).timestamp() <= time.time() + DAY + 1


async def test_the_first_answer_names_no_state(proxy: Proxy) -> None:
    reply = await proxy.post(new_key())
    assert reply.field(b"Idempotency-State") is None
    assert reply.field(b"Link") is None
    assert reply.field(b"Retry-After") is None


async def test_hop_by_hop_fields_of_the_answer_stay_on_their_hop(origin: Origin, proxy: Proxy) -> None:
    hop_by_hop = [
        (b"Connection", b"X-Private, Content-Length, keep-alive"),
        (b"X-Private", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Trailer", b"X-Sum"),
        (b"Upgrade", b"h2c"),
    ]
    origin.behave(respond(200, [DATE, *hop_by_hop, (b"X-Public", b"2")], PAYOUT))
    reply = await proxy.post(new_key())
    length = (b"Content-Length", b"%d" % len(PAYOUT))  # named by Connection, and kept: it is the message's end
    assert without_expires(reply) == [DATE, (b"X-Public", b"2"), length]
    assert reply.body == PAYOUT


@pytest.mark.parametrize(
    "behaviour",
    [
        respond_chunked([PAYOUT[:5], PAYOUT[5:]], fields=[DATE], trailers=[(b"X-Sum", b"1")]),
        cut(b"HTTP/1.1 200 OK\r\nDate: Wed, 13 Jan 2016 22:25:56 GMT\r\n\r\n", PAYOUT),
        cut(b"HTTP/1.0 200 OK\r\nDate: Wed, 13 Jan 2016 22:25:56 GMT\r\n\r\n", PAYOUT),
    ],
    ids=["chunked, with a trailer", "ends with the connection", "HTTP/1.0"],
)
async def test_an_answer_arrives_whole_however_it_ends(origin: Origin, proxy: Proxy, behaviour: Behaviour) -> None:
    origin.behave(behaviour)
    key = new_key()
    reply = await proxy.post(key)
    assert (reply.status, reply.body) == (200, PAYOUT)
    assert without_expires(reply) == [DATE, (b"Content-Length", b"%d" % len(PAYOUT))]
    record = await proxy.record(key)
    assert "Truncated" not in record
    assert record["Resource"] == {"Text": PAYOUT.decode()}


async def test_an_answer_without_content(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond(204, [DATE]))
    key = new_key()
    reply = await proxy.post(key)
    assert (reply.status, without_expires(reply)) == (204, [DATE])  # no Content-Length: RFC 9110 §8.6
    assert (await proxy.record(key))["Resource"] is None


async def test_early_hints_come_before_the_answer_and_other_interim_answers_do_not(
    origin: Origin, proxy: Proxy
) -> None:
    interim = (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\nX: 1\r\n\r\n"
    )
    origin.behave(raw(interim + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    async with Connection(proxy.port) as client:
        client.send(post(new_key()))
        hints, answer = await client.reply(), await client.reply()
    assert (hints.status, hints.all(b"Link"), hints.all(b"X")) == (103, [b"</a.css>"], [])
    assert (answer.status, answer.body) == (200, b"ok")


async def test_the_backend_sees_the_request_as_it_was_sent(origin: Origin, proxy: Proxy) -> None:
    key = new_key()
    target = b"/v2.01/acme/payouts/%62ankwire/../x//?b=2&a=1&a=%20"
    fields = [
        (b"x-ODD-case", b"1"),
        (b"Idempotency-Key", key),
        (b"Accept", b"application/json"),
        (b"Cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"Content-Length", b"%d" % len(BODY)),
        (b"Authorization", b"Bearer secret"),
    ]
    await proxy.call(request(b"POST", target, fields, BODY))
    (seen,) = origin.requests
    assert (seen.method, seen.target, seen.body) == (b"POST", target, BODY)
    assert seen.all(b"Host") == [b"127.0.0.1:%d" % origin.port]
    added = [b"host", b"via", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id"]
    assert [field for field in seen.fields if field[0].lower() not in added] == fields
    assert seen.all(b"Via") == [b"1.1 idempotency-proxy"]
    assert seen.all(b"X-Forwarded-For") == [b"127.0.0.1"]
    assert seen.all(b"X-Forwarded-Proto") == [b"http"]
    assert seen.all(b"X-Forwarded-Host") == [HOST]
    (request_id,) = seen.all(b"X-Request-Id")
    assert len(request_id) >= 16


async def test_what_a_stranger_says_of_its_way_is_replaced(origin: Origin, proxy: Proxy) -> None:
    lies = [(b"X-Forwarded-For", b"10.0.0.1"), (b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Host", b"evil")]
    await proxy.post(new_key(), [*lies, (b"X-Request-Id", b"mine"), (b"Via", b"1.1 before")])
    (seen,) = origin.requests
    assert seen.all(b"X-Forwarded-For") == [b"127.0.0.1"]
    assert seen.all(b"X-Forwarded-Proto") == [b"http"]
    assert seen.all(b"X-Forwarded-Host") == [HOST]
    assert seen.all(b"X-Request-Id") == [b"mine"]
    assert seen.all(b"Via") == [b"1.1 before", b"1.1 idempotency-proxy"]


async def test_what_a_trusted_proxy_says_of_its_way_is_added_to(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"forwarded.trusted": ["127.0.0.0/8"]})
    key = new_key()
    way = [(b"X-Forwarded-For", b"10.0.0.1"), (b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-Host", b"pay.example")]
    await proxy.post(key, way)
    (seen,) = origin.requests
    assert b", ".join(seen.all(b"X-Forwarded-For")) == b"10.0.0.1, 127.0.0.1"
    assert seen.all(b"X-Forwarded-Proto") == [b"https"]
    assert seen.all(b"X-Forwarded-Host") == [b"pay.example"]
    assert (await proxy.record(key))["RequestURL"] == f"https://pay.example{PATH.decode()}"


@pytest.mark.parametrize(("setting", "host"), [("preserve", HOST), ("inner.example:8443", b"inner.example:8443")])
async def test_the_host_that_the_backend_sees_is_a_setting(
    origin: Origin, start_proxy: StartProxy, setting: str, host: bytes
) -> None:
    await (await start_proxy(**{"upstream.host": setting})).post(new_key())
    assert origin.requests[0].all(b"Host") == [host]


async def test_hop_by_hop_fields_of_the_request_stay_on_their_hop_and_the_key_does_not(
    origin: Origin, proxy: Proxy
) -> None:
    key = new_key()
    named = b"Idempotency-Key, Content-Length, Host, Via, X-Forwarded-For, X-Request-Id, X-Private"
    fields = [(b"Connection", named), (b"X-Private", b"1"), (b"TE", b"trailers"), (b"Keep-Alive", b"timeout=5")]
    await proxy.post(key, [*fields, (b"Proxy-Connection", b"keep-alive"), (b"Trailer", b"X"), (b"X-Public", b"2")])
    (seen,) = origin.requests
    assert seen.all(b"Idempotency-Key") == [key]
    assert seen.body == BODY
    for name in (b"Connection", b"X-Private", b"TE", b"Keep-Alive", b"Proxy-Connection", b"Trailer"):
        assert seen.all(name) == [], name
    for name in (b"Host", b"Via", b"X-Forwarded-For", b"X-Request-Id", b"X-Public", b"Content-Length"):
        assert len(seen.all(name)) == 1, name


async def test_a_chunked_body_arrives_whole_with_its_length(origin: Origin, proxy: Proxy) -> None:
    fields = [(b"Idempotency-Key", new_key()), (b"Transfer-Encoding", b"chunked")]
    chunks = b"5;name=value\r\nhello\r\n1\r\n \r\n005\r\nworld\r\n0\r\nX-Sum: 1\r\nIdempotency-Key: another\r\n\r\n"
    assert (await proxy.call(request(b"POST", PATH, fields, chunks))).status == 200
    (seen,) = origin.requests
    assert seen.body == b"hello world"
    assert (seen.all(b"Content-Length"), seen.all(b"Transfer-Encoding"), seen.all(b"X-Sum")) == ([b"11"], [], [])


@pytest.mark.parametrize("framing", [[], [(b"Content-Length", b"0")]])
async def test_a_post_without_a_body_is_guarded_too(origin: Origin, proxy: Proxy, framing: list[Field]) -> None:
    data = request(b"POST", PATH, [(b"Idempotency-Key", new_key()), *framing])
    assert [(await proxy.call(data)).status, (await proxy.call(data)).status] == [200, 409]
    (seen,) = origin.requests
    assert seen.body == b""
    assert seen.all(b"Transfer-Encoding") == []


async def test_a_chunked_body_without_content_arrives_with_its_length_too(origin: Origin, proxy: Proxy) -> None:
    fields = [(b"Idempotency-Key", new_key()), (b"Transfer-Encoding", b"chunked")]
    assert (await proxy.call(request(b"POST", PATH, fields, b"0\r\n\r\n"))).status == 200
    (seen,) = origin.requests
    assert (seen.body, seen.all(b"Content-Length"), seen.all(b"Transfer-Encoding")) == (b"", [b"0"], [])


async def test_a_large_body_arrives_whole(origin: Origin, proxy: Proxy) -> None:
    body = bytes(range(256)) * 4096 * 3
    assert (await proxy.post(new_key(), body=body)).status == 200
    assert origin.requests[0].body == body


async def test_who_waits_for_the_word_to_go_on_is_given_it(origin: Origin, proxy: Proxy) -> None:
    async with Connection(proxy.port) as client:
        data = post(new_key(), [(b"Expect", b"100-continue")])
        client.send(data[: -len(BODY)])
        assert (await client.reply()).status == 100
        assert origin.requests == []
        client.send(BODY)
        assert (await client.reply()).status == 200
    (seen,) = origin.requests
    assert (seen.body, seen.all(b"Expect")) == (BODY, [])


async def test_an_upgrade_is_dropped_and_makes_no_tunnel(origin: Origin, proxy: Proxy) -> None:
    upgrade = [(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"AAMAAABk")]
    key = new_key()
    async with Connection(proxy.port) as client:
        for status in (200, 409):
            client.send(post(key, upgrade))
            assert (await client.reply()).status == status
    (seen,) = origin.requests
    assert (seen.body, seen.all(b"Upgrade"), seen.all(b"Connection"), seen.all(b"HTTP2-Settings")) == (BODY, [], [], [])


async def test_of_many_at_once_each_is_given_its_own_answer(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    async def echo(request_: Recorded, writer: asyncio.StreamWriter) -> None:
        await respond(200, [(b"Content-Type", b"text/plain")], request_.body)(request_, writer)

    origin.behave(echo)
    proxy = await start_proxy(**store, **{"upstream.max_connections": 7})
    keys = [new_key() for _ in range(100)]
    replies = await asyncio.gather(*(proxy.post(key, body=b"for " + key) for key in keys))
    assert [reply.body for reply in replies] == [b"for " + key for key in keys]
    records = await asyncio.gather(*(proxy.record(key) for key in keys))
    assert [record["Resource"]["Text"] for record in records] == [f"for {key.decode()}" for key in keys]
    assert sorted(seen.body for seen in origin.requests) == sorted(b"for " + key for key in keys)


async def test_without_a_key_the_api_works_as_before(origin: Origin, proxy: Proxy) -> None:
    origin.behave(respond(200, [DATE], PAYOUT))
    replies = [await proxy.post(), await proxy.post()]
    assert [reply.fields for reply in replies] == [[DATE, (b"Content-Length", b"%d" % len(PAYOUT))]] * 2
    assert len(origin.requests) == 2


async def test_a_key_in_quotes_is_the_key_without_them(origin: Origin, proxy: Proxy) -> None:
    key = new_key()
    assert (await proxy.post(b'"%b"' % key)).status == 200
    assert origin.requests[0].all(b"Idempotency-Key") == [b'"%b"' % key]
    assert (await proxy.post(key)).status == 409
    assert len(origin.requests) == 1


async def test_keys_that_differ_by_case_are_two(origin: Origin, proxy: Proxy) -> None:
    assert [(await proxy.post(key)).status for key in (b"a" * 16, b"A" * 16)] == [200, 200]
    assert len(origin.requests) == 2


@pytest.mark.parametrize("key", [b"0" * 16, b"z-" * 18])
async def test_the_shortest_and_the_longest_key(proxy: Proxy, key: bytes) -> None:
    assert [(await proxy.post(key)).status, (await proxy.post(key)).status] == [200, 409]


async def test_other_methods_are_guarded_where_the_settings_say_so(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"idempotency.methods": ["POST", "PATCH"]})
    data = request(b"PATCH", PATH, [(b"Idempotency-Key", new_key()), (b"Content-Length", b"2")], b"{}")
    assert [(await proxy.call(data)).status, (await proxy.call(data)).status] == [200, 409]
    assert [seen.method for seen in origin.requests] == [b"PATCH"]
