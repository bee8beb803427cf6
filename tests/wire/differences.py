"""Where h11, in our place, would read a client's bytes otherwise than we do, and why that is well."""

from collections.abc import Mapping
from typing import NamedTuple

from tests.wire.oracle import Ending, client_said
from tests.wire.row import Fate, Forwarded, Refused, Row, Unanswered


class Difference(NamedTuple):
    """*rows*: by their names, what h11 makes of them: how many requests, and where it stands then."""

    why: str
    rows: Mapping[str, str]


def difference(row: Row) -> str:
    """What h11 makes of the row; empty where that is just what we do."""
    heard, ending = client_said(row.data)
    read = [fate for fate in row.fates if _as_http(fate)]
    same = len(heard) == len(read) and all(
        (fate.method, fate.body) == (request.method, request.body)
        for request, fate in zip(heard, read)
        if isinstance(fate, Forwarded)
    )
    return "" if same and ending is _our_ending(row) else f"{len(heard)} {ending.value}"


def _as_http(fate: Fate) -> bool:
    """Whether it was read as a request: one about keys is refused for what it asks, not for how it is written."""
    return isinstance(fate, Forwarded) or (isinstance(fate, Refused) and fate.kind.startswith("idempoten"))


def _our_ending(row: Row) -> Ending:
    if isinstance(row.fates[-1], Unanswered):
        return Ending.WAITING
    if row.stays:
        return Ending.OPEN
    return Ending.CLOSES if isinstance(row.fates[-1], Forwarded) else Ending.REFUSED


def alike(reading: str, *names: str) -> dict[str, str]:
    """The rows of these names, of all of which the same is said."""
    return dict.fromkeys(names, reading)


DIFFERENCES = [
    Difference(
        "a tab there is allowed, and nobody writes it: llhttp is stricter than RFC 9112 §5.1",
        alike("1 open", "a tab behind chunked"),
    ),
    Difference(
        "RFC 9112 §6.3 lets a recipient take lengths that are alike; who is behind us may not",
        alike("1 open", "a repeated length", "a listed length"),
    ),
    Difference(
        "RFC 9112 §6.1 lets a coding win over a length, or be refused: two readers in a row must not differ",
        alike("2 open", "CL.TE", "TE.CL", "CL.TE with a length of 0")
        | alike("1 waiting", "CL.TE without a key")
        | alike("1 closes", "CL.TE in HTTP/1.0", "chunked in HTTP/1.0"),
    ),
    Difference(
        "RFC 9112 §5.2 lets a server unfold lines or refuse them",
        alike(
            "1 open",
            "a folded length",
            "folded chunked",
            "a folded value",
            "a value folded with a tab",
            "a fold of nothing",
            "a folded Host",
            "a bad trailer: folded",
        )
        | alike("1 refused", "chunked, folded before it"),
    ),
    Difference(
        "RFC 9112 §2.2 lets a recipient take LF for CRLF; where one does and another does not, requests are smuggled",
        alike(
            "1 open",
            "a coding behind a bare LF",
            "LF behind it",
            "LF everywhere",
            "an LF in a value",
            "LF at the end",
            "a bad trailer: LF",
        ),
    ),
    Difference(
        "h11 takes control characters in values, for the sake of cookies; RFC 9110 §5.5 calls them invalid",
        alike("1 open", "a control in a value", "an escape in a value", "DEL in a value"),
    ),
    Difference(
        "h11 is lenient about a chunk's size line: blanks behind the size, 20 digits, anything in an extension",
        alike(
            "1 open",
            "a blank behind a size",
            "a tab behind a size",
            "a size of 16 digits, all zero but one",
            "CR in it",
            "NUL in it",
        ),
    ),
    Difference(
        "RFC 9112 §7.1.1 has blanks around an extension, which h11 does not know",
        alike("0 refused", "blanks around it"),
    ),
    Difference(
        "h11 reads trailers as it reads fields, framing among them; we drop them unread",
        alike("0 refused", "a trailer: Transfer-Encoding"),
    ),
    Difference(
        "numbers have no bounds in Python; with us a length has 18 digits and a chunk's size 15",
        alike("0 waiting", "a length of 2^63", "a length of 2^64 + 5", "a size of 2^64", "a size of 2^64 + 5"),
    ),
    Difference(
        "h11 leaves versions, methods, targets and expectations to the application",
        alike("1 closes", "HTTP/0.9, said so")
        | alike(
            "1 open",
            "HTTP/1.2",
            "HTTP/2.0",
            "CONNECT, as it is",
            "method CONNECT",
            "method TRACE",
            "method get",
            "method Post",
            "method BREW",
            "method M-SEARCH",
            "method SETUP",
            "method POST!",
        )
        | alike("1 refused", "the preface of HTTP/2")
        | alike(
            "1 open",
            "target *",
            "target * of a POST",
            "target /pay#top",
            'target /pay"',
            "target /pay<",
            "target /pay>",
            "target /pay^",
            "target /pay{",
            "target /pay|",
            "target /pay}",
            "target /pay\\",
            "target pay",
            "target ?x=1",
            "target api.example.com:80",
        )
        | alike(
            "1 open",
            "target http://evil.example/pay",
            "target http://api.example.com:8080/pay",
            "target http://api.example.com:443/pay",
            "target http://api.example.com./pay",
            "target http://user@api.example.com/pay",
            "target http://api.example.com@evil.example/pay",
            "target http:///pay",
            "target http:/pay",
            "target ftp://api.example.com/pay",
            "target javascript:alert(1)",
        )
        | alike(
            "1 open",
            "Expect: fly",
            "Expect: 100-continue, fly",
            "Expect: 100-continue=1",
            "Expect: ",
            "two Expect fields",
        ),
    ),
    Difference(
        "h11 asks for one Host, and not what is in it",
        alike(
            "1 open",
            "Host:",
            "Host: :80",
            "Host: user@api.example.com",
            "Host: api.example.com/pay",
            "Host: api.example.com?x",
            "Host: api.example.com#x",
            "Host: http://api.example.com",
            "Host: api.example.com, evil.example",
            "Host: api.example.com evil.example",
            "Host: api.example.com\tx",
            "Host: api.example.com:http",
            "Host: api.example.com:-1",
            "Host: api.example.com:123456",
            "Host: api.example.com:80:80",
            "Host: [::1",
            "Host: [api.example.com]",
            "Host: café.example",
        )
        | alike("1 closes", "a bad Host"),
    ),
    Difference(
        "RFC 9112 §2.2 asks to ignore an empty line before a request; h11 does not",
        alike("0 refused", "an empty line before it") | alike("1 refused", "an empty line between two"),
    ),
    Difference(
        "h11 calls bytes behind `Connection: close` an error; RFC 9112 §9.6 says not to treat them",
        alike("1 refused", "a request behind Connection: close"),
    ),
    Difference(
        "h11 does not keep HTTP/1.0 alive",
        alike("1 closes", "kept alive"),
    ),
    Difference(
        "a key that is refused before its body is read costs the connection",
        alike("1 open", "a bad key in chunks"),
    ),
    Difference(
        "h11 has no such limits, or they are larger",
        alike(
            "1 open",
            "more than is allowed",
            "too long",
            "a bad trailer: too large",
            "a bad trailer: too large together",
            "method XXXXXXXXXXXXXXXXXXXXXXXX",
            "a Connection of 600 bytes",
            "a line of 8 KiB and a byte",
            "a head of 32 KiB and a byte",
            "101 fields",
        )
        | alike(
            "0 waiting", "a line without an end", "a head without an end", "a body over the limit", "a body of 2^59"
        ),
    ),
]
