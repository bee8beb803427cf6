"""Content-Length, Transfer-Encoding and both: where a request ends is what two readers must not disagree about."""

from tests.wire.row import (
    CHUNKED,
    GET,
    HOST,
    KEYED,
    POST,
    Forwarded,
    Group,
    Refused,
    Row,
    Unanswered,
    lines,
    refused,
    row,
)

HELLO = Forwarded(b"POST", body=b"hello")
SMUGGLED = b"GET /admin HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
NOT_FINAL = "RFC 9112 §6.3: chunked is not the final coding"
OURS = "RFC 9112 §6.1; our rule: just `chunked`"


def _length(value: bytes, body: bytes = b"hello") -> bytes:
    return lines(POST, HOST, KEYED, b"Content-Length:" + value, body=body)


def _coding(*fields: bytes) -> bytes:
    return lines(POST, HOST, KEYED, *fields, body=b"5\r\nhello\r\n0\r\n\r\n")


def _both(*framing: bytes) -> bytes:
    return lines(POST, HOST, KEYED, *framing, body=b"0\r\n\r\n" + SMUGGLED)


def _bad_length(name: str, value: bytes, rule: str = "RFC 9112 §6.3: not 1*DIGIT") -> Row:
    return refused(name, _length(value), 400, rule)


def _bad_coding(name: str, *fields: bytes, status: int = 400, rule: str = NOT_FINAL) -> Row:
    return refused(name, _coding(*fields), status, rule)


LENGTH = Group(
    "Content-Length",
    [
        row("neither length nor coding", lines(GET, HOST), "RFC 9112 §6.3: no body", Forwarded(b"GET")),
        row("a POST of nothing", lines(POST, HOST, KEYED), "RFC 9112 §6.3: no body", Forwarded(b"POST")),
        row("a length", _length(b" 5"), "RFC 9112 §6.2", HELLO),
        row("a length of 0", _length(b" 0", b""), "RFC 9112 §6.2", Forwarded(b"POST")),
        row("a length with leading zeros", _length(b" 0005"), "RFC 9110 §8.6: 1*DIGIT", HELLO),
        row("a length without a blank", _length(b"5"), "RFC 9112 §5.1: OWS", HELLO),
        row("a length among blanks", _length(b" \t5 \t"), "RFC 9112 §5.1: OWS", HELLO),
        row("a body without a key", lines(POST, HOST, b"Content-Length: 5", body=b"hello"), "RFC 9112 §6.2", HELLO),
        row(
            "a body that is not whole",
            _length(b" 9"),
            "RFC 9112 §8: incomplete, never forwarded with a key",
            Unanswered(),
            stays=False,
        ),
        row(
            "a body that is not whole, without a key",
            lines(POST, HOST, b"Content-Length: 9", body=b"hello"),
            "RFC 9112 §8: broken off, never taken for whole",
            Unanswered(streamed=True),
            stays=False,
        ),
        row(
            "a body and a byte",
            _length(b" 4"),
            "RFC 9112 §6.3: what follows is another request",
            Forwarded(b"POST", body=b"hell"),
            Unanswered(),
            stays=False,
        ),
        _bad_length("a repeated length", b" 5\r\nContent-Length: 5", "RFC 9112 §6.3: may be refused"),
        _bad_length("two lengths", b" 5\r\nContent-Length: 6", "RFC 9112 §6.3"),
        _bad_length("two lengths, and other case", b" 0\r\ncontent-LENGTH: 5", "RFC 9112 §6.3"),
        _bad_length("a listed length", b" 5, 5", "RFC 9112 §6.3: may be refused"),
        _bad_length("a list of lengths", b" 5, 6", "RFC 9112 §6.3"),
        _bad_length("a list with an empty length", b" 5,", "RFC 9112 §6.3"),
        _bad_length("an empty length", b""),
        _bad_length("a blank length", b" \t "),
        _bad_length("a length with a plus", b" +5"),
        _bad_length("a length with a minus", b" -5"),
        _bad_length("a length of minus 0", b" -0"),
        _bad_length("a hex length", b" 0x5"),
        _bad_length("a length in hex digits", b" a"),
        _bad_length("a length with an underscore", b" 0_5"),
        _bad_length("a length with a point", b" 5.0"),
        _bad_length("a length with an exponent", b" 5e0"),
        _bad_length("a length with a semicolon", b" 5;"),
        _bad_length("a quoted length", b' "5"'),
        _bad_length("two numbers in a length", b" 5 5"),
        _bad_length("a length in Arabic digits", b" \xd9\xa5"),
        _bad_length("a length behind a vertical tab", b" \x0b5"),
        _bad_length("a length with a NUL", b" 5\x00"),
        _bad_length("a length of 2^63", b" 9223372036854775808", "RFC 9110 §8.6: prevent overflow"),
        _bad_length("a length of 2^64 + 5", b" 18446744073709551621", "RFC 9110 §8.6: prevent overflow"),
        _bad_length("a length of 400 digits", b" " + b"9" * 400, "RFC 9110 §8.6: prevent overflow"),
        _bad_length("a folded length", b"\r\n 5", "RFC 9112 §5.2"),
        refused(
            "a blank before a length's colon",
            lines(POST, HOST, KEYED, b"Content-Length : 5", body=b"hello"),
            400,
            "RFC 9112 §5.1",
        ),
        row(
            "another name, with an underscore",
            lines(POST, HOST, KEYED, b"Content_Length: 5", b"Transfer_Encoding: chunked"),
            "RFC 9110 §5.1: not the field that it looks like",
            Forwarded(b"POST", fields=((b"content-length", ()), (b"transfer-encoding", ()))),
        ),
    ],
)

BOTH = Group(
    "Content-Length and Transfer-Encoding",
    [
        refused("CL.TE", _both(b"Content-Length: 6", CHUNKED), 400, "RFC 9112 §6.1: may be refused, §11.2"),
        refused("TE.CL", _both(CHUNKED, b"Content-Length: 4"), 400, "RFC 9112 §6.1: may be refused, §11.2"),
        refused("CL.TE with a length of 0", _both(b"Content-Length: 0", CHUNKED), 400, "RFC 9112 §6.1"),
        refused("CL.TE with an empty coding", _both(b"Content-Length: 5", b"Transfer-Encoding:"), 400, NOT_FINAL),
        refused("CL.TE with identity", _both(b"Content-Length: 5", b"Transfer-Encoding: identity"), 400, NOT_FINAL),
        refused(
            "CL.TE in HTTP/1.0",
            lines(b"POST /pay HTTP/1.0", HOST, KEYED, b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"),
            400,
            "RFC 9112 §6.1: faulty framing",
        ),
        refused(
            "CL.TE without a key",
            lines(POST, HOST, b"Content-Length: 6", CHUNKED, body=b"0\r\n\r\nG"),
            400,
            "RFC 9112 §6.1: may be refused",
        ),
        refused(
            "CL.TE where the coding hides behind a vertical tab",
            _both(b"Content-Length: 5", b"Transfer-Encoding: \x0bchunked"),
            400,
            "RFC 9110 §5.5",
        ),
    ],
)

CODING = Group(
    "Transfer-Encoding",
    [
        row("chunked", _coding(CHUNKED), "RFC 9112 §7.1", HELLO),
        row("chunked in other case", _coding(b"TRANSFER-encoding: ChunKed"), "RFC 9112 §7: case-insensitive", HELLO),
        row("chunked without a blank", _coding(b"Transfer-Encoding:chunked"), "RFC 9112 §5.1: OWS", HELLO),
        row("chunked behind a tab", _coding(b"Transfer-Encoding:\tchunked "), "RFC 9112 §5.1: OWS", HELLO),
        row(
            "chunked without a key",
            lines(POST, HOST, CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"),
            "RFC 9112 §7.1",
            HELLO._replace(fields=((b"transfer-encoding", (b"chunked",)), (b"content-length", ()))),
        ),
        _bad_coding("chunked, chunked", b"Transfer-Encoding: chunked, chunked", status=501, rule=OURS),
        _bad_coding("gzip, chunked", b"Transfer-Encoding: gzip, chunked", status=501, rule="RFC 9112 §6.1: unknown"),
        _bad_coding("an empty element", b"Transfer-Encoding: ,chunked", status=501, rule=OURS),
        _bad_coding("identity, chunked", b"Transfer-Encoding: identity, chunked", status=501, rule=OURS),
        _bad_coding("a tab behind chunked", b"Transfer-Encoding: chunked\t", rule="llhttp's rule: blanks, but no tab"),
        _bad_coding("two fields chunked", CHUNKED, CHUNKED, rule=OURS),
        _bad_coding("two fields, chunked last", b"Transfer-Encoding: identity", CHUNKED, rule=OURS),
        _bad_coding("two fields, chunked first", CHUNKED, b"Transfer-Encoding: identity"),
        _bad_coding("identity", b"Transfer-Encoding: identity"),
        _bad_coding("gzip", b"Transfer-Encoding: gzip"),
        _bad_coding("chunked, gzip", b"Transfer-Encoding: chunked, gzip"),
        _bad_coding("chunked, identity", b"Transfer-Encoding: chunked, identity"),
        _bad_coding("no coding", b"Transfer-Encoding:"),
        _bad_coding("a coding that begins like chunked", b"Transfer-Encoding: chunkedd"),
        _bad_coding("a coding that ends like chunked", b"Transfer-Encoding: xchunked"),
        _bad_coding("quoted chunked", b'Transfer-Encoding: "chunked"'),
        _bad_coding("chunked in single quotes", b"Transfer-Encoding: 'chunked'"),
        _bad_coding("chunked with a parameter", b"Transfer-Encoding: chunked;q=1", rule="RFC 9112 §7.1"),
        _bad_coding("folded chunked", b"Transfer-Encoding:\r\n chunked", rule="RFC 9112 §5.2"),
        _bad_coding("chunked, folded before it", b"X-A: b\r\n Transfer-Encoding: chunked", rule="RFC 9112 §5.2"),
        _bad_coding("chunked behind a vertical tab", b"Transfer-Encoding: \x0bchunked", rule="RFC 9110 §5.5"),
        _bad_coding("chunked and a vertical tab", b"Transfer-Encoding: chunked\x0b", rule="RFC 9110 §5.5"),
        _bad_coding("chunked and a form feed", b"Transfer-Encoding: chunked\x0c", rule="RFC 9110 §5.5"),
        _bad_coding("chunked and a NUL", b"Transfer-Encoding: chunked\x00", rule="RFC 9110 §5.5"),
        _bad_coding("chunked and a no-break space", b"Transfer-Encoding: chunked\xa0"),
        _bad_coding("a blank before the colon", b"Transfer-Encoding : chunked", rule="RFC 9112 §5.1"),
        _bad_coding("a tab before the colon", b"Transfer-Encoding\t: chunked", rule="RFC 9112 §5.1"),
        _bad_coding("a vertical tab before the colon", b"Transfer-Encoding\x0b: chunked", rule="RFC 9110 §5.1"),
        _bad_coding("a vertical tab for the dash", b"Transfer\x0bEncoding: chunked", rule="RFC 9110 §5.1"),
        _bad_coding("a blank for the dash", b"Transfer Encoding: chunked", rule="RFC 9110 §5.1"),
        _bad_coding("a coding behind a bare CR", b"X-A: b\rTransfer-Encoding: chunked", rule="RFC 9112 §2.2"),
        _bad_coding("a coding behind a bare LF", b"X-A: b\nTransfer-Encoding: chunked", rule="our rule: CRLF only"),
        _bad_coding("a coding whose colon is missing", b"Transfer-Encoding chunked", rule="RFC 9112 §5"),
        refused(
            "chunked in HTTP/1.0",
            lines(b"POST /pay HTTP/1.0", HOST, KEYED, CHUNKED, body=b"0\r\n\r\n"),
            400,
            "RFC 9112 §6.1: faulty framing",
        ),
    ],
)

NO_BODY_EXPECTED = Group(
    "Bodies where none is expected (CL.0)",
    [
        row(
            f"a {method.decode()} with a body that looks like a request",
            lines(b"%b /pay HTTP/1.1" % method, HOST, b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),
            "RFC 9112 §6: framing does not depend on the method",
            Forwarded(method, body=SMUGGLED),
        )
        for method in (b"GET", b"HEAD", b"DELETE", b"OPTIONS")
    ]
    + [
        row(
            "a GET in chunks",
            lines(GET, HOST, CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"),
            "RFC 9112 §6",
            Forwarded(b"GET", body=b"hello"),
        ),
        row(
            "a POST to a static path, with a body that looks like a request",
            lines(POST, HOST, KEYED, b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),
            "RFC 9112 §6",
            Forwarded(b"POST", body=SMUGGLED),
        ),
        row(
            "a question for a record, with a body that looks like a request",
            lines(b"GET /responses/%b HTTP/1.1" % b"nobody-has-this-key", HOST, b"Content-Length: 5", body=b"GET /"),
            "RFC 9112 §6.3: the body is read, whoever answers",
            Refused(404, "idempotency_key_not_found"),
            stays=True,
        ),
    ],
)
