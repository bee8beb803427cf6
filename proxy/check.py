"""`idempotency-proxy check`: connects to the store and the upstream, and says what it found."""

import asyncio
import ssl
import time
from typing import cast

import click
import uvloop

from config.advice import advice
from config.settings import Settings
from proxy import assembly
from proxy.deadlines import Deadlines
from proxy.ring import readable_by_others
from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.tls import BadFile


def check(settings: Settings) -> int:
    """Return the exit status: 0, or 1 where the proxy would not start or its upstream does not answer."""
    click.echo(f"settings  ok: {settings.listen} in front of {settings.upstream.url}, lease {settings.lease:g} s")
    for sentence in (*advice(settings), *filter(None, [readable_by_others(settings)])):
        click.echo(f"          {sentence}")
    good = uvloop.run(_check(settings))
    return 0 if good else 1


async def _check(settings: Settings) -> bool:
    results = [_listener(settings), await _store(settings), await _spool(settings), await _upstream(settings)]
    return all(results)


def _listener(settings: Settings) -> bool:
    own = settings.tls
    try:
        if assembly.listener_tls(settings) is not None:
            click.echo(f"tls       ok: TLS {own.min_version} and newer, client certificates: {own.client_certificates}")
    except BadFile as error:
        click.echo(f"tls       FAILED: {error}")
        return False
    return True


async def _store(settings: Settings) -> bool:
    try:
        store = assembly.store(settings, Deadlines())
        try:
            await store.open()
            findings = await store.findings()
        finally:
            await store.close()
    except (StoreUnavailable, StoreRefused, BadFile) as error:
        click.echo(f"store     FAILED: {error}")
        return False
    click.echo(f"store     ok: {store.place}")
    for finding in findings:
        click.echo(f"          {finding}")
    return True


async def _spool(settings: Settings) -> bool:
    try:
        spool = assembly.spool(settings, assembly.store(settings, Deadlines()))
        if spool is None:
            return True
        try:
            await spool.open()
        finally:
            await spool.close()
    except (StoreUnavailable, StoreRefused, BadFile) as error:
        click.echo(f"spool     FAILED: {error}")
        return False
    waiting, incidents, size = spool.tally
    full = f"{size} of {settings.spool.max_size} bytes"
    click.echo(f"spool     ok: {spool.place}, {waiting} settlements wait, {incidents} incidents, {full}")
    return True


async def _upstream(settings: Settings) -> bool:
    own = settings.upstream
    began = time.monotonic()
    try:
        transport = await assembly.upstream(settings).connect(asyncio.Protocol)
    except BadFile as error:
        click.echo(f"upstream  FAILED: {error}")
        return False
    except TimeoutError:
        click.echo(f"upstream  FAILED: {own.url}: no connection within {own.connect_timeout:g} s")
        return False
    except (OSError, UnicodeError) as error:
        click.echo(f"upstream  FAILED: {own.url}: {error}")
        return False
    tls = transport.get_extra_info("ssl_object")
    version = f", {tls.version()}" if isinstance(tls, ssl.SSLObject) else ""
    click.echo(f"upstream  ok: {own.url} connected in {(time.monotonic() - began) * 1000:.0f} ms{version}")
    cast("asyncio.Transport", transport).abort()  # uvloop's is none by descent
    return True
