"""How a refusal is written down: in each dialect every refusal, from the one table."""

import json
import re
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Idempotency
from proxy.core.dialect import DIALECTS, Rendered, Subject
from proxy.core.refusal import Refusal
from tests.unit.core.samples import lines

UUID_TEXT = "bf6cce22-4c12-454f-ac05-ca20c8683735"
SUBJECT = Subject(UUID(UUID_TEXT), 1452723935, 1452723944)
IN_PROGRESS = {Refusal.CONFLICT_IN_PROGRESS, Refusal.STILL_IN_PROGRESS}

CORRECTLY = "This operation is idempotent and it requires correct usage of Idempotency Key."
THE_DRAFTS = {
    Refusal.CONFLICT_IN_PROGRESS: "A request with the same Idempotency-Key",
    Refusal.STILL_IN_PROGRESS: "A request with the same Idempotency-Key",
    Refusal.KEY_MISSING: CORRECTLY,
    Refusal.KEY_REUSED: CORRECTLY,
}
"""How the texts begin that draft-ietf-httpapi-idempotency-key-header-07 section 2.7 has."""

every_refusal = pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.name)
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


def render(dialect: str, refusal: Refusal, message: str = "What happened, and what to do") -> Rendered:
    return DIALECTS[dialect].render(refusal, refusal.value._replace(message=message), SUBJECT)


def shown(rendered: Rendered) -> dict[str, Any]:
    found = json.loads(rendered.body)
    assert isinstance(found, dict)
    return found


def test_there_is_a_dialect_for_each_that_can_be_chosen() -> None:
    assert set(DIALECTS) == set(get_args(Idempotency.model_fields["dialect"].annotation))


@every_dialect
@every_refusal
def test_no_dialect_has_another_status_than_the_table_but_stripe_for_another_payload(
    dialect: str, refusal: Refusal
) -> None:
    """stripe-python 16.1 raises an IdempotencyError for 400 and 404 only."""
    reused = dialect == "stripe" and refusal is Refusal.KEY_REUSED
    assert render(dialect, refusal).status == (400 if reused else refusal.value.status)


@every_dialect
@every_refusal
def test_status_and_type_are_those_of_the_row_that_is_configured(dialect: str, refusal: Refusal) -> None:
    own = refusal.value._replace(status=418, type="a_teapot")
    rendered = DIALECTS[dialect].render(refusal, own, SUBJECT)
    assert rendered.status == (400 if dialect == "stripe" and refusal is Refusal.KEY_REUSED else 418)
    found = shown(rendered)
    code = {"mangopay": "Type", "problem": "code", "stripe": "code"}[dialect]
    in_its_own_words = dialect != "mangopay" and refusal in IN_PROGRESS
    assert (found.get("error", found)[code] == "a_teapot") is not in_its_own_words


@every_dialect
@given(message=st.text(), refusal=st.sampled_from(Refusal))
def test_any_text_comes_through_as_ascii(dialect: str, message: str, refusal: Refusal) -> None:
    body = render(dialect, refusal, message).body
    assert body.isascii()
    assert b"\r" not in body
    assert b"\n" not in body
    found = json.loads(body)
    if dialect == "problem" and refusal in THE_DRAFTS:
        assert found["detail"].startswith(THE_DRAFTS[refusal])
    else:
        assert message in found.get("error", found).values()


class TestMangopay:
    """The five fields, always."""

    def test_the_409_is_the_one_of_the_contract_byte_for_byte(self) -> None:
        refusal = Refusal.CONFLICT_COMPLETED
        assert render("mangopay", refusal, refusal.value.message) == (
            409,
            b"Content-Type: application/json\r\n",
            b'{"Message": "A resource has already been created with this Idempotency Key",'
            b' "Type": "idempotent_creation_conflict",'
            b' "Id": "bf6cce22-4c12-454f-ac05-ca20c8683735#1452723935",'
            b' "Date": 1452723944,'
            b' "errors": null}',
        )

    @every_refusal
    def test_every_refusal_has_exactly_the_five_fields(self, refusal: Refusal) -> None:
        rendered = render("mangopay", refusal, "Message")
        assert lines(rendered.fields) == {"Content-Type": "application/json"}
        assert shown(rendered) == {
            "Message": "Message",
            "Type": refusal.value.type,
            "Id": f"{UUID_TEXT}#1452723935",
            "Date": 1452723944,
            "errors": None,
        }


class TestProblem:
    """RFC 9457."""

    def test_a_request_in_progress_is_the_problem_of_the_draft_byte_for_byte(self) -> None:
        for refusal in (Refusal.CONFLICT_IN_PROGRESS, Refusal.STILL_IN_PROGRESS):
            assert render("problem", refusal) == (
                409,
                b"Content-Type: application/problem+json\r\nContent-Language: en\r\n",
                b'{"type": "urn:problem-type:idempotency-proxy:idempotent_request_in_progress",'
                b' "title": "A request is outstanding for this Idempotency-Key",'
                b' "status": 409,'
                b' "detail": "A request with the same Idempotency-Key for the same operation is being processed'
                b' or is outstanding.",'
                b' "instance": "urn:uuid:bf6cce22-4c12-454f-ac05-ca20c8683735",'
                b' "code": "idempotent_request_in_progress"}',
            )

    def test_a_key_that_was_used_has_its_own_title_and_its_own_truth(self) -> None:
        for refusal in (Refusal.CONFLICT_COMPLETED, Refusal.CONFLICT_UNKNOWN):
            found = shown(render("problem", refusal, refusal.value.message))
            assert found["title"] == "A response was already given for this Idempotency-Key"
            assert found["detail"] == refusal.value.message
            assert found["code"] == "idempotent_creation_conflict"

    @pytest.mark.parametrize(
        ("refusal", "title", "detail"),
        [
            (Refusal.KEY_MISSING, "Idempotency-Key is missing", CORRECTLY),
            (
                Refusal.KEY_REUSED,
                "Idempotency-Key is already used",
                f"{CORRECTLY} Idempotency Key MUST not be reused across different payloads of this operation.",
            ),
        ],
    )
    def test_title_and_text_are_the_drafts_word_by_word(self, refusal: Refusal, title: str, detail: str) -> None:
        found = shown(render("problem", refusal))
        assert (found["title"], found["detail"]) == (title, detail)

    @every_refusal
    def test_every_refusal_has_the_members_of_rfc_9457_and_its_code(self, refusal: Refusal) -> None:
        rendered = render("problem", refusal)
        assert lines(rendered.fields) == {"Content-Type": "application/problem+json", "Content-Language": "en"}
        found = shown(rendered)
        assert list(found) == ["type", "title", "status", "detail", "instance", "code"]
        assert found["status"] == rendered.status
        assert found["instance"] == f"urn:uuid:{UUID_TEXT}"
        assert found["type"] == f"urn:problem-type:idempotency-proxy:{found['code']}"
        assert found["code"] == ("idempotent_request_in_progress" if refusal in IN_PROGRESS else refusal.value.type)
        assert re.fullmatch(r"[A-Z][A-Za-z -]+[a-z]", found["title"])

    def test_a_type_has_one_title_whatever_the_occurrence(self) -> None:
        problems = [shown(render("problem", refusal)) for refusal in Refusal]
        titles = {(found["type"], found["title"]) for found in problems}
        assert len(titles) == len({found["type"] for found in problems}) == len({found["title"] for found in problems})
        assert {"Bad request", "URI too long", "Upstream outcome unknown"} < {found["title"] for found in problems}


INVALID, CONFLICT, OURS = "invalid_request_error", "idempotency_error", "api_error"
STRIPE = {
    "KEY_INVALID": (INVALID, "idempotency_key_invalid", "false"),
    "KEY_MISSING": (INVALID, "idempotency_key_missing", "false"),
    "SCOPE_UNCLEAR": (INVALID, "bad_request", "false"),
    "BAD_REQUEST": (INVALID, "bad_request", "false"),
    "UNIDENTIFIED": (INVALID, "token_invalid", "false"),
    "KEY_NOT_FOUND": (INVALID, "idempotency_key_not_found", "false"),
    "METHOD_REFUSED": (INVALID, "bad_request", "false"),
    "REQUEST_TIMEOUT": (INVALID, "request_timeout", "false"),
    "CONFLICT_COMPLETED": (CONFLICT, "idempotent_creation_conflict", "false"),
    "CONFLICT_IN_PROGRESS": (CONFLICT, "idempotency_key_in_use", "true"),
    "CONFLICT_UNKNOWN": (CONFLICT, "idempotent_creation_conflict", "false"),
    "STILL_IN_PROGRESS": (CONFLICT, "idempotency_key_in_use", "true"),
    "TOO_LARGE": (INVALID, "request_too_large", "false"),
    "URI_TOO_LONG": (INVALID, "uri_too_long", "false"),
    "KEY_REUSED": (CONFLICT, "idempotency_key_reused", "false"),
    "EXPECTATION_FAILED": (INVALID, "bad_request", "false"),
    "FIELDS_TOO_LARGE": (INVALID, "header_fields_too_large", "false"),
    "TRANSFER_CODING": (OURS, "bad_request", "false"),
    "UNREACHABLE": (OURS, "upstream_unreachable", "true"),
    "STORE_UNAVAILABLE": (OURS, "store_unavailable", "true"),
    "IDENTITY_UNAVAILABLE": (OURS, "identity_unavailable", "true"),
    "PROOF_UNAVAILABLE": (OURS, "proof_unavailable", "true"),
    "OVERLOADED": (OURS, "overloaded", "true"),
    "DRAINING": (OURS, "draining", "true"),
    "OUTCOME_UNKNOWN": (OURS, "upstream_outcome_unknown", "false"),
    "UPSTREAM_TIMEOUT": (OURS, "upstream_timeout", "false"),
    "VERSION": (OURS, "bad_request", "false"),
}
"""Type, code, and whether its SDKs repeat it."""


class TestStripe:
    """Its error object, and a word to its SDKs."""

    def test_a_request_in_progress_byte_for_byte(self) -> None:
        refusal = Refusal.CONFLICT_IN_PROGRESS
        assert render("stripe", refusal, refusal.value.message) == (
            409,
            b"Content-Type: application/json\r\nStripe-Should-Retry: true\r\n",
            b'{"error": {"type": "idempotency_error",'
            b' "code": "idempotency_key_in_use",'
            b' "message": "A request with this Idempotency Key is still being processed: ask for its response later"}}',
        )

    @every_refusal
    def test_every_refusal_has_one_of_the_documented_types_and_says_whether_to_repeat(self, refusal: Refusal) -> None:
        rendered = render("stripe", refusal, "Message")
        kind, code, repeated = STRIPE[refusal.name]
        assert lines(rendered.fields) == {"Content-Type": "application/json", "Stripe-Should-Retry": repeated}
        assert shown(rendered) == {"error": {"type": kind, "code": code, "message": "Message"}}

    def test_its_sdks_repeat_what_helps_and_nothing_that_could_pay_twice(self) -> None:
        """Once more, from the table's own words."""
        repeated = {refusal for refusal in Refusal if STRIPE[refusal.name][2] == "true"}
        assert repeated >= {refusal for refusal in Refusal if refusal.value.retry_after is not None}
        unsent = repeated - IN_PROGRESS - {Refusal.PROOF_UNAVAILABLE}  # which is of a key that is taken
        assert all("Nothing was sent" in refusal.value.message for refusal in unsent)
