"""How long a response's body is, and what stands behind it."""

from tests.wire.responses.answer import CHUNKED, LENGTH, OK, Answer, Broken, Group, Passed, answer, unusable
from tests.wire.row import lines

HELLO = Passed()
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers"
CHUNK = "RFC 9112 §7.1"


def _framed(*fields: bytes, body: bytes = b"hello") -> bytes:
    return lines(OK, *fields, body=body)


def _chunks(name: str, body: bytes, content: bytes, rule: str = CHUNK) -> Answer:
    """A body whose chunks go wrong behind *content*."""
    return answer(f"chunks: {name}", _framed(CHUNKED, body=body), rule, Broken(content))


def _bad(name: str, *fields: bytes, rule: str, body: bytes = CHUNKS) -> Answer:
    return unusable(name, _framed(*fields, body=body), rule)


WHOLE = Group(
    "Whole bodies",
    [
        answer("a length", _framed(LENGTH), "RFC 9112 §6.3", HELLO),
        answer("a length of 0", _framed(b"Content-Length: 0", body=b""), "RFC 9112 §6.3", Passed(body=b"")),
        answer("a length among blanks", _framed(b"content-length:\t5 "), "RFC 9112 §5.1", HELLO),
        answer("a length with leading zeros", _framed(b"Content-Length: 005"), "RFC 9110 §8.6", HELLO),
        answer("chunks", _framed(CHUNKED, body=CHUNKS), CHUNK, HELLO),
        answer("chunks, in other case", _framed(b"transfer-ENCODING: Chunked", body=CHUNKS), "RFC 9112 §7", HELLO),
        answer("no chunks", _framed(CHUNKED, body=b"0\r\n\r\n"), CHUNK, Passed(body=b"")),
        answer("chunk extensions", _framed(CHUNKED, body=b'5;a="b"\r\nhello\r\n0;c\r\n\r\n'), "RFC 9112 §7.1.1", HELLO),
        answer(
            "trailers",
            _framed(CHUNKED, body=b"5\r\nhello\r\n0\r\nX-A: 1\r\nContent-Length: 9\r\n\r\n"),
            "RFC 9112 §7.1.2: dropped",
            HELLO,
        ),
        answer("until it closes", _framed(), "RFC 9112 §6.3", HELLO, closes=True),
        answer("nothing, until it closes", _framed(body=b""), "RFC 9112 §6.3", Passed(body=b""), closes=True),
        answer("Connection: close", _framed(LENGTH, b"Connection: close"), "RFC 9112 §9.6", HELLO, reused=False),
        answer("a length, and closed", _framed(LENGTH), "RFC 9112 §9.6", HELLO, closes=True),
        answer("chunks, and closed", _framed(CHUNKED, body=CHUNKS), "RFC 9112 §9.6", HELLO, closes=True),
    ],
)

CUT = Group(
    "Bodies that are not whole",
    [
        answer("a short body", _framed(b"Content-Length: 6"), "RFC 9112 §8", Broken(b"hello"), closes=True),
        answer("no body", _framed(LENGTH, body=b""), "RFC 9112 §8", Broken(), closes=True),
        answer("no chunk", _framed(CHUNKED, body=b""), "RFC 9112 §8", Broken(), closes=True),
        answer("half a chunk size", _framed(CHUNKED, body=b"5"), "RFC 9112 §8", Broken(), closes=True),
        answer("half a chunk", _framed(CHUNKED, body=b"5\r\nhel"), "RFC 9112 §8", Broken(b"hel"), closes=True),
        answer("no last chunk", _framed(CHUNKED, body=CHUNKS[:10]), "RFC 9112 §8", Broken(b"hello"), closes=True),
        answer("no end of trailers", _framed(CHUNKED, body=CHUNKS[:-2]), "RFC 9112 §8", Broken(b"hello"), closes=True),
        _chunks("a size that is none", b"2\r\nhe\r\nx\r\n", b"he"),
        _chunks("a size with a minus", b"2\r\nhe\r\n-3\r\nllo\r\n0\r\n\r\n", b"he"),
        _chunks("a size with a plus", b"+5\r\nhello\r\n0\r\n\r\n", b""),
        _chunks("a size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n", b""),
        _chunks("a size with a blank", b" 5\r\nhello\r\n0\r\n\r\n", b""),
        _chunks("a size of 2^64 + 5", b"10000000000000005\r\nhello\r\n0\r\n\r\n", b"", "RFC 9112 §7.1: overflow"),
        _chunks("LF behind a size", b"5\nhello\r\n0\r\n\r\n", b""),
        _chunks("LF behind a chunk", b"5\r\nhello\n0\r\n\r\n", b"hello"),
        _chunks("longer than its size", b"2\r\nhello\r\n0\r\n\r\n", b"he"),
        _chunks("extensions that are too long", b"5;" + b"a" * 1100 + b"\r\nhello\r\n", b"", "RFC 9112 §7.1.1"),
        _chunks("a trailer without a colon", b"5\r\nhello\r\n0\r\nX-A\r\n\r\n", b"hello", "RFC 9112 §7.1.2"),
        _chunks(
            "trailers that are too large", b"0\r\n" + (b"X-A: " + b"1" * 1000 + b"\r\n") * 9 + b"\r\n", b"", "our limit"
        ),
    ],
)

FRAMING = Group(
    "Framing that two readers could read differently",
    [
        _bad("CL.TE", LENGTH, CHUNKED, rule="RFC 9112 §6.1: may be refused"),
        _bad("TE.CL", CHUNKED, b"Content-Length: 15", rule="RFC 9112 §6.1: may be refused"),
        _bad("a repeated length", LENGTH, LENGTH, rule="RFC 9112 §6.3: may be refused", body=b"hello"),
        _bad("two lengths", LENGTH, b"Content-Length: 6", rule="RFC 9112 §6.3"),
        _bad("a listed length", b"Content-Length: 5, 5", rule="RFC 9112 §6.3: may be refused", body=b"hello"),
        _bad("a length with a plus", b"Content-Length: +5", rule="RFC 9112 §6.3", body=b"hello"),
        _bad("a length with a minus", b"Content-Length: -5", rule="RFC 9112 §6.3", body=b"hello"),
        _bad("a hex length", b"Content-Length: 0x5", rule="RFC 9112 §6.3", body=b"hello"),
        _bad("an empty length", b"Content-Length:", rule="RFC 9112 §6.3", body=b"hello"),
        _bad("a length of 2^64 + 5", b"Content-Length: 18446744073709551621", rule="RFC 9110 §8.6", body=b"hello"),
        _bad("gzip, chunked", b"Transfer-Encoding: gzip, chunked", rule="our rule: just chunked"),
        _bad("chunked, chunked", b"Transfer-Encoding: chunked, chunked", rule="RFC 9112 §6.1"),
        _bad("two codings", CHUNKED, CHUNKED, rule="our rule: just chunked"),
        _bad("identity", b"Transfer-Encoding: identity", rule="our rule: just chunked", body=b"hello"),
        _bad("gzip", b"Transfer-Encoding: gzip", rule="our rule: just chunked", body=b"hello"),
        _bad("xchunked", b"Transfer-Encoding: xchunked", rule="our rule: just chunked"),
        _bad("chunked behind a vertical tab", b"Transfer-Encoding: \x0bchunked", rule="RFC 9110 §5.5"),
        _bad("a blank before the colon", b"Transfer-Encoding : chunked", rule="RFC 9112 §5.1"),
        _bad("folded chunked", b"Transfer-Encoding:\r\n chunked", rule="RFC 9112 §5.2: our rule"),
        unusable("chunked in HTTP/1.0", lines(b"HTTP/1.0 200 OK", CHUNKED, body=CHUNKS), "RFC 9112 §6.1"),
    ],
)

BEHIND = Group(
    "Bytes behind a response",
    [
        answer("another response", _framed(LENGTH, body=b"hello" + STRAY), "RFC 9112 §9.2", HELLO, reused=False),
        answer("another, behind chunks", _framed(CHUNKED, body=CHUNKS + STRAY), "RFC 9112 §9.2", HELLO, reused=False),
        answer("a byte", _framed(LENGTH, body=b"hello!"), "RFC 9112 §6.3", HELLO, reused=False),
        answer("an empty line", _framed(LENGTH, body=b"hello\r\n"), "RFC 9112 §6.3", HELLO, reused=False),
        answer(
            "a body, behind 204",
            lines(b"HTTP/1.1 204 No Content", body=STRAY),
            "RFC 9112 §6.3",
            Passed(204, b""),
            reused=False,
        ),
        answer(
            "a body, behind 304",
            lines(b"HTTP/1.1 304 Not Modified", LENGTH, body=b"hello"),
            "RFC 9112 §6.3",
            Passed(304, b""),
            reused=False,
        ),
        answer(
            "chunks, behind 304",
            lines(b"HTTP/1.1 304 Not Modified", CHUNKED, body=CHUNKS),
            "RFC 9112 §6.3",
            Passed(304, b""),
            reused=False,
        ),
        answer("a body, behind HEAD", _framed(LENGTH), "RFC 9112 §6.3", Passed(body=b""), reused=False, method=b"HEAD"),
        answer(
            "chunks, behind HEAD",
            _framed(CHUNKED, body=CHUNKS),
            "RFC 9112 §6.3",
            Passed(body=b""),
            reused=False,
            method=b"HEAD",
        ),
    ],
)
