"""How the body of a response is shown: nothing of it is lost, and what is no JSON does not pass for it."""

import gzip
import json
import zlib
from base64 import b64encode

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, respond
from tests.support.proxy import Proxy, new_key
from tests.support.raw import Field

JSON = b"application/json"
PAYOUT = b'{"Id": "2241581", "Tag": "caf\xc3\xa9"}'
SHOWN = {"Id": "2241581", "Tag": "café"}


def base64(data: bytes) -> dict[str, str]:
    return {"Base64": b64encode(data).decode()}


async def resource(origin: Origin, proxy: Proxy, fields: list[Field], body: bytes) -> object:
    """What is shown of a body, which the client is given as it is."""
    origin.behave(respond(200, fields, body))
    key = new_key()
    given = await proxy.post(key)
    assert given.body == body
    record = await proxy.record(key)
    assert record["ContentLength"] == str(len(body))
    assert "Truncated" not in record
    return record["Resource"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"Amount": 1.10, "Fees": 1E2, "Limit": 1e400, "Account": 123456789012345678901234567890, "Zero": -0.0}',
        b"[0.1000000000000000055511151231257827, 1e-999]",
        b"12345678901234567890.10",
        b'"\\u00e9\\ud83d\\ude00"',
        b'{"a": 1, "a": 2}',
    ],
)
async def test_every_digit_is_kept(origin: Origin, proxy: Proxy, body: bytes) -> None:
    origin.behave(respond(200, [(b"Content-Type", JSON)], body))
    key = new_key()
    await proxy.post(key)
    shown = (await proxy.retrieve(key)).body
    assert shown.endswith(b'"Resource": ' + body + b"}")


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b"Application/JSON;charset=UTF-8",
        b"application/problem+json",
        b"application/vnd.api+json; version=1",
    ],
)
async def test_what_is_json_by_its_type_is_shown_as_json(origin: Origin, proxy: Proxy, content_type: bytes) -> None:
    assert await resource(origin, proxy, [(b"Content-Type", content_type)], PAYOUT) == SHOWN


@pytest.mark.parametrize("body", [b"null", b"true", b'"text"', b"[]", b" \r\n\t{} \n"])
async def test_any_json_value_is_a_resource(origin: Origin, proxy: Proxy, body: bytes) -> None:
    assert await resource(origin, proxy, [(b"Content-Type", JSON)], body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [b'{"a": NaN}', b"Infinity", b"[-Infinity]", b"{'a': 1}", b'{"a": 1} {"b": 2}', b'{"a": ', b"01", b"[" * 100_000],
)
async def test_what_does_not_parse_is_shown_as_text(origin: Origin, proxy: Proxy, body: bytes) -> None:
    assert await resource(origin, proxy, [(b"Content-Type", JSON)], body) == {"Text": body.decode()}


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        (b"text/plain", b"paid\r\n\tcaf\xc3\xa9", "paid\r\n\tcafé"),
        (b"text/html; charset=iso-8859-1", b"caf\xe9", "café"),
        (b'text/plain; charset="windows-1252"', b"\x80 10", "€ 10"),
        (b"application/xml", b"<Id>1</Id>", "<Id>1</Id>"),
        (b"text/plain", PAYOUT, PAYOUT.decode()),
        (b"text/plain; charset=utf-16", "paid".encode("utf-16"), "paid"),
    ],
)
async def test_text_is_shown_as_text(origin: Origin, proxy: Proxy, content_type: bytes, body: bytes, text: str) -> None:
    assert await resource(origin, proxy, [(b"Content-Type", content_type)], body) == {"Text": text}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (b"application/pdf", b"%PDF-1.4\x00\x01"),
        (b"text/plain", b"caf\xe9"),
        (b"text/plain; charset=hex", b"61"),  # a codec of Python's, and no charset
        (b"text/plain; charset=no-such", b"paid"),
        (b"application/json", b'{"a": "\xff"}'),
        (b"application/octet-stream", bytes(range(256))),
    ],
)
async def test_what_is_no_text_is_shown_in_base64(
    origin: Origin, proxy: Proxy, content_type: bytes, body: bytes
) -> None:
    assert await resource(origin, proxy, [(b"Content-Type", content_type)], body) == base64(body)


@pytest.mark.parametrize("fields", [[], [(b"Content-Type", JSON)], [(b"Content-Encoding", b"gzip")]])
async def test_an_empty_body_is_null(origin: Origin, proxy: Proxy, fields: list[Field]) -> None:
    assert await resource(origin, proxy, fields, b"") is None


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(PAYOUT, mtime=0)),
        (b"GZIP", gzip.compress(PAYOUT, mtime=0)),
        (b"x-gzip", gzip.compress(PAYOUT, mtime=0)),
        (b"deflate", zlib.compress(PAYOUT)),
        (b"identity", PAYOUT),
        (b"deflate, gzip", gzip.compress(zlib.compress(PAYOUT), mtime=0)),
    ],
)
async def test_a_compressed_body_is_shown_without_its_coding(
    origin: Origin, proxy: Proxy, coding: bytes, body: bytes
) -> None:
    fields = [(b"Content-Type", JSON), (b"Content-Encoding", coding)]
    assert await resource(origin, proxy, fields, body) == SHOWN


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"gzip", gzip.compress(PAYOUT, mtime=0)[:-6]),
        (b"gzip", gzip.compress(PAYOUT, mtime=0)[:-8] + b"\0" * 8),  # its checksum is wrong
        (b"gzip", PAYOUT),
        (b"deflate", b"\x00\x01\x02"),
        (b"br", PAYOUT),
        (b"no-such", PAYOUT),
    ],
)
async def test_what_cannot_be_decoded_is_shown_as_the_bytes_that_came(
    origin: Origin, proxy: Proxy, coding: bytes, body: bytes
) -> None:
    fields = [(b"Content-Type", JSON), (b"Content-Encoding", coding)]
    assert await resource(origin, proxy, fields, body) == base64(body)


async def test_a_bomb_does_not_go_off(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"responses.view_limit": "64KiB"})
    within, over = gzip.compress(b" " * 65535 + b"1"), gzip.compress(b" " * 65536 + b"1")
    bomb = gzip.compress(gzip.compress(b" " * 30_000_000))
    assert await resource(origin, proxy, [(b"Content-Type", JSON), (b"Content-Encoding", b"gzip")], within) == 1
    assert await resource(origin, proxy, [(b"Content-Type", JSON), (b"Content-Encoding", b"gzip")], over) == base64(
        over
    )
    twice = [(b"Content-Type", JSON), (b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"gzip")]
    assert await resource(origin, proxy, twice, bomb) == base64(bomb)
