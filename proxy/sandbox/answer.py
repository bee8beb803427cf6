"""What is answered, before it is bytes on the wire."""

import time
from collections.abc import Mapping
from typing import NamedTuple
from uuid import uuid4

import orjson

from proxy.sandbox.input import Json


class Answer(NamedTuple):
    """A status, and a value to be written as JSON."""

    status: int
    value: Json | list[Json]

    def filled(self, size: int) -> tuple[bytes, int, bytes]:
        """The body, filled up to about *size* bytes: its begin, how many bytes of filler (never kept), its end."""
        plain = orjson.dumps(self.value)
        if len(plain) >= size:
            return plain, 0, b""
        value = self.value
        begin, quote, end = orjson.dumps(
            {**value, "Filler": ""} if isinstance(value, dict) else [*value, {"Filler": ""}]
        ).rpartition(b'"')
        return begin, max(0, size - len(begin + quote + end)), quote + end


def refusal(status: int, kind: str, message: str, errors: Mapping[str, str] | None = None) -> Answer:
    """An error, in the five fields of such an API."""
    now = int(time.time())
    return Answer(status, {"Message": message, "Type": kind, "Id": f"{uuid4()}#{now}", "Date": now, "errors": errors})
