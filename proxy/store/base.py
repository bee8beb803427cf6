"""What a store promises: five operations on one record, and two on what is kept beside the records (`keep`, `kept`),
each answered by exactly one call of its callback.

The callback is called on the loop, never from within the operation itself, and always within the store's deadline:
with `Unavailable` where the store gave no answer until then. An operation that was answered so may still have been
applied; therefore
* a *claim* answered `Unavailable` is withdrawn by the store itself, behind every copy of it that was sent: no ghost of
  it blocks the key later, and its token must not be used for another;
* *settle*, *release* and *overrule* may be repeated at will: the token says whose they are, the table what they may do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record


@dataclass(frozen=True, slots=True)
class Granted:
    """The key was free and is this attempt's now, or was already: a repeated claim finds its own token."""


@dataclass(frozen=True, slots=True)
class Found:
    """There is a record. *state* is what it reads as by the store's clock (`Record.reads_as`)."""

    record: Record
    state: State


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no record: never seen, expired or released."""


@dataclass(frozen=True, slots=True)
class Done:
    """The record is as it was asked to be, by this call or by an earlier copy of it."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Not done, and no repetition will do it: another token owns the key, or its state does not allow it."""

    record: Record


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No usable answer within the deadline. *why* is for the log; it carries no key and no secret."""

    why: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What lies under a name beside the records."""

    value: bytes


ClaimResult = Granted | Found | Unavailable
SettleResult = Done | Foreign | Unavailable
ReadResult = Found | Absent | Unavailable
OverruleResult = Done | Foreign | Absent | Unavailable
KeepResult = Done | Kept | Unavailable
KeptResult = Kept | Absent | Unavailable


class StoreUnavailable(Exception):
    """The store cannot be opened or asked; the message says where it is (without password) and what went wrong."""


class StoreRefused(Exception):
    """The store is there, and may not be used as it is; the message says why, and what would be right."""


class Store(Protocol):
    """Where the records lie. One instance belongs to one loop."""

    @property
    def place(self) -> str:
        """Which store this is, for people: its URL without password."""

    async def open(self) -> None:
        """Connect and look whether the store is fit for use; raise StoreUnavailable or StoreRefused."""

    async def close(self) -> None:
        """Answer what is under way, within the deadline, then let go of everything."""

    async def ping(self) -> None:
        """Return where the store answers within its deadline; raise StoreUnavailable."""

    async def findings(self) -> list[str]:
        """What an operator should know of an open store: its version, and what its settings do not protect against."""

    def claim(self, record: Record, done: Callable[[ClaimResult], None]) -> None:
        """Put *record* (in_progress) under its key hash for its retention, if nothing is there."""

    def settle(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """Put *record* (completed or unknown) in the place of its attempt's, keeping the time at which it expires.

        Rewrite: where nothing is there (evicted, flushed), it is written, to expire at first use + retention.
        Monotone: completed is never changed; a late *completed* takes the place of *unknown*, never the reverse.
        """

    def release(self, record: Record, done: Callable[[SettleResult], None]) -> None:
        """Remove the record of this attempt, if it is still in_progress. Done also where nothing is there."""

    def overrule(self, attempt: Attempt, ruling: Record | None, done: Callable[[OverruleResult], None]) -> None:
        """Put an operator's *ruling* (completed, with a token of its own) in the place of what is known of *attempt*,
        keeping the time at which it expires; None: remove it. Absent: there is nothing to rule over.

        Foreign where the key is another's, is completed, or its lease is not over: judged by the store's clock, in one
        step with the change. Until then the attempt may still send; or it has sent, the record says unknown, and the
        request is still on its way to the backend, where the operator found nothing of it yet. From then on the
        attempt's own settlements are those of a stranger: the ruling is never released and never written over.
        """

    def read(self, key_hash: bytes, done: Callable[[ReadResult], None]) -> None:
        """Look under *key_hash*."""

    def keep(
        self, name: bytes, value: bytes, lifetime: int, done: Callable[[KeepResult], None], *, first: bool = False
    ) -> None:
        """Put *value* under *name*, for *lifetime* ms from now, over what is there; it lasts as records do. What was to
        be kept for longer still is: who has short records must not take from others what theirs need. *first*: only
        where nothing is there; else answer what is (Kept: one's own, it may be, of a copy that was applied)."""

    def kept(self, name: bytes, done: Callable[[KeptResult], None]) -> None:
        """Look under *name*."""
