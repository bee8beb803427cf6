"""Where nginx makes of a row of the table of requests something else than we do, and why.

Held against a real one by `beside.py`."""

from tests.wire.differences import Difference, alike

DIFFERENCES = [
    Difference(
        "nginx takes LF for CRLF, in heads, chunks and trailers (RFC 9112 §2.2 lets a recipient, for lines of "
        "a head): we take CRLF only, since who reads behind us may not",
        alike(
            "passes POST /pay of 5 bytes; 200; open",
            "a coding behind a bare LF",
            "LF behind a size",
            "LF behind a chunk",
            "LF behind the last chunk",
            "LF at the end",
            "LF behind a chunk, without a key",
            "LF instead of it",
            "LF in an extension, without a key",
            "a bad trailer: LF",
        )
        | alike("passes POST /pay of 6 bytes; 200; open", "a chunk that is shorter than its size")
        | alike("passes GET /pay; 200; open", "LF before it", "LF behind it", "LF everywhere")
        | alike("passes POST /pay of 2 bytes; 200; open", "an LF in a value", "a CR before CRLF"),
    ),
    Difference(
        "nginx is lenient about a chunk's size line (RFC 9112 §7.1, §7.1.1): blanks, any number of zeros, "
        "extensions of any length and content",
        alike(
            "passes POST /pay of 5 bytes; 200; open",
            "a blank behind a size",
            "a tab behind a size",
            "a size of 16 digits, all zero but one",
            "a size of 600 digits",
            "too long",
            "NUL in it",
        ),
    ),
    Difference(
        "nginx drops trailers as we do, but does not look at them (RFC 9112 §7.1.2)",
        alike(
            "passes POST /pay of 5 bytes; 200; open",
            "a bad trailer: too large",
            "a bad trailer: too large together",
            "a bad trailer: no colon",
            "a bad trailer: a name of nothing",
            "a bad trailer: a blank before the colon",
            "a bad trailer: folded",
            "a bad trailer: NUL",
            "a bad trailer: a request",
            "a bad trailer, without a key",
        ),
    ),
    Difference(
        "nginx does not know a tab as a blank (RFC 9110 §5.6.3): it refuses where it reads the value, and "
        "passes it on where it does not",
        alike("nothing passes; 400; closes", "a length among blanks", "hOST:\tAPI.example.com \t")
        | alike("nothing passes; 501; closes", "chunked behind a tab")
        | alike(
            "passes POST /pay of 2 bytes; 200; open; a head not to the letter",
            "blanks around a value",
            "a tab behind the last value",
            "a tab behind the key, at the end",
        ),
    ),
    Difference(
        "another status for the same refusal: nginx says 501 to every coding but chunked; RFC 9112 §6.3 asks "
        "for 400 where chunked is not the last one",
        alike(
            "nothing passes; 501; closes",
            "CL.TE with an empty coding",
            "CL.TE with identity",
            "CL.TE where the coding hides behind a vertical tab",
            "a tab behind chunked",
            "identity",
            "gzip",
            "chunked, gzip",
            "chunked, identity",
            "no coding",
            "a coding that begins like chunked",
            "a coding that ends like chunked",
            "quoted chunked",
            "chunked in single quotes",
            "chunked with a parameter",
            "chunked behind a vertical tab",
            "chunked and a vertical tab",
            "chunked and a form feed",
            "chunked and a no-break space",
        ),
    ),
    Difference(
        "another status for the same refusal: nginx says 400 where RFC 9110 and RFC 6585 have 405, 505, 431",
        alike(
            "nothing passes; 400; closes",
            "HTTP/0.9, said so",
            "the preface of HTTP/2",
            "no minor version",
            "CONNECT, as it is",
            "method get",
            "method Post",
            "method POST!",
            "a head of 32 KiB and a byte",
            "a head without an end",
        ),
    ),
    Difference(
        "nginx judges a method by all of its first bytes; we by the very first, then wait for the end of the head",
        alike("passes POST /pay of 4 bytes; 200, 400; closes", "a body and a byte"),
    ),
    Difference(
        "nginx speaks HTTP/0.9, and takes any 1.x for 1.1 (RFC 9110 §2.5 lets it); we serve 1.0 and 1.1",
        alike("passes GET /pay; bytes without a head; closes", "HTTP/0.9")
        | alike("passes GET /pay; 200; open", "HTTP/1.2", "HTTP/1.10", "HTTP/1.01"),
    ),
    Difference(
        "nginx is lenient about blanks in a request line, and empty lines before it (RFC 9112 §3: one blank; "
        "§2.2: at least one line)",
        alike(
            "passes GET /pay; 200; open",
            "two empty lines before it",
            "CR before it",
            "a blank behind it",
            "two blanks before the target",
            "two blanks behind the target",
        )
        | alike("nothing passes; no answer; open", "an empty head"),
    ),
    Difference(
        "nginx drops fields whose names it finds odd, underscores and some tokens among them, and lines "
        "without a colon; we pass on what is a token (RFC 9110 §5.1), and refuse the rest",
        alike("passes POST /pay of 2 bytes; 200; open; x_a: gone", "an underscore in a name")
        | alike("passes POST /pay of 2 bytes; 200; open; !#$%&'*+-.^`|~: gone", "odd characters in a name")
        | alike(
            "passes POST /pay of 2 bytes; 200; open",
            "a parenthesis in a name",
            "an at sign in a name",
            "a quote in a name",
            "obs-text in a name",
            "no colon",
        ),
    ),
    Difference(
        "nginx passes on control characters in values (RFC 9110 §5.5: invalid)",
        alike(
            "passes POST /pay of 2 bytes; 200; open; a head not to the letter",
            "a control in a value",
            "an escape in a value",
            "DEL in a value",
        ),
    ),
    Difference(
        "nginx passes on methods that it does not know; we serve those of HTTP",
        alike("passes BREW /pay; 200; open", "method BREW")
        | alike("passes M-SEARCH /pay; 200; open", "method M-SEARCH")
        | alike("passes SETUP /pay; 200; open", "method SETUP"),
    ),
    Difference(
        "nginx passes on targets as they come, and what is not a URI (RFC 3986 §2), non-ASCII and fragments among them",
        alike("passes GET /pay#top; 200; open", "target /pay#top")
        | alike('passes GET /pay"; 200; open', 'target /pay"')
        | alike("passes GET /pay<; 200; open", "target /pay<")
        | alike("passes GET /pay>; 200; open", "target /pay>")
        | alike("passes GET /pay^; 200; open", "target /pay^")
        | alike("passes GET /pay{; 200; open", "target /pay{")
        | alike("passes GET /pay|; 200; open", "target /pay|")
        | alike("passes GET /pay}; 200; open", "target /pay}")
        | alike("passes GET /pay\\; 200; open", "target /pay\\")
        | alike("nothing passes; 502; open; no request to h11", "target in UTF-8", "target in Latin-1"),
    ),
    Difference(
        "nginx reads the path before it passes it on: what climbs above the root, or has %00 or a broken "
        "escape, is a 400; with us a target is its backend's business",
        alike(
            "nothing passes; 400; closes",
            "target GET /../pay/./x",
            "target GET /%2e%2e/%2Fpay%00%0d%0a",
            "target GET /%/%zz",
        ),
    ),
    Difference(
        "nginx does not know `*` as a target (RFC 9112 §3.2.4)",
        alike("nothing passes; 400; closes", "target OPTIONS *")
        | alike("passes OPTIONS /; 200; open", "target OPTIONS http://api.example.com"),
    ),
    Difference(
        "nginx takes an absolute target at its word, whatever Host says (RFC 9112 §3.2.2 has it so); we "
        "refuse a contradiction, since one reader goes by the one and another by the other",
        alike(
            "passes GET /pay; 200; open",
            "target http://evil.example/pay",
            "target http://api.example.com:8080/pay",
            "target http://api.example.com:443/pay",
            "target http://api.example.com./pay",
            "target ftp://api.example.com/pay",
        ),
    ),
    Difference(
        "nginx looks at Host just so far as it needs to (RFC 9112 §3.2: an invalid one is a 400)",
        alike(
            "passes POST /pay of 2 bytes; 200; open",
            "Host: user@api.example.com",
            "Host: api.example.com?x",
            "Host: api.example.com#x",
            "Host: api.example.com:http",
            "Host: api.example.com:-1",
            "Host: api.example.com:123456",
            "Host: api.example.com:80:80",
            "Host: [::1",
            "Host: [api.example.com]",
            "Host: café.example",
        )
        | alike("passes GET /pay; 200; closes", "a bad Host"),
    ),
    Difference(
        "nginx removes the hop-by-hop fields that it knows, by name, and not those that Connection names (RFC "
        "9110 §7.6.1)",
        alike("passes POST /pay of 2 bytes; 200; open; x-a: 1, 2", "Connection: X-A, and repeats")
        | alike(
            "passes POST /pay of 46 bytes; 200; open; http2-settings: AAMAAABkAAQAAP__", "h2c, on a POST with a key"
        )
        | alike("passes GET /pay; 200; open; http2-settings: AAMAAABk", "h2c, on a GET")
        | alike(
            "passes POST /pay of 2 bytes; 200; open; proxy-connection: close; hop-by-hop fields", "Proxy-Connection"
        )
        | alike("passes POST /pay of 2 bytes; 200; open; trailer: X-A; hop-by-hop fields", "Trailer"),
    ),
    Difference(
        "nginx looks for `close` anywhere in Connection",
        alike("passes POST /pay of 2 bytes; 200; closes", "Connection: quoted close"),
    ),
    Difference(
        "nginx writes Via and X-Forwarded-For where it is configured to",
        alike("passes POST /pay of 2 bytes; 200; open; x-forwarded-for: 192.0.2.1", "Connection: X-Forwarded-For")
        | alike("passes POST /pay of 2 bytes; 200; open; via: 1.0 fred", "Via of others"),
    ),
    Difference(
        "nginx reads a request whole before it passes it on (`proxy_request_buffering`), and so knows its "
        "length; we stream what has no key",
        alike(
            "passes POST /pay of 5 bytes; 200; open; transfer-encoding: gone; content-length: 5",
            "chunked without a key",
        )
        | alike(
            "passes POST /pay of 2 bytes; 200; open; transfer-encoding: gone",
            "Connection: Transfer-Encoding, without a key",
        ),
    ),
    Difference(
        "nginx passes on any expectation as if it were not there (RFC 9110 §10.1.1: may be a 417)",
        alike(
            "passes POST /pay of 2 bytes; 200; open",
            "Expect: fly",
            "Expect: 100-continue, fly",
            "Expect: 100-continue=1",
            "Expect: ",
        ),
    ),
    Difference(
        "nginx knows nothing of keys: this is what the proxy is for",
        alike(
            "passes POST /pay of 2 bytes; 200; open",
            "two keys",
            "the same key twice",
            "the same key twice, in other case",
            "two keys and a comma",
            "a key and a comma",
            "an empty key",
            "an empty key and a key",
            "an empty quoted key",
            "half a quoted key",
            "a short key",
            "a long key",
            "a key with a blank",
            "a key with obs-text",
            "a key with an underscore in its name",
            "a key, and one with an underscore in its name",
            "a bad key in chunks",
        )
        | alike("passes POST /pay of 2 bytes, POST /pay of 2 bytes; 200, 200; open", "the same key again")
        | alike(
            "passes GET /responses/nobody-has-this-key of 5 bytes; 200; open",
            "a question for a record, with a body that looks like a request",
        ),
    ),
    Difference(
        "other limits: nginx has one for a line (8 KiB with its CRLF) and for four of them, none for the "
        "number of fields, and `client_max_body_size` for every body",
        alike("passes GET /pay; 200; open", "a Connection of 600 bytes", "101 fields")
        | alike("nothing passes; 414; closes", "a line of 8 KiB")
        | alike("nothing passes; 400; closes", "a head of 32 KiB")
        | alike("nothing passes; 413; closes", "a body over the limit, without a key"),
    ),
    Difference(
        "nginx reads on behind its 413 as if the body came; we close our side at once, and linger",
        alike("nothing passes; 413; waits", "a body over the limit", "a body of 2^59"),
    ),
]
"""The readings are in the words of `Beside.request`."""
