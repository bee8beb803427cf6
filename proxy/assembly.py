"""From settings to parts: what each part needs, in its own words. Nothing here runs yet."""

import ssl
from pathlib import Path

from config.settings import Settings
from proxy.core.answer import Answers
from proxy.core.key import Hasher, KeyRule
from proxy.core.policy import Policy
from proxy.deadlines import Deadlines
from proxy.http1.fields import Watched, lookalikes
from proxy.http1.forward import Forwarding
from proxy.http1.message import REQUEST_FIELDS, Limits
from proxy.http1.pool import Upstream
from proxy.parts import Terms
from proxy.store.base import Store
from proxy.store.open import make_store
from proxy.store.spool import Spool
from proxy.tls import Pem, client_context, server_context
from proxy.tokens import Tokens

SETTLE_WAIT = 0.25
"""Seconds that an answer waits for the store to take it; then it is spooled."""


def limits(settings: Settings) -> Limits:
    """The wire's limits."""
    own = settings.limits
    return Limits(
        request_line=own.request_line,
        head=own.head,
        fields=own.fields,
        response_head=own.response_head,
        trailers=own.trailers,
        chunk_extensions=own.chunk_extensions,
        head_timeout=own.head_timeout,
        body_idle_timeout=own.body_idle_timeout,
        write_timeout=own.write_timeout,
        keepalive_timeout=own.keepalive_timeout,
        connections=own.connections,
    )


def terms(settings: Settings) -> Terms:
    """What holds for every request."""
    return Terms(
        send_within=settings.lease - settings.upstream.timeout - settings.idempotency.lease_margin,
        lease_ms=int(settings.lease * 1000),
        retention_ms=int(settings.idempotency.retention * 1000),
        upstream_timeout=settings.upstream.timeout,
        connection_timeout=settings.upstream.pool_timeout + settings.upstream.connect_timeout,
        store_deadline=settings.store.deadline,
        settle_wait=SETTLE_WAIT,
        max_body=settings.limits.body,
        body_timeout=settings.limits.body_timeout,
        max_record=settings.record.max_body,
        release_statuses=frozenset(settings.idempotency.release_statuses),
        prove=settings.responses.authorize == "credential",
        credential_headers=tuple(name.lower().encode("ascii") for name in settings.responses.credential_headers),
        wait_max=settings.responses.wait_max,
        view_limit=settings.responses.view_limit,
        max_tunnels=settings.limits.tunnels,
        tunnel_idle=settings.limits.tunnel_idle_timeout,
    )


def hasher(settings: Settings) -> Hasher:
    """What makes the names under which records lie."""
    return Hasher(settings.store.hash_secret.get_secret_value().encode("utf-8"))


def fingerprint(settings: Settings) -> bytes:
    """Of all that turns a request into the name of a record. Which keys are taken at all (their length and characters)
    is not among it: it may change, and a key that was used keeps its name."""
    return hasher(settings).fingerprint(settings.idempotency.header.lower())


def store(settings: Settings, deadlines: Deadlines) -> Store:
    """The store, not opened yet."""
    return make_store(
        settings.store.url,
        deadline=settings.store.deadline,
        prefix=settings.store.prefix,
        allow_eviction=settings.store.allow_eviction,
        durability=settings.store.durability,
        fingerprint=fingerprint(settings),
        refuse_forgotten=settings.store.on_forgotten == "refuse",
        deadlines=deadlines,
    )


def spool(settings: Settings, target: Store) -> Spool | None:
    """Where its settlements wait for *target*; None for one whose records end with the process anyway."""
    if settings.store.url == "memory://":
        return None
    name = f"{target.place} {settings.store.prefix}"
    return Spool(Path(settings.spool.path), name, max_size=settings.spool.max_size)


def listener_tls(settings: Settings) -> ssl.SSLContext | None:
    """Towards the clients; raise BadFile."""
    own = settings.tls
    if not own.certificate:
        return None
    client_ca = Pem("tls.client_ca", own.client_ca) if own.client_ca else None
    return server_context(
        Pem("tls.certificate", own.certificate),
        Pem("tls.key", own.key),
        client_ca,
        own.client_certificates,
        own.min_version,
    )


def upstream_tls(settings: Settings) -> ssl.SSLContext | None:
    """Towards the API; raise BadFile."""
    own = settings.upstream
    if own.url.scheme != "https":
        return None
    files = {"upstream.ca": own.ca, "upstream.certificate": own.certificate, "upstream.key": own.key}
    return client_context(*(Pem(setting, path) if path else None for setting, path in files.items()))


def upstream(settings: Settings) -> Upstream:
    """Where the API is; raise BadFile."""
    own = settings.upstream
    return Upstream(
        host=own.url.host,
        port=own.url.port,
        tls=upstream_tls(settings),
        connect_timeout=own.connect_timeout,
        idle_timeout=own.idle_timeout,
        max_connections=own.max_connections,
        max_waiting=own.max_waiting,
        server_name=own.server_name or None,
        path=own.url.path,
    )


def forwarding(settings: Settings, tokens: Tokens) -> Forwarding:
    """What the API is told of a request, and by which name it is called."""
    names = {"upstream": settings.upstream.url.authority, "preserve": None}
    host = names.get(settings.upstream.host, settings.upstream.host)
    return Forwarding(
        tokens=tokens,
        host=None if host is None else host.encode("ascii"),
        via=settings.forwarded.via,
        trusted=settings.forwarded.trusted,
        kept=[name.lower().encode("ascii") for name in _ours(settings)],
    )


def _ours(settings: Settings) -> list[str]:
    """The fields by which a request and its sender are known. The API must see the same of them."""
    return [settings.idempotency.header, *settings.responses.credential_headers]


def watched(settings: Settings) -> Watched:
    """The fields of a request that somebody looks at."""
    names = [name.lower().encode("ascii") for name in _ours(settings)]
    return Watched([*REQUEST_FIELDS, *names, *lookalikes(names[0])])


def policy(settings: Settings) -> Policy:
    """What is a key, what is guarded, and where records are shown."""
    own = settings.idempotency
    return Policy(KeyRule(own.key_min, own.key_max, own.key_chars), own.methods, settings.responses.paths)


def answers(settings: Settings) -> Answers:
    """How the proxy itself answers."""
    own = settings.idempotency
    texts = {"header": own.header, "key_min": own.key_min, "key_max": own.key_max, "key_chars": own.key_chars}
    return Answers(own.dialect, texts, settings.responses.paths[0])
