"""What was executed."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from proxy.sandbox.input import LONGEST_TEXT, BadInput, Input, Json

KEPT = 100_000
"""How many resources, and how many keys, are remembered; the oldest are dropped."""
FIRST_ID = 2241581
"""The first number, as in the contract's example; each later resource takes the next."""

Make = Callable[[Input, str], Json]
"""Makes a resource out of what was given and its number; what is wrong is noted in what was given."""


class Ledger:
    """What was created, by owner, collection and number, and how often it was executed, in all and by key."""

    def __init__(self) -> None:
        self.total = 0
        self.keys: OrderedDict[str, int] = OrderedDict()
        self.resources: OrderedDict[tuple[str, str, str], Json] = OrderedDict()
        self._next = FIRST_ID

    def execute(self, owner: str, collection: str, key: str | None, given: Input, make: Make) -> Json:
        """Create a resource; raise BadInput, and then nothing is counted."""
        number = str(self._next)
        resource = make(given, number)
        if key is not None and len(key) > LONGEST_TEXT:
            given.errors["Idempotency-Key"] = f"must have at most {LONGEST_TEXT} characters"
        if given.errors:
            raise BadInput(given.errors)
        self._next += 1
        self.resources[owner, collection, number] = resource
        self.total += 1
        if key is not None:
            self.keys[key] = self.keys.get(key, 0) + 1
        for kept in (self.resources, self.keys):
            if len(kept) > KEPT:
                kept.popitem(last=False)
        return resource

    def page(self, owner: str, collection: str, number: int, size: int) -> list[Json]:
        """Page *number* (from 1) of what an owner created, oldest first."""
        wanted = (owner, collection)
        found = (resource for place, resource in self.resources.items() if place[:2] == wanted)
        return list(islice(found, (number - 1) * size, number * size))

    def forget_executions(self) -> None:
        """Count from zero; what was created stays."""
        self.total = 0
        self.keys.clear()
