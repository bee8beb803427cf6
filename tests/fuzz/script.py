"""A fuzzer's input: what comes over the wire, with marks for what else happens. A mark is 0xFF and a byte; 0xFF never
comes over the wire itself."""

import re
from typing import NamedTuple

_MARK = re.compile(rb"\xff(.)", re.DOTALL)
CUT = b"|"
"""The mark of nothing but the end of a read; so is any that a target does not know."""


class Step(NamedTuple):
    """Something happens, then some bytes come (perhaps none)."""

    mark: bytes
    wire: bytes


def steps(data: bytes) -> list[Step]:
    """The script that *data* is."""
    wire, *marked = _MARK.split(data.removesuffix(b"\xff"))
    return [Step(CUT, wire), *(Step(marked[at], marked[at + 1]) for at in range(0, len(marked), 2))]
