"""Whose key is it? Keys of different scopes never meet.

A scope is made of parts, in the order of the configuration: captures of the path, the value of a field, the claim of a
token, the hash of a credential. A collision of two clients costs a 409; a split of one client pays twice: so a part is
compared without what a backend may not distinguish (the case of a path), and where a request has none of a part, it
shares the scope of all that have none.
"""

from collections.abc import Iterable

NO_SCOPE = b""
"""One for all."""


def joined(parts: Iterable[bytes | None]) -> bytes:
    """The parts as one: no other parts give the same bytes, and none gives the beginning of another. None: absent."""
    return b"".join(b"-" if part is None else b"+%d:%b" % (len(part), part) for part in parts)


def folded(capture: str) -> bytes:
    """A capture of a normalised path as it is compared: without regard to the case of its letters (ASCII)."""
    return capture.encode("latin-1").lower()
