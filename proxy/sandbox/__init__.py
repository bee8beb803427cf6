"""A small payments API, shaped like Mangopay's, with faults on demand: what `make run` fronts when no upstream is
given, and what examples and tests use. It keeps everything in memory, asks for no credentials and moves no money.

    POST /v2.01/{client}/payouts/bankwire/   also wallets/, users/natural/, transfers/ and payins/intents/: creates,
                                             answers 200
    GET  /v2.01/{client}/payouts/{id}        what was created; /v2.01/{client}/payouts/ lists it (?page=1&per_page=10)
    POST /v2.01/oauth/token                  a new bearer for the client that Basic names; it lives for 20 minutes
    GET  /v2.01/{client}/clients/            who the client is
    GET  /executions                         {"total": 3, "keys": {"<Idempotency-Key>": 1}}: how often was it created,
                                             in all (requests without a key too) and by key; DELETE counts from zero
    PUT  /faults                             {"delay": 2.5, "status": 503}: faults of all requests; DELETE ends them

Any version stands for v2.01; the slash at the end may be left out. For the clients of two other APIs there are, with
their own errors, and each API key with an account of its own:

    POST /v1/charges, /v1/payment_intents    a form, as Stripe has it; GET /v1/charges/{id} shows it
    POST /payments                           as GoCardless has it; GET /payments/{id} shows it

Unlike what it stands in for, it executes a key as often as it is asked to: that is what the proxy is for. A fault is
asked for by a request's own header, or by the member of `PUT /faults` with the same name, which the header overrides:

    X-Sandbox-Delay: 2.5             seconds to wait before the answer, after the execution (at most 120)
    X-Sandbox-Status: 503            answer with this status. From 400 on the request is turned away: NOT executed
    X-Sandbox-Drop: before-response  execute, then reset the connection before any byte of the answer
    X-Sandbox-Drop: in-body          execute, then close the connection after the head and half of the body
    X-Sandbox-Size: 2000000          fill the body up to about that many bytes (at most 64 MiB)
    X-Sandbox-Credentials: required  401 without a bearer that was issued here and still lives (of the other two APIs:
                                     without any), 403 where another client's is in the path
    X-Sandbox-Lifetime: 30           seconds that the bearer lives which this request asks for (at most a day)

A fault that cannot be read is a 400, and nothing is executed.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import click
from aiohttp import web

from proxy.sandbox.api import Api, Sandbox, refused
from proxy.sandbox.input import BadInput
from proxy.sandbox.mangopay import Mangopay
from proxy.sandbox.payments import CHARGES, DEBITS, Charge, Debit, GoCardless, Stripe
from proxy.sandbox.resources import KINDS
from proxy.sandbox.response import respond

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application() -> web.Application:
    """The sandbox as an aiohttp application; each has resources, counts, bearers and faults of its own."""
    sandbox = Sandbox()
    mangopay = Mangopay(sandbox.ledger)

    @web.middleware
    async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
        """What is no request to any of the APIs is refused in the five fields."""
        try:
            return await handler(request)
        except (BadInput, web.HTTPException) as error:
            response = respond(refused(mangopay, error))
            if isinstance(error, web.HTTPMethodNotAllowed):
                response.headers["Allow"] = error.headers["Allow"]
            return response

    app = web.Application(middlewares=[refusals])
    _add_mangopay(app.router, sandbox, mangopay)
    _add_payments(app.router, sandbox, Stripe(), "/v1", CHARGES)
    _add_payments(app.router, sandbox, GoCardless(), "", DEBITS)
    app.router.add_get("/executions", sandbox.executions)
    app.router.add_delete("/executions", sandbox.forget_executions)
    app.router.add_put("/faults", sandbox.set_faults)
    app.router.add_delete("/faults", sandbox.end_faults)
    return app


def _add_mangopay(router: web.UrlDispatcher, sandbox: Sandbox, api: Mangopay) -> None:
    version, slash = r"/{version:[vV]\d{1,3}(?:\.\d{1,3})?}", "{slash:/?}"
    base = version + r"/{client:[\w.-]{1,64}}"
    serve = partial(partial, sandbox.serve, api)
    for kind in KINDS:
        show = serve(partial(sandbox.show, api, kind))
        router.add_post(f"{base}/{kind.creation}{slash}", serve(partial(sandbox.create, api, kind)))
        router.add_get(f"{base}/{kind.collection}{slash}", serve(partial(api.browse, kind)))
        for collection in {kind.collection, kind.creation}:
            router.add_get(f"{base}/{collection}/{{id:[0-9]{{1,20}}}}{slash}", show)
    router.add_post(f"{version}/oauth/token{slash}", serve(api.token))
    router.add_get(f"{base}/clients{slash}", serve(api.client))


def _add_payments(
    router: web.UrlDispatcher, sandbox: Sandbox, api: Api, base: str, kinds: Iterable[Charge | Debit]
) -> None:
    for kind in kinds:
        create, show = (partial(sandbox.serve, api, partial(act, api, kind)) for act in (sandbox.create, sandbox.show))
        router.add_post(f"{base}/{kind.collection}", create)
        router.add_get(f"{base}/{kind.collection}/{kind.prefix}{{id:[0-9]{{1,20}}}}", show)


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
