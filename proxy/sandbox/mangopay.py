"""The API that is like Mangopay's: errors in five fields, and bearers that are issued for a while."""

import re
import time
from collections.abc import Mapping
from uuid import uuid4

from aiohttp import web

from proxy.sandbox.answer import Answer
from proxy.sandbox.credentials import Bearers, Denied, basic_user, bearer
from proxy.sandbox.faults import Faults
from proxy.sandbox.input import BadInput, Json, json_members
from proxy.sandbox.ledger import Ledger
from proxy.sandbox.resources import Kind


class Mangopay:
    """See `proxy.sandbox.api.Api`. A client is the one in the path."""

    created = 200
    invalid = 400

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._bearers = Bearers()

    def owner(self, request: web.Request, *, required: bool) -> str:
        """The client in the path; *required*: whose bearer it must be. Raise Denied."""
        client = request.match_info["client"]
        if required:
            theirs = self._bearers.client(bearer(request))
            if theirs is None:
                raise Denied(401, "unauthorized", "The bearer is missing, unknown or too old: ask for another")
            if theirs != client:
                raise Denied(403, "forbidden", "The bearer is another client's")
        return client

    def members(self, body: bytes) -> Json:
        """A JSON object; raise BadInput."""
        return json_members(body)

    def refusal(self, status: int, kind: str, message: str, errors: Mapping[str, str] | None = None) -> Answer:
        """An error, in five fields."""
        now = int(time.time())
        return Answer(
            status, {"Message": message, "Type": kind, "Id": f"{uuid4()}#{now}", "Date": now, "errors": errors}
        )

    def token(self, request: web.Request, _body: bytes, faults: Faults) -> Answer:
        """A new bearer, which leaves those before as they are. No client is known, so any is believed. The body is not
        looked at: the SDK for Python writes JSON and calls it a form."""
        return Answer(200, self._bearers.issue(basic_user(request), faults.lifetime))

    def client(self, request: web.Request, _body: bytes, faults: Faults) -> Answer:
        """Who the client is: the cheapest of the requests that need a bearer."""
        client = self.owner(request, required=faults.credentials is not None)
        return Answer(200, {"ClientId": client, "Name": client, "PlatformType": "MARKETPLACE"})

    def browse(self, kind: Kind, request: web.Request, _body: bytes, faults: Faults) -> Answer:
        """A page of resources."""
        owner = self.owner(request, required=faults.credentials is not None)
        number, size = request.query.get("page", "1"), request.query.get("per_page", "10")
        if not re.fullmatch(r"[1-9]\d{0,5} ([1-9]\d?|100)", f"{number} {size}", re.ASCII):
            raise BadInput({"page": "must be 1 to 999999", "per_page": "must be 1 to 100"})
        return Answer(200, self._ledger.page(owner, kind.collection, int(number), int(size)))
