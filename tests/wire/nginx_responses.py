"""Where nginx makes of a row of the table of responses something else than we do, and why.

Held against a real one by `beside.py`."""

from tests.wire.differences import Difference, alike

DIFFERENCES = [
    Difference(
        "what has no status line that nginx knows is HTTP/0.9 to it: the client is given it without a head, "
        "when the upstream closes, and nothing where it does not",
        alike(
            "no answer, closed; not reused",
            "Status lines: status 1000",
            "Status lines: status 20x",
            "Status lines: status 20",
            "Status lines: status +200",
            "Status lines: status -200",
            "Status lines: no status",
            "Status lines: a blank before it",
            "Status lines: a tab in it",
            "Status lines: a CR in the reason",
            "Status lines: HTTP/0.9, said so",
            "Status lines: HTTP/2",
            "Status lines: lower case",
            "Status lines: ICY",
            "Status lines: HTTP/0.9",
            "Status lines: an empty line before it",
        )
        | alike("bytes without a head, open; not reused", "Status lines: HTTP/0.9, closed")
        | alike("no response to h11; not reused", "Status lines: a TLS alert", "Status lines: frames of HTTP/2"),
    ),
    Difference(
        "nginx passes on status lines that are none (RFC 9112 §4, RFC 9110 §15)",
        alike("no response to h11; reused", "Status lines: status 099", "Status lines: a NUL in the reason")
        | alike("600, 5 bytes; reused", "Status lines: status 600")
        | alike(
            "200, 5 bytes; reused",
            "Status lines: two blanks before the status",
            "Status lines: a control in the reason",
            "Status lines: an LF in the reason",
            "Status lines: HTTP/1.2",
            "Status lines: HTTP/2.0",
        ),
    ),
    Difference(
        "this nginx does not know interim responses (RFC 9110 §15.2): the first one is the answer",
        alike("100 alone, closed; not reused", "Interim responses: 100", "Interim responses: three kinds")
        | alike(
            "102 alone, closed; not reused",
            "Interim responses: 102",
            "Interim responses: 8 of them",
            "Interim responses: 9 of them",
        )
        | alike("103 alone, closed; not reused", "Interim responses: 103")
        | alike("no response to h11; not reused", "Interim responses: 101, unasked")
        | alike("199 alone, open; not reused", "Interim responses: 199 with a length")
        | alike("no answer, closed; not reused", "Interim responses: 100 in chunks")
        | alike("100 alone, open; not reused", "Interim responses: 100, and closed")
        | alike("199 alone, closed; not reused", "Interim responses: 199 with a body"),
    ),
    Difference(
        "nginx ignores a length that it cannot read (RFC 9112 §6.3: an error), and a tab is no blank to it: "
        "the body goes up to the close, which here does not come",
        alike(
            "200, 0 bytes, broken off; not reused",
            "Whole bodies: a length among blanks",
            "Framing that two readers could read differently: a listed length",
            "Framing that two readers could read differently: a length with a plus",
            "Framing that two readers could read differently: a length with a minus",
            "Framing that two readers could read differently: a hex length",
            "Framing that two readers could read differently: an empty length",
            "Framing that two readers could read differently: a length of 2^64 + 5",
        ),
    ),
    Difference(
        "of a length and a coding, or of two lengths, nginx takes one (RFC 9112 §6.3: an error, but where a "
        "coding stands beside a length)",
        alike(
            "200, 5 bytes; reused",
            "Framing that two readers could read differently: CL.TE",
            "Framing that two readers could read differently: TE.CL",
            "Framing that two readers could read differently: a repeated length",
        )
        | alike("200, 6 bytes; not reused", "Framing that two readers could read differently: two lengths"),
    ),
    Difference(
        "to nginx a coding is chunked where the word is in it, and none otherwise: a body up to the close "
        "(RFC 9112 §6.3 has this; we refuse it)",
        alike(
            "200, 5 bytes; reused",
            "Framing that two readers could read differently: gzip, chunked",
            "Framing that two readers could read differently: chunked, chunked",
            "Framing that two readers could read differently: two codings",
            "Framing that two readers could read differently: xchunked",
            "Framing that two readers could read differently: chunked behind a vertical tab",
        )
        | alike(
            "200, 0 bytes, broken off; not reused",
            "Framing that two readers could read differently: identity",
            "Framing that two readers could read differently: gzip",
        )
        | alike("200, 5 bytes; not reused", "Framing that two readers could read differently: chunked in HTTP/1.0"),
    ),
    Difference(
        "nginx is lenient about chunks: LF, extensions, trailers",
        alike(
            "200, 5 bytes; reused",
            "Bodies that are not whole: chunks: LF behind a size",
            "Bodies that are not whole: chunks: LF behind a chunk",
            "Bodies that are not whole: chunks: a trailer without a colon",
        )
        | alike(
            "200, 5 bytes, broken off; not reused", "Bodies that are not whole: chunks: extensions that are too long"
        )
        | alike("200, 0 bytes; reused", "Bodies that are not whole: chunks: trailers that are too large"),
    ),
    Difference(
        "where chunks go wrong before nginx has sent a head, the client is given nothing at all; with us the "
        "head, and what was right",
        alike(
            "no answer, closed; not reused",
            "Bodies that are not whole: chunks: a size that is none",
            "Bodies that are not whole: chunks: a size with a minus",
            "Bodies that are not whole: chunks: a size with a plus",
            "Bodies that are not whole: chunks: a size with 0x",
            "Bodies that are not whole: chunks: a size with a blank",
            "Bodies that are not whole: chunks: a size of 2^64 + 5",
            "Bodies that are not whole: chunks: longer than its size",
        ),
    ),
    Difference(
        "an answer that cannot be used is a 502 with nginx, and a 504 with us, as all of which we cannot know "
        "what the API did",
        alike(
            "502; not reused",
            "Field lines: a folded value",
            "Field lines: a CR in a value",
            "Field lines: a NUL in a value",
            "Field lines: a blank before a colon",
            "Field lines: a blank in a name",
            "Field lines: no name",
            "Field lines: a head over 64 KiB",
            "Field lines: a head without an end",
            "Framing that two readers could read differently: a blank before the colon",
            "Framing that two readers could read differently: folded chunked",
        ),
    ),
    Difference(
        "likewise; and nginx, too, asks anew where a kept connection died before the first byte of an answer "
        "to a GET. It does so behind half a head, too; we do not",
        alike("502; not reused; asked 2 times", "Field lines: half a head", "Field lines: nothing"),
    ),
    Difference(
        "the head of an answer may have 4 or 8 KiB (`proxy_buffer_size`); 64 KiB with us",
        alike("502; not reused", "Field lines: a head of 60 KiB"),
    ),
    Difference(
        "nginx passes on control characters in values, takes LF for CRLF, and drops or mends lines without a colon",
        alike(
            "200, 5 bytes; reused",
            "Field lines: an LF in a value",
            "Field lines: a control in a value",
            "Field lines: no colon",
        )
        | alike("200, 5 bytes; not reused", "Field lines: LF everywhere"),
    ),
    Difference(
        "nginx throws away what came with the head of an answer to a HEAD, and goes on with the connection; "
        "we close it (RFC 9112 §9.2)",
        alike(
            "200, 0 bytes; reused",
            "Bytes behind a response: a body, behind HEAD",
            "Bytes behind a response: chunks, behind HEAD",
        ),
    ),
    Difference(
        "nginx does not keep an HTTP/1.0 upstream alive", alike("200, 5 bytes; not reused", "HTTP/1.0: kept alive")
    ),
]
"""The readings are in the words of `Beside.response`."""
