"""An attempt, a response and a reader of field lines, for the stories of this directory."""

import re
from typing import Any

from proxy.core.record import Attempt, Response
from proxy.core.treatment import Treatment

TOKEN = bytes(range(16))
TOKEN_UUID = "00010203-0405-4607-8809-0a0b0c0d0e0f"
"""TOKEN as the version 4 UUID that a client sees."""
FIRST_USED = 1452723935
URL = b"https://api.example.com/v2.01/acme/payouts/bankwire/"

TREATMENT = Treatment(retention=24 * 3_600_000, release_statuses=frozenset({401, 429}), max_body=1000, max_record=1000)
"""As by default: a later request is a conflict, whatever it asks for."""

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([!-~](?:[ -~]*[!-~])?)")


def attempt(**changes: Any) -> Attempt:
    """Of the contract's example: first used at FIRST_USED, for a day."""
    made = Attempt(
        key_hash=bytes(16),
        token=TOKEN,
        first_used=FIRST_USED * 1000 + 999,
        lease=72_000,
        retention=24 * 3_600_000,
        credential=bytes(16),
        url=URL,
    )
    return made._replace(**changes)


def response(body: bytes = b'{"Id": "2241581"}', fields: bytes = b"Content-Type: application/json\r\n") -> Response:
    """What the backend gave."""
    return Response(200, b"OK", fields, body, len(body), truncated=False, date=FIRST_USED)


def lines(fields: bytes) -> dict[str, str]:
    """Field lines as a dict; fails where one is not `Name: value` in visible ASCII, or a name comes twice."""
    assert fields.endswith(b"\r\n")
    found = [_LINE.fullmatch(line) for line in fields.removesuffix(b"\r\n").split(b"\r\n")]
    pairs = [(line[1].decode(), line[2].decode()) for line in found if line]
    assert len(pairs) == len(found) == len(dict(pairs)), fields
    return dict(pairs)
