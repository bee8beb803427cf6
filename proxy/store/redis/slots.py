"""Which node of a cluster has which keys: what CLUSTER SLOTS, MOVED and ASK say."""

import re
from typing import Any, NamedTuple, cast

from hiredis import ReplyError

from proxy.store.base import StoreUnavailable
from proxy.store.redis.connection import Reply

SLOTS = 16384
"""A key lies in one of them: CRC16 of its name, see `redis.crc.key_slot`."""
_REDIRECTION = re.compile(r"(MOVED|ASK) ([0-9]{1,5}) (.*):([0-9]{1,5})")

Place = tuple[str, int]
"""Host and port."""


class Range(NamedTuple):
    """Slots from *first* to *last*, both included, and the primary that has them."""

    first: int
    last: int
    primary: Place


class Map(NamedTuple):
    """All of them, as far as they have a node."""

    ranges: tuple[Range, ...]
    known: frozenset[Place]
    """Primaries and replicas."""

    @property
    def missing(self) -> int:
        """How many slots have no node."""
        return SLOTS - sum(each.last + 1 - each.first for each in self.ranges)


class Redirection(NamedTuple):
    """Where a command is to go. *asking*: for this once, while its slot is moved there."""

    asking: bool
    slot: int
    place: Place


def slot_map(reply: Reply, host: str) -> Map:
    """The reply to CLUSTER SLOTS: a list of (first, last, primary, replica…), where each node is (host, port, …). A
    node without a host is reached by *host*, through which the one that replied was. Raise StoreUnavailable where the
    reply is something else."""
    ranges, known = list[Range](), set[Place]()
    try:
        for first, last, *nodes in cast("list[list[Any]]", reply):
            places = [_place(node[0], node[1], host) for node in nodes]
            ranges.append(_range(first, last, places[0]))
            known.update(places)
    except (TypeError, ValueError, IndexError, UnicodeError):
        raise StoreUnavailable("the cluster's map of slots cannot be read") from None
    return Map(tuple(sorted(ranges)), frozenset(known))


def redirection(error: ReplyError, host: str) -> Redirection | None:
    """What MOVED or ASK says; None where it is another error. *host*: as in `slot_map`."""
    found = _REDIRECTION.fullmatch(str(error))
    if found is None or int(found[2]) >= SLOTS:
        return None
    return Redirection(found[1] == "ASK", int(found[2]), (found[3] or host, int(found[4])))


def _range(first: int, last: int, primary: Place) -> Range:
    if not 0 <= first <= last < SLOTS:
        raise ValueError("there are no such slots")
    return Range(first, last, primary)


def _place(host: bytes | None, port: int, default: str) -> Place:
    return (host.decode() if host else default, int(port))
