"""The judge of a run finds each thing that must not be; and finds nothing where all is well."""

import json

import pytest

from tests.chaos.ledger import Answer, Execution, Given, Key, Ledger, Nothing, Said, Shown, Told, understood
from tests.chaos.modes import MODES
from tests.chaos.verdict import Wrong, endless, judge
from tests.support.origin import head

KEY = Key(b"6f1c3b4e-0000-4000-8000-000000000001")
OTHER = Key(b"6f1c3b4e-0000-4000-8000-000000000002")
REQUEST = b"request"
BODY = b'{"Id": 0}'
RECORD = {"StatusCode": "201", "ContentLength": str(len(BODY)), "Resource": {"Id": 0}}
GIVEN = Given(0, 201, BODY, whole=True)
COMPLETED = Shown("completed", RECORD)
UNKNOWN = Shown("unknown", {"StatusCode": "504"})
FREE = Said(404, "idempotency_key_not_found", "")
IN_PROGRESS = Said(409, "idempotent_request_in_progress", "in_progress")
CASES = {
    "a payment and its record": ([GIVEN], COMPLETED, None),
    "a payment that nobody was told of": ([Nothing("killed")], UNKNOWN, None),
    "a response that came to nobody, and is shown": ([Nothing("killed"), COMPLETED], COMPLETED, None),
    "a response that broke off": ([Given(0, 201, BODY[:3], whole=False)], COMPLETED, None),
    "a response that is unknown at the end": ([GIVEN], UNKNOWN, Wrong.LOST),
    "a payment whose key is free": ([Nothing("killed")], FREE, Wrong.STATELESS),
    "a key that stays in progress": ([Nothing("killed")], IN_PROGRESS, Wrong.STATELESS),
    "a key that nobody can read": ([GIVEN], Said(503, "store_unavailable", ""), Wrong.STATELESS),
    "a response with other bytes": ([GIVEN._replace(body=b'{"Id": 1}')], COMPLETED, Wrong.OTHER),
    "a beginning of other bytes": ([Given(0, 201, b"{'", whole=False)], COMPLETED, Wrong.OTHER),
    "a response with another status": ([GIVEN._replace(status=200)], COMPLETED, Wrong.OTHER),
    "a record with other bytes": ([GIVEN], Shown("completed", {**RECORD, "Resource": {"Id": 1}}), Wrong.OTHER),
    "a record cut without a reason": ([GIVEN], Shown("completed", {**RECORD, "Truncated": True}), Wrong.OTHER),
    "a record shown with another status": (
        [Shown("completed", {**RECORD, "StatusCode": "200"}), GIVEN],
        COMPLETED,
        Wrong.OTHER,
    ),
    "completed, and then unknown": ([COMPLETED, UNKNOWN], COMPLETED, Wrong.FORGOTTEN),
    "completed, and then free": ([COMPLETED, FREE], COMPLETED, Wrong.FORGOTTEN),
    "given, and then free": ([GIVEN, FREE], COMPLETED, Wrong.FORGOTTEN),
    "given, and then given again": ([GIVEN, GIVEN], COMPLETED, Wrong.FORGOTTEN),
}


REPLAY = GIVEN._replace(replayed=True)
ANOTHER = b"another request"
REUSED = Said(422, "idempotency_key_reused", "completed")
CONFLICT = Said(409, "idempotent_creation_conflict", "completed")
REPEATS = {
    "a replay": ("replay", [(GIVEN, REQUEST), (REPLAY, REQUEST), (REPLAY, REQUEST)], None),
    "a replay of what came to nobody": ("replay", [(REPLAY, REQUEST)], None),
    "a replay where there are none": ("conflict", [(REPLAY, REQUEST)], Wrong.OTHER),
    "two who are the first": ("replay", [(GIVEN, REQUEST), (GIVEN, REQUEST)], Wrong.OTHER),
    "a replay with other fields": ("replay", [(REPLAY._replace(fields=((b"A", b"b"),)), REQUEST)], Wrong.OTHER),
    "a replay with another end": ("replay", [(GIVEN, REQUEST), (REPLAY._replace(expires=b"x"), REQUEST)], Wrong.OTHER),
    "a replay to another request": ("replay", [(REPLAY, ANOTHER)], Wrong.FOREIGN),
    "another request is told so": ("replay", [(GIVEN, REQUEST), (REUSED, ANOTHER)], None),
    "the same request is said to be another": ("replay", [(Nothing(""), ANOTHER), (REUSED, REQUEST)], Wrong.UNTRUE),
    "another request where there was none": ("replay", [(REUSED, ANOTHER)], Wrong.UNTRUE),
    "a conflict where there are no replays": ("conflict", [(CONFLICT, REQUEST)], None),
    "a conflict in the place of a replay": ("replay", [(CONFLICT, REQUEST)], Wrong.UNTRUE),
    "a conflict in the place of a 422": ("replay", [(GIVEN, REQUEST), (CONFLICT, ANOTHER)], Wrong.UNTRUE),
}


def executed(ledger: Ledger, key: Key | None, *, executed: bool = True) -> int:
    """The API has done it; the number of that."""
    number = len(ledger.executions)
    status = 201 if executed else 401
    execution = Execution(number, 0.0, REQUEST, status, BODY, whole=True, executed=executed, mood="pays", proxy=0)
    ledger.execute(key, execution)
    return number


def found(ledger: Ledger, final: dict[Key, Answer]) -> set[Wrong]:
    return {violation.wrong for violation in judge(ledger, final)}


@pytest.mark.parametrize(("answers", "final", "wrong"), CASES.values(), ids=CASES)
def test_what_is_said_of_a_payment_that_was_made(answers: list[Answer], final: Answer, wrong: Wrong | None) -> None:
    ledger = Ledger()
    executed(ledger, KEY)
    ledger.told[KEY] = [
        Told(at, at + 0.5, 0, answer, REQUEST if isinstance(answer, Given) else None)
        for at, answer in enumerate(answers, 1)
    ]
    assert wrong in {*found(ledger, {KEY: final}), None}
    assert wrong is not None or not found(ledger, {KEY: final})


@pytest.mark.parametrize(("way", "answers", "wrong"), REPEATS.values(), ids=REPEATS)
def test_what_is_said_of_its_repeats(way: str, answers: list[tuple[Answer, bytes]], wrong: Wrong | None) -> None:
    ledger = Ledger()
    executed(ledger, KEY)
    ledger.told[KEY] = [Told(at, at + 0.5, 0, answer, body) for at, (answer, body) in enumerate(answers, 1)]
    wrongs = {violation.wrong for violation in judge(ledger, {KEY: COMPLETED}, MODES[way])}
    assert wrong in {*wrongs, None}
    assert wrong is not None or not wrongs


def test_a_key_of_another_scope_is_another_key() -> None:
    ledger = Ledger()
    theirs = KEY._replace(scope=b"globex")
    executed(ledger, KEY)
    number = executed(ledger, theirs)
    ledger.told[KEY] = [Told(1.0, 1.5, 0, GIVEN, REQUEST)]
    assert not found(ledger, {KEY: COMPLETED, theirs: UNKNOWN})
    ledger.told[KEY] = [Told(1.0, 1.5, 0, Given(number, 201, BODY, whole=True), REQUEST)]
    assert Wrong.FOREIGN in found(ledger, {KEY: COMPLETED, theirs: UNKNOWN})


def test_who_waits_too_long_is_found_but_for_a_proxy_that_was_stopped() -> None:
    ledger = Ledger()
    ledger.told[KEY] = [Told(1.0, 4.0, 0, GIVEN, REQUEST), Told(1.0, 9.0, 1, Nothing("not answered"), REQUEST)]
    assert [each.wrong for each in endless(ledger, 5.0, lambda _: False)] == [Wrong.ENDLESS]
    assert not endless(ledger, 5.0, lambda told: told.proxy == 1)


def test_what_overlaps_may_be_seen_in_any_order() -> None:
    ledger = Ledger()
    executed(ledger, KEY)
    ledger.told[KEY] = [Told(1.0, 2.0, 0, COMPLETED), Told(1.5, 3.0, 1, FREE)]
    assert not found(ledger, {KEY: COMPLETED})


def test_a_payment_made_twice_is_found() -> None:
    ledger = Ledger()
    executed(ledger, KEY)
    executed(ledger, KEY)
    assert found(ledger, {KEY: COMPLETED}) == {Wrong.TWICE}


def test_who_was_turned_away_may_come_back() -> None:
    ledger = Ledger()
    executed(ledger, KEY, executed=False)
    assert not found(ledger, {KEY: FREE})
    assert not found(ledger, {KEY: UNKNOWN})
    ledger.told[KEY] = [Told(1.0, 1.5, 0, Given(0, 401, BODY, whole=True), REQUEST)]
    number = executed(ledger, KEY)
    ledger.told[KEY].append(Told(2.0, 2.5, 0, Given(number, 201, BODY, whole=True), REQUEST))
    assert not found(ledger, {KEY: COMPLETED})
    assert found(ledger, {KEY: FREE}) == {Wrong.STATELESS, Wrong.LOST}


def test_a_record_of_what_was_never_made_is_found() -> None:
    assert found(Ledger(), {KEY: COMPLETED}) == {Wrong.OTHER}


def test_a_response_to_somebody_else_is_found() -> None:
    ledger = Ledger()
    executed(ledger, OTHER)
    ledger.told[KEY] = [Told(1.0, 1.5, 0, GIVEN, REQUEST)]
    assert Wrong.FOREIGN in found(ledger, {KEY: FREE, OTHER: COMPLETED})
    ledger = Ledger()
    executed(ledger, None)
    ledger.keyless.append((b"another request", GIVEN))
    assert found(ledger, {}) == {Wrong.FOREIGN}


def test_answers_are_understood_also_where_they_break_off() -> None:
    fields = [(b"Execution", b"7"), (b"Content-Length", b"9")]
    own = (fields[0],)
    assert understood(head(201, fields) + BODY) == Given(7, 201, BODY, whole=True, fields=own)
    assert understood(head(201, fields) + BODY[:4]) == Given(7, 201, BODY[:4], whole=False, fields=own)
    said = [(b"Idempotent-Replayed", b"true"), (b"Idempotency-State", b"completed"), (b"Idempotency-Expires", b"then")]
    assert understood(head(201, fields + said) + BODY) == Given(7, 201, BODY, True, own, replayed=True, expires=b"then")
    chunks = [(b"Execution", b"7"), (b"Transfer-Encoding", b"chunked")]
    assert understood(head(201, chunks) + b'5\r\n{"Id"\r\n4\r\n: ') == Given(
        7, 201, b'{"Id": ', whole=False, fields=own
    )
    body = json.dumps({"Type": "idempotent_creation_conflict"}).encode()
    length = (b"Content-Length", b"%d" % len(body))
    assert understood(head(409, [(b"Idempotency-State", b"unknown"), length]) + body) == Said(
        409, "idempotent_creation_conflict", "unknown"
    )
    assert isinstance(understood(head(409, [length]) + body[:5]), Nothing)
    assert isinstance(understood(b"HTTP/1.1 201 Crea"), Nothing)
    assert isinstance(understood(b""), Nothing)
