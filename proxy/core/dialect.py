"""How a refusal is written down for the clients of one payments API."""

import json
from typing import NamedTuple, Protocol
from uuid import UUID

from proxy.core.record import Fields
from proxy.core.refusal import Refusal, Row

_IN_PROGRESS = frozenset({Refusal.CONFLICT_IN_PROGRESS, Refusal.STILL_IN_PROGRESS})


class Subject(NamedTuple):
    """What a refusal speaks of: an attempt, when it began, and the time now (both Unix seconds)."""

    attempt: UUID
    began: int
    now: int


class Rendered(NamedTuple):
    """A refusal as a response. A dialect may choose another status than the table's; the fields have Content-Type."""

    status: int
    fields: Fields
    body: bytes


class Dialect(Protocol):
    """One way to write."""

    def render(self, refusal: Refusal, row: Row, subject: Subject) -> Rendered:
        """*row* is the refusal's, as it is configured: the placeholders of its message are filled."""
        ...


def _json(content: object) -> bytes:
    return json.dumps(content).encode("ascii")


class Mangopay:
    """The five fields, always: as the Mangopay API answers a key that was used before."""

    def render(self, refusal: Refusal, row: Row, subject: Subject) -> Rendered:  # noqa: ARG002
        """See `Dialect`."""
        fields = {
            "Message": row.message,
            "Type": row.type,
            "Id": f"{subject.attempt}#{subject.began}",
            "Date": subject.now,
            "errors": None,
        }
        return Rendered(row.status, b"Content-Type: application/json\r\n", _json(fields))


_TITLES = {
    "idempotency_key_missing": "Idempotency-Key is missing",
    "idempotency_key_reused": "Idempotency-Key is already used",
    "idempotent_creation_conflict": "A response was already given for this Idempotency-Key",
    "idempotent_request_in_progress": "A request is outstanding for this Idempotency-Key",
    "uri_too_long": "URI too long",
}
"""By code; any other code is its own title. One type has one title: RFC 9457 §3.1.3."""
_DETAILS = {
    **dict.fromkeys(
        _IN_PROGRESS,
        "A request with the same Idempotency-Key for the same operation is being processed or is outstanding.",
    ),
    Refusal.KEY_MISSING: "This operation is idempotent and it requires correct usage of Idempotency Key.",
    Refusal.KEY_REUSED: "This operation is idempotent and it requires correct usage of Idempotency Key. Idempotency Key"
    " MUST not be reused across different payloads of this operation.",
}


class Problem:
    """RFC 9457, with titles and texts of draft-ietf-httpapi-idempotency-key-header-07 §2.7 where it has some.

    `type` is a name and no address, which RFC 9457 §3.1.1 allows: no domain is ours. `instance` is the attempt.
    """

    def render(self, refusal: Refusal, row: Row, subject: Subject) -> Rendered:
        """See `Dialect`."""
        code = Refusal.STILL_IN_PROGRESS.value.type if refusal in _IN_PROGRESS else row.type
        members = {
            "type": f"urn:problem-type:idempotency-proxy:{code}",
            "title": _TITLES.get(code) or code.replace("_", " ").capitalize(),
            "status": row.status,
            "detail": _DETAILS.get(refusal, row.message),
            "instance": f"urn:uuid:{subject.attempt}",
            "code": code,
        }
        fields = b"Content-Type: application/problem+json\r\nContent-Language: en\r\n"
        return Rendered(row.status, fields, _json(members))


_RETRIED = _IN_PROGRESS | {
    Refusal.UNREACHABLE,
    Refusal.STORE_UNAVAILABLE,
    Refusal.IDENTITY_UNAVAILABLE,
    Refusal.PROOF_UNAVAILABLE,
    Refusal.OVERLOADED,
    Refusal.DRAINING,
}


class Stripe:
    """The error object of Stripe's API, for its SDKs (stripe-python 16.1: `_should_retry`, `specific_v1_api_error`).

    They repeat a 409 and any 5xx by themselves, with the same key, unless `Stripe-Should-Retry` says otherwise. Here it
    always speaks: true where the key is free or a first request is still under way, false where the answer would be the
    same again, or where a request that had no key may have been executed (UPSTREAM_TIMEOUT).

    Conflicts stay 409, an APIError to them. With 400 they would be an IdempotencyError, which Stripe's manual explains
    by other parameters under the same key: who then takes another key pays twice. Where the parameters do differ, it is
    a 400, since stripe-python raises an IdempotencyError for that status only.
    """

    def render(self, refusal: Refusal, row: Row, subject: Subject) -> Rendered:  # noqa: ARG002
        """See `Dialect`. The object has no place for the subject."""
        code = "idempotency_key_in_use" if refusal in _IN_PROGRESS else row.type  # the former is Stripe's own
        error = {"type": self._type(row.status), "code": code, "message": row.message}
        retried = b"true" if refusal in _RETRIED else b"false"
        fields = b"Content-Type: application/json\r\nStripe-Should-Retry: %b\r\n" % retried
        return Rendered(400 if refusal is Refusal.KEY_REUSED else row.status, fields, _json({"error": error}))

    @staticmethod
    def _type(status: int) -> str:
        if status in (409, 422):
            return "idempotency_error"
        return "invalid_request_error" if status < 500 else "api_error"


DIALECTS: dict[str, Dialect] = {"mangopay": Mangopay(), "problem": Problem(), "stripe": Stripe()}
