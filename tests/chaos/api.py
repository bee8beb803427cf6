"""The API: writes every request down, executes it, and answers as its mood is. The mood follows from the seed, the key
and how often the key has come."""

import asyncio
import json
from random import Random

from tests.chaos.ledger import Execution, Ledger
from tests.support.origin import Recorded, head, reset, send

TIMEOUT = 1.0
"""Seconds: the proxies' `upstream.timeout`."""
RECORD_LIMIT = 4096
"""Bytes: the proxies' `record.max_body`."""
PROBE = b"/probe"
"""A path with a reliable answer."""
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
_SLOW = {"pays slowly": (0.05, 0.6), "pays, and answers too late": (TIMEOUT * 1.5, TIMEOUT * 2)}


class Api:
    """A behaviour for `tests.support.origin.Origin`."""

    def __init__(self, seed: int, ledger: Ledger) -> None:
        self._seed = seed
        self._ledger = ledger

    async def __call__(self, request: Recorded, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        key = next(iter(request.all(b"Idempotency-Key")), None)
        often = len(self._ledger.of_key[key]) if key is not None else len(self._ledger.executions)
        random = Random(f"{self._seed}:{key!r}:{often}")
        mood = "pays" if request.target == PROBE else random.choices([*MOODS], [*MOODS.values()])[0]
        execution = self._execute(key, request, mood)
        await asyncio.sleep(random.uniform(*_SLOW.get(mood, (0.0, 0.01))))
        await _answer(execution, request, writer)

    def _execute(self, key: bytes | None, request: Recorded, mood: str) -> Execution:
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
        )
        ledger.execute(key, execution)
        return execution


async def _answer(execution: Execution, request: Recorded, writer: asyncio.StreamWriter) -> None:
    number, status, body, mood = execution.number, execution.status, execution.body, execution.mood
    fields = [(b"Content-Type", b"application/json"), (b"Execution", b"%d" % number)]
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
