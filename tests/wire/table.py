"""The tables as Markdown: `python -m tests.wire.table`, or `make wire-table`, which writes docs/wire-table.md."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from tests.wire import nginx_requests, nginx_responses
from tests.wire.differences import DIFFERENCES, Difference
from tests.wire.requests import GROUPS as REQUESTS
from tests.wire.responses import GROUPS as RESPONSES
from tests.wire.responses.answer import Answer, Broken, Passed, Turned, Unusable
from tests.wire.responses.answer import Group as Answers
from tests.wire.row import Fate, Forwarded, Group, Refused, Row, Unanswered

_SHOWN = 160
_COMMON = (b"Host: api.example.com\r\n", b"Idempotency-Key: wire-key-0000000000\r\n")
"""What most requests have is shown short."""


def shown(data: bytes) -> str:
    """*data*, escaped, and shortened in its middle."""
    for field, short in zip(_COMMON, (b"\xffH\r\n", b"\xffK\r\n")):
        data = data.replace(field, short, 1)
    text = data.decode("latin-1").encode("unicode_escape").decode("ascii").replace("\\xffH", "H").replace("\\xffK", "K")
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 :]}"
    return "`" + text.replace("|", "\\|").replace("`", "'") + "`"


def _request_fate(fate: Fate) -> str:
    match fate:
        case Forwarded(method, target, body):
            length = f", {len(body)} bytes" if body else ""
            target = target if len(target) < 40 else target[:20] + b"..."
            return f"forwarded: {method.decode()} {target.decode()}{length}".replace("|", "\\|")
        case Refused(status, kind, streamed):
            return f"{status} {kind}" + (", broken off upstream" if streamed else "")
        case Unanswered(streamed):
            return "waits for the rest" + (", broken off upstream" if streamed else "")
        case _:
            assert_never(fate)


def _fates(row: Row) -> str:
    fates = [_request_fate(fate) for fate in row.fates]
    text = f"{len(fates)} times {fates[0]}" if len(fates) > 3 else "; ".join(fates)
    return text + ("; stays open" if row.stays else "; closes")


def _response_fate(row: Answer) -> str:
    match row.fate:
        case Passed(status, body, interim):
            text = f"{''.join(f'{one}, ' for one in interim)}{status}, {len(body)} bytes; completed"
        case Turned(status):
            text = f"{status}; the key is free"
        case Broken(body, status):
            text = f"{status}, {len(body)} bytes, broken off; completed, truncated"
        case Unusable():
            text = "504; unknown"
        case _:
            assert_never(row.fate)
    return text + ("; reused" if row.reused else "; not reused")


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"\n### {title}\n"
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def _name(name: str) -> str:
    return name.replace("|", "\\|").replace("\t", "\\t").replace("\0", "\\0").replace("<", "&lt;")


_FATES = {
    Forwarded: "forwarded",
    Refused: "refused",
    Unanswered: "waited for",
    Passed: "passed on",
    Turned: "passed on",
    Broken: "broken off",
    Unusable: "504",
}
"""In a word each."""


def _summary() -> Iterator[str]:
    """The groups, in figures."""
    for title, groups in (("request", REQUESTS), ("response", RESPONSES)):
        rows = (
            (_name(group.title), str(len(group.rows)), ", ".join(f"{count} {fate}" for fate, count in _counted(group)))
            for group in groups
        )
        yield from _table(f"Each {title}, by its last fate", ("group", "rows", "fates"), rows)


def _counted(group: Group | Answers) -> list[tuple[str, int]]:
    lasts = [row.fate if isinstance(row, Answer) else row.fates[-1] for row in group.rows]
    return sorted(Counter(_FATES[type(fate)] for fate in lasts).items())


def markdown() -> Iterator[str]:
    """The lines."""
    yield "# The tables of the wire\n"
    yield "Written by `make wire-table`; what it means is in [wire.md](wire.md)."
    yield from _summary()
    yield "\n## Requests\n"
    yield "`H` is `Host: api.example.com`, `K` an Idempotency-Key that nobody has used."
    for group in REQUESTS:
        rows = ((_name(row.name), shown(row.data), _fates(row), row.rule) for row in group.rows)
        yield from _table(f"Requests: {group.title}", ("name", "request", "fate", "rule"), rows)
    yield "\n## Responses\n"
    yield "The fate of a response that passes through; then of the key, where a POST had one; then of the connection."
    for answers in RESPONSES:
        told = ((_name(row.name), _said(row), _response_fate(row), row.rule) for row in answers.rows)
        yield from _table(f"Responses: {answers.title}", ("name", "response", "fate", "rule"), told)
    yield "\n## Where h11 differs\n"
    yield "How many requests h11 would read, in our place, and where it would stand then."
    yield from _reasons("Requests, to h11", DIFFERENCES)
    yield "\n## Where nginx differs\n"
    yield "What it passes to its upstream, what it gives to its client, and whether the connection goes on."
    yield from _reasons("Requests, to nginx", nginx_requests.DIFFERENCES)
    yield from _reasons("Responses, to nginx", nginx_responses.DIFFERENCES)


def _reasons(title: str, differences: Iterable[Difference]) -> Iterator[str]:
    rows = (
        (_name(name), _name(reading), difference.why)
        for difference in differences
        for name, reading in difference.rows.items()
    )
    yield from _table(title, ("row", "reading", "why"), rows)


def _said(row: Answer) -> str:
    method = "to a HEAD: " if row.method == b"HEAD" else ""
    return method + shown(row.data) + (", then closes" if row.closes else "")


if __name__ == "__main__":
    sys.stdout.write("\n".join(markdown()) + "\n")
