"""How a guarded request is treated: what the settings, or a rule of theirs, say of it."""

from collections.abc import Collection
from typing import NamedTuple


class Treatment(NamedTuple):
    """Times in milliseconds, sizes in bytes."""

    retention: int
    """How long its key is taken."""
    release_statuses: Collection[int]
    """Statuses of the backend that free the key."""
    max_body: int
    """The largest body that is taken."""
    max_record: int
    """The largest body of a response that is recorded."""
    requires_key: bool = False
    """Without a key it is refused."""
    replays: bool = False
    """A later request with the key is given the recorded response, where it may see it."""
    waits: bool = False
    """A later request waits for the first."""
    rejects: bool = False
    """A later request that asks for something else is told so, by a refusal of its own."""

    @property
    def compares(self) -> bool:
        """Whether it matters what was asked for."""
        return self.replays or self.rejects
