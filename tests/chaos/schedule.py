"""What happens, and when: it follows from the seed alone."""

from collections.abc import Iterator, Mapping
from random import Random
from typing import NamedTuple

KILL, FREEZE, LONG_FREEZE, DISK_FULL = "proxy killed", "proxy holds still", "proxy holds still for a lease", "disk full"


class Kind(NamedTuple):
    """A kind of fault: how often it comes beside the others, and how many seconds it lasts."""

    weight: float
    least: float
    most: float


class Event(NamedTuple):
    """After *pause* seconds, *kind* for *duration* seconds. *target*: a number, of which the remainder tells whom."""

    pause: float
    kind: str
    target: int
    duration: float


PROXY_KINDS = {
    KILL: Kind(8, 0.0, 0.5),
    FREEZE: Kind(2, 0.1, 1.5),
    LONG_FREEZE: Kind(0.2, 4.0, 5.0),
    DISK_FULL: Kind(1, 0.5, 2.0),
}
PROXY_PAUSE = (0.2, 2.5)
STORE_PAUSE = (0.5, 3.0)


def events(seed: int, track: str, kinds: Mapping[str, Kind], pause: tuple[float, float]) -> Iterator[Event]:
    """Of one track, without end: one fault after the other."""
    random = Random(f"{seed}:{track}")
    names, weights = list(kinds), [kind.weight for kind in kinds.values()]
    while True:
        wait = random.uniform(*pause)
        (name,) = random.choices(names, weights)
        kind = kinds[name]
        yield Event(wait, name, random.randrange(1000), random.uniform(kind.least, kind.most))
