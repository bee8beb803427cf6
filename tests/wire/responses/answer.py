"""A row of the table of responses: what the upstream says, and what its client is given."""

from collections.abc import Sequence
from typing import NamedTuple


class Passed(NamedTuple):
    """Is given to the client, whole; with a key it is completed. *chunked*: in chunks, since nobody said how long."""

    status: int = 200
    body: bytes = b"hello"
    interim: tuple[int, ...] = ()


class Unusable(NamedTuple):
    """504; with a key the outcome is unknown."""


class Broken(NamedTuple):
    """The client is given the head and this much of the body, and sees that there should be more; with a key it is
    completed, and truncated."""

    body: bytes = b""
    status: int = 200


class Turned(NamedTuple):
    """Is given to the client, whole; it frees the key."""

    status: int
    body: bytes = b"hello"


Fate = Passed | Unusable | Broken | Turned


class Answer(NamedTuple):
    """*closes*: the upstream ends the connection behind it. *reused*: it carries the next request. *method*: of the
    request without a key; with one, it is a POST, unless *method* is HEAD, which has none."""

    name: str
    data: bytes
    fate: Fate
    rule: str
    closes: bool
    reused: bool
    method: bytes


class Group(NamedTuple):
    """Rows about one thing."""

    title: str
    rows: Sequence[Answer]


OK = b"HTTP/1.1 200 OK"
LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"
UNUSABLE = Unusable()


def answer(
    name: str,
    data: bytes,
    rule: str,
    fate: Fate,
    *,
    closes: bool = False,
    reused: bool | None = None,
    method: bytes = b"GET",
) -> Answer:
    """A row. The connection is used again behind a response that was passed on whole, unless it is said."""
    whole = isinstance(fate, Passed | Turned)
    return Answer(name, data, fate, rule, closes, whole and not closes if reused is None else reused, method)


def unusable(name: str, data: bytes, rule: str, *, closes: bool = False) -> Answer:
    """An answer that says nothing that could be relied on."""
    return answer(name, data, rule, UNUSABLE, closes=closes)
