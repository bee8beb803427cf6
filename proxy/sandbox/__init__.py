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
import signal
from collections.abc import Awaitable, Callable
from functools import partial

import click
from aiohttp import web

from proxy.sandbox.answer import refusal
from proxy.sandbox.api import Sandbox
from proxy.sandbox.input import BadInput
from proxy.sandbox.resources import KINDS
from proxy.sandbox.response import respond

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


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
