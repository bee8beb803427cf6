"""What settings mean that are right, and yet may not be what was meant: said at start and by `check`."""

from collections.abc import Iterator

from config.load import preset
from config.settings import Rule, Settings
from proxy.core.path import Pattern


def advice(settings: Settings) -> Iterator[str]:
    """A sentence each."""
    yield from _of_scopes(settings)
    yield from _of_proofs(settings)
    yield from _of_rules(settings)
    if settings.limits.drain_timeout <= settings.lease:
        yield (
            f"limits.drain_timeout, {settings.limits.drain_timeout:g}s, is not longer than the lease,"
            f" {settings.lease:g}s: a stop would cut payments under way; their outcome would be unknown"
        )
    encrypted = settings.record.encryption_keys or settings.record.encryption_keys_file
    if encrypted and not settings.store.hash_secret.get_secret_value():
        yield (
            "records are encrypted, and store.hash_secret is empty: who reads the store can still try out guesses of"
            " keys and credentials"
        )


def _of_scopes(settings: Settings) -> Iterator[str]:
    own = settings.scope
    if "credential" in own.of:
        certificate = " or certificate" if settings.tls.client_certificates != "none" else ""
        yield (
            f'scope.from has "credential": for static API keys only. A client whose token{certificate} is renewed'
            " between a request and its retry pays twice"
        )
    if "header" in own.of and not {"credential", "jwt"}.intersection(own.of):
        names = ", ".join(own.header)
        yield f'scope.from has "header": whoever can write {names} chooses the scope. Let a proxy in front set it'


def _of_rules(settings: Settings) -> Iterator[str]:
    """Rules are one setting: with rules of one's own those of a preset are gone."""
    given = [Rule.model_validate(rule) for rule in preset(settings.preset).get("rules", ())]
    if lost := [rule for rule in given if rule not in settings.rules]:
        yield (
            f"rules stand in the place of those of the preset {settings.preset}, and are without"
            f" {'; '.join(map(str, lost))}: repeat them, or what they leave alone is guarded and recorded"
        )


def _of_proofs(settings: Settings) -> Iterator[str]:
    own = settings.responses
    if own.authorize == "none":
        yield 'responses.authorize is "none": whoever knows a key is shown its response'
    if own.authorize == "credential" and settings.tls.client_certificates != "required":
        fields = ", ".join(own.credential_headers)
        certificate = " and client certificate" if settings.tls.client_certificates == "optional" else ""
        yield (f"a request without {fields}{certificate} is shown, by its key, what another without them was given")
    if "jwt" in (own.authorize, *settings.scope.of) and not (settings.jwt.issuer and settings.jwt.audience):
        yield (
            "jwt.issuer or jwt.audience is empty: tokens count that the same keys have signed for others, or for"
            " another purpose"
        )
    if own.authorize == "probe" and (unasked := _unasked(settings)):
        names = ", ".join(f"{{{name}}}" for name in unasked)
        yield (
            f"responses.probe leaves out {names} of scope.path: whom the API lets see it is shown the responses of any"
            f" {names}"
        )
    if own.authorize == "probe" and not settings.scope.path:
        yield (
            'responses.authorize is "probe", and there is no scope.path: whom the API lets see responses.probe is shown'
            " the response of any key of its scope, whoever made the request"
        )


def _unasked(settings: Settings) -> list[str]:
    """Captures of the path about which the API is not asked."""
    if not settings.scope.path:
        return []
    asked = Pattern(settings.responses.probe).names
    return [name for name in Pattern(settings.scope.path, prefix=True).names if name not in asked]
