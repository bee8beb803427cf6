"""What the requests do."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Protocol

from aiohttp import web

from proxy.sandbox.answer import Answer
from proxy.sandbox.credentials import Denied
from proxy.sandbox.faults import LONGEST_DELAY, Faults, faults_in_fields
from proxy.sandbox.input import BadInput, Input, Json, json_members
from proxy.sandbox.ledger import Ledger
from proxy.sandbox.response import reset, respond, respond_with

EXCHANGE_TIMEOUT = 2 * LONGEST_DELAY
"""Seconds for one request, its delay included: who sends or reads more slowly is cut off."""

Act = Callable[[web.Request, bytes, Faults], Answer]
"""What a request to an API does, given its body; it may raise BadInput or Denied."""


class Kind(Protocol):
    """One kind of resource."""

    @property
    def collection(self) -> str:
        """Its name, in paths."""
        ...

    def make(self, given: Input, number: str) -> Json:
        """See `proxy.sandbox.ledger.Make`."""
        ...


class Api(Protocol):
    """How one API speaks."""

    created: int
    """The status of a resource that was created."""
    invalid: int
    """The status of a request that cannot be done."""

    def owner(self, request: web.Request, *, required: bool) -> str:
        """Whose is what the request creates or reads; *required*: the credentials must be right. Raise Denied."""
        ...

    def members(self, body: bytes) -> Json:
        """What the body gives; raise BadInput."""
        ...

    def refusal(self, status: int, kind: str, message: str, errors: Mapping[str, str] | None = None) -> Answer:
        """An error; *errors* says by name what is wrong."""
        ...


class Sandbox:
    """The running sandbox: what was executed, and the faults of all requests."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.faults = Faults()

    async def serve(self, api: Api, act: Act, request: web.Request) -> web.StreamResponse:
        """Execute and answer one request to an API, with its faults."""
        try:
            faults = self.faults.overridden(faults_in_fields(request))
            async with asyncio.timeout(EXCHANGE_TIMEOUT):
                answer = self._answer(api, act, request, await request.read(), faults)
                await asyncio.sleep(faults.delay)
                return await respond_with(faults, request, answer)
        except (BadInput, Denied, web.HTTPException) as error:
            return respond(refused(api, error))
        except (TimeoutError, ConnectionError):  # too slow, or gone: there is nobody to answer
            return reset(request)

    @staticmethod
    def _answer(api: Api, act: Act, request: web.Request, body: bytes, faults: Faults) -> Answer:
        status = faults.status
        if status is not None and status >= HTTPStatus.BAD_REQUEST:
            return api.refusal(
                status, "sandbox_fault", "Turned away, as a fault of the sandbox asked: nothing was executed"
            )
        answer = act(request, body, faults)
        return answer if status is None or answer.status >= HTTPStatus.BAD_REQUEST else answer._replace(status=status)

    def create(self, api: Api, kind: Kind, request: web.Request, body: bytes, faults: Faults) -> Answer:
        """Execute; the key is counted as it stands in the field."""
        owner = api.owner(request, required=faults.credentials is not None)
        key, given = request.headers.get("Idempotency-Key"), Input(api.members(body))
        return Answer(api.created, self.ledger.execute(owner, kind.collection, key, given, kind.make))

    def show(self, api: Api, kind: Kind, request: web.Request, _body: bytes, faults: Faults) -> Answer:
        """One resource."""
        owner, number = api.owner(request, required=faults.credentials is not None), request.match_info["id"]
        resource = self.ledger.resources.get((owner, kind.collection, number))
        if resource is None:
            return api.refusal(
                404, "resource_not_found", f"There is no {number} among the {kind.collection} of this client"
            )
        return Answer(200, resource)

    async def executions(self, _request: web.Request) -> web.Response:
        """How often was it executed."""
        return respond(Answer(200, {"total": self.ledger.total, "keys": dict(self.ledger.keys)}))

    async def forget_executions(self, _request: web.Request) -> web.Response:
        """Count from zero."""
        self.ledger.forget_executions()
        return web.Response(status=204)

    async def set_faults(self, request: web.Request) -> web.Response:
        """From now on all requests have these faults, in the place of those before."""
        members = json_members(await request.read())
        self.faults = Faults().overridden({name: str(value) for name, value in members.items() if value is not None})
        return respond(Answer(200, self.faults._asdict()))

    async def end_faults(self, _request: web.Request) -> web.Response:
        """No faults but those that a request asks for."""
        self.faults = Faults()
        return web.Response(status=204)


def refused(api: Api, error: BadInput | Denied | web.HTTPException) -> Answer:
    """The error, as *api* writes it."""
    match error:
        case BadInput():
            message = "One or several parameters are missing or incorrect"
            return api.refusal(api.invalid, "param_error", message, error.errors)
        case Denied():
            return api.refusal(error.status, error.kind, error.message)
        case _:
            return api.refusal(error.status, "request_error", error.reason)
