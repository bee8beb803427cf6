"""What is kept under a key: who owns it, and the response that was given."""

from collections.abc import Collection
from typing import NamedTuple

from proxy.core.lifecycle import State

Fields = bytes
"""The field lines of a message as they are on the wire, each with its CRLF: order, case and repeats are kept."""


NO_FINGERPRINT = bytes(16)
"""Stands for a payload that was not looked at."""


class Attempt(NamedTuple):
    """The one request that owns a key. All times in milliseconds; wall-clock times since the Unix epoch."""

    key_hash: bytes
    """16 bytes: the keyed hash of scope and key, under which the record lies in the store."""
    token: bytes
    """16 random bytes: only who knows them may settle or release the record."""
    first_used: int
    """Wall clock of the proxy that made the claim; shown to clients, never compared with another clock."""
    lease: int
    """How long the attempt may stay in progress; after that the record reads as unknown."""
    retention: int
    """How long the record is kept, counted from the first use."""
    credential: bytes
    """16 bytes: the keyed hash of the credential that made the request."""
    url: bytes
    """The URL as the client called it."""
    fingerprint: bytes = NO_FINGERPRINT
    """16 bytes: the keyed hash of what was asked for; NO_FINGERPRINT where it is compared with nothing."""

    @property
    def expires(self) -> int:
        """Unix second at which the record is gone."""
        return (self.first_used + self.retention) // 1000


class Response(NamedTuple):
    """A response as it was given to the client."""

    status: int
    reason: bytes
    fields: Fields
    """End-to-end fields only; what the proxy adds to them is not part of the record."""
    body: bytes
    """Empty where *truncated*."""
    length: int
    """Bytes of the body as given to the client; with a body over the record limit, as far as it was known then."""
    truncated: bool
    """The body was over the record limit, or broke off."""
    date: int
    """Unix second at which it was given."""


class Record(NamedTuple):
    """The value under a key. *response* is None while in progress, and in the record of an attempt that was lost
    without a word (a crash): what would have been said is made from the attempt."""

    attempt: Attempt
    state: State
    response: Response | None
    sealed: bytes = b""
    """What the URL and the response became in a store, compressed or encrypted: then they are not here. Who is to show
    them opens the record (`proxy/store/sealing.py`); all others need nothing of them."""

    def reads_as(self, age: int) -> State:
        """The state at *age* milliseconds by the store's clock: past its lease, in_progress reads as unknown, so that
        after a crash nothing has to run for the key to be safe."""
        if self.state is State.IN_PROGRESS and age >= self.attempt.lease:
            return State.UNKNOWN
        return self.state


def values(fields: Fields, name: bytes) -> list[bytes]:
    """The values of all fields *name* (lower case), in their order."""
    found = []
    for line in fields.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == name:
            found.append(value.strip(b" \t"))
    return found


def without_fields(fields: Fields, names: Collection[bytes]) -> Fields:
    """*fields* without those of *names* (lower case)."""
    lines = fields.splitlines(keepends=True)
    return b"".join(line for line in lines if line.partition(b":")[0].lower() not in names)
