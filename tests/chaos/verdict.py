"""What must not be, judged by what was seen from outside of the proxies, when all is quiet again."""

import json
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

from tests.chaos.ledger import Answer, Execution, Given, Ledger, Said, Shown, Told


class Wrong(Enum):
    """Kinds of it."""

    TWICE = "executed twice"
    LOST = "responses lost"
    STATELESS = "keys without a state"
    OTHER = "responses that are not the recorded ones"
    FORGOTTEN = "states that went backwards"
    FOREIGN = "responses to somebody else's request"


class Violation(NamedTuple):
    """Of one key."""

    wrong: Wrong
    key: bytes
    why: str


def judge(ledger: Ledger, final: Mapping[bytes, Answer]) -> list[Violation]:
    """*final*: what is shown of each key at the end."""
    found = [
        Violation(wrong, key, why) for key, answer in final.items() for wrong, why in _judge_key(ledger, key, answer)
    ]
    for request, answer in ledger.keyless:
        if isinstance(answer, Given) and ledger.executions[answer.number].request != request:
            found.append(Violation(Wrong.FOREIGN, b"", f"{request!r} was given the response {answer}"))
    return found


def _judge_key(ledger: Ledger, key: bytes, final: Answer) -> Iterator[tuple[Wrong, str]]:
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
        yield from _judge_answer(ledger, key, told.answer)
    if ledger.given(key) and not (isinstance(final, Shown) and final.state == "completed"):
        yield Wrong.LOST, f"given, and at the end: {final}"
    yield from _backwards(ledger, key)


def _judge_answer(ledger: Ledger, key: bytes, answer: Answer) -> Iterator[tuple[Wrong, str]]:
    match answer:
        case Given(number, status, body, whole):
            execution = ledger.executions[number]
            if execution not in ledger.of_key[key]:
                yield Wrong.FOREIGN, f"given response {number}"
            elif status != execution.status or not (
                body == execution.body if whole else execution.body.startswith(body)
            ):
                yield Wrong.OTHER, f"given {answer}, made was {execution.body!r}"
        case Shown("completed", record) if not any(_is_of(record, each) for each in ledger.executed(key)):
            yield Wrong.OTHER, f"shown was {record}"


def _is_of(record: Mapping[str, Any], execution: Execution) -> bool:
    if record["StatusCode"] != str(execution.status):
        return False
    if record.get("Truncated"):
        return not execution.whole or execution.mood == "pays in pieces"  # which a proxy that holds still may cut
    return execution.whole and (record["ContentLength"], record["Resource"]) == (
        str(len(execution.body)),
        json.loads(execution.body),
    )


def _backwards(ledger: Ledger, key: bytes) -> Iterator[tuple[Wrong, str]]:
    """Who asks after a completed state was seen must see it as well; after a response was given, the key is known."""
    told = ledger.told[key]
    completed = min((each.at for each in told if _state(each) == "completed"), default=None)
    given = min((each.at for each in ledger.given(key)), default=None)
    for each in told:
        if completed is not None and each.begun > completed and _state(each) not in ("completed", None):
            yield Wrong.FORGOTTEN, f"completed at {completed:.3f}, but asked at {each.begun:.3f}: {each.answer}"
        elif given is not None and each.begun > given and (_state(each) == "free" or each in ledger.given(key)):
            yield Wrong.FORGOTTEN, f"given at {given:.3f}, but asked at {each.begun:.3f}: {each.answer}"


def _state(told: Told) -> str | None:
    """What an answer says of its key; None: nothing."""
    match told.answer:
        case Said(404):
            return "free"
        case Said(409, _, state) | Shown(state):
            return state
        case _:
            return None
