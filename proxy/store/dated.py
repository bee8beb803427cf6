"""The Date of a response, told by the time at which it was given: a tenth of what is left of a compressed record."""

from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache

from proxy.core.record import Response

_NAMES = (b"Date: ", b"date: ")
"""As they are written; a regular expression that takes all cases costs as much as compressing does."""
_SIZE = 29
_FARTHEST = 127
"""Seconds between the two; the API's clock is another."""


def shortened(response: Response) -> Response | None:
    """With a NUL and one byte, how many seconds it is off, in the place of its Date. None: it has none that can be told
    so. There is no other NUL in field lines (RFC 9110 §5.5)."""
    status, reason, fields, body, length, truncated, date = response
    start = _start(fields)
    if not start or b"\0" in fields:
        return None
    end = start + _SIZE
    off = _second(fields[start:end]) - date
    if abs(off) > _FARTHEST:
        return None
    short = b"%b\0%c%b" % (fields[:start], off + _FARTHEST, fields[end:])
    return Response(status, reason, short, body, length, truncated, date)


def _start(fields: bytes) -> int:
    """Where the value of the first Date begins; 0: there is none of that size."""
    for name in _NAMES:
        place = fields.find(name)
        if place == 0 or (place > 0 and fields[place - 1] == 0x0A):
            start = place + len(name)
            return start if fields[start + _SIZE : start + _SIZE + 2] == b"\r\n" else 0
    return 0


def restored(response: Response) -> Response:
    """As it was; raise ValueError where it is none that was shortened."""
    fields = response.fields
    place = fields.index(0)
    if place + 1 >= len(fields):
        raise ValueError("a Date that is cut short")
    date = _text(response.date + fields[place + 1] - _FARTHEST)
    return response._replace(fields=b"%b%b%b" % (fields[:place], date, fields[place + 2 :]))


@lru_cache(maxsize=64)
def _second(date: bytes) -> int:
    """Unix second of an IMF-fixdate (RFC 9110 §5.6.7); one that is far from all others, where it is not written so."""
    try:
        second = int(parsedate_to_datetime(date.decode("ascii")).timestamp())
        return second if _text(second) == date else -(2**62)
    except (ValueError, OverflowError, OSError):
        return -(2**62)


@lru_cache(maxsize=64)
def _text(second: int) -> bytes:
    try:
        return formatdate(second, usegmt=True).encode("ascii")
    except (OverflowError, OSError) as error:
        raise ValueError("a time that no Date can tell") from error
