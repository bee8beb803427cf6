"""`idempotency-proxy key`: what is known of one key, and an operator's word on one that reads as unknown.

Who settles or frees a key has looked at the API and knows what it did. The store sees to it that no attempt which may
still send is overruled; the log says who did what, and a record that an operator wrote shows it by its token.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import NamedTuple, TypeVar, assert_never

import click
import structlog
import uvloop

from config.settings import Scope, Settings
from proxy import assembly
from proxy.core.key import HASH_SIZE, KeyRule
from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record, Response
from proxy.core.ruling import is_ruling, ruling
from proxy.core.scope import NO_SCOPE, folded, joined
from proxy.deadlines import Deadlines
from proxy.store.base import (
    Absent,
    Done,
    Foreign,
    Found,
    OverruleResult,
    StoreRefused,
    StoreUnavailable,
    Unavailable,
)
from proxy.store.sealing import Sealing
from proxy.telemetry.logs import configure
from proxy.tls import BadFile

FAILED = 1
"""Exit status: there is no such key, it is not to be overruled, or the store gave no answer."""

R = TypeVar("R")


class Name(NamedTuple):
    """How an operator names a key. *hashed*: *key* is its hash, as the log has it. *scope*: for each of `scope.from`
    what it was: a path's captures with slashes between them, a field's value, a claim; empty: there was none."""

    key: str
    hashed: bool
    scope: tuple[str, ...]


class Mistaken(Exception):
    """What was asked for cannot be done; the message says why."""


def show(settings: Settings, name: Name) -> int:
    """Say what is known of the key *name*. Return the exit status."""

    async def run(store: Sealing) -> None:
        found = await _found(store, _hash(settings, name))
        content = await _answer(partial(store.opened, found.record))
        if isinstance(content, Unavailable):
            click.echo(f"URL and response are not shown: {content.why}", err=True)
        click.echo(_line(found, content))

    return _on_store(settings, run)


def settle(settings: Settings, name: Name, *, status: int, body: bytes, content_type: str) -> int:
    """Let the key *name* be completed with a response. Return the exit status."""
    said = partial(_response, settings, status, body, content_type)
    return _overrule(settings, name, act="settle", said=said)


def release(settings: Settings, name: Name) -> int:
    """Let the key *name* be free: its next request is sent. Return the exit status."""
    return _overrule(settings, name, act="release", said=lambda: None)


def _overrule(settings: Settings, name: Name, *, act: str, said: Callable[[], Response | None]) -> int:
    async def run(store: Sealing) -> None:
        response = said()
        there = await _found(store, _hash(settings, name))
        attempt = there.record.attempt
        word = None if response is None else ruling(attempt, response, os.urandom(8))
        _audit(act, attempt, word, "asked for")  # before it is done: who is killed in between has left a line, too
        result = await _answer(partial(store.overrule, attempt, word))
        _audit(act, attempt, word, type(result).__name__.lower())
        _tell(act, result)

    return _on_store(settings, run)


def _on_store(settings: Settings, run: Callable[[Sealing], Awaitable[None]]) -> int:
    configure("info", settings.log.format)

    async def opened() -> None:
        store = assembly.store(settings, Deadlines())
        try:
            await store.open()
            await run(store)
        finally:
            await store.close()

    if settings.store.url == "memory://":
        click.echo("a memory:// store lies within its proxy: nobody else can look into it", err=True)
        return FAILED
    try:
        uvloop.run(opened())
    except (Mistaken, StoreUnavailable, StoreRefused, BadFile) as error:
        click.echo(str(error), err=True)
        return FAILED
    return 0


def _hash(settings: Settings, name: Name) -> bytes:
    if name.hashed:
        try:
            key_hash = bytes.fromhex(name.key)
        except ValueError:
            key_hash = b""
        if len(key_hash) != HASH_SIZE:
            raise Mistaken(f"a hash has {2 * HASH_SIZE} hexadecimal digits")
        return key_hash
    own = settings.idempotency
    read = KeyRule(own.key_min, own.key_max, own.key_chars).read([os.fsencode(name.key)])
    if read is None:
        raise Mistaken("that is no key by the settings (idempotency.key_min, key_max, key_chars)")
    return assembly.hasher(settings).key(read, _scope(settings.scope, name.scope))


def _scope(scope: Scope, values: Sequence[str]) -> bytes:
    """*values*: what the request had, for each of `scope.from`; of headers one for each."""
    if "credential" in scope.of:
        raise Mistaken("a credential is part of a key's scope here: give the key's hash, as the log has it (--hash)")
    parts = [part for part in scope.of for _ in (scope.header if part == "header" else (part,))]
    if len(values) != len(parts):
        headers = f" (of header once for each of {', '.join(scope.header)})" if len(scope.header) > 1 else ""
        raise Mistaken(
            f"a key's scope is made of {', '.join(scope.of)} here: say --scope for each{headers}, in this order; empty:"
            " the request had none"
            if parts
            else "there are no scopes here (scope.from): leave --scope out"
        )
    made = {"path": lambda text: joined(folded(capture) for capture in text.split("/"))}
    told = [made.get(part, os.fsencode)(value) if value else None for part, value in zip(parts, values)]
    return joined(told) if parts else NO_SCOPE


def _response(settings: Settings, status: int, body: bytes, content_type: str) -> Response:
    if len(body) > settings.record.max_body:
        raise Mistaken(f"the body has {len(body)} bytes, and record.max_body is {settings.record.max_body}")
    if not content_type.isascii() or not content_type.isprintable():
        raise Mistaken("the content type must be printable ASCII")
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    fields = f"Content-Type: {content_type}\r\n".encode("ascii") if body else b""
    return Response(status, reason.encode(), fields, body, len(body), truncated=False, date=int(time.time()))


async def _found(store: Sealing, key_hash: bytes) -> Found:
    result = await _answer(partial(store.read, key_hash))
    match result:
        case Found():
            return result
        case Absent():
            raise Mistaken("there is no such key: never used, expired or released")
        case Unavailable(why):
            raise StoreUnavailable(f"{store.place}: {why}")
        case _:
            assert_never(result)


async def _answer(operate: Callable[[Callable[[R], None]], None]) -> R:
    future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
    operate(future.set_result)
    return await future


def _tell(act: str, result: OverruleResult) -> None:
    match result:
        case Done():
            click.echo("settled" if act == "settle" else "released: the next request with this key is sent")
        case Absent():
            raise Mistaken("the key is gone: released or expired meanwhile, maybe by this very command")
        case Foreign(record) if record.state is State.COMPLETED:
            raise Mistaken("nothing was done: the key is completed, there is nothing to rule over")
        case Foreign(record):
            raise Mistaken(
                "its lease is not over, the request that has the key may still be on its way to the API. Look at both"
                f" again (key show), then decide: {record.attempt.lease / 1000:g} s after the key's first use"
            )
        case Unavailable(why):
            raise Mistaken(f"the store gave no answer, it may be done or not: look (key show), then repeat it: {why}")
        case _:
            assert_never(result)


def _audit(act: str, attempt: Attempt, word: Record | None, result: str) -> None:
    structlog.get_logger("proxy").warning(
        f"an operator's {act}",
        result=result,
        by_uid=os.getuid(),
        key=attempt.key_hash.hex(),
        overruled=attempt.token.hex()[:8],
        status=None if word is None or word.response is None else word.response.status,
    )


def _line(found: Found, content: Record | Unavailable) -> str:
    """One JSON object. What lies in clear is known in any case; of *content*, what could be opened."""
    attempt = found.record.attempt
    opened = content if isinstance(content, Record) else None
    response = None if opened is None else opened.response
    return json.dumps(
        {
            "key": attempt.key_hash.hex(),
            "state": found.state.value,
            "first_use": _time(attempt.first_used),
            "expires": _time(attempt.first_used + attempt.retention),
            "lease_s": attempt.lease / 1000,
            "url": None if opened is None else opened.attempt.url.partition(b"?")[0].decode("latin-1"),
            "status": None if response is None else response.status,
            "bytes": None if response is None else response.length,
            "truncated": None if opened is None else response is not None and response.truncated,
            "by_operator": is_ruling(found.record),
            "token": attempt.token.hex()[:8],
        }
    )


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
