"""What no single setting is to blame for: rules that settings must keep together."""

from collections.abc import Iterator
from typing import NamedTuple

from config.settings import Settings
from config.urls import Address

_EVERY_INTERFACE = {"0.0.0.0", "::"}  # noqa: S104  # compared with, not bound to
LEASE = (
    "store.deadline",
    "upstream.pool_timeout",
    "upstream.connect_timeout",
    "upstream.timeout",
    "idempotency.lease_margin",
)


class Conflict(NamedTuple):
    """Settings that do not go together. *why* says what they are, and what would be right."""

    names: tuple[str, ...]
    why: str


def conflicts(settings: Settings) -> Iterator[Conflict]:
    """All of them."""
    idempotency, limits = settings.idempotency, settings.limits
    if idempotency.retention <= settings.lease:
        yield Conflict(
            ("idempotency.retention", *LEASE),
            f"the retention, {idempotency.retention:g}s, must be longer than the lease, {settings.lease:g}s"
            " (the sum of the others): a claim must not expire while its request is under way",
        )
    if settings.store.url == "memory://" and settings.workers > 1:
        yield Conflict(
            ("store.url", "workers"),
            f"{settings.workers} workers cannot share a memory:// store: use sqlite: or redis://, or one worker",
        )
    if settings.store.durability != "memory" and not settings.store.url.startswith("redis"):
        yield Conflict(
            ("store.durability", "store.url"),
            f'a durability of "{settings.store.durability}" is for Redis and Valkey: sqlite: syncs every write to the'
            " disk by itself, and memory:// has neither a disk nor replicas",
        )
    if idempotency.key_min > idempotency.key_max:
        yield Conflict(
            ("idempotency.key_min", "idempotency.key_max"),
            f"the shortest key, {idempotency.key_min}, must not be longer than the longest, {idempotency.key_max}",
        )
    if limits.head < limits.request_line:
        yield Conflict(
            ("limits.head", "limits.request_line"),
            f"a head of {limits.head} bytes must have room for a request line of {limits.request_line}",
        )
    yield from _pairs(settings)
    yield from _tls_conflicts(settings)
    if _collide(settings.listen, settings.ops_listen):
        yield Conflict(
            ("listen", "ops_listen"),
            f"{settings.listen} and {settings.ops_listen} collide: use another port for one of them",
        )


def _pairs(settings: Settings) -> Iterator[Conflict]:
    """A certificate is of no use without its key, nor a key without its certificate."""
    for section, own in (("upstream", settings.upstream), ("tls", settings.tls)):
        if bool(own.certificate) != bool(own.key):
            given, missing = ("certificate", "key") if own.certificate else ("key", "certificate")
            names = (f"{section}.{given}", f"{section}.{missing}")
            yield Conflict(names, f"{names[0]} is of no use without {names[1]}: set both, or none")


def _tls_conflicts(settings: Settings) -> Iterator[Conflict]:
    """What is set for TLS where there is none: who set it believes otherwise."""
    tls, upstream = settings.tls, settings.upstream
    if (tls.client_certificates != "none") != bool(tls.client_ca):
        yield Conflict(
            ("tls.client_certificates", "tls.client_ca"),
            f'client certificates are "{tls.client_certificates}", client_ca is "{tls.client_ca}": to ask clients for'
            ' certificates takes "optional" or "required", and the authorities that vouch for them',
        )
    for name in ("client_ca", "min_version"):
        if getattr(tls, name) != type(tls).model_fields[name].default and not (tls.certificate or tls.key):
            yield Conflict(
                (f"tls.{name}", "tls.certificate"), f"tls.{name} is set, but without tls.certificate there is no TLS"
            )
    named = [name for name in ("ca", "certificate", "key", "server_name") if getattr(upstream, name)]
    if named and upstream.url.scheme != "https":
        yield Conflict(
            ("upstream.url", *(f"upstream.{name}" for name in named)),
            f"{upstream.url} is without TLS, for which the others are: let it begin with https://, or leave them out",
        )


def _collide(one: Address, other: Address) -> bool:
    if one.path or other.path:
        return False
    same_host = one.host == other.host or not _EVERY_INTERFACE.isdisjoint({one.host, other.host})
    return same_host and one.port == other.port != 0
