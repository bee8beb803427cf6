"""How a refusal is written down for the clients of one payments API."""

import json
from typing import NamedTuple

from proxy.core.refusal import Row


class Rendered(NamedTuple):
    """A refusal as a response: a dialect may choose another status than the table's."""

    status: int
    content_type: bytes
    body: bytes


class Mangopay:
    """The five fields, always: as the Mangopay API answers a key that was used before."""

    def render(self, row: Row, subject: str, now: int) -> Rendered:
        """*subject* is the `Id`: the UUID of an attempt, `#`, and the Unix second of its beginning."""
        fields = {"Message": row.message, "Type": row.type, "Id": subject, "Date": now, "errors": None}
        return Rendered(row.status, b"application/json", json.dumps(fields).encode("ascii"))


DIALECTS = {"mangopay": Mangopay()}
