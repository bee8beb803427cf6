"""Just within the limits, and just beyond."""

from tests.wire.row import GET, HOST, KEYED, POST, Forwarded, Group, lines, refused, row

GOT = Forwarded(b"GET")


def _long_line(length: int) -> tuple[bytes, bytes]:
    target = b"/" + b"x" * (length - len(b"GET / HTTP/1.1"))
    return lines(b"GET %b HTTP/1.1" % target, HOST), target


def _large_head(size: int) -> bytes:
    filler = b"X-A: " + b"x" * (size - len(lines(GET, HOST, b"X-A: ")))
    return lines(GET, HOST, filler)


LIMITS = Group(
    "Limits",
    [
        row("a line of 8 KiB", _long_line(8192)[0], "our limit", Forwarded(b"GET", _long_line(8192)[1])),
        refused("a line of 8 KiB and a byte", _long_line(8193)[0], 414, "RFC 9112 §3"),
        refused("a line without an end", b"GET /" + b"x" * 9000, 414, "RFC 9112 §3"),
        row("a head of 32 KiB", _large_head(32768), "our limit", GOT),
        refused("a head of 32 KiB and a byte", _large_head(32769), 431, "RFC 6585 §5"),
        refused("a head without an end", _large_head(40000)[:-4], 431, "RFC 6585 §5"),
        row("100 fields", lines(GET, HOST, *99 * [b"X-A: 1"]), "our limit", GOT),
        refused("101 fields", lines(GET, HOST, *100 * [b"X-A: 1"]), 431, "RFC 6585 §5"),
        row(
            "a body of the limit",
            lines(POST, HOST, KEYED, b"Content-Length: 4096", body=b"x" * 4096),
            "our limit",
            Forwarded(b"POST", body=b"x" * 4096),
        ),
        refused("a body over the limit", lines(POST, HOST, KEYED, b"Content-Length: 4097"), 413, "our limit"),
        refused("a body of 2^59", lines(POST, HOST, KEYED, b"Content-Length: 576460752303423488"), 413, "our limit"),
        row(
            "a body over the limit, without a key",
            lines(POST, HOST, b"Content-Length: 9000", body=b"x" * 9000),
            "our rule: what is not kept has no limit",
            Forwarded(b"POST", body=b"x" * 9000),
        ),
    ],
)
