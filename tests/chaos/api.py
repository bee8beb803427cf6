"""The API: writes every request down, executes it, and answers as its mood is. The mood follows from the seed, the key
and how often the key has come."""

import asyncio
import json
from collections.abc import Mapping
from email.utils import formatdate
from random import Random

from tests.chaos.ledger import Execution, Key, Ledger
from tests.chaos.modes import SCOPE
from tests.support.origin import Recorded, head, reset, send

TIMEOUT = 1.0
"""Seconds: the proxies' `upstream.timeout`."""
RECORD_LIMIT = 4096
"""Bytes: the proxies' `record.max_body`."""
PROBE = b"/probe"
"""A path with a reliable answer."""
GATHERING = b"/gathering"
"""One with an answer that is reliable and slow: many can come to wait for it."""
MOODS = {
    "pays": 56,
    "pays in pieces": 8,
    "pays slowly": 20,
    "pays, and answers too late": 1,
    "pays, and resets the connection": 2,
    "pays, and cuts the body": 2,
    "pays, and says more than is recorded": 2,
    "fails with 500": 3,
    "turns away with 401": 3,
    "turns away with 429": 3,
}
"""And how often it has each."""
_STATUS = {"fails with 500": 500, "turns away with 401": 401, "turns away with 429": 429}
_RELIABLE = {PROBE: "pays", GATHERING: "lets them gather"}
_SLOW = {
    "turns away with 401": (0.0, 0.3),
    "turns away with 429": (0.0, 0.3),
    "lets them gather": (0.7, 0.7),
    "pays slowly": (0.05, 0.6),
    "pays, and answers too late": (TIMEOUT * 1.5, TIMEOUT * 2),
}


class Api:
    """A behaviour for `tests.support.origin.Origin`. *moods*: how often it has some, in the place of MOODS."""

    def __init__(self, seed: int, ledger: Ledger, moods: Mapping[str, int]) -> None:
        self._seed = seed
        self._ledger = ledger
        self._moods = {**MOODS, **moods}

    async def __call__(self, request: Recorded, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        key = _key(request)
        often = len(self._ledger.of_key[key]) if key is not None else len(self._ledger.executions)
        random = Random(f"{self._seed}:{key!r}:{often}")
        (drawn,) = random.choices([*self._moods], [*self._moods.values()])
        mood = _RELIABLE.get(request.target, drawn)
        execution = self._execute(key, request, mood)
        await asyncio.sleep(random.uniform(*_SLOW.get(mood, (0.0, 0.01))))
        await _answer(execution, request, writer)

    def _execute(self, key: Key | None, request: Recorded, mood: str) -> Execution:
        ledger = self._ledger
        number, status = len(ledger.executions), _STATUS.get(mood, 201)
        large = RECORD_LIMIT if mood == "pays, and says more than is recorded" else 0
        body = json.dumps({"Id": number, "Status": "CREATED", "Tag": "x" * large}).encode()
        whole = not large and mood != "pays, and cuts the body"
        execution = Execution(
            number,
            ledger.now(),
            request.body,
            status,
            body,
            whole,
            executed=status not in (401, 429),
            mood=mood,
            proxy=int(request.all(b"Via")[0].rpartition(b"-")[2]),
            fields=(
                (b"Date", formatdate(usegmt=True).encode()),
                (b"Set-Cookie", b"a=%d" % number),
                (b"content-TYPE", b"application/json"),
                (b"Execution", b"%d" % number),
                (b"Set-Cookie", b"b=%d" % number),
            ),
        )
        ledger.execute(key, execution)
        return execution


def _key(request: Recorded) -> Key | None:
    names, scopes = request.all(b"Idempotency-Key"), request.all(SCOPE)
    return Key(names[0], scopes[0] if scopes else b"") if names else None


async def _answer(execution: Execution, request: Recorded, writer: asyncio.StreamWriter) -> None:
    status, body, fields, mood = execution.status, execution.body, execution.fields, execution.mood
    length = (b"Content-Length", b"%d" % len(body))
    match mood:
        case "pays, and resets the connection":
            await reset()(request, writer)
        case "pays, and cuts the body":
            await send(writer, head(status, [*fields, length]) + body[:10])
            writer.close()
        case "pays in pieces":
            await send(writer, head(status, [*fields, (b"Transfer-Encoding", b"chunked")]) + b"5\r\n" + body[:5])
            await asyncio.sleep(0.01)
            await send(writer, b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body) - 5, body[5:]))
        case _:
            await send(writer, head(status, [*fields, length]) + body)
