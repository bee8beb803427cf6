"""How the proxies treat a key that is taken; and what the API and the clients do for that to matter."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

SCOPE = b"X-Tenant"
"""The field with the scope of a key, where there are several."""
WAITERS = 40
"""Requests that may wait at a time at one proxy: its `limits.waiters`."""
WAIT_MAX = 1.5
"""Seconds: `idempotency.wait_max`."""
NOTHING: Mapping[str, object] = MappingProxyType({})


class Mode(NamedTuple):
    """*settings*: of the proxies. *moods*: how often the API has some, in the place of its own figures. *doings*: what
    clients do, and how often. *racers*: how many race for a key, at least and at most. *scopes*: whose keys have the
    same names; an empty one: no request says whose it is. *others*: how many clients of a race mean another request;
    *leaving*: how many requests are left alone before their answer; both from 0 to 1. *patience*: seconds that a client
    waits for its answer."""

    settings: Mapping[str, object]
    moods: Mapping[str, int]
    doings: Mapping[str, float]
    racers: tuple[int, int]
    scopes: Sequence[bytes]
    others: float
    leaving: float
    patience: float

    @property
    def replays(self) -> bool:
        """Whether a recorded response is given again; and another request is told that it is one."""
        return "idempotency.on_reuse" in self.settings

    @property
    def waits(self) -> bool:
        """Whether a request waits for the one that has its key."""
        return "idempotency.on_concurrent" in self.settings


MODES = {
    "conflict": Mode(
        settings=NOTHING,
        moods={},
        doings={"pay": 70, "race": 10, "crowd": 0.2, "keyless": 10, "look": 10},
        racers=(2, 5),
        scopes=(b"",),
        others=0.0,
        leaving=0.0,
        patience=3.0,
    ),
    "replay": Mode(
        settings={
            "idempotency.on_reuse": "replay",
            "idempotency.on_concurrent": "wait",
            "idempotency.on_mismatch": "reject",
            "idempotency.wait_max": f"{WAIT_MAX * 1000:g}ms",
            "limits.waiters": WAITERS,
            "scope.from": "header",
            "scope.header": SCOPE.decode(),
        },
        moods={"pays slowly": 40, "turns away with 401": 15, "turns away with 429": 15},
        doings={"pay": 30, "race": 50, "crowd": 0.3, "keyless": 5, "look": 10},
        racers=(2, 15),
        scopes=(b"acme", b"globex"),
        others=0.15,
        leaving=0.1,
        patience=8.0,
    ),
}
