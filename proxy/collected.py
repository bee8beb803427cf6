"""What the upstream has answered to a guarded request, as far as it is there, where it came in pieces."""

from enum import Enum, auto

from proxy.core.record import Response
from proxy.http1.forward import end_to_end, framed
from proxy.http1.message import ResponseHead

EXPIRES = b"idempotency-expires"
"""An upstream's own field of this name gives way to ours."""


class Ending(Enum):
    """How the response ended."""

    NOT_YET = auto()
    WHOLE = auto()
    BROKEN = auto()


def recorded_whole(head: ResponseHead, method: bytes, body: bytes, date: int) -> Response:
    """The record of a whole response to a *method*. *date*: Unix second."""
    length = len(body)
    return Response(head.status, head.reason, framed(head, method, length, EXPIRES), body, length, False, date)


class Collected:
    """Begins with a complete, usable head."""

    __slots__ = ("_method", "declared", "ending", "head", "length", "pieces")

    def __init__(self, head: ResponseHead, method: bytes) -> None:
        self._method = method
        self.head = head
        self.declared = head.length if head.length >= 0 else None
        """Bytes of the body by the head's word, where it says so."""
        self.pieces: list[bytes] = []
        self.length = 0
        """Bytes of the body that are there."""
        self.ending = Ending.NOT_YET

    def add(self, data: bytes) -> None:
        """A piece of the body."""
        self.pieces.append(data)
        self.length += len(data)

    def response(self, date: int) -> Response:
        """What is recorded now: the whole of it; or, where it has not ended well, that it is truncated. *date*: Unix
        second."""
        if self.ending is Ending.WHOLE:
            return recorded_whole(self.head, self._method, b"".join(self.pieces), date)
        return Response(
            status=self.head.status,
            reason=self.head.reason,
            fields=end_to_end(self.head, EXPIRES),
            body=b"",
            length=self.declared if self.ending is Ending.NOT_YET and self.declared else self.length,
            truncated=True,
            date=date,
        )
