"""What `GET /responses/<key>/` shows of a response: valid JSON whatever the backend gave, and every digit of it."""

import gzip
import json
import tracemalloc
import zlib
from base64 import b64decode, b64encode
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.record import Response
from proxy.core.view import view
from tests.unit.core.samples import URL, response

DATE = b"Wed, 13 Jan 2016 22:25:56 GMT"
CAP = 1 << 20
NAMES = ["StatusCode", "ContentLength", "ContentType", "Date", "RequestURL", "Resource"]


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def read(text: bytes) -> Any:
    """Read JSON strictly; numbers come as their digits, so that none is lost and any size will do."""
    return json.loads(text.decode("utf-8"), parse_int=str, parse_float=str, parse_constant=no_constant)


def raw(body: bytes, content_type: bytes = b"application/json", encodings: bytes = b"", cap: int = CAP) -> bytes:
    """The view of a response. *encodings*: a Content-Encoding, or none."""
    coding = b"Content-Encoding: %b\r\n" % encodings if encodings else b""
    return view(response(body, b"Content-Type: %b\r\n%b" % (content_type, coding)), URL, DATE, cap)


def resource(body: bytes, content_type: bytes = b"application/json", encodings: bytes = b"", cap: int = CAP) -> Any:
    """Its `Resource`."""
    return read(raw(body, content_type, encodings, cap))["Resource"]


def base64(content: bytes) -> dict[str, str]:
    return {"Base64": b64encode(content).decode()}


# -- the fields about the response ----------------------------------------------------------------------------------


def test_the_record_is_the_one_of_the_contract_with_four_strings() -> None:
    fields = b"content-type: application/json; charset=utf-8\r\nDATE: Thu, 14 Jan 2016 00:00:00 GMT\r\n"
    shown = view(response(b'{"Id": "2241581"}', fields)._replace(status=201, length=471), URL, DATE, CAP)
    assert read(shown) == {
        "StatusCode": "201",
        "ContentLength": "471",
        "ContentType": "application/json; charset=utf-8",
        "Date": "Thu, 14 Jan 2016 00:00:00 GMT",
        "RequestURL": "https://api.example.com/v2.01/acme/payouts/bankwire/",
        "Resource": {"Id": "2241581"},
    }
    assert list(read(shown)) == NAMES


def test_a_response_that_names_neither_type_nor_date_gets_an_empty_one_and_ours() -> None:
    shown = read(view(response(b"hello", b""), URL, DATE, CAP))
    assert (shown["ContentType"], shown["Date"]) == ("", DATE.decode())
    assert shown["Resource"] == {"Text": "hello"}


def test_an_empty_body_is_null() -> None:
    assert resource(b"") is None
    assert resource(b"", b"text/plain") is None
    assert resource(b"", b"", b"gzip") is None


def test_a_truncated_body_is_null_and_says_so() -> None:
    kept = response(b"")._replace(truncated=True, length=5_000_000)
    shown = read(view(kept, URL, DATE, CAP))
    assert shown["Truncated"] is True
    assert shown["Resource"] is None
    assert shown["ContentLength"] == "5000000"
    assert set(shown) == {*NAMES, "Truncated"}


def test_no_part_of_a_truncated_body_is_shown_as_if_it_were_the_whole() -> None:
    assert read(view(response(b"[1]")._replace(truncated=True), URL, DATE, CAP))["Resource"] is None


def test_a_whole_body_says_nothing_of_being_truncated() -> None:
    assert "Truncated" not in read(raw(b"{}"))


def test_of_two_types_the_first_counts() -> None:
    fields = b"Content-Type: text/plain\r\nContent-Type: application/json\r\n"
    assert read(view(response(b"1", fields), URL, DATE, CAP))["Resource"] == {"Text": "1"}


# -- JSON -----------------------------------------------------------------------------------------------------------

NUMBERS = [
    b"0.1000000000000000055511151231257827",
    b"12345678901234567890123456789",
    b"-0",
    b"-0.0",
    b"1e400",
    b"1E-400",
    b"1.0",
    b"1e+05",
    b"9007199254740993",
]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_digit_of_a_number_is_kept(number: bytes) -> None:
    body = b'{"Amount": %b, "All": [%b]}' % (number, number)
    assert raw(body).endswith(b'"Resource": %b}' % body)


def test_a_number_of_100_000_digits_is_kept() -> None:
    digits = "7" * 100_000
    assert resource(digits.encode()) == digits
    assert resource(f"[0.{digits}, 1e{digits}]".encode()) == [f"0.{digits}", f"1e{digits}"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 2}',
        b'"\\ud800"',
        b'"\\u0000 \\" \\\\ \\/"',
        b"true",
        b"null",
        b'""',
        b"[]",
        b'{"": {}}',
        '{"ключ": "значение €"}'.encode(),
        "[\u2028, \u2029]".replace("[", '["').replace(", ", '", "').replace("]", '"]').encode(),
        b"[1,\r\n\t2 ]",
    ],
)
def test_json_is_shown_as_it_was_written(body: bytes) -> None:
    """Repeated members, lone surrogates in escapes: what the backend's own client would have read, ours reads too."""
    assert raw(body).endswith(b'"Resource": %b}' % body)


def test_blanks_around_a_value_are_not_shown() -> None:
    assert raw(b" \r\n\t[1] \r\n").endswith(b'"Resource": [1]}')


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b"{'a': 1}",
        b"{a: 1}",
        b"[1,]",
        b"[1",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"0x10",
        b"1 2",
        b'{} "Truncated": true',
        b'1, "StatusCode": "200"',
        b"1}, {",
        b'"\t"',
        b'"\\x41"',
        b"tru",
        b"// nothing",
        b"   ",
        "\ufeff{}".encode(),
        "\u00a01".encode(),
        "\u0661".encode(),
        "\uff11".encode(),
    ],
)
def test_what_is_no_json_value_is_text_and_cannot_break_out_of_its_place(body: bytes) -> None:
    assert resource(body) == {"Text": body.decode()}


@pytest.mark.parametrize(
    "body",
    [
        b'"\x00"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\xaf"',
        b"\x0b1",
        b"1\x0c\x00",
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32"),
    ],
)
def test_what_is_neither_json_nor_text_is_base64(body: bytes) -> None:
    """A lone surrogate in UTF-8, an overlong slash, control characters, JSON in what is not UTF-8 (RFC 8259 §8.1)."""
    assert resource(body) == base64(body)


def test_json_that_is_nested_without_end_is_shown_as_text() -> None:
    for body in (b"[" * 500_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000):
        assert resource(body) == {"Text": body.decode()}


def test_json_that_is_nested_deeply_is_still_json() -> None:
    found = resource(b"[" * 200 + b"]" * 200)
    for _ in range(199):
        (found,) = found
    assert found == []


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json;charset=utf-8",
        b"application/json ; charset=utf-8",
        b'application/json; charset="UTF-8"',
        b"application/json; charset=what-ever",
        b"application/problem+json",
        b"application/vnd.api+json; version=1",
        b"text/json",
        b"model/gltf+json",
    ],
)
def test_types_that_are_json(content_type: bytes) -> None:
    """RFC 8259 §11; the suffix +json of RFC 6839 §3.1 says so of any type."""
    assert resource(b'{"a": 1}', content_type) == {"a": "1"}


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"text/plain",
        b"text/html; charset=utf-8",
        b"application/jsonp",
        b"application/json-seq",
        b"application/json5",
        b"application/problem+jsonx",
        b"application/x+json+zip",
        b"xapplication/json",
        b"text/plain; a=application/json",
        b"application/javascript",
        b"json",
    ],
)
def test_any_other_type_is_text_though_it_might_parse(content_type: bytes) -> None:
    assert resource(b'{"a": 1}', content_type) == {"Text": '{"a": 1}'}


# -- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charset", "codec", "text"),
    [
        (b"utf-8", "utf-8", "Zürich €5 \U0001f4b6"),
        (b"UTF-8", "utf-8", "Zürich"),
        (b'"utf-8"', "utf-8", "Zürich"),
        (b"utf8", "utf-8", "Zürich"),
        (b"us-ascii", "ascii", "Zurich"),
        (b"iso-8859-1", "latin-1", "Zürich"),
        (b"latin1", "latin-1", "Zürich"),
        (b"ISO-8859-15", "iso-8859-15", "€5"),
        (b"windows-1252", "cp1252", "€5 “Zürich”"),
        (b"utf-16", "utf-16", "Zürich €5 \U0001f4b6"),
    ],
)
def test_text_is_read_in_the_charset_that_its_type_names(charset: bytes, codec: str, text: str) -> None:
    assert resource(text.encode(codec), b"text/plain; charset=" + charset) == {"Text": text}
    assert resource(text.encode(codec), b"text/plain;format=flowed ; Charset = " + charset) == {"Text": text}


def test_json_that_does_not_parse_is_text_in_its_own_charset() -> None:
    assert resource("Fehler: ungültig".encode("latin-1"), b"application/json; charset=iso-8859-1") == {
        "Text": "Fehler: ungültig"
    }


@pytest.mark.parametrize(
    "charset",
    [
        *(b"zip", b"zlib", b"bz2", b"hex", b"base64", b"uu", b"quopri", b"rot13", b"rot_13", b"idna", b"punycode"),
        *(b"unicode_escape", b"unicode-escape", b"raw_unicode_escape", b"undefined", b"mbcs", b"utf-7", b"utf_8_sig"),
        *(b"../../etc/passwd", b"utf-8\x00", b"\xff\xfe", b"a" * 10_000, b"encodings.utf_8", b"klingon"),
    ],
)
def test_a_charset_that_is_none_is_never_asked_for_in_pythons_registry(charset: bytes) -> None:
    """`zip` would decompress without a limit, `unicode_escape` would change the text."""
    for body in (b"hello \\u0041", zlib.compress(b"x" * 1000)):
        assert resource(body, b"text/plain; charset=" + charset) == base64(body)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (b"text/plain", b"\xff"),
        (b"text/plain; charset=us-ascii", b"caf\xe9"),
        (b"text/plain; charset=windows-1252", b"\x81"),
        (b"text/plain; charset=utf-16", b"\xff\xfe\x00\xd8"),
        (b"text/plain; charset=utf-16", b"\xff\xfea"),
        (b"text/plain", b"a\x00b"),
        (b"text/plain", b"\x1b[31m"),
        (b"application/pdf", b"%PDF-1.7\n\x01\x02"),
        (b"image/png", b"\x89PNG\r\n\x1a\n"),
        (b"application/octet-stream", bytes(range(256))),
    ],
)
def test_what_is_no_text_in_its_charset_is_base64(content_type: bytes, body: bytes) -> None:
    assert resource(body, content_type) == base64(body)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.sampled_from("\t\r\n"), min_size=1))
def test_any_text_comes_through(text: str) -> None:
    assert resource(text.encode(), b"text/plain") == {"Text": text}


# -- content codings ------------------------------------------------------------------------------------------------

JSON = b'{"Amount": 12.3400}'
GZIPPED = gzip.compress(JSON, mtime=0)
DEFLATED = zlib.compress(JSON)


@pytest.mark.parametrize(
    ("encodings", "body"),
    [
        (b"gzip", GZIPPED),
        (b"GZip", GZIPPED),
        (b"x-gzip", GZIPPED),
        (b"deflate", DEFLATED),
        (b"identity", JSON),
        (b"gzip, identity", GZIPPED),
        (b"identity,gzip", GZIPPED),
        (b",gzip,, ", GZIPPED),
        (b"deflate, gzip", gzip.compress(DEFLATED, mtime=0)),
        (b"gzip, deflate", zlib.compress(GZIPPED)),
        (b"gzip,gzip\r\nContent-Encoding: gzip", gzip.compress(gzip.compress(GZIPPED, mtime=0), mtime=0)),
    ],
)
def test_a_content_coding_is_decoded_the_last_applied_first(encodings: bytes, body: bytes) -> None:
    assert resource(body, encodings=encodings) == {"Amount": "12.3400"}


def test_the_length_is_the_one_of_the_body_as_it_was_given() -> None:
    assert read(raw(GZIPPED, encodings=b"gzip"))["ContentLength"] == str(len(GZIPPED))


@pytest.mark.parametrize(
    ("encodings", "body"),
    [
        pytest.param(b"br", GZIPPED, id="unknown"),
        pytest.param(b"zip", DEFLATED, id="a codec of Python that is no coding"),
        pytest.param(b"gzip;q=1", GZIPPED, id="with parameters"),
        pytest.param(b"br, gzip", GZIPPED, id="unknown behind a known one"),
        pytest.param(b"gzip", JSON, id="not gzip at all"),
        pytest.param(b"gzip", GZIPPED[:-1], id="cut"),
        pytest.param(b"gzip", GZIPPED[:12], id="cut early"),
        pytest.param(b"gzip", GZIPPED + b"\0", id="bytes behind its end"),
        pytest.param(b"gzip", GZIPPED[:-8] + bytes(8), id="wrong checksum"),
        pytest.param(b"gzip", DEFLATED, id="deflate"),
        pytest.param(b"deflate", GZIPPED, id="gzip"),
        pytest.param(b"deflate", b"x\x9c", id="two bytes"),
        pytest.param(b"gzip, gzip", GZIPPED, id="said twice, done once"),
    ],
)
def test_a_coding_that_is_unknown_or_corrupt_leaves_the_raw_bytes(encodings: bytes, body: bytes) -> None:
    assert resource(body, encodings=encodings) == base64(body)


@pytest.mark.parametrize(("encodings", "compress"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
def test_what_is_as_large_as_the_cap_is_shown_and_one_byte_more_is_not(encodings: bytes, compress: Any) -> None:
    at_cap, over = compress(b"x" * 1000), compress(b"x" * 1001)
    assert resource(at_cap, b"text/plain", encodings, cap=1000) == {"Text": "x" * 1000}
    assert resource(over, b"text/plain", encodings, cap=1000) == base64(over)


def test_a_bomb_takes_no_more_memory_than_the_cap_and_leaves_the_raw_bytes() -> None:
    bomb = gzip.compress(bytes(64 << 20), compresslevel=9)
    twice = gzip.compress(bomb)
    tracemalloc.start()
    try:
        for body, encodings in ((bomb, b"gzip"), (twice, b"gzip, gzip")):
            assert resource(body, b"text/plain", encodings) == base64(body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 << 20


def test_a_list_of_codings_without_end_is_not_followed() -> None:
    """Each coding may cost a pass over as many bytes as the cap allows: a head has room for thousands."""
    body = JSON
    for _ in range(100):
        body = gzip.compress(body, compresslevel=0, mtime=0)
    assert resource(body, encodings=b",".join([b"gzip"] * 100)) == base64(body)


def test_what_decodes_to_nothing_is_an_empty_body() -> None:
    assert resource(gzip.compress(b""), encodings=b"gzip") is None
    assert resource(zlib.compress(b""), b"text/plain", b"deflate") is None


# -- anything -------------------------------------------------------------------------------------------------------

number = st.from_regex(r"-?(0|[1-9][0-9]{0,60})(\.[0-9]{1,60})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
scalar = number | st.sampled_from(["true", "false", "null"]) | st.text().map(json.dumps)
documents = st.recursive(
    scalar,
    lambda inner: (
        st.lists(inner).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(st.text().map(json.dumps), inner)).map(
            lambda items: "{" + ",".join(f"{name}: {value}" for name, value in items) + "}"
        )
    ),
    max_leaves=20,
)


@given(documents)
def test_any_json_keeps_every_digit_and_every_character(document: str) -> None:
    assert resource(document.encode()) == read(document.encode())
    assert raw(document.encode()).endswith(b'"Resource": %b}' % document.encode())


values = st.binary(max_size=60).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b"").strip(b" \t"))
types = values | st.builds(
    lambda kind, charset: kind + b"; charset=" + charset,
    st.sampled_from([b"application/json", b"text/plain", b"application/problem+json", b"image/png"]),
    values | st.sampled_from([b"utf-8", b"utf-16", b"latin1", b"windows-1252", b"zip", b'"']),
)
codings = st.lists(st.sampled_from([b"gzip", b"deflate", b"identity", b"br", b""]), max_size=3).map(b", ".join)
bodies = (
    st.binary(max_size=200)
    | documents.map(str.encode)
    | st.binary(max_size=200).map(gzip.compress)
    | documents.map(lambda document: zlib.compress(document.encode()))
)


@given(body=bodies, content_type=types, encodings=codings, url=st.binary(max_size=60), truncated=st.booleans())
@example(body=b'1, "a": 2', content_type=b"application/json", encodings=b"", url=b'"', truncated=False)
def test_any_body_of_any_type_under_any_coding_makes_a_valid_record(
    body: bytes, content_type: bytes, encodings: bytes, url: bytes, truncated: bool
) -> None:
    fields = b"Content-Type: %b\r\nContent-Encoding: %b\r\n" % (content_type, encodings)
    kept = Response(200, b"", fields, b"" if truncated else body, len(body), truncated, 0)
    shown = read(view(kept, url, DATE, CAP))
    assert set(shown) - {"Truncated"} == set(NAMES)
    assert shown["ContentLength"] == str(len(body))
    assert shown["ContentType"].encode("latin-1") == content_type
    assert shown["RequestURL"].encode("latin-1") == url
    assert ("Truncated" in shown) is truncated


@given(st.binary(min_size=1, max_size=200))
def test_no_byte_of_a_body_without_a_type_is_lost(body: bytes) -> None:
    found = resource(body, b"")
    content = found["Text"].encode() if "Text" in found else b64decode(found["Base64"], validate=True)
    assert list(found) in (["Text"], ["Base64"])
    assert content == body
