"""`idempotency-proxy check`: connects to the store and the upstream, and says what it found."""

import asyncio
import ssl
import time

import click
import uvloop

from config.settings import Settings
from proxy.app import store_of, upstream_tls
from proxy.deadlines import Deadlines
from proxy.store.base import StoreRefused, StoreUnavailable


def check(settings: Settings) -> int:
    """Return the exit status: 0, or 1 where the proxy would not start or its upstream does not answer."""
    click.echo(f"settings  ok: {settings.listen} in front of {settings.upstream.url}, lease {settings.lease:g} s")
    good = uvloop.run(_check(settings))
    return 0 if good else 1


async def _check(settings: Settings) -> bool:
    results = [await _store(settings), await _upstream(settings)]
    return all(results)


async def _store(settings: Settings) -> bool:
    store = store_of(settings, Deadlines())
    try:
        await store.open()
        findings = await store.findings()
    except (StoreUnavailable, StoreRefused) as error:
        click.echo(f"store     FAILED: {error}")
        return False
    finally:
        await store.close()
    click.echo(f"store     ok: {store.place}")
    for finding in findings:
        click.echo(f"          {finding}")
    return True


async def _upstream(settings: Settings) -> bool:
    own = settings.upstream
    began = time.monotonic()
    try:
        async with asyncio.timeout(own.connect_timeout):
            _, writer = await asyncio.open_connection(own.url.host, own.url.port, ssl=upstream_tls(settings))
    except TimeoutError:
        click.echo(f"upstream  FAILED: {own.url}: no connection within {own.connect_timeout:g} s")
        return False
    except (OSError, UnicodeError) as error:
        click.echo(f"upstream  FAILED: {own.url}: {error}")
        return False
    tls = writer.get_extra_info("ssl_object")
    version = f", {tls.version()}" if isinstance(tls, ssl.SSLObject) else ""
    click.echo(f"upstream  ok: {own.url} connected in {(time.monotonic() - began) * 1000:.0f} ms{version}")
    writer.transport.abort()
    return True
