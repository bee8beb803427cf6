"""The tables beside nginx: `python -m tests.wire.beside`, or `make wire-nginx`.

Every row goes through an nginx, too, and what it makes of it is compared with the fate that the row has with us. Where
they differ it is explained in `nginx_requests.py` and `nginx_responses.py`; the exit status is 1 where a difference is
found that is not, or is another, or where one is gone, and 2 where there is no nginx.
"""

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import count
from typing import NamedTuple, assert_never

import click
import h11

from tests.wire import nginx_requests, nginx_responses
from tests.wire.client import Client
from tests.wire.conversation import QUIET, Conversation
from tests.wire.differences import Difference
from tests.wire.nginx import PATIENCE, Nginx, executable, version
from tests.wire.oracle import Heard, ResponseReader
from tests.wire.origin import RecordingOrigin, Upstream, echo, named
from tests.wire.requests import ROWS
from tests.wire.responses import ANSWERS
from tests.wire.responses.answer import Answer, Broken, Passed, Turned, Unusable
from tests.wire.row import HOST, KEY, Forwarded, Refused, Row, Unanswered, lines
from tests.wire.stand import AFTER, BEFORE

SEEN = "1.22.1"
"""The nginx whose differences are explained; another may have others."""
DIFFERENCES = [*nginx_requests.DIFFERENCES, *nginx_responses.DIFFERENCES]
WITHIN = 300.0
"""Seconds for all of it."""


# -- requests ---------------------------------------------------------------------------------------------------------


def ours(row: Row) -> str:
    """What becomes of the row with us, in the words of `Beside.request`."""
    reached = [_named(fate.method, fate.target, fate.body) for fate in row.fates if isinstance(fate, Forwarded)]
    statuses = ["200" if isinstance(fate, Forwarded) else str(fate.status) for fate in _answered(row)]
    waits = isinstance(row.fates[-1], Unanswered)
    return _told(reached, statuses, "waits" if waits else "open" if row.stays else "closes")


def _answered(row: Row) -> list[Forwarded | Refused]:
    return [fate for fate in row.fates if not isinstance(fate, Unanswered)]


def _named(method: bytes, target: bytes, body: bytes) -> str:
    shown = target.decode("latin-1") if len(target) <= 30 else f"{target[:20].decode('latin-1')}..."
    return f"{method.decode('latin-1')} {shown}" + (f" of {len(body)} bytes" if body else "")


def _told(reached: Sequence[str], given: Sequence[str], ending: str) -> str:
    passed, answers = (
        f"{len(these)} times {these[0]}" if len(these) > 3 else ", ".join(these) for these in (reached, given)
    )
    return f"{f'passes {passed}' if passed else 'nothing passes'}; {answers or 'no answer'}; {ending}"


def _fields(row: Row, heard: Sequence[Heard], key: bytes) -> Iterator[str]:
    """Which fields did not arrive as they do with us."""
    forwarded = [fate for fate in row.fates if isinstance(fate, Forwarded)]
    if len(heard) != len(forwarded):
        return
    for request, fate in zip(heard, forwarded):
        for name, expected in fate.fields:
            values = request.all(name)
            if values != tuple(value.replace(KEY, key) for value in expected):
                yield f"{name.decode('latin-1')}: {b', '.join(values).decode('latin-1') or 'gone'}"


_FAULTS = {
    "head": "a head not to the letter",
    "fields": "hop-by-hop fields",
    "framing": "two framings, or not one Host",
    "chunks": "chunks not to the letter",
    "trailers": "trailers",
}
"""By the first word of the oracle's doubt."""


def _remarks(faults: Sequence[str]) -> list[str]:
    """What the oracle found in what nginx passed on, in a word each."""
    return sorted({_FAULTS.get(fault.partition(" ")[0], "no request to h11") for fault in faults})


class Beside:
    """An nginx, and the origin behind it."""

    def __init__(self, origin: RecordingOrigin, nginx: Nginx) -> None:
        self._origin = origin
        self._nginx = nginx
        self._keys = count()

    async def request(self, row: Row) -> str:
        """What nginx makes of the row: alone, and behind a good request in the same write, where that differs."""
        alone, behind = [await self._request(row, pipelined=pipelined) for pipelined in (False, True)]
        return alone if alone == behind else f"{alone}; in a pipeline: {behind}"

    async def _request(self, row: Row, *, pipelined: bool) -> str:
        key = b"wire-key-%010d" % next(self._keys)
        before = [BEFORE] if pipelined else []
        fates = [*(fate for _, fate in before), *_answered(row)]
        heads = [fate.method == b"HEAD" if isinstance(fate, Forwarded) else fate.bodiless for fate in fates]
        waits = isinstance(row.fates[-1], Unanswered)
        with closing(await self._nginx.connect()) as client:
            await client.say(b"".join(data for data, _ in before) + row.data.replace(KEY, key))
            conversation = Conversation(client)
            read = await conversation.replies([*heads, False] if waits else heads)
            if read.ended:
                ending = "closes"
            elif waits and len(read.statuses) == len(heads):
                ending = "waits"
            else:
                ending = await self._after(client, conversation)
        given = [str(status) for status in read.statuses[len(before) :]]
        given += ["bytes without a head"] if read.garbled else []
        return self._reached(row, key, given, ending, len(before))

    async def _after(self, client: Client, conversation: Conversation) -> str:
        """Whether the connection takes another request, is closed, or is in the middle of something."""
        await client.say(AFTER[0])
        read = await conversation.replies([False])
        if read.statuses == [200] and self._origin.heard[-1].target == AFTER[1].target:
            return "open"
        return "closes" if read.ended or read.statuses else "waits"

    def _reached(self, row: Row, key: bytes, given: Sequence[str], ending: str, before: int) -> str:
        faults, self._origin.faults = self._origin.faults, []
        heard = [request for request in self._origin.take().requests if request.target != AFTER[1].target][before:]
        told = _told([_named(one.method, one.target, one.body) for one in heard], given, ending)
        return "; ".join([told, *_fields(row, heard, key), *_remarks(faults)])

    # -- responses ----------------------------------------------------------------------------------------------

    async def response(self, row: Answer) -> str:
        """What nginx makes of the row, and of the request behind it."""
        asked: list[Upstream] = []

        def answer(_request: Heard, upstream: Upstream) -> None:
            asked.append(upstream)
            upstream.say(row.data)
            if row.closes:
                upstream.close()

        self._origin.answer = answer
        told, _ = await self._ask(row.method, b"/row")
        times = len(asked)
        carriers: list[Upstream] = []

        def answer_next(request: Heard, upstream: Upstream) -> None:
            carriers.append(upstream)
            echo(request, upstream)

        self._origin.answer = answer_next
        following, body = await self._ask(b"GET", b"/next")
        self._origin.faults.clear()
        self._origin.take()
        remarks = [] if times == 1 else [f"asked {times} times"]
        remarks += [] if body == named(b"GET", b"/next") else [f"the next: {following}"]
        return "; ".join([told, "reused" if carriers[-1:] == asked[-1:] else "not reused", *remarks])

    async def _ask(self, method: bytes, target: bytes) -> tuple[str, bytes]:
        """What the client is given, and the body of it."""
        reader, begun = ResponseReader(method), False
        with closing(await self._nginx.connect()) as client:
            await client.say(lines(b"%b %b HTTP/1.1" % (method, target), HOST))
            while not reader.given.whole and not client.ended:
                try:
                    async with asyncio.timeout(PATIENCE + QUIET):
                        data = await client.read()
                except TimeoutError:
                    break
                begun = begun or bool(data)
                try:
                    reader.feed(data)
                except (h11.RemoteProtocolError, AssertionError):
                    return "no response to h11", b""
        given, left = reader.given, "closed" if client.ended else "open"
        if given.status is None:
            answer = f"{given.interim[0]} alone" if given.interim else "bytes without a head" if begun else "no answer"
            return f"{answer}, {left}", b""
        rest = "" if given.whole else ", broken off" if client.ended else ", open"
        return _passed(given.status, given.body, given.interim) + rest, given.body


def _passed(status: int, body: bytes, interim: Sequence[int] = ()) -> str:
    size = "" if status in (502, 504) else f", {len(body)} bytes"  # an answer of one's own has a text of one's own
    return "".join(f"{one}, " for one in interim) + f"{status}{size}"


def our_response(row: Answer) -> str:
    """What becomes of the row with us, where it passes through, in the words of `Beside.response`."""
    match row.fate:
        case Passed(status, body, interim):
            told = _passed(status, body, interim)
        case Turned(status, body):
            told = _passed(status, body)
        case Broken(body, status):
            told = _passed(status, body) + ", broken off"
        case Unusable():
            told = _passed(504, b"")
        case _:
            assert_never(row.fate)
    return f"{told}; {'reused' if row.reused else 'not reused'}"


# -- all of them ------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """A row of which nginx makes something else."""

    ours: str
    theirs: str


async def differences() -> dict[str, Found]:
    """By the rows' names."""
    found: dict[str, Found] = {}
    if task := asyncio.current_task():  # nginx ends with us, whatever ends us
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with asyncio.timeout(WITHIN), RecordingOrigin() as origin, Nginx(origin.port) as nginx:
        beside = Beside(origin, nginx)
        for row in ROWS:
            found[row.name] = Found(ours(row), await beside.request(row))
        for name, answer in ANSWERS:
            found[name] = Found(our_response(answer), await beside.response(answer))
    return {name: each for name, each in found.items() if each.ours != each.theirs}


def report(found: Mapping[str, Found], explained: Sequence[Difference]) -> Iterator[str]:
    """What was found, by its reasons."""
    for difference in explained:
        yield f"\n{difference.why}"
        for name in difference.rows:
            if name in found:
                yield f"  {name!r}\n      we: {found[name].ours}\n      nginx: {found[name].theirs}"


def surprises(found: Mapping[str, Found], explained: Sequence[Difference]) -> Iterator[str]:
    """What is not as it is explained."""
    expected = {name: reading for difference in explained for name, reading in difference.rows.items()}
    for name in sorted(found.keys() | expected.keys()):
        theirs = found[name].theirs if name in found else "as with us"
        if theirs != expected.get(name, "as with us"):
            yield f"  {name!r}\n      nginx: {theirs}\n      explained: {expected.get(name, 'as with us')}"


def main() -> int:
    """0: nginx differs just where it is explained."""
    if executable() is None:
        click.echo("There is no nginx to be compared with: install it, or add it to PATH", err=True)
        return 2
    found = asyncio.run(differences())
    click.echo(f"nginx {version()}; explained is {SEEN}. {len(ROWS)} requests, {len(ANSWERS)} responses")
    click.echo("\n".join(report(found, DIFFERENCES)))
    unexplained = list(surprises(found, DIFFERENCES))
    click.echo("\n".join([f"\n{len(found)} rows differ, {len(unexplained)} of all not as explained", *unexplained]))
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
