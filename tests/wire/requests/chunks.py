"""The chunked coding: sizes, extensions, trailers."""

from tests.wire.row import (
    CHUNKED,
    HOST,
    KEY,
    KEYED,
    POST,
    Expected,
    Forwarded,
    Group,
    Row,
    Unanswered,
    lines,
    refused,
    row,
)
from tests.wire.stand import BODY_LIMIT

TRAILERS = 8 * 1024
EXTENSIONS = 1024
SIZE = "RFC 9112 §7.1: chunk-size is 1*HEXDIG"
CRLF = "RFC 9112 §7.1: CRLF ends each line"
DROPPED = "RFC 9112 §7.1.2: dropped, not merged"


def _chunks(body: bytes) -> bytes:
    return lines(POST, HOST, KEYED, CHUNKED, body=body)


def _read(name: str, body: bytes, rule: str, content: bytes = b"hello") -> Row:
    return row(name, _chunks(body), rule, Forwarded(b"POST", body=content))


def _bad(name: str, body: bytes, rule: str = SIZE) -> Row:
    return refused(name, _chunks(body), 400, rule)


def _streamed(name: str, body: bytes, rule: str) -> Row:
    return refused(f"{name}, without a key", lines(POST, HOST, CHUNKED, body=body), 400, rule, streamed=True)


def _trailer(name: str, line: bytes, rule: str = DROPPED, fields: Expected = ()) -> Row:
    data = _chunks(b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n")
    return row(f"a trailer: {name}", data, rule, Forwarded(b"POST", body=b"hello", fields=fields))


def _bad_trailer(name: str, lines_: bytes, rule: str = "RFC 9112 §7.1.2: field lines") -> Row:
    return _bad(f"a bad trailer: {name}", b"5\r\nhello\r\n0\r\n" + lines_ + b"\r\n\r\n", rule)


CHUNKS = Group(
    "Chunks",
    [
        _read("an empty chunked body", b"0\r\n\r\n", "RFC 9112 §7.1", b""),
        _read("several chunks", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "RFC 9112 §7.1"),
        _read(
            "hex digits of both cases",
            b"a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n",
            SIZE,
            b"01234567890123456789a",
        ),
        _read("leading zeros in a size", b"00005\r\nhello\r\n000\r\n\r\n", SIZE),
        _read("a chunk that looks like the end", b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "RFC 9112 §7.1", b"\r\n0\r\n\r\n"),
        _read("as much as is allowed", b"1000\r\n" + b"x" * 4096 + b"\r\n0\r\n\r\n", "our limit", b"x" * BODY_LIMIT),
        refused("more than is allowed", _chunks(b"1001\r\n" + b"x" * 4097 + b"\r\n0\r\n\r\n"), 413, "our limit"),
        _bad("a size with a plus", b"+5\r\nhello\r\n0\r\n\r\n"),
        _bad("a size with a minus", b"-5\r\nhello\r\n0\r\n\r\n"),
        _bad("a size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
        _bad("a size with an underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
        _bad("a size with a point", b"5.\r\nhello\r\n0\r\n\r\n"),
        _bad("a quoted size", b'"5"\r\nhello\r\n0\r\n\r\n'),
        _bad("a size with a comma", b"5,5\r\nhello\r\n0\r\n\r\n"),
        _bad("a size with a NUL", b"5\x00\r\nhello\r\n0\r\n\r\n"),
        _bad("a blank before a size", b" 5\r\nhello\r\n0\r\n\r\n"),
        _bad("a blank behind a size", b"5 \r\nhello\r\n0\r\n\r\n"),
        _bad("a tab behind a size", b"5\t\r\nhello\r\n0\r\n\r\n"),
        _bad("a size that is none", b"hello\r\n0\r\n\r\n"),
        _bad("an empty size", b"\r\nhello\r\n0\r\n\r\n"),
        _bad(
            "a size of 16 digits, all zero but one", b"0000000000000005\r\nhello\r\n0\r\n\r\n", "our limit: 15 digits"
        ),
        _bad("a size of 2^64", b"10000000000000000\r\nhello\r\n0\r\n\r\n", "RFC 9112 §7.1: anticipate overflow"),
        _bad("a size of 2^64 + 5", b"10000000000000005\r\nhello\r\n0\r\n\r\n", "RFC 9112 §7.1: anticipate overflow"),
        _bad("a size of 600 digits", b"0" * 600 + b"5\r\nhello\r\n0\r\n\r\n", "our limit: 15 digits"),
        _bad("LF behind a size", b"5\nhello\r\n0\r\n\r\n", CRLF),
        _bad("CR behind a size", b"5\rhello\r\n0\r\n\r\n", CRLF),
        _bad("two CR behind a size", b"5\r\r\nhello\r\n0\r\n\r\n", CRLF),
        _bad("LF behind a chunk", b"5\r\nhello\n0\r\n\r\n", CRLF),
        _bad("CR behind a chunk", b"5\r\nhello\r0\r\n\r\n", CRLF),
        _bad("nothing behind a chunk", b"5\r\nhello0\r\n\r\n", CRLF),
        _bad("a chunk that is longer than its size", b"5\r\nhello!\r\n0\r\n\r\n", CRLF),
        _bad("a chunk that is shorter than its size", b"6\r\nhello\r\n0\r\n\r\n", CRLF),
        _bad("LF behind the last chunk", b"5\r\nhello\r\n0\n\r\n", CRLF),
        _bad("LF at the end", b"5\r\nhello\r\n0\r\n\n", CRLF),
        row("no last chunk", _chunks(b"5\r\nhello\r\n"), "RFC 9112 §8: incomplete", Unanswered(), stays=False),
        row(
            "no last chunk, without a key",
            lines(POST, HOST, CHUNKED, body=b"5\r\nhello\r\n"),
            "RFC 9112 §8: incomplete",
            Unanswered(streamed=True),
            stays=False,
        ),
        _streamed("a size that is none", b"5\r\nhello\r\nx\r\n\r\n", SIZE),
        _streamed("a size with a minus", b"5\r\nhello\r\n-1\r\n\r\n", SIZE),
        _streamed("LF behind a chunk", b"5\r\nhello\n0\r\n\r\n", CRLF),
        _streamed("a chunk that is longer than its size", b"5\r\nhello!\r\n0\r\n\r\n", CRLF),
    ],
)

EXTENSION = Group(
    "Chunk extensions",
    [
        _read("a name", b"5;a\r\nhello\r\n0\r\n\r\n", "RFC 9112 §7.1.1: ignored"),
        _read("a value", b"5;a=b\r\nhello\r\n0;c=d\r\n\r\n", "RFC 9112 §7.1.1: ignored"),
        _read("a quoted value", b'5;a="b;c, d"\r\nhello\r\n0\r\n\r\n', "RFC 9112 §7.1.1: ignored"),
        _read("blanks around it", b"5 ; a = b\r\nhello\r\n0\r\n\r\n", "RFC 9112 §7.1.1: BWS"),
        _read("a semicolon alone", b"5;\r\nhello\r\n0\r\n\r\n", "our leniency: nobody reads it"),
        _read("as long as is allowed", b"5;" + b"a" * (EXTENSIONS - 1) + b"\r\nhello\r\n0\r\n\r\n", "our limit"),
        _bad("too long", b"5;" + b"a" * EXTENSIONS + b"\r\nhello\r\n0\r\n\r\n", "RFC 9112 §7.1.1: limit them"),
        _bad("LF in it", b"5;a\nb\r\nhello\r\n0\r\n\r\n", CRLF),
        _bad("LF in quotes", b'5;a="\n"\r\nhello\r\n0\r\n\r\n', CRLF),
        _bad("CR in it", b"5;a\rb\r\nhello\r\n0\r\n\r\n", CRLF),
        _bad("NUL in it", b"5;a\x00\r\nhello\r\n0\r\n\r\n", "RFC 9112 §7.1.1"),
        _bad("LF instead of it", b"5;\nhello\r\n0\r\n\r\n", CRLF),
        _streamed("LF in an extension", b"5;a\nhello\r\n0\r\n\r\n", CRLF),
    ],
)

TRAILER = Group(
    "Trailers",
    [
        _trailer("an ordinary one", b"X-Checksum: 1", fields=((b"x-checksum", ()),)),
        _trailer("several", b"X-A: 1\r\nX-B: 2", fields=((b"x-a", ()), (b"x-b", ()))),
        _trailer("announced", b"X-A: 1", fields=((b"x-a", ()), (b"trailer", ()))),
        _trailer("Content-Length", b"Content-Length: 1", fields=((b"content-length", (b"5",)),)),
        _trailer("Transfer-Encoding", b"Transfer-Encoding: gzip", fields=((b"transfer-encoding", ()),)),
        _trailer("Host", b"Host: evil.example"),
        _trailer("Authorization", b"Authorization: Basic Zm9v", fields=((b"authorization", ()),)),
        _trailer("the key", b"Idempotency-Key: another-key-0000000", fields=((b"idempotency-key", (KEY,)),)),
        _trailer("X-Forwarded-For", b"X-Forwarded-For: 192.0.2.1"),
        _trailer("Connection: close", b"Connection: close"),
        row(
            "a key as a trailer only",
            lines(POST, HOST, CHUNKED, body=b"5\r\nhello\r\n0\r\n" + KEYED + b"\r\n\r\n"),
            "RFC 9110 §6.5.1: it is no key",
            Forwarded(b"POST", body=b"hello", fields=((b"idempotency-key", ()),)),
        ),
        _trailer("as large as is allowed", b"X-A: " + b"a" * (TRAILERS - 2 - 7), "our limit"),
        _bad_trailer("too large", b"X-A: " + b"a" * (TRAILERS - 2 - 6), "our limit"),
        _bad_trailer("too large together", b"\r\n".join([b"X-A: " + b"a" * 1000] * 9), "our limit"),
        _bad_trailer("no colon", b"X-A"),
        _bad_trailer("a name of nothing", b": a"),
        _bad_trailer("a blank before the colon", b"X-A : a", "RFC 9112 §5.1"),
        _bad_trailer("folded", b"X-A: a\r\n b", "RFC 9112 §5.2"),
        _bad_trailer("LF", b"X-A: a\nX-B: b", CRLF),
        _bad_trailer("CR", b"X-A: a\rX-B: b", "RFC 9112 §2.2"),
        _bad_trailer("NUL", b"X-A: a\x00", "RFC 9110 §5.5"),
        _bad_trailer("a request", b"GET /admin HTTP/1.1"),
        _streamed("a bad trailer", b"5\r\nhello\r\n0\r\nX-A\r\n\r\n", "RFC 9112 §7.1.2"),
    ],
)
