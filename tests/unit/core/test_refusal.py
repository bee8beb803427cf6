"""Every answer of the proxy's own has one row, and each row is what the contract's table says."""

import pytest

from proxy.core.refusal import Refusal

CONTRACT = {
    "KEY_INVALID": (400, "idempotency_key_invalid"),
    "KEY_MISSING": (400, "idempotency_key_missing"),
    "SCOPE_UNCLEAR": (400, "bad_request"),
    "BAD_REQUEST": (400, "bad_request"),
    "UNIDENTIFIED": (401, "token_invalid"),
    "KEY_NOT_FOUND": (404, "idempotency_key_not_found"),
    "METHOD_REFUSED": (405, "bad_request"),
    "REQUEST_TIMEOUT": (408, "request_timeout"),
    "CONFLICT_COMPLETED": (409, "idempotent_creation_conflict"),
    "CONFLICT_IN_PROGRESS": (409, "idempotent_creation_conflict"),
    "CONFLICT_UNKNOWN": (409, "idempotent_creation_conflict"),
    "STILL_IN_PROGRESS": (409, "idempotent_request_in_progress"),
    "TOO_LARGE": (413, "request_too_large"),
    "URI_TOO_LONG": (414, "uri_too_long"),
    "EXPECTATION_FAILED": (417, "bad_request"),
    "KEY_REUSED": (422, "idempotency_key_reused"),
    "FIELDS_TOO_LARGE": (431, "header_fields_too_large"),
    "TRANSFER_CODING": (501, "bad_request"),
    "UNREACHABLE": (502, "upstream_unreachable"),
    "STORE_UNAVAILABLE": (503, "store_unavailable"),
    "IDENTITY_UNAVAILABLE": (503, "identity_unavailable"),
    "PROOF_UNAVAILABLE": (503, "proof_unavailable"),
    "OVERLOADED": (503, "overloaded"),
    "DRAINING": (503, "draining"),
    "OUTCOME_UNKNOWN": (504, "upstream_outcome_unknown"),
    "UPSTREAM_TIMEOUT": (504, "upstream_timeout"),
    "VERSION": (505, "bad_request"),
}
PLACEHOLDERS = {
    "header": "Idempotency-Key",
    "key_min": 16,
    "key_max": 36,
    "key_chars": "A-Za-z0-9-",
    "scope_header": "X-Tenant",
}
MAY_HAVE_BEEN_EXECUTED = {"CONFLICT_COMPLETED", "CONFLICT_IN_PROGRESS", "CONFLICT_UNKNOWN", "STILL_IN_PROGRESS"} | {
    "OUTCOME_UNKNOWN",
    "UPSTREAM_TIMEOUT",
    "KEY_NOT_FOUND",
    "PROOF_UNAVAILABLE",
}

every_refusal = pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.name)


def test_the_table_and_the_contract_have_the_same_rows() -> None:
    """`__members__` has the aliases too: two equal rows would be one refusal."""
    assert set(Refusal.__members__) == set(CONTRACT)
    assert len(Refusal) == len(CONTRACT)


@every_refusal
def test_status_and_type_are_the_contracts(refusal: Refusal) -> None:
    assert (refusal.value.status, refusal.value.type) == CONTRACT[refusal.name]


@every_refusal
def test_a_client_is_told_when_to_come_back_where_waiting_helps(refusal: Refusal) -> None:
    waits = refusal.value.status == 503 or refusal.name in ("CONFLICT_IN_PROGRESS", "STILL_IN_PROGRESS")
    assert (refusal.value.retry_after is not None and refusal.value.retry_after >= 1) is waits


def test_the_message_of_a_created_resource_is_the_one_that_the_official_api_gives() -> None:
    message = "A resource has already been created with this Idempotency Key"
    assert Refusal.CONFLICT_COMPLETED.value.message == message


@every_refusal
def test_a_message_is_a_text_in_ascii_without_a_placeholder_left(refusal: Refusal) -> None:
    message = refusal.value.message.format_map(PLACEHOLDERS)
    assert message.isascii()
    assert message.isprintable()
    assert "{" not in message
    assert len(message) > 20


@pytest.mark.parametrize("refusal", [Refusal.KEY_INVALID, Refusal.KEY_MISSING])
def test_who_has_no_good_key_is_told_what_one_is(refusal: Refusal) -> None:
    message = refusal.value.message.format_map(PLACEHOLDERS)
    assert all(text in message for text in ("Idempotency-Key", "16", "36", "A-Za-z0-9-"))


@every_refusal
def test_nobody_is_told_that_nothing_was_sent_where_something_may_have_been(refusal: Refusal) -> None:
    if refusal.name in MAY_HAVE_BEEN_EXECUTED:
        assert "Nothing was sent" not in refusal.value.message
        assert "send it again" not in refusal.value.message
        assert "send the request again" not in refusal.value.message


@pytest.mark.parametrize(
    "name", ["UNREACHABLE", "STORE_UNAVAILABLE", "IDENTITY_UNAVAILABLE", "OVERLOADED", "DRAINING", "UNIDENTIFIED"]
)
def test_who_may_come_back_with_the_same_key_is_told_so(name: str) -> None:
    message = Refusal[name].value.message
    assert "Nothing was sent" in message
    assert "send the request again" in message


def test_an_unknown_outcome_says_that_it_may_have_been_executed() -> None:
    assert "may have" in Refusal.OUTCOME_UNKNOWN.value.message
    assert "may have" in Refusal.CONFLICT_UNKNOWN.value.message


@every_refusal
def test_a_401_has_a_challenge_and_nothing_else_has(refusal: Refusal) -> None:
    """RFC 9110 section 15.5.2: it must have one; RFC 6750 section 3.1 says which."""
    assert (refusal.value.authenticate is not None) == (refusal.value.status == 401)


def test_who_sent_another_payload_is_told_that_it_was_not_sent_and_what_another_key_is_for() -> None:
    """Who takes another key for the same operation pays twice."""
    message = Refusal.KEY_REUSED.value.message
    assert "another key for another operation only" in message
    assert "Nothing was sent" in message


def test_who_has_several_scopes_is_told_which_field_to_send_once() -> None:
    assert "X-Tenant" in Refusal.SCOPE_UNCLEAR.value.message.format_map(PLACEHOLDERS)
