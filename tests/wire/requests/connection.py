"""What ends at a gateway, keys, what clients wait for, what follows on a connection, and HTTP/1.0."""

from tests.wire.requests.length import SMUGGLED
from tests.wire.row import (
    CHUNKED,
    GET,
    HOST,
    KEY,
    KEYED,
    POST,
    Expected,
    Forwarded,
    Group,
    Refused,
    Row,
    Unanswered,
    lines,
    refused,
    row,
)

GOT = Forwarded(b"GET")
PAID = Forwarded(b"POST", body=b"ok")
HOP = "RFC 9110 §7.6.1"
KEPT = "our rule: what frames, addresses or guards a request is kept"
KEY_INVALID = Refused(400, "idempotency_key_invalid")
OUR_KEY = "our rule: one valid key"


def _names(name: str, option: bytes, rule: str, *others: bytes, fields: Expected) -> Row:
    data = lines(POST, HOST, b"Connection: " + option, *others, KEYED, b"Content-Length: 2", body=b"ok")
    return row(f"Connection: {name}", data, rule, PAID._replace(fields=fields))


def _paid(name: str, *others: bytes, rule: str = HOP, fields: Expected = ()) -> Row:
    data = lines(POST, HOST, *others, KEYED, b"Content-Length: 2", body=b"ok")
    return row(name, data, rule, PAID._replace(fields=fields))


def _key(name: str, *fields: bytes, valid: bytes = b"") -> Row:
    data = lines(POST, HOST, *fields, b"Content-Length: 2", body=b"ok")
    if valid:
        return row(name, data, OUR_KEY, PAID._replace(fields=((b"idempotency-key", (valid,)),)))
    return row(name, data, OUR_KEY, KEY_INVALID, stays=True)


HOP_BY_HOP = Group(
    "Connection, and what it names",
    [
        _names("Content-Length", b"Content-Length", KEPT, fields=((b"content-length", (b"2",)),)),
        _names("Host", b"Host", KEPT, fields=()),
        _names("the key", b"Idempotency-Key", KEPT, fields=((b"idempotency-key", (KEY,)),)),
        _names(
            "Authorization",
            b"Authorization",
            KEPT,
            b"Authorization: Basic Zm9v",
            fields=((b"authorization", (b"Basic Zm9v",)),),
        ),
        _names(
            "X-Forwarded-For",
            b"X-Forwarded-For",
            KEPT,
            b"X-Forwarded-For: 192.0.2.1",
            fields=((b"x-forwarded-for", (b"127.0.0.1",)),),
        ),
        _names(
            "X-Request-Id",
            b"X-Request-Id",
            KEPT,
            b"X-Request-Id: theirs",
            fields=((b"x-request-id", (b"theirs",)),),
        ),
        _names("X-A, and repeats", b"X-A", HOP, b"X-A: 1", b"x-a: 2", fields=((b"x-a", ()),)),
        _names("a pattern", b".*, [a-z], X-.", HOP, b"X-A: 1", fields=((b"x-a", (b"1",)),)),
        _names("keep-alive", b"keep-alive", HOP, b"Keep-Alive: timeout=5", fields=((b"keep-alive", ()),)),
        _names("nothing", b", ,", HOP, fields=((b"connection", ()),)),
        _names("quoted close", b'"close"', "RFC 9110 §7.6.1: tokens", fields=()),
        row(
            "Connection: Transfer-Encoding",
            lines(POST, HOST, b"Connection: Transfer-Encoding", CHUNKED, KEYED, body=b"2\r\nok\r\n0\r\n\r\n"),
            KEPT,
            PAID._replace(fields=((b"content-length", (b"2",)), (b"transfer-encoding", ()))),
        ),
        row(
            "Connection: Transfer-Encoding, without a key",
            lines(POST, HOST, b"Connection: Transfer-Encoding", CHUNKED, body=b"2\r\nok\r\n0\r\n\r\n"),
            KEPT,
            PAID._replace(fields=((b"transfer-encoding", (b"chunked",)),)),
        ),
        row(
            "Connection: Content-Length, without a key",
            lines(POST, HOST, b"Connection: Content-Length", b"Content-Length: 2", body=b"ok"),
            KEPT,
            PAID._replace(fields=((b"content-length", (b"2",)),)),
        ),
        row("Connection: close", lines(GET, HOST, b"Connection: close"), "RFC 9112 §9.6", GOT, stays=False),
        row("Connection: CLOSE among others", lines(GET, HOST, b"Connection: x, CLOSE ,y"), HOP, GOT, stays=False),
        row("two Connection fields", lines(GET, HOST, b"Connection: x", b"connection: close"), HOP, GOT, stays=False),
        refused("a Connection of 600 bytes", lines(GET, HOST, b"Connection: " + b"x" * 600), 431, "our limit"),
        _paid("TE", b"TE: trailers", b"Connection: TE", fields=((b"te", ()),)),
        _paid("TE, not named", b"TE: trailers", fields=((b"te", ()),)),
        _paid("Keep-Alive, not named", b"Keep-Alive: timeout=5", fields=((b"keep-alive", ()),)),
        _paid("Upgrade, not named", b"Upgrade: h2c", fields=((b"upgrade", ()),)),
        _paid("Proxy-Connection", b"Proxy-Connection: close", fields=((b"proxy-connection", ()),)),
        _paid("Trailer", b"Trailer: X-A", fields=((b"trailer", ()),)),
        _paid("Via of others", b"Via: 1.0 fred", fields=((b"via", (b"1.0 fred", b"1.1 idempotency-proxy")),)),
        row(
            "h2c, on a POST with a key",
            lines(
                POST,
                HOST,
                b"Connection: Upgrade, HTTP2-Settings",
                b"Upgrade: h2c",
                b"HTTP2-Settings: AAMAAABkAAQAAP__",
                KEYED,
                b"Content-Length: %d" % len(SMUGGLED),
                body=SMUGGLED,
            ),
            "our rule: served as if it had not asked",
            Forwarded(b"POST", body=SMUGGLED, fields=((b"upgrade", ()), (b"http2-settings", ()))),
        ),
        row(
            "h2c, on a POST without a key",
            lines(POST, HOST, b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 2", body=b"ok"),
            "our rule: served as if it had not asked",
            PAID._replace(fields=((b"upgrade", ()),)),
        ),
        row(
            "h2c, on a GET",
            lines(GET, HOST, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
            "our rule: served as if it had not asked",
            GOT._replace(fields=((b"upgrade", ()), (b"http2-settings", ()))),
        ),
        _paid("websocket, on a POST", b"Connection: upgrade", b"Upgrade: websocket", fields=((b"upgrade", ()),)),
    ],
)

KEYS = Group(
    "Keys",
    [
        _key("a key in other case", b"IDEMPOTENCY-key: " + KEY, valid=KEY),
        _key("a key among blanks", b"Idempotency-Key: \t" + KEY + b" ", valid=KEY),
        _key("a quoted key", b'Idempotency-Key: "' + KEY + b'"', valid=b'"' + KEY + b'"'),
        _key("two keys", KEYED, b"Idempotency-Key: another-key-0000000"),
        _key("the same key twice", KEYED, KEYED),
        _key("the same key twice, in other case", KEYED, b"idempotency-key: " + KEY),
        _key("two keys and a comma", KEYED + b", another-key-0000000"),
        _key("a key and a comma", KEYED + b","),
        _key("an empty key", b"Idempotency-Key:"),
        _key("an empty key and a key", b"Idempotency-Key:", KEYED),
        _key("an empty quoted key", b'Idempotency-Key: ""'),
        _key("half a quoted key", b'Idempotency-Key: "' + KEY),
        _key("a short key", b"Idempotency-Key: 123456789012345"),
        _key("a long key", b"Idempotency-Key: " + b"1" * 37),
        _key("a key with a blank", b"Idempotency-Key: 12345678 12345678"),
        _key("a key with obs-text", b"Idempotency-Key: 1234567812345678\xe9"),
        _key("a key with an underscore in its name", b"Idempotency_Key: " + KEY),
        _key("a key, and one with an underscore in its name", KEYED, b"Idempotency_Key: another-key-0000000"),
        row(
            "a bad key in chunks",
            lines(POST, HOST, b"Idempotency-Key: bad", CHUNKED, body=b"2\r\nok\r\n0\r\n\r\n"),
            OUR_KEY,
            KEY_INVALID,
            stays=False,
        ),
        row("a bad key on a GET", lines(GET, HOST, b"Idempotency-Key: bad", KEYED), "our rule: not guarded", GOT),
        row(
            "the same key again",
            2 * lines(POST, HOST, KEYED, b"Content-Length: 2", body=b"ok"),
            "our rule: once",
            PAID,
            Refused(409, "idempotent_creation_conflict"),
            stays=True,
        ),
    ],
)

EXPECT = Group(
    "Expect",
    [
        _paid("100-continue", b"Expect: 100-Continue", rule="RFC 9110 §10.1.1"),
        row("100-continue without a body", lines(GET, HOST, b"Expect: 100-continue"), "RFC 9110 §10.1.1", GOT),
        *(
            refused(
                f"Expect: {value.decode()}",
                lines(POST, HOST, b"Expect: " + value, KEYED, b"Content-Length: 2", body=b"ok"),
                417,
                "RFC 9110 §10.1.1: only 100-continue",
            )
            for value in (b"fly", b"100-continue, fly", b"100-continue=1", b"")
        ),
        refused(
            "two Expect fields",
            lines(POST, HOST, b"Expect: 100-continue", b"Expect: 100-continue", KEYED),
            400,
            "our rule: once",
        ),
    ],
)

PIPELINES = Group(
    "Several requests on a connection",
    [
        row("two", 2 * lines(GET, HOST), "RFC 9112 §9.3.2: in order", GOT, GOT),
        row(
            "three kinds",
            lines(POST, HOST, KEYED, b"Content-Length: 2", body=b"ok")
            + lines(b"HEAD /x HTTP/1.1", HOST)
            + lines(POST, HOST, CHUNKED, body=b"2\r\nok\r\n0\r\n\r\n"),
            "RFC 9112 §9.3.2: in order",
            PAID,
            Forwarded(b"HEAD", b"/x"),
            PAID,
        ),
        row("twenty", 20 * lines(GET, HOST), "RFC 9112 §9.3.2: in order", *20 * [GOT]),
        row("an empty line between two", lines(GET, HOST) + b"\r\n" + lines(GET, HOST), "RFC 9112 §2.2", GOT, GOT),
        row("a good and a bad one", lines(GET, HOST) + lines(GET), "RFC 9112 §3.2", GOT, Refused(400), stays=False),
        row(
            "a body that is longer than it says",
            lines(POST, HOST, KEYED, b"Content-Length: 2", body=b"okSMUGGLED\r\n\r\n"),
            "RFC 9112 §6.3",
            PAID,
            Refused(400),
            stays=False,
        ),
        row(
            "a request behind Connection: close",
            lines(GET, HOST, b"Connection: close") + SMUGGLED,
            "RFC 9112 §9.6: not treated",
            GOT,
            stays=False,
        ),
        row(
            "half a request behind one", lines(GET, HOST) + GET + b"\r\n", "RFC 9112 §8", GOT, Unanswered(), stays=False
        ),
    ],
)

OLD = Group(
    "HTTP/1.0",
    [
        row("with Host", lines(b"GET /pay HTTP/1.0", HOST), "RFC 9112 §9.3: closes", GOT, stays=False),
        row("without Host", lines(b"GET /pay HTTP/1.0"), "RFC 9112 §3.2: only in 1.1 a must", GOT, stays=False),
        row("kept alive", lines(b"GET /pay HTTP/1.0", b"Connection: Keep-Alive"), "RFC 9112 §9.3", GOT),
        row(
            "kept alive and closed",
            lines(b"GET /pay HTTP/1.0", b"Connection: keep-alive, close"),
            "RFC 9112 §9.3: close comes first",
            GOT,
            stays=False,
        ),
        row(
            "a body",
            lines(b"POST /pay HTTP/1.0", KEYED, b"Content-Length: 2", body=b"ok"),
            "RFC 9112 §6.2",
            PAID,
            stays=False,
        ),
        row(
            "an expectation",
            lines(b"POST /pay HTTP/1.0", KEYED, b"Expect: 100-continue", b"Content-Length: 2", body=b"ok"),
            "RFC 9110 §10.1.1: ignored",
            PAID,
            stays=False,
        ),
        row(
            "an absolute target",
            lines(b"GET http://api.example.com/pay HTTP/1.0"),
            "RFC 9112 §3.2.2",
            GOT,
            stays=False,
        ),
        refused("two Hosts", lines(b"GET /pay HTTP/1.0", HOST, HOST), 400, "RFC 9112 §3.2: in any version"),
        refused("a bad Host", lines(b"GET /pay HTTP/1.0", b"Host: a@b"), 400, "RFC 9112 §3.2: in any version"),
    ],
)
