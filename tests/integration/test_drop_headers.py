"""`record.drop_headers`: what a response need not be recorded with is given to the first, and to nobody later."""

import json

import pytest

from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Origin, respond, respond_chunked
from tests.support.proxy import new_key
from tests.support.raw import Field, Reply

DROPPED = {"record.drop_headers": ["Set-Cookie", "x-trace"], "idempotency.on_reuse": "replay"}
JSON = (b"Content-Type", b"application/json")
COOKIES = [(b"Set-Cookie", b"session=1"), (b"SET-COOKIE", b"session=2"), (b"X-Trace", b"3")]
FIELDS = [COOKIES[0], JSON, (b"X-Kept", b"1"), COOKIES[1], COOKIES[2], (b"X-Kept", b"2")]


def of_the_backend(reply: Reply) -> list[Field]:
    return [field for field in reply.fields if field in FIELDS]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_dropped_field_is_given_to_the_first_and_is_not_in_the_record(
    origin: Origin, start_proxy: StartProxy, store: Flags, chunked: bool
) -> None:
    proxy = await start_proxy(**store, **DROPPED)
    body = b'{"Id": "1"}'
    origin.behave(respond_chunked([body[:4], body[4:]], 201, FIELDS) if chunked else respond(201, FIELDS, body))
    key = new_key()
    first = await proxy.post(key)
    assert of_the_backend(first) == FIELDS
    again = await proxy.post(key)
    assert (again.status, again.body, again.field(b"Idempotent-Replayed")) == (201, body, b"true")
    assert of_the_backend(again) == [JSON, (b"X-Kept", b"1"), (b"X-Kept", b"2")]
    assert again.all(b"Set-Cookie") == again.all(b"X-Trace") == []
    record = json.loads((await proxy.retrieve(key)).body)
    assert (record["StatusCode"], record["Resource"]) == ("201", {"Id": "1"})


async def test_a_dropped_field_is_not_in_the_store(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    """A session's cookie must not lie there."""
    proxy = await start_proxy(**shared_store, **DROPPED)
    origin.behave(respond(201, FIELDS))
    key = new_key()
    await proxy.post(key)
    without = await start_proxy(**shared_store, **{"idempotency.on_reuse": "replay"})
    again = await without.post(key)
    assert again.field(b"Idempotent-Replayed") == b"true"
    assert again.all(b"Set-Cookie") == again.all(b"X-Trace") == []


async def test_none_is_dropped_by_default(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"idempotency.on_reuse": "replay"})
    origin.behave(respond(201, FIELDS))
    key = new_key()
    first, again = await proxy.post(key), await proxy.post(key)
    assert of_the_backend(first) == of_the_backend(again) == FIELDS


async def test_a_key_that_is_free_again_has_lost_nothing(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**DROPPED)
    origin.behave(respond(429, FIELDS))
    key = new_key()
    assert of_the_backend(await proxy.post(key)) == FIELDS
