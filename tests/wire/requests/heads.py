"""Request lines, versions and field lines."""

from tests.wire.row import (
    GET,
    HOST,
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

GOT = Forwarded(b"GET")
VERSION = "RFC 9110 §15.6.6: the major version"
GRAMMAR = "RFC 9112 §3: one blank, nothing else"
NAME = "RFC 9110 §5.1: a token"
VALUE = "RFC 9110 §5.5: CR, LF, NUL, controls"


def _line(name: str, line: bytes, status: int, rule: str) -> Row:
    return refused(name, lines(line, HOST, KEYED), status, rule)


def _field(name: str, line: bytes, rule: str, fields: Expected = ()) -> Row:
    data = lines(POST, HOST, line, KEYED, b"Content-Length: 2", body=b"ok")
    return row(name, data, rule, Forwarded(b"POST", body=b"ok", fields=fields))


def _bad_field(name: str, line: bytes, rule: str) -> Row:
    return refused(name, lines(POST, HOST, line, KEYED, b"Content-Length: 2", body=b"ok"), 400, rule)


VERSIONS = Group(
    "Versions and other protocols",
    [
        refused("HTTP/0.9", lines(b"GET /pay"), 400, "RFC 9112 §3: no version"),
        _line("HTTP/0.9, said so", b"GET /pay HTTP/0.9", 505, VERSION),
        _line("HTTP/1.2", b"GET /pay HTTP/1.2", 505, "our rule: just 1.0 and 1.1"),
        _line("HTTP/1.10", b"GET /pay HTTP/1.10", 505, "RFC 9112 §2.3: one digit"),
        _line("HTTP/1.01", b"GET /pay HTTP/1.01", 505, "RFC 9112 §2.3: one digit"),
        _line("HTTP/2.0", b"GET /pay HTTP/2.0", 505, VERSION),
        _line("HTTP/3", b"GET /pay HTTP/3", 505, VERSION),
        refused("the preface of HTTP/2", lines(b"PRI * HTTP/2.0", body=b"SM\r\n\r\n"), 505, VERSION),
        _line("no minor version", b"GET /pay HTTP/1", 505, "RFC 9112 §2.3"),
        _line("no digits", b"GET /pay HTTP/", 400, "RFC 9112 §2.3"),
        _line("a comma in the version", b"GET /pay HTTP/1,1", 400, "RFC 9112 §2.3"),
        _line("a letter behind the version", b"GET /pay HTTP/1.1x", 400, "RFC 9112 §2.3"),
        _line("a sign in the version", b"GET /pay HTTP/+1.1", 400, "RFC 9112 §2.3"),
        _line("lower case", b"GET /pay http/1.1", 400, "RFC 9112 §2.3: case-sensitive"),
        _line("HTTPS", b"GET /pay HTTPS/1.1", 400, "RFC 9112 §2.3"),
        _line("RTSP", b"GET /pay RTSP/1.0", 400, "RFC 9112 §2.3"),
        _line("ICE", b"SOURCE /pay ICE/1.0", 400, "RFC 9112 §2.3"),
        refused("SSH", lines(b"SSH-2.0-OpenSSH_9.2"), 400, "RFC 9112 §3"),
        refused("TLS", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", 400, "no HTTP at all, which its first byte says"),
    ],
)

REQUEST_LINE = Group(
    "Request lines",
    [
        row("an empty line before it", b"\r\n" + lines(GET, HOST), "RFC 9112 §2.2: at least one is ignored", GOT),
        refused("two empty lines before it", b"\r\n\r\n" + lines(GET, HOST), 400, "our rule: one"),
        refused("LF before it", b"\n" + lines(GET, HOST), 400, "our rule: CRLF only"),
        refused("CR before it", b"\r" + lines(GET, HOST), 400, "RFC 9112 §2.2"),
        refused("a NUL before it", b"\x00" + lines(GET, HOST), 400, GRAMMAR),
        _line("a blank before it", b" GET /pay HTTP/1.1", 400, GRAMMAR),
        _line("a blank behind it", b"GET /pay HTTP/1.1 ", 400, GRAMMAR),
        _line("two blanks before the target", b"GET  /pay HTTP/1.1", 400, GRAMMAR),
        _line("two blanks behind the target", b"GET /pay  HTTP/1.1", 400, GRAMMAR),
        _line("a blank in the target", b"GET /pay now HTTP/1.1", 400, GRAMMAR),
        _line("tabs", b"GET\t/pay\tHTTP/1.1", 400, GRAMMAR),
        _line("a tab in the target", b"GET /pay\tnow HTTP/1.1", 400, GRAMMAR),
        _line("a form feed for a blank", b"GET\x0c/pay HTTP/1.1", 400, GRAMMAR),
        _line("a CR in it", b"GET /pay\rHTTP/1.1", 400, "RFC 9112 §2.2"),
        _line("a CR behind it", b"GET /pay HTTP/1.1\r", 400, "RFC 9112 §2.2"),
        _line("a NUL in it", b"GET /pay\x00 HTTP/1.1", 400, GRAMMAR),
        _line("no target", b"GET HTTP/1.1", 400, GRAMMAR),
        _line("no method", b"/pay HTTP/1.1", 400, GRAMMAR),
        refused("LF behind it", b"GET /pay HTTP/1.1\nHost: api.example.com\r\n\r\n", 400, "our rule: CRLF only"),
        row(
            "LF everywhere",
            b"GET /pay HTTP/1.1\nHost: api.example.com\n\n",
            "our rule: CRLF only",
            Unanswered(),
            stays=False,
        ),
        refused("an empty head", b"\r\n\r\n\r\n\r\n", 400, GRAMMAR),
    ],
)

FIELDS = Group(
    "Field lines",
    [
        _field(
            "repeated fields", b"X-A: 1\r\nx-a: 2\r\nX-A: 1", "RFC 9110 §5.3: order", ((b"x-a", (b"1", b"2", b"1")),)
        ),
        _field("an empty value", b"X-A:", "RFC 9110 §5.5", ((b"x-a", (b"",)),)),
        _field("blanks around a value", b"X-A: \t  b c\t ", "RFC 9112 §5.1: not part of it", ((b"x-a", (b"b c",)),)),
        _field("a tab in a value", b"X-A: b\tc", "RFC 9110 §5.5", ((b"x-a", (b"b\tc",)),)),
        _field("obs-text in a value", b"X-A: caf\xe9", "RFC 9110 §5.5: opaque", ((b"x-a", (b"caf\xe9",)),)),
        _field("colons in a value", b"X-A: b: c:", "RFC 9110 §5.5", ((b"x-a", (b"b: c:",)),)),
        _field("an underscore in a name", b"X_A: 1", NAME, ((b"x_a", (b"1",)),)),
        _field("odd characters in a name", b"!#$%&'*+-.^`|~: 1", NAME, ((b"!#$%&'*+-.^`|~", (b"1",)),)),
        row(
            "a tab behind the last value",
            lines(POST, HOST, KEYED, b"Content-Length: 2", b"X-A: b\t", body=b"ok"),
            "RFC 9112 §5.1: not part of it",
            Forwarded(b"POST", body=b"ok", fields=((b"x-a", (b"b",)),)),
        ),
        row(
            "a tab behind the key, at the end",
            lines(POST, HOST, b"Content-Length: 2", KEYED + b"\t", body=b"ok"),
            "RFC 9112 §5.1: not part of it",
            Forwarded(b"POST", body=b"ok"),
        ),
        _bad_field("a folded value", b"X-A: b\r\n c", "RFC 9112 §5.2"),
        _bad_field("a value folded with a tab", b"X-A: b\r\n\tc", "RFC 9112 §5.2"),
        _bad_field("a fold of nothing", b"X-A: b\r\n ", "RFC 9112 §5.2"),
        refused("a fold behind the request line", lines(GET, b" " + HOST), 400, "RFC 9112 §2.2"),
        _bad_field("a CR in a value", b"X-A: b\rc", VALUE),
        _bad_field("a CR before CRLF", b"X-A: b\r", VALUE),
        _bad_field("an LF in a value", b"X-A: b\nX-B: c", VALUE),
        _bad_field("LF CR", b"X-A: b\n\rX-B: c", VALUE),
        _bad_field("a NUL in a value", b"X-A: b\x00c", VALUE),
        _bad_field("a control in a value", b"X-A: b\x01c", VALUE),
        _bad_field("an escape in a value", b"X-A: \x1b[2J", VALUE),
        _bad_field("DEL in a value", b"X-A: b\x7fc", VALUE),
        _bad_field("a NUL in a name", b"X\x00A: b", NAME),
        _bad_field("a blank in a name", b"X A: b", NAME),
        _bad_field("a blank before a colon", b"X-A : b", "RFC 9112 §5.1"),
        _bad_field("a tab before a colon", b"X-A\t: b", "RFC 9112 §5.1"),
        _bad_field("a parenthesis in a name", b"X(A): b", NAME),
        _bad_field("an at sign in a name", b"X@A: b", NAME),
        _bad_field("a quote in a name", b'"X-A": b', NAME),
        _bad_field("obs-text in a name", b"X-\xe9: b", NAME),
        _bad_field("no name", b": b", NAME),
        _bad_field("no colon", b"X-A", "RFC 9112 §5"),
        _bad_field("a request line among them", b"GET /admin HTTP/1.1", "RFC 9112 §5"),
    ],
)
