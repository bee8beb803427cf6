"""`idempotency-proxy incidents`: the settlements that met another attempt's record, for whoever looks into them."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import structlog
import uvloop

from config.settings import Settings
from proxy import assembly
from proxy.core.answer import http_date
from proxy.core.record import Attempt
from proxy.core.view import view
from proxy.deadlines import Deadlines
from proxy.ring import vault
from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.store.entries import Incident, Unreadable
from proxy.store.keyring import Unopenable
from proxy.store.spool import Spool
from proxy.store.vault import UnknownDictionary, Vault
from proxy.telemetry.logs import configure
from proxy.tls import BadFile

UNUSABLE = 1
"""Exit status: the spool cannot be read, or has no incident of that number."""


def incidents(settings: Settings, show: int | None, forget: int | None) -> int:
    """List them; or show the response of one; or remove one. Return the exit status."""
    configure("info", settings.log.format)
    if settings.store.url == "memory://" or not Path(settings.spool.path).exists():
        click.echo(f"no incidents: there is no spool at {settings.spool.path}")
        return 0 if show is forget is None else UNUSABLE
    try:
        return uvloop.run(_incidents(settings, show, forget))
    except (StoreUnavailable, StoreRefused, BadFile) as error:
        click.echo(str(error), err=True)
        return UNUSABLE


async def _incidents(settings: Settings, show: int | None, forget: int | None) -> int:
    store = assembly.store(settings, Deadlines())
    spool = assembly.spool(settings, store)
    if spool is None:
        return UNUSABLE
    try:
        await spool.open()
        own = vault(settings)
        found = [_opened(own, incident) for incident in await spool.incidents()]
        if forget is not None:
            return _told(forget, found=await _forget(spool, found, forget))
    finally:
        await spool.close()
        await store.close()
    if show is None:
        for incident in found:
            click.echo(_line(incident))
        return 0
    shown = next((incident for incident in found if incident.id == show), None)
    if isinstance(shown, Unreadable) or (shown is not None and shown.record.sealed):
        click.echo(_line(shown))
    elif shown is not None:
        click.echo(_response(shown, settings.responses.view_limit))
    return _told(show, found=shown is not None)


def _opened(own: Vault, incident: Incident | Unreadable) -> Incident | Unreadable:
    """As far as it can be. It takes the ring and nothing of the store, which may be down."""
    if isinstance(incident, Unreadable) or not incident.record.sealed:
        return incident
    try:
        return incident._replace(record=own.open(incident.record))
    except (Unopenable, UnknownDictionary) as error:
        click.echo(f"incident {incident.id}: a record cannot be opened: {error}", err=True)
        return incident


async def _forget(spool: Spool, found: Sequence[Incident | Unreadable], number: int) -> bool:
    """What is gone for good leaves a line in the log: what it was, and who removed it."""
    for incident in found:
        if incident.id == number and await spool.forget(number):
            log = structlog.get_logger("proxy")
            log.warning("incident forgotten", by_uid=os.getuid(), **json.loads(_line(incident)))
            return True
    return False


def _told(number: int, *, found: bool) -> int:
    if not found:
        click.echo(f"there is no incident {number}", err=True)
    return 0 if found else UNUSABLE


def _line(incident: Incident | Unreadable) -> str:
    """One JSON object a line."""
    if isinstance(incident, Unreadable):
        return json.dumps({"id": incident.id, "met": _time(incident.met), "unreadable": incident.why})
    number, met, record, owner = incident
    attempt, response = record.attempt, record.response
    return json.dumps(
        {
            "id": number,
            "key": attempt.key_hash.hex(),
            "first_use": _time(attempt.first_used),
            "state": record.state.value,
            "status": None if response is None else response.status,
            "url": None if record.sealed else attempt.url.partition(b"?")[0].decode("latin-1"),
            "token": attempt.token.hex()[:8],
            "met": _time(met),
            "owner": _of(owner.attempt) | {"state": owner.state.value},
        }
    )


def _of(owner: Attempt) -> dict[str, str]:
    return {"token": owner.token.hex()[:8], "first_use": _time(owner.first_used)}


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _response(incident: Incident, cap: int) -> str:
    """As `GET /responses/<key>/` would have shown it."""
    attempt, response = incident.record.attempt, incident.record.response
    if response is None:
        return "null"
    return view(response, attempt.url, http_date(response.date), cap).decode("utf-8")
