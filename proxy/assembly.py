"""From settings to parts: what each part needs, in its own words. Nothing here runs yet."""

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from config.settings import Rule as RuleSettings
from config.settings import Settings
from proxy.bearer.keys import Keys
from proxy.bearer.verifier import Verifier
from proxy.core.answer import Answers
from proxy.core.fingerprint import Fingerprints
from proxy.core.key import Hasher, KeyRule
from proxy.core.path import Pattern
from proxy.core.policy import Policy, Rule
from proxy.core.record import Record
from proxy.core.refusal import Refusal
from proxy.core.treatment import Treatment
from proxy.deadlines import Deadlines
from proxy.http1.fields import Watched, lookalikes
from proxy.http1.forward import Forwarding
from proxy.http1.message import REQUEST_FIELDS, Limits
from proxy.http1.pool import Pool, Upstream
from proxy.identity import Identifier
from proxy.parts import Terms
from proxy.probe import Prober
from proxy.ring import vault
from proxy.store.base import Store
from proxy.store.open import make_store
from proxy.store.sealing import Sealing
from proxy.store.spool import Spool
from proxy.tls import Pem, client_context, server_context
from proxy.tokens import Tokens

T = TypeVar("T")

SETTLE_WAIT = 0.25
"""Seconds that an answer waits for the store to take it; then it is spooled."""
RETENTIONS = 4
"""For which a dictionary is kept behind its last use, see `store/learning.py`."""


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
        upstream_timeout=settings.upstream.timeout,
        connection_timeout=settings.upstream.pool_timeout + settings.upstream.connect_timeout,
        store_deadline=settings.store.deadline,
        settle_wait=SETTLE_WAIT,
        body_timeout=settings.limits.body_timeout,
        dropped=frozenset(_lower(settings.record.drop_headers)),
        by_host=settings.upstream.host == "preserve",
        prove=settings.responses.authorize != "none",
        replay_header=settings.idempotency.replay_header,
        repeat_wait_max=settings.idempotency.wait_max,
        wait_max=settings.responses.wait_max,
        view_limit=settings.responses.view_limit,
        max_tunnels=settings.limits.tunnels,
        tunnel_idle=settings.limits.tunnel_idle_timeout,
    )


def hasher(settings: Settings) -> Hasher:
    """What makes the names under which records lie."""
    return Hasher(settings.store.hash_secret.get_secret_value().encode("utf-8"))


def fingerprints(settings: Settings) -> Fingerprints:
    """What tells one request from another."""
    return Fingerprints(settings.store.hash_secret.get_secret_value().encode("utf-8"))


def fingerprint(settings: Settings) -> bytes:
    """Of all that turns a request into the name of a record. Which keys are taken at all (their length and characters)
    is not among it: it may change, and a key that was used keeps its name."""
    own, names = settings.scope, [settings.idempotency.header.lower()]
    ways = {"path": [own.path], "header": [name.lower() for name in own.header], "jwt": [own.claim], "credential": [""]}
    for part in own.of:
        names += [text for way in ways[part] for text in (part, way)]
    if "credential" in own.of:  # the last part: what follows is of it
        names += [name.lower() for name in settings.responses.credential_headers]
        names += ["a client certificate"] if settings.tls.client_certificates != "none" else []  # no field has blanks
    return hasher(settings).fingerprint(*names)


def store(settings: Settings, deadlines: Deadlines, *, learns: bool = False) -> Sealing:
    """The store, not opened yet. *learns*: whether a dictionary of it is used and learnt. Raise BadFile."""
    longest = max([settings.idempotency.retention, *(rule.retention or 0 for rule in settings.rules)])
    return Sealing(
        _beneath(settings, deadlines),
        vault(settings),
        deadline=settings.store.deadline,
        deadlines=deadlines,
        upstream=str(settings.upstream.url).encode(),
        lifetime=int(RETENTIONS * longest * 1000),
        learns=learns,
    )


def _beneath(settings: Settings, deadlines: Deadlines) -> Store:
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


def spool(settings: Settings, target: Store, encrypt: Callable[[Record], Record] | None = None) -> Spool | None:
    """Where its settlements wait for *target*; None for one whose records end with the process anyway. *encrypt*: see
    `Sealing.encrypt`; who puts nothing into it needs none."""
    if settings.store.url == "memory://":
        return None
    name = f"{target.place} {settings.store.prefix}"
    return Spool(Path(settings.spool.path), name, max_size=settings.spool.max_size, encrypt=encrypt)


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
        kept=_lower(_ours(settings)),
    )


def _ours(settings: Settings) -> list[str]:
    """The fields by which a request and its sender are known, the key's first. The API must see the same of them."""
    names = [settings.idempotency.header, *settings.responses.credential_headers, *settings.scope.header]
    if settings.jwt.keys:
        names.append("Authorization")
    return names


def _lower(names: Iterable[str]) -> list[bytes]:
    return [name.lower().encode("ascii") for name in names]


def watched(settings: Settings) -> Watched:
    """The fields of a request that somebody looks at."""
    names = _lower(_ours(settings))
    return Watched([*REQUEST_FIELDS, b"content-type", *names, *(alike for name in names for alike in lookalikes(name))])


def policy(settings: Settings) -> Policy:
    """What is a key, what is guarded and how, and where records are shown."""
    own = settings.idempotency
    key_rule = KeyRule(own.key_min, own.key_max, own.key_chars)
    rules = [rule(settings, there) for there in settings.rules]
    return Policy(key_rule, own.methods, settings.responses.paths, treatment(settings, None), rules)


def treatment(settings: Settings, own: RuleSettings | None) -> Treatment:
    """How guarded requests are treated, in general or by a rule of their *own*."""

    def told(name: str, usual: T) -> T:
        said = None if own is None else getattr(own, name)
        return usual if said is None else said

    general = settings.idempotency
    return Treatment(
        retention=int(told("retention", general.retention) * 1000),
        release_statuses=frozenset(told("release_statuses", general.release_statuses)),
        max_body=told("body", settings.limits.body),
        max_record=told("record", settings.record.max_body),
        requires_key=own is not None and own.require_key,
        replays=told("on_reuse", general.on_reuse) == "replay",
        waits=told("on_concurrent", general.on_concurrent) == "wait",
        rejects=told("on_mismatch", general.on_mismatch) == "reject",
    )


def rule(settings: Settings, own: RuleSettings) -> Rule:
    """One rule."""
    methods = frozenset(method.encode("ascii") for method in own.methods or settings.idempotency.methods)
    return Rule(Pattern(own.path), methods, treatment(settings, own) if own.protect else None)


def scope_path(settings: Settings) -> Pattern | None:
    """Where in a path it stands whose request it is."""
    return Pattern(settings.scope.path, prefix=True) if settings.scope.path else None


def identifier(settings: Settings, verifier: Verifier | None) -> Identifier:
    """Whose request it is."""
    return Identifier(
        hasher(settings),
        tuple(_lower(settings.responses.credential_headers)),
        settings.scope.of,
        settings.responses.authorize,
        path=scope_path(settings),
        headers=_lower(settings.scope.header),
        verifier=verifier,
        by_host=settings.upstream.host == "preserve",
    )


def jwks(settings: Settings) -> Keys | None:
    """The keys by which tokens are verified; None: none are."""
    own = settings.jwt
    wanted = "jwt" in settings.scope.of or settings.responses.authorize == "jwt"
    return (
        Keys(own.keys, ca=Pem("jwt.ca", own.ca) if own.ca else None, refresh=own.refresh, max_stale=own.max_stale)
        if wanted
        else None
    )


def verifier(settings: Settings, keys: Keys, wall: Callable[[], float]) -> Verifier:
    """Reads tokens."""
    own = settings.jwt
    return Verifier(
        keys,
        claim=settings.scope.claim,
        issuer=own.issuer,
        audience=own.audience,
        algorithms=own.algorithms,
        leeway=own.leeway,
        wall=wall,
    )


def prober(
    settings: Settings, pool: Pool, forwarding: Forwarding, deadlines: Deadlines, wall: Callable[[], float]
) -> Prober | None:
    """Who asks the API who may see a record; None: it is not asked."""
    own = settings.responses
    if own.authorize != "probe":
        return None
    return Prober(
        pool,
        forwarding,
        deadlines,
        wall,
        template=own.probe,
        pattern=scope_path(settings),
        timeout=own.probe_timeout,
        dropped=_lower([settings.idempotency.header]),
    )


def answers(settings: Settings) -> Answers:
    """How the proxy itself answers."""
    own, responses = settings.idempotency, settings.responses
    texts = {
        "header": own.header,
        "key_min": own.key_min,
        "key_max": own.key_max,
        "key_chars": own.key_chars,
        "scope_header": " and one ".join(settings.scope.header),
    }
    unknown = Refusal.KEY_NOT_FOUND.value._replace(status=responses.unknown_key_status, type=responses.unknown_key_type)
    return Answers(own.dialect, texts, responses.paths[0], {Refusal.KEY_NOT_FOUND: unknown})
