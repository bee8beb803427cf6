"""What is said at start of settings that are right, and yet may not be what was meant."""

import pytest

from config.advice import advice
from config.load import load

API = {"upstream.url": "http://api"}
ANONYMOUS = "a request without Authorization, X-Api-Key is shown, by its key, what another without them was given"
SEALED = {"record.encryption_keys_file": "keys"}
TOKENS = {"jwt.keys": "keys.json"}
TLS = {"tls.client_ca": "ca.pem", "tls.certificate": "c.pem", "tls.key": "k.pem"}
TOKEN_RULE = 'path = "/{_}/oauth/token", protect = false'
ANY_VERSION_RULE = 'path = "/oauth/token", protect = false'
LOST = "rules stand in the place of those of the preset mangopay, and are without"
OWN_RULES = [{"path": "/{_}/oauth/token", "protect": False}, {"path": "/{_}/{_}/payins/**", "require_key": True}]
PROBE = {"responses.authorize": "probe", "responses.probe": "/me"}
CLIENT = {"scope.path": "/{client}/", "responses.paths": ["/{client}/{key}"]}


@pytest.mark.parametrize(
    ("flags", "begins"),
    [
        ({}, [ANONYMOUS]),
        (
            {"tls.client_certificates": "optional"},
            ["a request without Authorization, X-Api-Key and client certificate"],
        ),
        ({"tls.client_certificates": "required"}, []),
        ({"responses.credential_headers": ["X-Key"]}, ["a request without X-Key is shown"]),
        ({"responses.authorize": "none"}, ['responses.authorize is "none": whoever knows a key']),
        ({"scope.from": "credential"}, ['scope.from has "credential": for static API keys only.', ANONYMOUS]),
        (
            {"scope.from": "header", "scope.header": "X-Tenant"},
            ['scope.from has "header": whoever can write X-Tenant', ANONYMOUS],
        ),
        (
            {"scope.from": "header", "scope.header": ["X-Tenant", "X-Account"]},
            ['scope.from has "header": whoever can write X-Account, X-Tenant', ANONYMOUS],
        ),
        (
            {"scope.from": ["header", "credential"], "scope.header": "X-Tenant"},
            ['scope.from has "credential": for static API keys only.', ANONYMOUS],
        ),
        (
            TOKENS
            | {"scope.from": ["header", "jwt"], "scope.header": "X-Tenant", "jwt.issuer": "a", "jwt.audience": "b"},
            [ANONYMOUS],
        ),
        (PROBE, ['responses.authorize is "probe", and there is no scope.path']),
        (PROBE | CLIENT, ["responses.probe leaves out {client} of scope.path"]),
        (PROBE | CLIENT | {"responses.probe": "/{client}/me"}, []),
        (TOKENS | {"scope.from": "jwt"}, [ANONYMOUS, "jwt.issuer or jwt.audience is empty"]),
        (TOKENS | {"responses.authorize": "jwt", "jwt.issuer": "a"}, ["jwt.issuer or jwt.audience is empty"]),
        (TOKENS | {"responses.authorize": "jwt", "jwt.issuer": "a", "jwt.audience": "b"}, []),
        (SEALED, [ANONYMOUS, "records are encrypted, and store.hash_secret is empty"]),
        (SEALED | {"store.hash_secret": "pepper"}, [ANONYMOUS]),
        ({"preset": "mangopay"}, []),
        ({"preset": "ietf"}, [ANONYMOUS]),
        ({"preset": "stripe"}, ['scope.from has "credential"', "a request without Authorization is shown"]),
        ({"preset": "ietf", "rules": OWN_RULES}, [ANONYMOUS]),
        ({"preset": "mangopay", "rules": []}, [f"{LOST} {TOKEN_RULE}; {ANY_VERSION_RULE}: repeat them"]),
        ({"preset": "mangopay", "rules": OWN_RULES}, [f"{LOST} {ANY_VERSION_RULE}: repeat them"]),
        ({"preset": "mangopay", "rules": [*OWN_RULES, {"path": "/oauth/token", "protect": False}]}, []),
        ({"limits.drain_timeout": "76.001s"}, [ANONYMOUS]),
        ({"limits.drain_timeout": "76s"}, [ANONYMOUS, "limits.drain_timeout, 76s, is not longer than the lease, 76s"]),
        ({"upstream.timeout": "2m"}, [ANONYMOUS, "limits.drain_timeout, 80s, is not longer than the lease, 136s"]),
    ],
)
def test_it_says_what_the_settings_mean_and_no_more(flags: dict[str, object], begins: list[str]) -> None:
    said = list(advice(load(None, API | flags | (TLS if "tls.client_certificates" in flags else {}))))
    assert len(said) == len(begins)
    for sentence, begin in zip(said, begins, strict=True):
        assert sentence.startswith(begin)


@pytest.mark.parametrize(("certificates", "renewed"), [("none", "token"), ("optional", "token or certificate")])
def test_a_renewed_certificate_is_another_client_where_the_credential_is_the_scope(
    certificates: str, renewed: str
) -> None:
    asked = TLS | {"tls.client_certificates": certificates} if certificates != "none" else {}
    said = next(advice(load(None, API | {"scope.from": "credential"} | asked)))
    assert said.endswith(f"A client whose {renewed} is renewed between a request and its retry pays twice")
