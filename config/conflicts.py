"""What no single setting is to blame for: rules that settings must keep together."""

from collections.abc import Iterator
from typing import NamedTuple

from config.settings import Rule, Settings
from config.templates import ANY_REST
from config.urls import Address
from proxy.core.path import Pattern

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
    for check in (_store, _ring, _keys, _rules, _scope, _proof, _jwt, _limits, _pairs, _tls_conflicts, _ports):
        yield from check(settings)


def _store(settings: Settings) -> Iterator[Conflict]:
    if settings.idempotency.retention <= settings.lease:
        yield _under_the_lease("idempotency.retention", settings.idempotency.retention, settings.lease)
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


def _ring(settings: Settings) -> Iterator[Conflict]:
    own = settings.record
    if own.encryption_keys and own.encryption_keys_file:
        yield Conflict(
            ("record.encryption_keys", "record.encryption_keys_file"),
            "there would be two rings of keys, and it matters which key is the first: set one of them",
        )
    if own.require_encryption and not (own.encryption_keys or own.encryption_keys_file):
        yield Conflict(
            ("record.require_encryption", "record.encryption_keys", "record.encryption_keys_file"),
            "without keys nothing is encrypted, and no record could be shown: set keys, or leave it out",
        )


def _under_the_lease(name: str, retention: float, lease: float) -> Conflict:
    return Conflict(
        (name, *LEASE),
        f"the retention, {retention:g}s, must be longer than the lease, {lease:g}s (the sum of the others): a claim"
        " must not expire while its request is under way",
    )


def _keys(settings: Settings) -> Iterator[Conflict]:
    own = settings.idempotency
    if own.key_min > own.key_max:
        yield Conflict(
            ("idempotency.key_min", "idempotency.key_max"),
            f"the shortest key, {own.key_min}, must not be longer than the longest, {own.key_max}",
        )
    fields = {name.lower(): "responses.credential_headers" for name in settings.responses.credential_headers}
    given = [("idempotency.header", own.header), *(("scope.header", name) for name in settings.scope.header)]
    for setting, name in given:
        other = fields.setdefault(name.lower(), setting)
        if other != setting:
            yield Conflict((setting, other), f"{name} cannot be both: one field, one meaning")


def _limits(settings: Settings) -> Iterator[Conflict]:
    limits = settings.limits
    if limits.head < limits.request_line:
        yield Conflict(
            ("limits.head", "limits.request_line"),
            f"a head of {limits.head} bytes must have room for a request line of {limits.request_line}",
        )
    sizes = {"limits.body": limits.body}
    sizes |= {f"rules[{number}].body": rule.body for number, rule in enumerate(settings.rules, 1) if rule.body}
    for name, size in sizes.items():
        if size > limits.bodies:
            yield Conflict(
                (name, "limits.bodies"),
                f"a body of {size} bytes would never be let in where all together may have {limits.bodies}",
            )
    waiting = [f"rules[{number}]" for number, rule in enumerate(settings.rules, 1) if rule.on_concurrent == "wait"]
    if settings.idempotency.on_concurrent == "wait":
        waiting.insert(0, "idempotency")
    if waiting and not limits.waiters:
        names = ("limits.waiters", *(f"{each}.on_concurrent" for each in waiting))
        yield Conflict(names, 'with limits.waiters = 0 no request may wait: allow some, or say "conflict"')


def _ports(settings: Settings) -> Iterator[Conflict]:
    if _collide(settings.listen, settings.ops_listen):
        yield Conflict(
            ("listen", "ops_listen"),
            f"{settings.listen} and {settings.ops_listen} collide: use another port for one of them",
        )


# -- rules -----------------------------------------------------------------------------------------------------------


def _rules(settings: Settings) -> Iterator[Conflict]:
    seen: list[tuple[str, str, set[str]]] = []
    for number, rule in enumerate(settings.rules, 1):
        name = f"rules[{number}]"
        if rule.retention is not None and rule.retention <= settings.lease:
            yield _under_the_lease(f"{name}.retention", rule.retention, settings.lease)
        if not rule.protect:
            yield from _unprotected(name, rule)
        methods = set(rule.methods or settings.idempotency.methods)
        for earlier, path, covered in seen:
            if methods <= covered and _covers(path, rule.path):
                names = (f"{name}.path", f"{earlier}.path", f"{name}.methods", f"{earlier}.methods")
                yield Conflict(
                    names, f"{name} can never apply: {earlier} is for the same requests at least, and the first counts"
                )
                break
        seen.append((name, rule.path, methods))


def _unprotected(name: str, rule: Rule) -> Iterator[Conflict]:
    """What is said of how a request is guarded that is not."""
    said = [it for it in type(rule).model_fields if it not in ("path", "methods", "protect")]
    without_effect = [it for it in said if getattr(rule, it) != type(rule).model_fields[it].default]
    if without_effect:
        names = (f"{name}.protect", *(f"{name}.{it}" for it in without_effect))
        yield Conflict(names, "with protect = false nothing else holds: leave the others out, or protect")


def _covers(earlier: str, later: str) -> bool:
    """Whether every path that matches the template *later* matches *earlier* too."""
    first, second = ([it for it in template.lower().split("/") if it] for template in (earlier, later))
    any_rest = first[-1:] == [ANY_REST]
    if second[-1:] == [ANY_REST]:
        if not any_rest:
            return False
        second.pop()
    if any_rest:
        first.pop()
        second = second[: len(first)]
    return len(first) == len(second) and all(one[0] == "{" or one == other for one, other in zip(first, second))


# -- scopes, and the right to see a record ---------------------------------------------------------------------------


def _scope(settings: Settings) -> Iterator[Conflict]:
    own = settings.scope
    for part, value in (("path", own.path), ("header", own.header)):
        if part in own.of and not value:
            yield Conflict(("scope.from", f"scope.{part}"), f'scope.from has "{part}", which takes a scope.{part}')
    if own.header and "header" not in own.of:
        yield Conflict(("scope.header", "scope.from"), 'scope.header has no effect: scope.from has no "header"')
    if own.path and "path" not in own.of and not settings.responses.probe:
        yield Conflict(
            ("scope.path", "scope.from"),
            'scope.path has no effect: scope.from has no "path", and there is no responses.probe',
        )
    if own.path and ("path" in own.of or Pattern(settings.responses.probe or "/").names):
        for path in settings.responses.paths:
            why = _outside(own.path, path)
            if why is not None:
                yield Conflict(("responses.paths", "scope.path"), f"{path}: no record is found there: {why}")


def _outside(prefix: str, path: str) -> str | None:
    """Why no path of the template *path* is in a scope that a request had whose path begins as *prefix*."""
    begins, segments = ([it for it in template.split("/") if it] for template in (prefix, path))
    if len(segments) < len(begins):
        return f"it must begin as {prefix} does"
    for begin, segment in zip(begins, segments):
        if segment == "{key}" and begin != "{_}":
            return f"{{key}} stands where {prefix} has {begin}"
        if "{" not in begin + segment and begin.lower() != segment.lower():
            return f"it must begin as {prefix} does, not with {segment} where that has {begin}"
    return None


def _proof(settings: Settings) -> Iterator[Conflict]:
    own = settings.responses
    names = ("responses.authorize", "responses.probe")
    if own.authorize == "probe" and not own.probe:
        yield Conflict(names, 'to authorize by "probe" takes a responses.probe: what the API is asked')
    if own.authorize != "probe" and own.probe:
        yield Conflict(names, f'responses.probe has no effect: records are authorized by "{own.authorize}"')
    known = set(Pattern(settings.scope.path, prefix=True).names) if settings.scope.path else set()
    unknown = sorted(set(Pattern(own.probe).names) - known) if own.probe else []
    if unknown:
        captures = ", ".join(f"{{{name}}}" for name in unknown)
        yield Conflict(
            ("responses.probe", "scope.path"), f"{captures} of responses.probe must be a capture of scope.path as well"
        )


def _jwt(settings: Settings) -> Iterator[Conflict]:
    own = settings.jwt
    users = ["scope.from"] if "jwt" in settings.scope.of else []
    users += ["responses.authorize"] if settings.responses.authorize == "jwt" else []
    if users and not own.keys:
        yield Conflict((*users, "jwt.keys"), "tokens cannot be verified without jwt.keys")
    if own.keys and not users:
        yield Conflict(
            ("jwt.keys", "scope.from", "responses.authorize"), 'jwt.keys has no effect: neither of the others has "jwt"'
        )
    if not own.keys:
        changed = [it for it, field in type(own).model_fields.items() if getattr(own, it) != field.default]
        if changed:
            yield Conflict((*(f"jwt.{it}" for it in changed), "jwt.keys"), "without jwt.keys the others have no effect")
    if own.ca and own.keys and not own.keys.startswith("https://"):
        yield Conflict(("jwt.ca", "jwt.keys"), f"jwt.ca is for keys from an https:// URL, not for {own.keys}")
    if own.max_stale < own.refresh:
        yield Conflict(
            ("jwt.max_stale", "jwt.refresh"),
            f"keys that are fetched every {own.refresh:g}s must not be too old after {own.max_stale:g}s",
        )
    if not users and settings.scope.claim != type(settings.scope).model_fields["claim"].default:
        yield Conflict(
            ("scope.claim", "scope.from", "responses.authorize"),
            'scope.claim has no effect: neither of the others has "jwt"',
        )


# -- TLS -------------------------------------------------------------------------------------------------------------


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
