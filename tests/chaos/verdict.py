"""What must not be, judged by what was seen from outside of the proxies, when all is quiet again."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from tests.chaos.ledger import Answer, Execution, Given, Key, Ledger, Said, Shown, Told
from tests.chaos.modes import MODES, Mode


class Wrong(Enum):
    """Kinds of it."""

    TWICE = "executed twice"
    LOST = "responses lost"
    STATELESS = "keys without a state"
    OTHER = "responses that are not the recorded ones"
    FORGOTTEN = "states that went backwards"
    FOREIGN = "responses to somebody else's request"
    UNTRUE = "refusals that are not true"
    ENDLESS = "requests that waited too long"


class Violation(NamedTuple):
    """Of one key; None: of a request without."""

    wrong: Wrong
    key: Key | None
    why: str


def judge(ledger: Ledger, final: Mapping[Key, Answer], mode: Mode = MODES["conflict"]) -> list[Violation]:
    """*final*: what is shown of each key at the end."""
    found = [
        Violation(wrong, key, why)
        for key, answer in final.items()
        for judged in (_judge_key(ledger, key, answer), _refusals(ledger, key, mode), _replays(ledger, key, mode))
        for wrong, why in judged
    ]
    for request, answer in ledger.keyless:
        if isinstance(answer, Given) and ledger.executions[answer.number].request != request:
            found.append(Violation(Wrong.FOREIGN, None, f"{request!r} was given the response {answer}"))
    return found


def endless(ledger: Ledger, longest: float, stopped: Callable[[Told], bool]) -> list[Violation]:
    """Who waited for more than *longest* seconds, of a proxy that was not *stopped* meanwhile."""
    return [
        Violation(Wrong.ENDLESS, key, f"asked at {told.begun:.3f}, and at {told.at:.3f}: {told.answer}")
        for key, answers in ledger.told.items()
        for told in answers
        if told.at - told.begun > longest and not stopped(told)
    ]


def _judge_key(ledger: Ledger, key: Key, final: Answer) -> Iterator[tuple[Wrong, str]]:
    executed = ledger.executed(key)
    if len(executed) > 1:
        yield Wrong.TWICE, f"requests {[execution.number for execution in executed]}"
    match final:
        case Shown("completed", record):
            if not any(_is_of(record, execution) for execution in executed):
                yield Wrong.OTHER, f"shown is {record}"
        case Shown("unknown", record) if record["StatusCode"] == "504":
            pass
        case Said(404) if not executed:
            pass
        case _:
            yield Wrong.STATELESS, f"at the end: {final}"
    for told in ledger.told[key]:
        yield from _judge_answer(ledger, key, told)
    if ledger.given(key) and not (isinstance(final, Shown) and final.state == "completed"):
        yield Wrong.LOST, f"given, and at the end: {final}"
    yield from _backwards(ledger, key)


def _judge_answer(ledger: Ledger, key: Key, told: Told) -> Iterator[tuple[Wrong, str]]:
    answer = told.answer
    match answer:
        case Given(number, status, body, whole, fields):
            execution = ledger.executions[number]
            if execution not in ledger.of_key[key] or told.body != execution.request:
                yield Wrong.FOREIGN, f"{told.body!r} was given response {number}"
            elif (status, fields) != (execution.status, execution.fields) or not (
                body == execution.body if whole else execution.body.startswith(body)
            ):
                yield Wrong.OTHER, f"given {answer}, made was {execution}"
        case Shown("completed", record) if not any(_is_of(record, each) for each in ledger.executed(key)):
            yield Wrong.OTHER, f"shown was {record}"


def _refusals(ledger: Ledger, key: Key, mode: Mode) -> Iterator[tuple[Wrong, str]]:
    """Whether who was told that its request is another one sent another one, and whoever should be told was told."""
    executed = ledger.executed(key)
    for told in ledger.told[key]:
        same = [execution for execution in executed if execution.request == told.body]
        match told.answer:
            case Said(422, _, state):
                others = any(each.begun < told.at and each.body not in (None, told.body) for each in ledger.told[key])
                if not others or (same and (state == "completed" or same[0].at < told.begun)):
                    yield Wrong.UNTRUE, f"{told.body!r} at {told.begun:.3f}, of which this was executed: {told.answer}"
            case Said(409, _, "completed") if mode.replays and told.body is not None:
                if not same or any(execution.whole and not _may_be_cut(execution) for execution in same):
                    yield Wrong.UNTRUE, f"{told.body!r} at {told.begun:.3f}, for a replay or a 422: {told.answer}"


def _replays(ledger: Ledger, key: Key, mode: Mode) -> Iterator[tuple[Wrong, str]]:
    """A response is given once, and once more only where it was recorded, with the same word on its expiry."""
    first, expiries = Counter[int](), defaultdict[int, set[bytes]](set)
    for told in ledger.told[key]:
        answer = told.answer
        if isinstance(answer, Given):
            execution = ledger.executions[answer.number]
            expiries[answer.number].add(answer.expires)
            first[answer.number] += not answer.replayed
            if answer.replayed and not (mode.replays and execution.whole and execution.executed):
                yield Wrong.OTHER, f"given once more: {answer}"
    for number, times in first.items():
        if times > 1:
            yield Wrong.OTHER, f"response {number} was given to {times}, to each as the first"
    for number, said in expiries.items():
        if len(said) > 1:
            yield Wrong.OTHER, f"of response {number} is said that it expires at {said}"


def _may_be_cut(execution: Execution) -> bool:
    """By a proxy that holds still while it comes."""
    return execution.mood == "pays in pieces"


def _is_of(record: Mapping[str, Any], execution: Execution) -> bool:
    if record["StatusCode"] != str(execution.status):
        return False
    if record.get("Truncated"):
        return not execution.whole or _may_be_cut(execution)
    return execution.whole and (record["ContentLength"], record["Resource"]) == (
        str(len(execution.body)),
        json.loads(execution.body),
    )


def _backwards(ledger: Ledger, key: Key) -> Iterator[tuple[Wrong, str]]:
    """Who asks after a completed state was seen must see it as well; after a response was given, the key is known."""
    told = ledger.told[key]
    completed = min((each.at for each in told if _state(each) == "completed"), default=None)
    given = min((each.at for each in ledger.given(key)), default=None)
    for each in told:
        if completed is not None and each.begun > completed and _state(each) not in ("completed", None):
            yield Wrong.FORGOTTEN, f"completed at {completed:.3f}, but asked at {each.begun:.3f}: {each.answer}"
        elif given is not None and each.begun > given and (_state(each) == "free" or _is_first(each.answer)):
            yield Wrong.FORGOTTEN, f"given at {given:.3f}, but asked at {each.begun:.3f}: {each.answer}"


def _is_first(answer: Answer) -> bool:
    return isinstance(answer, Given) and not answer.replayed


def _state(told: Told) -> str | None:
    """What an answer says of its key; None: nothing."""
    match told.answer:
        case Said(404):
            return "free"
        case Said(409 | 422, _, state) | Shown(state):
            return state
        case _:
            return None
