"""How a refusal is written down: the five fields, always."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.dialect import DIALECTS
from proxy.core.refusal import Refusal, Row

MANGOPAY = DIALECTS["mangopay"]
SUBJECT = "bf6cce22-4c12-454f-ac05-ca20c8683735#1452723935"


def test_the_409_is_the_one_of_the_contract_byte_for_byte() -> None:
    rendered = MANGOPAY.render(Refusal.CONFLICT_COMPLETED.value, SUBJECT, 1452723944)
    assert rendered.status == 409
    assert rendered.content_type == b"application/json"
    assert rendered.body == (
        b'{"Message": "A resource has already been created with this Idempotency Key",'
        b' "Type": "idempotent_creation_conflict",'
        b' "Id": "bf6cce22-4c12-454f-ac05-ca20c8683735#1452723935",'
        b' "Date": 1452723944,'
        b' "errors": null}'
    )


@pytest.mark.parametrize("refusal", Refusal, ids=lambda refusal: refusal.name)
def test_every_refusal_has_exactly_the_five_fields(refusal: Refusal) -> None:
    rendered = MANGOPAY.render(refusal.value, SUBJECT, 1452723944)
    assert rendered.status == refusal.value.status
    assert rendered.content_type == b"application/json"
    assert json.loads(rendered.body) == {
        "Message": refusal.value.message,
        "Type": refusal.value.type,
        "Id": SUBJECT,
        "Date": 1452723944,
        "errors": None,
    }


@given(st.text(), st.text(), st.text(), st.integers(0, 2**40))
def test_any_text_comes_through_as_ascii(message: str, kind: str, subject: str, now: int) -> None:
    body = MANGOPAY.render(Row(400, kind, message), subject, now).body
    assert body.isascii()
    assert b"\r" not in body
    assert b"\n" not in body
    assert list(json.loads(body).values()) == [message, kind, subject, now, None]


def test_an_unknown_dialect_is_none_of_ours() -> None:
    assert set(DIALECTS) == {"mangopay"}
