"""`idempotency-proxy check --explain METHOD PATH`: what would be done with such a request, and why. Nothing is
connected to; the rules are asked that decide when the proxy runs."""

from collections.abc import Iterator
from typing import NamedTuple

import click

from config.settings import Settings
from config.units import written_seconds, written_size
from proxy import assembly
from proxy.core.path import normalised
from proxy.core.policy import PathTemplate, Policy, Refuse, Retrieve
from proxy.core.refusal import Refusal
from proxy.core.treatment import Treatment

Lines = Iterator[tuple[str, str]]
"""A word, and what is said of it; without a word, more of the same."""


class Question(NamedTuple):
    """The request. *path*: raw, without query; *normal*: as rules and scopes see it."""

    method: bytes
    path: bytes
    normal: str


def explain(settings: Settings, method: str, path: str) -> int:
    """Return the exit status, 0; raise click.UsageError."""
    if not path.startswith("/"):
        raise click.UsageError(f"PATH must begin with a slash, as it is on the wire: {path!r}")
    if not method.isascii() or method != method.upper():
        raise click.UsageError(f"METHOD must be in capitals, as it is on the wire: {method!r}")
    raw = path.partition("?")[0].encode("utf-8", "surrogateescape")
    for word, said in _lines(settings, Question(method.encode("ascii"), raw, normalised(raw))):
        click.echo(f"{word:<12}{said}")
    return 0


def _lines(settings: Settings, question: Question) -> Lines:
    policy = assembly.policy(settings)
    yield "request", f"{question.method.decode()} {question.path.decode('latin-1')}"
    yield "path", f"{question.normal}, as rules and scopes see it"
    match policy.decide(question.method, question.path, ()):
        case Retrieve():
            yield "retrieval", f"shown is the record of the key in {_asked(settings, question)}"
            yield from _proof(settings)
            yield from _scope(settings, question)
        case Refuse(refusal=Refusal.KEY_INVALID):
            yield "retrieval", f"400: what stands in the place of the key is none: {_asked(settings, question)}"
        case _:
            yield from _rule(settings, policy, question)
            yield from _guard(settings, policy, question)


def _rule(settings: Settings, policy: Policy, question: Question) -> Lines:
    """The one that applies, and why none before it does."""
    applies = policy.rule(question.method, question.normal)
    if applies is None:
        yield "rule", "none applies" if settings.rules else "there are none"
    else:
        yield "rule", f"rules[{applies + 1}] applies: {settings.rules[applies]}"
    for number, own in enumerate(settings.rules[:applies], 1):
        rule = assembly.rule(settings, own)
        if rule.pattern.match(question.normal) is None:
            yield "", f"rules[{number}] does not: its path is {own.path}"
        else:
            methods = ", ".join(sorted(method.decode() for method in rule.methods))
            yield "", f"rules[{number}] does not: it is for {methods}"


def _guard(settings: Settings, policy: Policy, question: Question) -> Lines:
    treatment = policy.treatment(question.method, question.path)
    if treatment is None:
        applies = policy.rule(question.method, question.normal)
        methods = ", ".join(settings.idempotency.methods)
        by_method = f"{question.method.decode()} is not guarded, only {methods} and what rules add"
        yield "guarded", f"no: {by_method if applies is None else f'rules[{applies + 1}] has protect = false'}"
        yield "", "it passes through, with a key or without"
        return
    yield "guarded", f"with a key in {settings.idempotency.header}: it reaches the API at most once"
    yield from _treatment(treatment, settings)
    yield from _scope(settings, question)


def _treatment(treatment: Treatment, settings: Settings) -> Lines:
    statuses = ", ".join(map(str, sorted(treatment.release_statuses)))
    wait = f"waits for the first, at most {written_seconds(settings.idempotency.wait_max)}"
    yield "no key", "400, not forwarded" if treatment.requires_key else "it passes through"
    yield "retention", written_seconds(treatment.retention / 1000)
    yield "reuse", "the recorded response, to who may see it" if treatment.replays else "409"
    yield "concurrent", wait if treatment.waits else "409"
    yield "mismatch", "refused as another request" if treatment.rejects else "409"
    yield "released by", statuses or "no status"
    yield "body", f"at most {written_size(treatment.max_body)}, else 413"
    yield "record", f"of a body of at most {written_size(treatment.max_record)}, else it says Truncated"


def _scope(settings: Settings, question: Question) -> Lines:
    own = settings.scope
    of = {
        "header": "; ".join(f"the value of {name}" for name in own.header),
        "jwt": f"the claim {own.claim} of the verified token",
        "credential": _credential(settings),
    }
    said = [_captures(settings, question) if part == "path" else of[part] for part in own.of]
    yield "scope", "; ".join(said) or "one for all"


def _captures(settings: Settings, question: Question) -> str:
    pattern = assembly.scope_path(settings)
    values = None if pattern is None else pattern.match(question.normal)
    if pattern is None or values is None:
        return f"that of all paths that do not begin as {settings.scope.path}"
    return ", ".join(f"{name} = {value}" for name, value in zip(pattern.names, values))


def _credential(settings: Settings) -> str:
    certificate = ", else the client certificate" if settings.tls.client_certificates != "none" else ""
    return f"the first of {', '.join(settings.responses.credential_headers)}{certificate}"


def _proof(settings: Settings) -> Lines:
    own = settings.responses
    to = {
        "credential": f"who presents the first request's credential, {_credential(settings)}",
        "jwt": f"who presents a verified token with the first request's {settings.scope.claim}",
        "probe": f"whom the API lets see {own.probe}",
        "none": "whoever knows the key",
    }
    yield "to", to[own.authorize]


def _asked(settings: Settings, question: Question) -> str:
    """The template that matches, and what it finds."""
    found = ((template, PathTemplate(template).key(question.path)) for template in settings.responses.paths)
    template, key = next((template, key) for template, key in found if key is not None)
    return f"{template}, {key.decode('latin-1')}"
