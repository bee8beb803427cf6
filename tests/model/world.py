"""What there is: some attempts with one key, each in a proxy of its own; the record; the operator."""

from enum import StrEnum
from typing import NamedTuple

from proxy.core.lifecycle import Event, State
from tests.model.store import Command, Record, Result


class Phase(StrEnum):
    """Where an attempt is: that of `proxy.exchange`, as far as the store and the backend see it."""

    IDLE = "idle"
    CLAIMING = "claiming"
    GRANTED = "granted"
    SENT = "sent"
    SETTLING = "settling"
    OVER = "over"


class Wire(StrEnum):
    """What is under way between the proxy and the backend."""

    NOTHING = "nothing"
    REQUEST = "request"
    ANSWER = "answer"
    TURNED_AWAY = "turned away"


class Reply(NamedTuple):
    """*acknowledged*: the replica has what it tells of."""

    event: Event
    result: Result
    acknowledged: bool = True


class Attempt(NamedTuple):
    """A client's request, and the proxy that serves it."""

    phase: Phase = Phase.IDLE
    lease_over: bool = False
    outcome: Event | None = None
    """How the key is settled. None: it was not his to settle."""
    answered: bool = False
    """The client has its answer; which one follows from the outcome."""
    spooled: bool = False
    kept: bool = False
    """The answer lies with the incidents."""
    crashed: bool = False
    owned: bool = False
    """The store has granted it the key, at least once."""
    executed: int = 0
    backend: Wire = Wire.NOTHING
    commands: tuple[Command, ...] = ()
    """On the connection to the store, not applied yet."""
    replies: tuple[Reply, ...] = ()
    """On that connection, not read yet."""
    old: tuple[Command, ...] = ()
    """On connections that were given up: may yet be applied, and nobody reads the replies."""


class World(NamedTuple):
    """*replica*: what is left of the record after a failover. *acting*: what the operator has sent. *changed*: a
    completed record was."""

    attempts: tuple[Attempt, ...] = ()
    record: Record | None = None
    replica: Record | None = None
    acting: Command | None = None
    retention_over: bool = False
    changed: bool = False

    def put(self, who: int, attempt: Attempt) -> "World":
        """The same, with another state of one attempt."""
        return self._replace(attempts=(*self.attempts[:who], attempt, *self.attempts[who + 1 :]))

    def open(self) -> bool:
        """There is a record, and it waits for its outcome."""
        return self.record is not None and self.record.state is not State.COMPLETED

    def lease_over(self) -> bool:
        """That of such a record is."""
        return self.record is not None and self.open() and self.attempts[self.record.owner].lease_over

    def quiet(self) -> bool:
        """Nobody is going to do anything more by himself."""
        return self.acting is None and all(
            attempt.phase in (Phase.IDLE, Phase.OVER) and not (attempt.commands or attempt.replies or attempt.old)
            for attempt in self.attempts
        )
