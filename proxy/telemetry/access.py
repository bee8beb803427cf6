"""One line a request, by the handful: a line that is written by itself costs a third of its request."""

import asyncio
import sys
from contextlib import suppress
from datetime import UTC, datetime

import orjson

FLUSH_AFTER = 0.1
"""Seconds that a line waits for others."""
FLUSH_AT = 256
"""Lines that are written at once, at the latest."""


class AccessLog:
    """Writes JSON lines to the standard error stream, where the rest of the log goes."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def write(self, **values: object) -> None:
        """One request."""
        line = {"timestamp": datetime.now(UTC), "level": "info", "event": "request", **values}
        self._lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
        if len(self._lines) >= FLUSH_AT:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(FLUSH_AFTER, self.flush)

    def flush(self) -> None:
        """Write what there is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        with suppress(OSError):
            sys.stderr.buffer.write(b"".join(lines))
            sys.stderr.buffer.flush()
