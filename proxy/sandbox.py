"""A small payments API, shaped like Mangopay's, with faults on demand: what `make run` fronts when no upstream is
given, and what examples and tests use. It keeps everything in memory, asks for no credentials and moves no money.

    POST /v2.01/{client}/payouts/bankwire/   also wallets/, users/natural/ and transfers/: creates, answers 200
    GET  /v2.01/{client}/payouts/{id}        what was created; /v2.01/{client}/payouts/ lists it (?page=1&per_page=10)
    GET  /executions                         {"total": 3, "keys": {"<Idempotency-Key>": 1}}: how often was it created,
                                             in all (requests without a key too) and by key; DELETE counts from zero
    PUT  /faults                             {"delay": 2.5, "status": 503}: faults of all requests; DELETE ends them

Any version stands for v2.01; the slash at the end may be left out. Unlike what it stands in for, it executes a key as
often as it is asked to: that is what the proxy is for. A fault is asked for by a request's own header, or by the member
of `PUT /faults` with the same name, which the header overrides:

    X-Sandbox-Delay: 2.5             seconds to wait before the answer, after the execution (at most 120)
    X-Sandbox-Status: 503            answer with this status. From 400 on the request is turned away: NOT executed
    X-Sandbox-Drop: before-response  execute, then reset the connection before any byte of the answer
    X-Sandbox-Drop: in-body          execute, then close the connection after the head and half of the body
    X-Sandbox-Size: 2000000          fill the body up to about that many bytes (at most 64 MiB)

A fault that cannot be read is a 400, and nothing is executed.
"""

import asyncio
import re
import signal
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from itertools import count, islice
from typing import NamedTuple
from uuid import uuid4

import click
import orjson
from aiohttp import web

KEPT = 100_000
"""How many resources, and how many keys, are remembered; the oldest are dropped."""
LONGEST_TEXT = 255
"""Characters of a text in a request, and of a key: what is kept is bounded."""
LARGEST_AMOUNT = 2**53
LONGEST_DELAY = 120.0
LARGEST_SIZE = 64 * 1024 * 1024
FILLER = b"x" * 65536
CONTENT_TYPE = "application/json; charset=utf-8"
EXCHANGE_TIMEOUT = 2 * LONGEST_DELAY
"""Seconds for one request, its delay included: who sends or reads more slowly is cut off."""
FIRST_ID = 2241581
"""The first Id, as in the contract's example; each later resource takes the next."""

Json = dict[str, object]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BadInput(Exception):
    """The request asks for what cannot be done; *errors* says by name what is wrong."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(", ".join(errors))
        self.errors = errors


class Faults(NamedTuple):
    """What is to go wrong: seconds, a status, where to drop the connection, bytes."""

    delay: float = 0.0
    status: int | None = None
    drop: str | None = None
    size: int = 0

    def overridden(self, asked: Mapping[str, str]) -> "Faults":
        """With the faults in *asked*, by name; raise BadInput."""
        read: dict[str, float | int | str] = {}
        for name, text in asked.items():
            if name not in FAULTS:
                raise BadInput({name: f"no such fault; there are {', '.join(FAULTS)}"})
            pattern, meaning, value = FAULTS[name]
            if re.fullmatch(pattern, text, re.ASCII) is None:
                raise BadInput({name: f"must be {meaning}"})
            read[name] = value(text)
        return Faults(**{**self._asdict(), **read})


FAULTS: Mapping[str, tuple[str, str, Callable[[str], float | int | str]]] = {
    "delay": (r"\d{1,9}(\.\d{1,9})?", "seconds", lambda text: min(float(text), LONGEST_DELAY)),
    "status": (r"[2-5]\d\d", "a status from 200 to 599", int),
    "drop": (r"before-response|in-body", "before-response or in-body", str),
    "size": (r"\d{1,12}", "a number of bytes", lambda text: min(int(text), LARGEST_SIZE)),
}
"""By name: what the text must look like, the same for people, and its value."""
FAULT_FIELD = "x-sandbox-"


def faults_in_fields(request: web.Request) -> dict[str, str]:
    """The faults that a request asks for itself; a repeated field is joined, and thereby refused."""
    names = {name.lower() for name in request.headers if name.lower().startswith(FAULT_FIELD)}
    return {name.removeprefix(FAULT_FIELD): ", ".join(request.headers.getall(name)) for name in names}


class Input:
    """The members of a request. It reads leniently: what is missing has a default, what is not known is ignored; what
    has the wrong type is noted, so that one answer names all of it."""

    def __init__(self, body: bytes) -> None:
        try:
            members = orjson.loads(body or b"{}")
        except orjson.JSONDecodeError:
            raise BadInput({"body": "is not JSON"}) from None
        if not isinstance(members, dict):
            raise BadInput({"body": "must be a JSON object"})
        self.members: Json = members
        self.errors: dict[str, str] = {}

    def text(self, name: str, usual: object) -> object:
        """A text."""
        value = self.members.get(name)
        if value is None or (isinstance(value, str) and len(value) <= LONGEST_TEXT):
            return usual if value is None else value
        self.errors[name] = f"must be a text of at most {LONGEST_TEXT} characters"
        return usual

    def owners(self, name: str, usual: object) -> object:
        """An array with the Id of one user."""
        match self.members.get(name):
            case None:
                return usual
            case [str(owner)] if len(owner) <= LONGEST_TEXT:
                return [owner]
        self.errors[name] = "must be an array with the Id of one user"
        return usual

    def money(self, name: str) -> tuple[str, int]:
        """Currency, and amount in its smallest unit."""
        match self.members.get(name):
            case None:
                return ("EUR", 0)
            case {"Currency": str(currency), "Amount": int(amount)} if (
                len(currency) == len("EUR") and not isinstance(amount, bool) and 0 <= amount <= LARGEST_AMOUNT
            ):
                return (currency, amount)
        self.errors[name] = 'must be money: {"Currency": "EUR", "Amount": 1000}'
        return ("EUR", 0)


class Kind(NamedTuple):
    """One kind of resource: where it is listed, where it is created, and its members with their defaults."""

    collection: str
    creation: str
    members: Json

    def make(self, given: Input) -> Json:
        """The resource's own members, out of those given and the defaults."""
        made = {
            name: READERS[name](given, name, usual) if name in READERS else usual
            for name, usual in self.members.items()
        }
        if "DebitedFunds" in made:
            (currency, debited), (fees_currency, fees) = given.money("DebitedFunds"), given.money("Fees")
            if fees > debited:
                given.errors["Fees"] = "must not be more than DebitedFunds"
            made["DebitedFunds"] = {"Currency": currency, "Amount": debited}
            made["CreditedFunds"] = {"Currency": currency, "Amount": debited - fees}
            made["Fees"] = {"Currency": fees_currency, "Amount": fees}
        if "Balance" in made:
            made["Balance"] = {"Currency": made["Currency"], "Amount": 0}
        return made


TEXTS = (
    *("AuthorId", "CreditedUserId", "DebitedWalletId", "CreditedWalletId", "BankAccountId", "BankWireRef"),
    *("Description", "Currency", "FirstName", "LastName", "Email", "Nationality", "CountryOfResidence", "UserCategory"),
)
READERS: Mapping[str, Callable[[Input, str, object], object]] = {
    **dict.fromkeys(TEXTS, Input.text),
    "Owners": Input.owners,
}
"""The members that a request may set, besides money."""
KINDS = (
    Kind(
        "payouts",
        "payouts/bankwire",
        orjson.loads(
            '{"AuthorId":null,"CreditedUserId":null,"DebitedFunds":null,"CreditedFunds":null,"Fees":null,'
            '"Status":"CREATED","ResultCode":null,"ResultMessage":null,"ExecutionDate":null,"Type":"PAYOUT",'
            '"Nature":"REGULAR","CreditedWalletId":null,"DebitedWalletId":null,"PaymentType":"BANK_WIRE",'
            '"BankAccountId":null,"BankWireRef":null}'
        ),
    ),
    Kind(
        "transfers",
        "transfers",
        orjson.loads(
            '{"AuthorId":null,"CreditedUserId":null,"DebitedFunds":null,"CreditedFunds":null,"Fees":null,'
            '"Status":"CREATED","ResultCode":null,"ResultMessage":null,"ExecutionDate":null,"Type":"TRANSFER",'
            '"Nature":"REGULAR","CreditedWalletId":null,"DebitedWalletId":null}'
        ),
    ),
    Kind(
        "wallets",
        "wallets",
        orjson.loads('{"Owners":[],"Description":null,"Balance":null,"Currency":"EUR","FundsType":"DEFAULT"}'),
    ),
    Kind(
        "users",
        "users/natural",
        orjson.loads(
            '{"PersonType":"NATURAL","FirstName":null,"LastName":null,"Email":null,"Nationality":null,'
            '"CountryOfResidence":null,"UserCategory":"PAYER","KYCLevel":"LIGHT","UserStatus":"ACTIVE"}'
        ),
    ),
)


class Ledger:
    """What was created, by client, collection and Id, and how often it was executed, in all and by key."""

    def __init__(self) -> None:
        self.total = 0
        self.keys: OrderedDict[str, int] = OrderedDict()
        self.resources: OrderedDict[tuple[str, str, str], Json] = OrderedDict()
        self._ids = count(FIRST_ID)

    def execute(self, client: str, kind: Kind, key: str | None, given: Input) -> Json:
        """Create a resource; raise BadInput, and then nothing is counted."""
        tag, members = given.text("Tag", None), kind.make(given)
        if key is not None and len(key) > LONGEST_TEXT:
            given.errors["Idempotency-Key"] = f"must have at most {LONGEST_TEXT} characters"
        if given.errors:
            raise BadInput(given.errors)
        ident = str(next(self._ids))
        resource = {"Id": ident, "Tag": tag, "CreationDate": int(time.time()), **members}
        self.resources[client, kind.collection, ident] = resource
        self.total += 1
        if key is not None:
            self.keys[key] = self.keys.get(key, 0) + 1
        for kept in (self.resources, self.keys):
            if len(kept) > KEPT:
                kept.popitem(last=False)
        return resource

    def page(self, client: str, kind: Kind, number: int, size: int) -> list[Json]:
        """Page *number* (from 1) of what a client created, oldest first."""
        wanted = (client, kind.collection)
        found = (resource for place, resource in self.resources.items() if place[:2] == wanted)
        return list(islice(found, (number - 1) * size, number * size))

    def forget_executions(self) -> None:
        """Count from zero; what was created stays."""
        self.total = 0
        self.keys.clear()


class Answer(NamedTuple):
    """A status, and a value to be written as JSON."""

    status: int
    value: Json | list[Json]

    def filled(self, size: int) -> tuple[bytes, int, bytes]:
        """The body, filled up to about *size* bytes: its begin, how many bytes of filler (never kept), its end."""
        plain = orjson.dumps(self.value)
        if len(plain) >= size:
            return plain, 0, b""
        value = self.value
        begin, quote, end = orjson.dumps(
            {**value, "Filler": ""} if isinstance(value, dict) else [*value, {"Filler": ""}]
        ).rpartition(b'"')
        return begin, max(0, size - len(begin + quote + end)), quote + end


def refusal(status: int, kind: str, message: str, errors: Mapping[str, str] | None = None) -> Answer:
    """An error, in the five fields of such an API."""
    now = int(time.time())
    return Answer(status, {"Message": message, "Type": kind, "Id": f"{uuid4()}#{now}", "Date": now, "errors": errors})


def respond(answer: Answer) -> web.Response:
    """The answer, without any fault."""
    return web.Response(status=answer.status, body=orjson.dumps(answer.value), headers={"Content-Type": CONTENT_TYPE})


async def respond_with(faults: Faults, request: web.Request, answer: Answer) -> web.StreamResponse:
    """Write the answer, or what the faults leave of it."""
    if faults.drop == "before-response":
        return reset(request)
    begin, filler, end = answer.filled(faults.size)
    length = len(begin) + filler + len(end)
    response = web.StreamResponse(status=answer.status, headers={"Content-Type": CONTENT_TYPE})
    response.content_length = length
    await response.prepare(request)
    if request.method != "HEAD" and answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        left = length // 2 if faults.drop else length
        for piece in body_pieces(begin, filler, end):
            await response.write(piece[:left])
            left = max(0, left - len(piece))
    if faults.drop and request.transport is not None:
        request.transport.close()  # behind what was written: a RST could take it back from the reader
    return response


def body_pieces(begin: bytes, filler: int, end: bytes) -> Iterator[bytes]:
    """The body in order, in pieces of bounded size."""
    yield begin
    for done in range(0, filler, len(FILLER)):
        yield FILLER[: filler - done]
    yield end


def reset(request: web.Request) -> web.Response:
    """Close the connection by a RST, whatever is still to be written. The response that is returned goes nowhere."""
    if request.transport is not None:
        at_once = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        request.transport.abort()
    return web.Response()


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


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error has the five fields."""
    try:
        return await handler(request)
    except BadInput as bad:
        return respond(refusal(400, "param_error", "One or several parameters are missing or incorrect", bad.errors))
    except web.HTTPException as refused:
        response = respond(refusal(refused.status, "request_error", refused.reason))
        response.headers.extend({name: value for name, value in refused.headers.items() if name == "Allow"})
        return response


def application() -> web.Application:
    """The sandbox as an aiohttp application; each has resources, counts and faults of its own."""
    sandbox, app = Sandbox(), web.Application(middlewares=[refusals])
    base, slash = r"/{version:[vV]\d{1,3}(?:\.\d{1,3})?}/{client:[\w.-]{1,64}}", "{slash:/?}"
    for kind in KINDS:
        create, show, browse = (
            partial(sandbox.serve, partial(act, kind)) for act in (sandbox.create, sandbox.show, sandbox.browse)
        )
        app.router.add_post(f"{base}/{kind.creation}{slash}", create)
        app.router.add_get(f"{base}/{kind.collection}{slash}", browse)
        for collection in {kind.collection, kind.creation}:
            app.router.add_get(f"{base}/{collection}/{{id:[0-9]{{1,20}}}}{slash}", show)
    app.router.add_get("/executions", sandbox.executions)
    app.router.add_delete("/executions", sandbox.forget_executions)
    app.router.add_put("/faults", sandbox.set_faults)
    app.router.add_delete("/faults", sandbox.end_faults)
    return app


def run(host: str = "127.0.0.1", port: int = 8081) -> None:
    """Serve until SIGTERM or SIGINT; port 0 takes a free one. Raise OSError where it cannot listen."""
    asyncio.run(_run(host, port))


async def _run(host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        address, bound = runner.addresses[0][:2]
        click.echo(f"sandbox: a payments API listens on http://{f'[{address}]' if ':' in address else address}:{bound}")
        await stop.wait()
    finally:
        await runner.cleanup()
