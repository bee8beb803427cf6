"""What was executed."""

import time
from collections import OrderedDict
from itertools import count, islice

from proxy.sandbox.input import LONGEST_TEXT, BadInput, Input, Json
from proxy.sandbox.resources import Kind

KEPT = 100_000
"""How many resources, and how many keys, are remembered; the oldest are dropped."""
FIRST_ID = 2241581
"""The first Id, as in the contract's example; each later resource takes the next."""


class Ledger:
    """What was created, by client, collection and Id, and how often it was executed, in all and by key."""

    def __init__(self) -> None:
        self.total = 0
        self.keys: OrderedDict[str, int] = OrderedDict()
        self.resources: OrderedDict[tuple[str, str, str], Json] = OrderedDict()
        self._ids = count(FIRST_ID)

    def execute(self, client: str, kind: Kind, key: str | None, given: Input) -> Json:
        """Create a resource; raise BadInput, and then nothing is counted."""
        tag, members = given.text("Tag", None), kind.make(given)
        if key is not None and len(key) > LONGEST_TEXT:
            given.errors["Idempotency-Key"] = f"must have at most {LONGEST_TEXT} characters"
        if given.errors:
            raise BadInput(given.errors)
        ident = str(next(self._ids))
        resource = {"Id": ident, "Tag": tag, "CreationDate": int(time.time()), **members}
        self.resources[client, kind.collection, ident] = resource
        self.total += 1
        if key is not None:
            self.keys[key] = self.keys.get(key, 0) + 1
        for kept in (self.resources, self.keys):
            if len(kept) > KEPT:
                kept.popitem(last=False)
        return resource

    def page(self, client: str, kind: Kind, number: int, size: int) -> list[Json]:
        """Page *number* (from 1) of what a client created, oldest first."""
        wanted = (client, kind.collection)
        found = (resource for place, resource in self.resources.items() if place[:2] == wanted)
        return list(islice(found, (number - 1) * size, number * size))

    def forget_executions(self) -> None:
        """Count from zero; what was created stays."""
        self.total = 0
        self.keys.clear()
