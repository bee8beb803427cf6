"""The Date field (RFC 9110 §6.6.1), made once a second."""

import time
from email.utils import formatdate
from functools import lru_cache


@lru_cache(maxsize=2)
def _line(second: int) -> bytes:
    return b"Date: %b\r\n" % formatdate(second, usegmt=True).encode("ascii")


def date_field() -> bytes:
    """The field line for now."""
    return _line(int(time.time()))
