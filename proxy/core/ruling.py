"""An operator's word on a key that reads as unknown: a record like any other, with a token by which it is known."""

from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record, Response

OPERATOR = b"operator"
"""What a ruling's token begins with. Tokens are random: no attempt's does, but by one chance in 2**64."""


def ruling(attempt: Attempt, response: Response, nonce: bytes) -> Record:
    """*attempt* was completed with *response*, an operator says. *nonce*: 8 random bytes."""
    return Record(attempt._replace(token=OPERATOR + nonce), State.COMPLETED, response)


def is_ruling(record: Record) -> bool:
    """Whether an operator wrote it."""
    return record.attempt.token.startswith(OPERATOR)
