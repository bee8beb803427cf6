"""Status lines, interim responses and field lines."""

from tests.wire.responses.answer import CHUNKED, LENGTH, OK, Answer, Group, Passed, Turned, answer, unusable
from tests.wire.row import lines

HELLO = Passed()
LINE = "RFC 9112 §4"
VERSION = "RFC 9112 §2.3"
VALUE = "RFC 9110 §5.5"
FINAL = lines(OK, LENGTH, body=b"hello")


def _line(name: str, line: bytes, rule: str = LINE) -> Answer:
    return unusable(name, lines(line, LENGTH, body=b"hello"), rule)


def _status(status: int, fate: Passed | Turned | None = None) -> Answer:
    data = lines(b"HTTP/1.1 %d Odd" % status, LENGTH, body=b"hello")
    return answer(f"status {status}", data, "RFC 9110 §15: by its class", fate or Passed(status))


def _field(name: str, line: bytes, rule: str = VALUE) -> Answer:
    return answer(name, lines(OK, line, LENGTH, body=b"hello"), rule, HELLO)


def _bad_field(name: str, line: bytes, rule: str = VALUE) -> Answer:
    return unusable(name, lines(OK, line, LENGTH, body=b"hello"), rule)


STATUS_LINES = Group(
    "Status lines",
    [
        *(_status(status) for status in (201, 299, 302, 400, 404, 418, 500, 503, 599)),
        *(_status(status, Turned(status)) for status in (401, 429)),
        answer("no reason", lines(b"HTTP/1.1 200 ", LENGTH, body=b"hello"), LINE, HELLO),
        answer("no reason and no blank", lines(b"HTTP/1.1 200", LENGTH, body=b"hello"), "our leniency", HELLO),
        answer("obs-text in the reason", lines(b"HTTP/1.1 200 D\xe9j\xe0", LENGTH, body=b"hello"), LINE, HELLO),
        answer("204", lines(b"HTTP/1.1 204 No Content"), "RFC 9112 §6.3", Passed(204, b"")),
        answer("204 with a length", lines(b"HTTP/1.1 204 No Content", LENGTH), "RFC 9110 §8.6", Passed(204, b"")),
        answer("304 with a length", lines(b"HTTP/1.1 304 Not Modified", LENGTH), "RFC 9110 §15.4.5", Passed(304, b"")),
        answer("HEAD", lines(OK, LENGTH), "RFC 9110 §9.3.2", Passed(body=b""), method=b"HEAD"),
        answer("HEAD, in chunks", lines(OK, CHUNKED), "RFC 9110 §9.3.2", Passed(body=b""), method=b"HEAD"),
        answer("HEAD, without a length", lines(OK), "RFC 9110 §9.3.2", Passed(body=b""), method=b"HEAD"),
        _line("status 099", b"HTTP/1.1 099 Odd"),
        _line("status 600", b"HTTP/1.1 600 Odd", "RFC 9110 §15: invalid"),
        _line("status 1000", b"HTTP/1.1 1000 Odd"),
        _line("status 20x", b"HTTP/1.1 20x Odd"),
        _line("status 20", b"HTTP/1.1 20 Odd"),
        _line("status +200", b"HTTP/1.1 +200 Odd"),
        _line("status -200", b"HTTP/1.1 -200 Odd"),
        _line("no status", b"HTTP/1.1 OK"),
        _line("two blanks before the status", b"HTTP/1.1  200 OK"),
        _line("a blank before it", b" HTTP/1.1 200 OK"),
        _line("a tab in it", b"HTTP/1.1\t200 OK"),
        _line("a NUL in the reason", b"HTTP/1.1 200 O\x00K"),
        _line("a control in the reason", b"HTTP/1.1 200 O\x1bK"),
        _line("a CR in the reason", b"HTTP/1.1 200 O\rK"),
        _line("an LF in the reason", b"HTTP/1.1 200 O\nK"),
        _line("HTTP/0.9, said so", b"HTTP/0.9 200 OK", VERSION),
        _line("HTTP/1.2", b"HTTP/1.2 200 OK", VERSION),
        _line("HTTP/2", b"HTTP/2 200 OK", VERSION),
        _line("HTTP/2.0", b"HTTP/2.0 200 OK", VERSION),
        _line("lower case", b"http/1.1 200 OK", VERSION),
        _line("ICY", b"ICY 200 OK", VERSION),
        unusable("HTTP/0.9", b"<html>hello</html>\r\n\r\n", VERSION),
        unusable("HTTP/0.9, closed", b"<html>hello</html>", VERSION, closes=True),
        unusable("an empty line before it", b"\r\n" + FINAL, LINE),
        unusable(
            "frames of HTTP/2", b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00@\x00", VERSION, closes=True
        ),
        unusable("a TLS alert", b"\x15\x03\x01\x00\x02\x02\x16", "no HTTP at all", closes=True),
    ],
)

INTERIM = Group(
    "Interim responses",
    [
        answer("100", lines(b"HTTP/1.1 100 Continue") + FINAL, "RFC 9110 §15.2: need not be passed on", HELLO),
        answer("102", lines(b"HTTP/1.1 102 Processing") + FINAL, "RFC 9110 §15.2", HELLO),
        answer(
            "103",
            lines(b"HTTP/1.1 103 Early Hints", b"Link: </a>") + FINAL,
            "RFC 8297 §2",
            Passed(interim=(103,)),
        ),
        answer(
            "three kinds",
            b"".join(lines(b"HTTP/1.1 10%d x" % n) for n in (0, 2, 3)) + FINAL,
            "RFC 9110 §15.2",
            Passed(interim=(103,)),
        ),
        answer("8 of them", 8 * lines(b"HTTP/1.1 102 Processing") + FINAL, "our limit", HELLO),
        unusable("9 of them", 9 * lines(b"HTTP/1.1 102 Processing") + FINAL, "our limit"),
        unusable("101, unasked", lines(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: x"), "RFC 9110 §15.2.2"),
        unusable("199 with a length", lines(b"HTTP/1.1 199 Odd", LENGTH, body=b"hello") + FINAL, "RFC 9110 §15.2"),
        unusable("100 in chunks", lines(b"HTTP/1.1 100 Continue", CHUNKED) + FINAL, "RFC 9110 §15.2"),
        unusable("100, and closed", lines(b"HTTP/1.1 100 Continue"), "RFC 9110 §15.2", closes=True),
        unusable("199 with a body", lines(b"HTTP/1.1 199 Odd", body=b"hello") + FINAL, "RFC 9110 §15.2"),
    ],
)

FIELDS = Group(
    "Field lines",
    [
        _field("repeated fields", b"Set-Cookie: a=1\r\nSet-Cookie: b=2"),
        _field("blanks around a value", b"X-A: \t b \t", "RFC 9112 §5.1"),
        _field("obs-text in a value", b"X-A: caf\xe9"),
        _field("an empty value", b"X-A:"),
        _bad_field("a folded value", b"X-A: b\r\n c", "RFC 9112 §5.2: our rule"),
        _bad_field("a CR in a value", b"X-A: b\rc"),
        _bad_field("an LF in a value", b"X-A: b\nX-B: c"),
        _bad_field("a NUL in a value", b"X-A: b\x00c"),
        _bad_field("a control in a value", b"X-A: b\x01c"),
        _bad_field("a blank before a colon", b"X-A : b", "RFC 9112 §5.1: our rule"),
        _bad_field("a blank in a name", b"X A: b", "RFC 9110 §5.1"),
        _bad_field("no name", b": b", "RFC 9110 §5.1"),
        _bad_field("no colon", b"X-A", "RFC 9112 §5"),
        unusable("LF everywhere", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "our rule: CRLF only", closes=True),
        answer("101 fields", lines(OK, LENGTH, *100 * [b"X-A: 1"], body=b"hello"), "our rule: only size counts", HELLO),
        unusable("a head over 64 KiB", lines(OK, LENGTH, b"X-A: " + b"x" * 65536, body=b"hello"), "our limit"),
        answer("a head of 60 KiB", lines(OK, LENGTH, b"X-A: " + b"x" * 61440, body=b"hello"), "our limit", HELLO),
        unusable("a head without an end", b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 70000, "our limit"),
        unusable("half a head", FINAL[:20], "RFC 9112 §8", closes=True),
        unusable("nothing", b"", "RFC 9112 §8", closes=True),
    ],
)

OLD = Group(
    "HTTP/1.0",
    [
        answer(
            "a length, and closed",
            lines(b"HTTP/1.0 200 OK", LENGTH, body=b"hello"),
            "RFC 9112 §9.3",
            HELLO,
            reused=False,
        ),
        answer(
            "kept alive",
            lines(b"HTTP/1.0 200 OK", LENGTH, b"Connection: keep-alive", body=b"hello"),
            "RFC 9112 §9.3",
            HELLO,
        ),
        answer("until it closes", lines(b"HTTP/1.0 200 OK", body=b"hello"), "RFC 9112 §6.3", HELLO, closes=True),
        answer(
            "kept alive, until it closes",
            lines(b"HTTP/1.0 200 OK", b"Connection: keep-alive", body=b"hello"),
            "RFC 9112 §6.3",
            HELLO,
            closes=True,
        ),
    ],
)
