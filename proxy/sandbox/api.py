"""What the requests do."""

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web

from proxy.sandbox.answer import Answer, refusal
from proxy.sandbox.faults import LONGEST_DELAY, Faults, faults_in_fields
from proxy.sandbox.input import BadInput, Input
from proxy.sandbox.ledger import Ledger
from proxy.sandbox.resources import Kind
from proxy.sandbox.response import reset, respond, respond_with

EXCHANGE_TIMEOUT = 2 * LONGEST_DELAY
"""Seconds for one request, its delay included: who sends or reads more slowly is cut off."""

Act = Callable[[web.Request, bytes], Answer]
"""What a request to the API does, given its body."""


class Sandbox:
    """The running API: what was executed, and the faults of all requests."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.faults = Faults()

    async def serve(self, act: Act, request: web.Request) -> web.StreamResponse:
        """Execute and answer one request to the API, with its faults."""
        faults = self.faults.overridden(faults_in_fields(request))
        try:
            async with asyncio.timeout(EXCHANGE_TIMEOUT):
                answer = self._answer(act, request, await request.read(), faults.status)
                await asyncio.sleep(faults.delay)
                return await respond_with(faults, request, answer)
        except (TimeoutError, ConnectionError):  # too slow, or gone: there is nobody to answer
            return reset(request)

    @staticmethod
    def _answer(act: Act, request: web.Request, body: bytes, status: int | None) -> Answer:
        if status is not None and status >= HTTPStatus.BAD_REQUEST:
            return refusal(
                status, "sandbox_fault", "Turned away, as a fault of the sandbox asked: nothing was executed"
            )
        answer = act(request, body)
        return answer if status is None or answer.status >= HTTPStatus.BAD_REQUEST else answer._replace(status=status)

    def create(self, kind: Kind, request: web.Request, body: bytes) -> Answer:
        """Execute; the key is counted as it stands in the field."""
        key = request.headers.get("Idempotency-Key")
        return Answer(200, self.ledger.execute(request.match_info["client"], kind, key, Input(body)))

    def show(self, kind: Kind, request: web.Request, _body: bytes) -> Answer:
        """One resource."""
        client, ident = request.match_info["client"], request.match_info["id"]
        resource = self.ledger.resources.get((client, kind.collection, ident))
        if resource is None:
            return refusal(404, "resource_not_found", f"There is no {ident} among the {kind.collection} of this client")
        return Answer(200, resource)

    def browse(self, kind: Kind, request: web.Request, _body: bytes) -> Answer:
        """A page of resources."""
        number, size = request.query.get("page", "1"), request.query.get("per_page", "10")
        if not re.fullmatch(r"[1-9]\d{0,5} ([1-9]\d?|100)", f"{number} {size}", re.ASCII):
            raise BadInput({"page": "must be 1 to 999999", "per_page": "must be 1 to 100"})
        return Answer(200, self.ledger.page(request.match_info["client"], kind, int(number), int(size)))

    async def executions(self, _request: web.Request) -> web.Response:
        """How often was it executed."""
        return respond(Answer(200, {"total": self.ledger.total, "keys": dict(self.ledger.keys)}))

    async def forget_executions(self, _request: web.Request) -> web.Response:
        """Count from zero."""
        self.ledger.forget_executions()
        return web.Response(status=204)

    async def set_faults(self, request: web.Request) -> web.Response:
        """From now on all requests have these faults, in the place of those before."""
        members = Input(await request.read()).members
        self.faults = Faults().overridden({name: str(value) for name, value in members.items() if value is not None})
        return respond(Answer(200, self.faults._asdict()))

    async def end_faults(self, _request: web.Request) -> web.Response:
        """No faults but those that a request asks for."""
        self.faults = Faults()
        return web.Response(status=204)
