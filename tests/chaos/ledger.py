"""What happened, seen from outside of the proxies: the API's own log, and what each client was told."""

import json
import time
from collections import defaultdict
from typing import Any, NamedTuple

from tests.support.raw import Field, Incomplete, Malformed, parse, take

FRAMING = {b"content-length", b"transfer-encoding", b"connection"}
EXPIRES, REPLAYED = b"Idempotency-Expires", b"Idempotent-Replayed"
OWN = {EXPIRES.lower(), REPLAYED.lower(), b"idempotency-state"}
"""What a proxy says in a response of the API's."""


class Key(NamedTuple):
    """Of one scope; no other's key is it, whatever its name. *scope*: empty where there is one for all."""

    name: bytes
    scope: bytes = b""

    def __str__(self) -> str:
        return f"{self.name.decode()} {self.scope.decode()}".rstrip()


class Execution(NamedTuple):
    """A request that reached the API whole. *whole*: the record will have the body that is sent; *executed*: False
    where it was turned away before anything was done; *proxy*: who sent it."""

    number: int
    at: float
    request: bytes
    status: int
    body: bytes
    whole: bool
    executed: bool
    mood: str
    proxy: int
    fields: tuple[Field, ...] = ()


class Given(NamedTuple):
    """The API's response to execution *number*, or the beginning of it. *fields*: in their order, but for those of the
    framing, and those of the proxy. *replayed*: whether it is given once more; *expires*: until when the key is taken,
    as the proxy says."""

    number: int
    status: int
    body: bytes
    whole: bool
    fields: tuple[Field, ...] = ()
    replayed: bool = False
    expires: bytes = b""


class Said(NamedTuple):
    """An answer of the proxy's own. *state*: of the key, empty where there is none."""

    status: int
    kind: str
    state: str


class Shown(NamedTuple):
    """The record of a key. *state*: completed or unknown."""

    state: str
    record: dict[str, Any]


class Nothing(NamedTuple):
    """No answer."""

    why: str


Answer = Given | Said | Shown | Nothing


class Told(NamedTuple):
    """What a client was told by proxy number *proxy*, in answer to what it sent at *begun*. *body*: of its payment;
    None: it asked for a response."""

    begun: float
    at: float
    proxy: int
    answer: Answer
    body: bytes | None = None


def understood(data: bytes) -> Answer:
    """What the bytes of an answer, perhaps cut, say."""
    try:
        head, rest = take(data, head=True, ended=True)
    except (Incomplete, Malformed) as error:
        return Nothing(f"{type(error).__name__}: {error}")
    try:
        body, whole = parse(data).body, True
    except (Incomplete, Malformed):
        body, whole = rest if head.field(b"Transfer-Encoding") is None else _unchunked(rest), False
    number = head.field(b"Execution")
    if number is not None:
        fields = tuple(field for field in head.fields if field[0].lower() not in FRAMING | OWN)
        replayed, expires = head.field(REPLAYED) is not None, head.field(EXPIRES) or b""
        return Given(int(number), head.status, body, whole, fields, replayed, expires)
    if not whole:
        return Nothing("an answer of the proxy's own that breaks off")
    state = (head.field(b"Idempotency-State") or b"").decode()
    value = json.loads(body) if body else {}
    if "StatusCode" in value:
        return Shown(state, value)
    return Said(head.status, value.get("Type", ""), state)


def _unchunked(data: bytes) -> bytes:
    """What there is of a chunked body that breaks off."""
    body = b""
    while b"\r\n" in data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
    return body


class Ledger:
    """Times are of the monotonic clock, in seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.executions: list[Execution] = []
        self.of_key: defaultdict[Key, list[Execution]] = defaultdict(list)
        self.told: defaultdict[Key, list[Told]] = defaultdict(list)
        self.keyless: list[tuple[bytes, Answer]] = []
        """Request and answer of those who sent no key."""

    def now(self) -> float:
        """See Ledger."""
        return time.monotonic() - self._began

    def execute(self, key: Key | None, execution: Execution) -> None:
        """The API has done it."""
        self.executions.append(execution)
        if key is not None:
            self.of_key[key].append(execution)

    @property
    def requests(self) -> int:
        """How many were sent by clients."""
        return sum(len(told) for told in self.told.values()) + len(self.keyless)

    def executed(self, key: Key) -> list[Execution]:
        """All of them, those that were turned away left out."""
        return [execution for execution in self.of_key[key] if execution.executed]

    def given(self, key: Key) -> list[Told]:
        """The responses to executions that clients have, in order."""
        return [
            told
            for told in self.told[key]
            if isinstance(told.answer, Given) and self.executions[told.answer.number].executed
        ]

    def written(self, key: Key) -> tuple[float, float]:
        """From when to when proxies may have written about it."""
        given = [told.at for told in self.given(key)]
        first = min(told.begun for told in self.told[key])
        return first, max([first, *given, *(execution.at for execution in self.of_key[key])])

    def times(self, key: Key) -> list[float]:
        """When something was heard of it, in order."""
        times = [time for told in self.told[key] for time in (told.begun, told.at)]
        return sorted(times + [execution.at for execution in self.of_key[key]])

    def history(self, key: Key) -> list[str]:
        """All that is known of it, a line each, in order."""
        lines = [
            (execution.at, f"the API: request {execution.number} by proxy {execution.proxy}, {execution.mood}")
            for execution in self.of_key[key]
        ]
        for told in self.told[key]:
            what = "the response" if told.body is None else told.body.decode()
            lines.append((told.begun, f"a client asks proxy {told.proxy} for {what}"))
            lines.append((told.at, f"proxy {told.proxy}: {_short(told.answer)}"))
        return [f"{at:9.3f}  {line}" for at, line in sorted(lines)]


def _short(answer: Answer) -> str:
    if isinstance(answer, Given):
        what = f"{', not whole' * (not answer.whole)}{', once more' * answer.replayed}"
        return f"gives response {answer.number}, {answer.status}{what}"
    return repr(answer)
