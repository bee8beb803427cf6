"""The APIs that are like Stripe's and GoCardless's: what they create, and how they say no. An account is its API key,
whatever that is."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import uuid4

from aiohttp import web

from proxy.sandbox.answer import Answer
from proxy.sandbox.credentials import static_key
from proxy.sandbox.input import BadInput, Input, Json, form_members, json_members


class Payment(NamedTuple):
    """One kind of resource: where it is created, what its Ids begin with, and what is in it once it is there."""

    collection: str
    prefix: str
    members: Json


class Charge(Payment):
    """What Stripe creates."""

    def make(self, given: Input, number: str) -> Json:
        """A resource, out of the fields that are given."""
        return {
            "id": f"{self.prefix}{number}",
            **self.members,
            "created": int(time.time()),
            "amount": given.amount("amount", 0),
            "currency": given.text("currency", "eur"),
            "description": given.text("description", None),
            "livemode": False,
        }


class Debit(Payment):
    """What GoCardless creates."""

    def make(self, given: Input, number: str) -> Json:
        """A resource under its collection's name, out of the members that are given."""
        payment = {
            "id": f"{self.prefix}{number}",
            **self.members,
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "amount": given.amount("amount", 0),
            "currency": given.text("currency", "EUR"),
            "description": given.text("description", None),
            "reference": given.text("reference", None),
        }
        return {self.collection: payment}


CHARGES = (
    Charge("charges", "ch_", {"object": "charge", "status": "succeeded", "paid": True, "captured": True}),
    Charge("payment_intents", "pi_", {"object": "payment_intent", "status": "requires_payment_method"}),
)
DEBITS = (Debit("payments", "PM", {"status": "pending_submission"}),)


class Stripe:
    """See `proxy.sandbox.api.Api`."""

    created = 200
    invalid = 400

    def owner(self, request: web.Request, *, required: bool) -> str:
        """The account of the API key; raise Denied."""
        return static_key(request, required=required)

    def members(self, body: bytes) -> Json:
        """A form; raise BadInput."""
        return form_members(body)

    def refusal(self, status: int, kind: str, message: str, errors: Mapping[str, str] | None = None) -> Answer:
        """An error object, which names one of the wrong fields."""
        error: Json = {
            "type": "api_error" if status >= 500 else "invalid_request_error",
            "code": kind,
            "message": message,
            "param": next(iter(errors)) if errors else None,
        }
        return Answer(status, {"error": error})


class GoCardless:
    """See `proxy.sandbox.api.Api`."""

    created = 201
    invalid = 422

    def owner(self, request: web.Request, *, required: bool) -> str:
        """The account of the access token; raise Denied."""
        return static_key(request, required=required)

    def members(self, body: bytes) -> Json:
        """What is under the collection's name in a JSON object; raise BadInput."""
        members = json_members(body).get("payments")
        if not isinstance(members, dict):
            raise BadInput({"payments": "must be a JSON object"})
        return members

    def refusal(self, status: int, kind: str, message: str, errors: Mapping[str, str] | None = None) -> Answer:
        """An error object; its type is one of the few that the client knows."""
        usage = "validation_failed" if status == self.invalid else "invalid_api_usage"
        reasons = [{"field": name, "message": wrong} for name, wrong in (errors or {}).items()]
        error: Json = {
            "message": message,
            "type": "gocardless" if status >= 500 else usage,
            "code": status,
            "errors": reasons or [{"reason": kind, "message": message}],
            "documentation_url": None,
            "request_id": str(uuid4()),
        }
        return Answer(status, {"error": error})
