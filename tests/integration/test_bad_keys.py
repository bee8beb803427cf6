"""A key that is none: nothing is claimed, nothing is forwarded."""

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin
from tests.support.proxy import BODY, PATH, Connection, Proxy, new_key, post, refusal, refused, request
from tests.support.raw import Field, Reply

GOOD = b"0123456789abcdef"


def assert_invalid(reply: Reply) -> None:
    refused(reply, 400, "idempotency_key_invalid")
    assert "16 to 36" in refusal(reply)["Message"]
    for name in (b"Idempotency-State", b"Idempotency-Expires", b"Link", b"Retry-After"):
        assert reply.field(name) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b'""',
        b"0" * 15,
        b"0" * 37,
        b"0" * 500,
        b"0123456789abcde_",
        b"0123456789 abcdef",
        b"0123456789abcd\xc3\xa9",
        b"0123456789abcdef/",
        b"0123456789abcdef;p=1",
        b'"0123456789abcdef";p=1',
        b'"0123456789abcdef',
        b'0123456789abcdef"',
        b'""0123456789abcdef""',
        b"'0123456789abcdef'",
        b":MDEyMzQ1Njc4OWFiY2RlZg==:",
        b"0123456789abcdef,0123456789abcdef",
        b"0123456789abcdef, 0123456789abcdef",
        b'"0123456789abcdef", "0123456789abcdef"',
        b",0123456789abcdef",
    ],
)
async def test_a_bad_key_is_a_400(origin: Origin, proxy: Proxy, value: bytes) -> None:
    assert_invalid(await proxy.post(value))
    assert origin.requests == []
    assert (await proxy.post(GOOD)).status == 200  # and nothing was claimed under what could be read into it


@pytest.mark.parametrize("second", [GOOD, b"another-key-0123", b""])
@pytest.mark.parametrize("name", [b"Idempotency-Key", b"idempotency-key"])
async def test_two_keys_are_a_400(origin: Origin, proxy: Proxy, name: bytes, second: bytes) -> None:
    assert_invalid(await proxy.post(GOOD, [(name, second)]))
    assert origin.requests == []
    assert (await proxy.post(GOOD)).status == 200


@pytest.mark.parametrize("name", [b"idempotency-key", b"IDEMPOTENCY-KEY"])
async def test_the_case_of_the_fields_name_does_not_matter(origin: Origin, proxy: Proxy, name: bytes) -> None:
    field: list[Field] = [(name, GOOD)]
    assert [(await proxy.post(None, field)).status, (await proxy.post(GOOD)).status] == [200, 409]
    assert origin.requests[0].fields.count(field[0]) == 1


@pytest.mark.parametrize("value", [b" " + GOOD, GOOD + b" ", b"\t " + GOOD + b" \t"])
async def test_blanks_around_a_key_are_none_of_it(proxy: Proxy, value: bytes) -> None:
    assert [(await proxy.post(value)).status, (await proxy.post(GOOD)).status] == [200, 409]


async def test_a_refused_request_leaves_the_connection_usable(origin: Origin, proxy: Proxy) -> None:
    key = new_key()
    async with Connection(proxy.port) as client:
        client.send(post(b"short", body=b"x" * 1000) + post(key))
        assert_invalid(await client.reply())
        assert (await client.reply()).status == 200
    (seen,) = origin.requests
    assert seen.all(b"Idempotency-Key") == [key]


async def test_who_waits_for_the_word_to_go_on_is_refused_instead(origin: Origin, proxy: Proxy) -> None:
    async with Connection(proxy.port) as client:
        data = post(b"short", [(b"Expect", b"100-continue")])
        client.send(data[: -len(BODY)])
        assert_invalid(await client.reply())
    assert origin.requests == []


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"PATCH", b"DELETE"])
@pytest.mark.parametrize("keys", [[b"short"], [GOOD], [GOOD, b"a,b"], [b""]])
async def test_on_other_methods_the_field_is_no_business_of_ours(
    origin: Origin, proxy: Proxy, method: bytes, keys: list[bytes]
) -> None:
    fields = [(b"Idempotency-Key", key) for key in keys]
    for _ in range(2):
        assert (await proxy.call(request(method, PATH, fields))).status == 200
    assert [seen.all(b"Idempotency-Key") for seen in origin.requests] == [keys, keys]
    assert (await proxy.post(GOOD)).status == 200


async def test_what_a_key_is_made_of_is_a_setting(start_proxy: StartProxy) -> None:
    settings = {"idempotency.key_min": 4, "idempotency.key_max": 8, "idempotency.key_chars": "a-z_"}
    proxy = await start_proxy(**settings)
    good, bad = (b"a_bc", b"abcdefgh"), (b"abc", b"abcdefghi", b"ABCD", b"a-bc")
    assert {(await proxy.post(key)).status for key in good} == {200}
    assert {(await proxy.post(key)).status for key in bad} == {400}


async def test_the_name_of_the_field_is_a_setting(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"idempotency.header": "X-Once"})
    assert [(await proxy.post(None, [(b"x-once", GOOD)])).status for _ in range(2)] == [200, 409]
    assert [(await proxy.post(GOOD)).status for _ in range(2)] == [200, 200]
    assert len(origin.requests) == 3
