"""What is answered, before it is bytes on the wire."""

from typing import NamedTuple

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
