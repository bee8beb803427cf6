"""The proxy's own answers: the five fields, and the header fields that tell what is known of a key."""

import json
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.answer import Answer, Answers, Asked, expires, http_date, recorded, replayed
from proxy.core.dialect import DIALECTS
from proxy.core.lifecycle import State
from proxy.core.record import Record, values
from proxy.core.refusal import Refusal, Row
from tests.unit.core.samples import FIRST_USED, TOKEN, TOKEN_UUID, URL, attempt, lines, response

KEY = b"bf6cce22-4c12-454f-ac05-ca20c8683735"
PATH = b"/v2.01/acme/payouts/bankwire/"
ASKED = Asked(KEY, PATH)
NOW = FIRST_USED + 9
LEASE_OVER = FIRST_USED + 72
EXPIRES = "Thu, 14 Jan 2016 22:25:35 GMT"
CAP = 1 << 20
OF_A_KEY = {"Idempotency-State", "Idempotency-Expires", "Link"}

TEXTS = {
    "header": "Idempotency-Key",
    "key_min": 16,
    "key_max": 36,
    "key_chars": "A-Za-z0-9-",
    "scope_header": "X-Tenant",
}
BY_DIALECT = {dialect: Answers(dialect, TEXTS, "/responses/{key}") for dialect in DIALECTS}
ANSWERS = BY_DIALECT["mangopay"]
WHERE = {
    "mangopay": (["Message", "Type", "Id", "Date", "errors"], "Message", "application/json"),
    "problem": (["type", "title", "status", "detail", "instance", "code"], "detail", "application/problem+json"),
    "stripe": (["type", "code", "message"], "message", "application/json"),
}
"""What members a dialect's object has, in which the message is, and its Content-Type."""
THE_DRAFTS = {
    Refusal.CONFLICT_IN_PROGRESS: "A request with the same Idempotency-Key",
    Refusal.STILL_IN_PROGRESS: "A request with the same Idempotency-Key",
    Refusal.KEY_MISSING: "This operation is idempotent and it requires correct usage",
    Refusal.KEY_REUSED: "This operation is idempotent and it requires correct usage",
}
"""How their text in the dialect `problem`, which is the IETF draft's, begins."""
OTHER_STATUSES = {("stripe", Refusal.KEY_REUSED): 400}
"""Where a dialect has another than the table."""

every_refusal = pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.name)


def shown(answer: Answer) -> dict[str, Any]:
    found = json.loads(answer.body)
    assert isinstance(found, dict)
    return found


@every_refusal
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_refusal_is_whole_in_every_dialect(dialect: str, refusal: Refusal) -> None:
    answers, (members, where, content_type) = BY_DIALECT[dialect], WHERE[dialect]
    nobodys = answers.refuse(refusal, TOKEN, NOW)
    of_a_key = answers.about(refusal, attempt(), State.UNKNOWN, ASKED, NOW)
    for answer in (nobodys, of_a_key):
        assert answer.status == OTHER_STATUSES.get((dialect, refusal), refusal.value.status)
        body = shown(answer)
        told = body["error"] if dialect == "stripe" else body
        assert list(told) == members
        if dialect == "problem" and refusal in THE_DRAFTS:
            assert told[where].startswith(THE_DRAFTS[refusal])
        else:
            assert told[where] == refusal.value.message.format_map(TEXTS)
        assert "{" not in told[where]
        fields = lines(answer.fields)
        assert fields["Content-Type"] == content_type
        assert fields["Cache-Control"] == "no-store"
        assert fields.get("Retry-After") == (refusal.value.retry_after and str(refusal.value.retry_after))
        assert fields.get("Allow") == refusal.value.allow
        assert fields.get("WWW-Authenticate") == refusal.value.authenticate
    assert not OF_A_KEY & set(lines(nobodys.fields))
    assert lines(of_a_key.fields)["Link"] == f'</responses/{KEY.decode()}/>; rel="describedby"'
    assert set(lines(of_a_key.fields)) >= OF_A_KEY


@every_refusal
def test_a_refusal_where_nobody_owns_the_key_has_the_five_fields_and_no_word_of_a_key(refusal: Refusal) -> None:
    answer = ANSWERS.refuse(refusal, TOKEN, NOW)
    assert answer.status == refusal.value.status
    body = shown(answer)
    assert list(body) == ["Message", "Type", "Id", "Date", "errors"]
    assert (body["Type"], body["Id"], body["Date"]) == (refusal.value.type, f"{TOKEN_UUID}#{NOW}", NOW)
    assert body["errors"] is None
    assert "{" not in body["Message"]
    fields = lines(answer.fields)
    assert fields["Content-Type"] == "application/json"
    assert fields["Cache-Control"] == "no-store"
    assert not OF_A_KEY & set(fields)
    assert ("Retry-After" in fields) is (refusal.value.retry_after is not None)


@every_refusal
@pytest.mark.parametrize("state", [State.COMPLETED, State.IN_PROGRESS, State.UNKNOWN])
def test_a_refusal_about_a_key_names_its_owner_and_says_what_is_known(refusal: Refusal, state: State) -> None:
    answer = ANSWERS.about(refusal, attempt(), state, ASKED, NOW)
    body = shown(answer)
    assert list(body) == ["Message", "Type", "Id", "Date", "errors"]
    assert (body["Id"], body["Date"]) == (f"{TOKEN_UUID}#{FIRST_USED}", NOW)
    fields = lines(answer.fields)
    assert fields["Idempotency-State"] == state.value
    assert fields["Idempotency-Expires"] == EXPIRES
    assert fields["Link"] == f'</responses/{KEY.decode()}/>; rel="describedby"'
    assert fields["Content-Type"] == "application/json"


def test_who_asks_for_a_key_in_progress_is_told_when_to_ask_again() -> None:
    for refusal in (Refusal.CONFLICT_IN_PROGRESS, Refusal.STILL_IN_PROGRESS):
        answer = ANSWERS.about(refusal, attempt(), State.IN_PROGRESS, ASKED, NOW)
        assert answer.status == 409
        assert int(lines(answer.fields)["Retry-After"]) >= 1


def test_a_bad_key_is_told_the_configured_rule() -> None:
    answers = Answers(
        "mangopay",
        {**TEXTS, "key_min": 1, "key_max": 255, "key_chars": "a-z{}"},
        "/responses/{key}",
    )
    message = shown(answers.refuse(Refusal.KEY_INVALID, TOKEN, NOW))["Message"]
    assert "1 to 255 characters out of a-z{}." in message


@given(st.binary(min_size=16, max_size=16))
def test_any_token_is_shown_as_a_uuid_of_version_4(token: bytes) -> None:
    subject, _, second = shown(ANSWERS.refuse(Refusal.DRAINING, token, NOW))["Id"].partition("#")
    assert str(UUID(subject)) == subject
    assert UUID(subject).version == 4
    assert second == str(NOW)


@given(st.binary(max_size=60))
def test_no_key_can_break_out_of_its_link(key: bytes) -> None:
    """Keys are validated before; the answer does not rely on it."""
    answer = ANSWERS.about(Refusal.CONFLICT_COMPLETED, attempt(), State.COMPLETED, Asked(key, PATH), NOW)
    link = lines(answer.fields)["Link"]
    path = link.removeprefix("</responses/").removesuffix('/>; rel="describedby"')
    assert unquote_to_bytes(path) == key
    assert not set(path) & set('/<>"; \r\n')


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_nothing_that_a_client_or_the_backend_wrote_comes_into_a_field_of_ours(url: bytes, content_type: bytes) -> None:
    kept = response(fields=b"Content-Type: %b\r\n" % content_type)
    answer = ANSWERS.show(Record(attempt(url=url), State.COMPLETED, kept), State.COMPLETED, ASKED, CAP)
    assert set(lines(answer.fields)) == {
        "Content-Type",
        "Cache-Control",
        "Idempotency-State",
        "Idempotency-Expires",
    }


def test_a_link_that_the_request_cannot_fill_is_left_out() -> None:
    answers = Answers(
        "mangopay",
        TEXTS,
        "/{version}/{client}/responses/{key}",
    )
    asked = Asked(KEY, b"/payouts")
    fields = lines(answers.about(Refusal.CONFLICT_COMPLETED, attempt(), State.COMPLETED, asked, NOW).fields)
    assert "Link" not in fields
    assert fields["Idempotency-State"] == "completed"


def test_the_record_of_a_completed_key_is_the_one_of_the_contract() -> None:
    kept = response(
        fields=b"Content-Type: application/json; charset=utf-8\r\nDate: Wed, 13 Jan 2016 22:25:56 GMT\r\n"
    )._replace(length=471)
    answer = ANSWERS.show(Record(attempt(), State.COMPLETED, kept), State.COMPLETED, ASKED, CAP)
    assert answer.status == 200
    assert lines(answer.fields) == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Idempotency-State": "completed",
        "Idempotency-Expires": EXPIRES,
    }
    assert answer.body == (
        b'{"StatusCode": "200", "ContentLength": "471", "ContentType": "application/json; charset=utf-8",'
        b' "Date": "Wed, 13 Jan 2016 22:25:56 GMT",'
        b' "RequestURL": "https://api.example.com/v2.01/acme/payouts/bankwire/",'
        b' "Resource": {"Id": "2241581"}}'
    )


def test_a_response_without_a_date_is_shown_with_the_one_at_which_it_was_given() -> None:
    record = Record(attempt(), State.COMPLETED, response()._replace(date=1452723956))
    date = shown(ANSWERS.show(record, State.COMPLETED, ASKED, CAP))["Date"]
    assert date == "Wed, 13 Jan 2016 22:25:56 GMT"


def test_the_record_of_an_unknown_key_is_the_504_that_was_given() -> None:
    given_then = ANSWERS.unknown(attempt(), ASKED, NOW)
    assert given_then.status == 504
    assert lines(given_then.fields)["Idempotency-State"] == "unknown"
    record = Record(attempt(), State.UNKNOWN, recorded(given_then, NOW))
    answer = ANSWERS.show(record, State.UNKNOWN, ASKED, CAP)
    assert answer.status == 200
    assert lines(answer.fields)["Idempotency-State"] == "unknown"
    found = shown(answer)
    assert found["StatusCode"] == "504"
    assert found["ContentType"] == "application/json"
    assert found["ContentLength"] == str(len(given_then.body))
    assert found["Date"] == http_date(NOW).decode()
    assert found["RequestURL"] == URL.decode()
    assert found["Resource"] == json.loads(given_then.body)


def test_a_key_whose_proxy_died_is_shown_the_504_that_would_have_been_given_when_its_lease_was_over() -> None:
    """`kill -9` in mid-call: the record still says in_progress, without a response, and reads as unknown."""
    record = Record(attempt(first_used=FIRST_USED * 1000, lease=72_000), State.IN_PROGRESS, None)
    answer = ANSWERS.show(record, State.UNKNOWN, ASKED, CAP)
    assert lines(answer.fields)["Idempotency-State"] == "unknown"
    found = shown(answer)
    assert found["StatusCode"] == "504"
    assert found["Date"] == http_date(LEASE_OVER).decode()
    resource = found["Resource"]
    assert list(resource) == ["Message", "Type", "Id", "Date", "errors"]
    assert resource["Type"] == "upstream_outcome_unknown"
    assert resource["Id"] == f"{TOKEN_UUID}#{FIRST_USED}"
    assert resource["Date"] == LEASE_OVER
    assert found["ContentLength"] == str(len(json.dumps(resource)))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_record_has_one_shape_whatever_the_dialect(dialect: str) -> None:
    """Only what was refused, and is now the recorded response, is written in it."""
    answers = BY_DIALECT[dialect]
    completed = Record(attempt(), State.COMPLETED, response())
    assert answers.show(completed, State.COMPLETED, ASKED, CAP) == ANSWERS.show(completed, State.COMPLETED, ASKED, CAP)
    dead = Record(attempt(), State.IN_PROGRESS, None)
    given_then = answers.unknown(attempt(), ASKED, LEASE_OVER)
    answer = answers.show(dead, State.UNKNOWN, ASKED, CAP)
    assert lines(answer.fields)["Content-Type"] == "application/json"
    assert shown(answer) == {
        "StatusCode": "504",
        "ContentLength": str(len(given_then.body)),
        "ContentType": WHERE[dialect][2],
        "Date": http_date(LEASE_OVER).decode(),
        "RequestURL": URL.decode(),
        "Resource": json.loads(given_then.body),
    }


def test_the_same_dead_attempt_is_shown_the_same_at_any_time() -> None:
    record = Record(attempt(), State.IN_PROGRESS, None)
    assert ANSWERS.show(record, State.UNKNOWN, ASKED, CAP) == ANSWERS.show(record, State.UNKNOWN, ASKED, CAP)


def test_an_answer_of_our_own_is_kept_as_it_was_given() -> None:
    answer = Answer(504, b"Content-Type: application/json\r\n", b"{}")
    kept = recorded(answer, NOW)
    assert (kept.status, kept.fields, kept.body, kept.length, kept.date) == (504, answer.fields, b"{}", 2, NOW)
    assert not kept.truncated


@pytest.mark.parametrize(
    ("second", "date"),
    [
        (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (784111777, b"Sun, 06 Nov 1994 08:49:37 GMT"),  # the example of RFC 9110 section 5.6.7
        (1709164800, b"Thu, 29 Feb 2024 00:00:00 GMT"),
    ],
)
def test_dates_are_imf_fixdates(second: int, date: bytes) -> None:
    assert http_date(second) == date


def test_the_first_answer_can_be_given_the_end_of_its_retention_as_a_field_line() -> None:
    assert expires(attempt()) == b"Idempotency-Expires: Thu, 14 Jan 2016 22:25:35 GMT\r\n"
    assert expires(attempt(retention=3_600_000)) == b"Idempotency-Expires: Wed, 13 Jan 2016 23:25:35 GMT\r\n"


def test_a_dialect_that_there_is_not_is_noticed_at_the_start() -> None:
    with pytest.raises(KeyError):
        Answers("esperanto", {}, "/responses/{key}")


def test_the_link_is_filled_from_the_request_that_is_refused() -> None:
    answers = Answers("mangopay", TEXTS, "/{version}/{client}/responses/{key}")
    answer = answers.about(Refusal.CONFLICT_COMPLETED, attempt(), State.COMPLETED, ASKED, NOW)
    assert lines(answer.fields)["Link"] == f'</v2.01/acme/responses/{KEY.decode()}/>; rel="describedby"'


@every_refusal
def test_whatever_is_said_of_a_key_in_progress_says_when_to_come_back_once(refusal: Refusal) -> None:
    """Also another payload's 422: later, its own request may have its answer."""
    fields = lines(ANSWERS.about(refusal, attempt(), State.IN_PROGRESS, ASKED, NOW).fields)
    assert fields["Retry-After"] == str(refusal.value.retry_after or 1)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_row_of_ones_own_takes_the_place_of_the_tables(dialect: str) -> None:
    own = Row(400, "correlationid_not_found", "No {header} like this", 7, "GET", "Bearer")
    answers = Answers(dialect, TEXTS, "/responses/{key}", {Refusal.KEY_NOT_FOUND: own})
    answer = answers.refuse(Refusal.KEY_NOT_FOUND, TOKEN, NOW)
    assert answer.status == 400
    body = shown(answer)
    told = body["error"] if dialect == "stripe" else body
    assert "correlationid_not_found" in told.values()
    assert told[WHERE[dialect][1]] == "No Idempotency-Key like this"
    fields = lines(answer.fields)
    assert (fields["Retry-After"], fields["Allow"], fields["WWW-Authenticate"]) == ("7", "GET", "Bearer")
    other = answers.refuse(Refusal.KEY_INVALID, TOKEN, NOW)
    assert other == BY_DIALECT[dialect].refuse(Refusal.KEY_INVALID, TOKEN, NOW)


class TestReplay:
    """The fields of a recorded response that is given once more."""

    def test_they_are_the_recorded_ones_in_order_and_three_of_ours(self) -> None:
        kept = response(
            fields=b"Date: today\r\ncontent-TYPE: a\r\nSet-Cookie: a\r\nX: 1\r\nset-cookie: b\r\nContent-Length: 3\r\n"
        )
        assert replayed(attempt(), kept, "Idempotent-Replayed") == (
            kept.fields + b"Idempotent-Replayed: true\r\n"
            b"Idempotency-State: completed\r\n"
            b"Idempotency-Expires: Thu, 14 Jan 2016 22:25:35 GMT\r\n"
        )

    def test_what_an_operator_wrote_has_a_length_and_the_date_of_the_word(self) -> None:
        """The backend's has them in its fields: a response that was recorded whole is given them."""
        kept = response(fields=b"Content-Type: a/b\r\n", body=b"12345")
        fields = lines(replayed(attempt(), kept, "X-Again"))
        assert (fields["Content-Length"], fields["Date"]) == ("5", "Wed, 13 Jan 2016 22:25:35 GMT")

    @pytest.mark.parametrize("status", [204, 304])
    def test_what_has_no_body_is_given_no_length(self, status: int) -> None:
        kept = response(body=b"", fields=b"X: 1\r\n")._replace(status=status)
        assert "Content-Length" not in lines(replayed(attempt(), kept, "X-Again"))

    def test_the_name_of_the_mark_is_configured(self) -> None:
        assert lines(replayed(attempt(), response(), "X-Again"))["X-Again"] == "true"

    def test_a_field_that_the_backend_has_by_the_name_of_ours_gives_way(self) -> None:
        """The backend, or a proxy behind this one, may say of its own that it was replayed."""
        kept = response(fields=b"idempotent-replayed: false\r\nX: 1\r\nIDEMPOTENCY-STATE: unknown\r\n")
        fields = replayed(attempt(), kept, "Idempotent-Replayed")
        assert values(fields, b"idempotent-replayed") == [b"true"]
        assert values(fields, b"idempotency-state") == [b"completed"]
        assert values(fields, b"x") == [b"1"]
