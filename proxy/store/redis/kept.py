"""What is kept beside the records, as commands. No record's name is like theirs: it is a hash and nothing else."""

from collections.abc import Callable

from proxy.store.base import Absent, Done, KeepResult, Kept, KeptResult, Unavailable
from proxy.store.redis.connection import Command, Reply, pack
from proxy.store.redis.operations import why_not
from proxy.store.redis.scripts import KEEP


class Keep(Command):
    """A script, by its text, since it is not run often; or SET NX GET PX."""

    __slots__ = ("_done", "_first")
    lasts = True

    def __init__(
        self,
        key: bytes,
        value: bytes,
        lifetime: int,
        done: Callable[[KeepResult], None],
        due: float,
        *,
        first: bool,
    ) -> None:
        ms = b"%d" % lifetime
        words = (b"SET", key, value, b"NX", b"GET", b"PX", ms) if first else (b"EVAL", KEEP.text, b"1", key, value, ms)
        super().__init__(pack(words), due, key)
        self._done = done
        self._first = first

    def replied(self, reply: Reply) -> None:
        """OK, or what is there already: nil for nothing."""
        if reply == (None if self._first else b"OK"):
            self._done(Done())
        elif isinstance(reply, bytes) and self._first:
            self._done(Kept(reply))
        else:
            self._done(Unavailable(why_not(reply)))

    def forgettable(self, reply: Reply, why: str) -> None:
        """What may be forgotten is not kept."""
        if self._first and isinstance(reply, bytes):
            self.replied(reply)
        else:
            self._done(Unavailable(why))

    def failed(self, why: str) -> None:
        """Unavailable."""
        self._done(Unavailable(why))


class LookUp(Command):
    """GET."""

    __slots__ = ("_done",)

    def __init__(self, key: bytes, done: Callable[[KeptResult], None], due: float) -> None:
        super().__init__(pack((b"GET", key)), due, key)
        self._done = done

    def replied(self, reply: Reply) -> None:
        """What is there."""
        if reply is None:
            self._done(Absent())
        elif isinstance(reply, bytes):
            self._done(Kept(reply))
        else:
            self._done(Unavailable(why_not(reply)))

    def failed(self, why: str) -> None:
        """Unavailable."""
        self._done(Unavailable(why))
