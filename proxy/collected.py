"""What the upstream has answered to a guarded request, as far as it is there."""

from enum import Enum, auto

from proxy.core.record import Response
from proxy.http1.forward import end_to_end
from proxy.http1.message import ResponseHead


class Ending(Enum):
    """How the response ended."""

    NOT_YET = auto()
    WHOLE = auto()
    BROKEN = auto()


class Collected:
    """Begins with a complete, usable head. An upstream's own Idempotency-Expires gives way to ours."""

    __slots__ = ("declared", "ending", "fields", "length", "pieces", "reason", "status")

    def __init__(self, head: ResponseHead) -> None:
        self.status = head.status
        self.reason = head.reason
        self.fields = [field for field in end_to_end(head) if field[0].lower() != b"idempotency-expires"]
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
        """What is recorded now: the whole of it, or where it has not ended well, that it is truncated. *date*: Unix
        second."""
        whole = self.ending is Ending.WHOLE
        return Response(
            status=self.status,
            reason=self.reason,
            fields=tuple(self.fields),
            body=b"".join(self.pieces) if whole else b"",
            length=self.declared if self.ending is Ending.NOT_YET and self.declared else self.length,
            truncated=not whole,
            date=date,
        )
