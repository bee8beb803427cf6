"""Print the table of CASES in Markdown, with the shortest way to each bad end: `python -m tests.model`."""

import sys
from collections.abc import Iterator

from tests.model.cases import CASES, Case


def row(case: Case) -> str:
    """A line of the table."""
    bad = case.explore().bad
    way = "**none**" if bad is None else "; ".join(bad.way)
    rules = case.rule if case.behind is None else f"{case.rule}; nor: {case.behind}"
    return f"| {case.promise} | {rules} | {'; '.join(case.faults) or 'always'} | {way} |"


def table() -> Iterator[str]:
    """The whole of it."""
    yield "| what happens | without the rule | where | shortest way |"
    yield "|---|---|---|---|"
    yield from map(row, CASES)


if __name__ == "__main__":
    for line in table():
        sys.stdout.write(f"{line}\n")
