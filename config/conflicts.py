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
    if _collide(settings.listen, settings.ops_listen):
        yield Conflict(
            ("listen", "ops_listen"),
            f"{settings.listen} and {settings.ops_listen} collide: use another port for one of them",
        )


def _collide(one: Address, other: Address) -> bool:
    same_host = one.host == other.host or not _EVERY_INTERFACE.isdisjoint({one.host, other.host})
    return same_host and one.port == other.port != 0
