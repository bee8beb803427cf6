"""Every world that can be reached, breadth first: the first bad one that is found is on the shortest way to one."""

from collections.abc import Iterable
from typing import NamedTuple

from proxy.core.lifecycle import Event, State
from tests.model.promises import broken
from tests.model.protocol import NAMES, Protocol
from tests.model.rules import Fault, Promise, Rule
from tests.model.world import Attempt, World


class BadEnd(NamedTuple):
    """*way*: the steps to it, in their order."""

    promise: Promise
    way: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.promise}: {'; '.join(self.way)}"


class Explored(NamedTuple):
    """*worlds*: how many were seen. *bad*: None where all were seen, and all were good. *taken*: the transitions of the
    table that were gone through. *quiet*: in how many worlds nothing was under way any more."""

    worlds: int
    bad: BadEnd | None
    taken: frozenset[tuple[State, Event]]
    quiet: int


Befores = dict[World, list[World]]
"""From which worlds there is a step to this one; the first of them is on the shortest way."""


def explore(
    rules: frozenset[Rule], faults: frozenset[Fault], promises: frozenset[Promise], attempts: int = 2
) -> Explored:
    """Look for a world that breaks one of *promises*, through all that *rules* and *faults* allow."""
    protocol = Protocol(rules, faults)
    befores: Befores = {World((Attempt(),) * attempts): []}
    bad = _spread(protocol, befores, promises)
    quiet = [world for world in befores if world.quiet() and not world.retention_over]
    if bad is None and Promise.ENDS in promises:
        bad = _endless(protocol, befores, quiet)
    return Explored(len(befores), bad, frozenset(protocol.store.taken), len(quiet))


def _spread(protocol: Protocol, befores: Befores, promises: frozenset[Promise]) -> BadEnd | None:
    layer = list(befores)
    while layer:
        beyond: list[World] = []
        for world in layer:
            for _, _, after in protocol.steps(world):
                if after in befores:
                    befores[after].append(world)
                    continue
                befores[after] = [world]
                beyond.append(after)
                for promise in broken(after):
                    if promise in promises:
                        return BadEnd(promise, _way(protocol, befores, after))
        layer = beyond
    return None


def _endless(protocol: Protocol, befores: Befores, quiet: Iterable[World]) -> BadEnd | None:
    """A world from which no way leads to a quiet one, before the retention ends everything."""
    ending = set(quiet)
    layer = list(ending)
    while layer:
        layer = [before for world in layer for before in befores[world] if before not in ending]
        layer = list(dict.fromkeys(layer))
        ending.update(layer)
    for world in befores:
        if world not in ending and not world.retention_over:
            return BadEnd(Promise.ENDS, _way(protocol, befores, world))
    return None


def _way(protocol: Protocol, befores: Befores, world: World) -> tuple[str, ...]:
    steps = []
    while befores[world]:
        before = befores[world][0]
        who, what = next((who, what) for who, what, after in protocol.steps(before) if after == world)
        steps.append(what if who is None else f"{NAMES[who]} {what}")
        world = before
    return tuple(reversed(steps))
