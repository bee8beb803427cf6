"""What is said at start of settings that are right, and yet may not be what was meant."""

import pytest

from config.advice import advice
from config.load import load

API = {"upstream.url": "http://api"}
ANONYMOUS = "a request without Authorization, X-Api-Key is shown, by its key, what another without them was given"
SEALED = {"record.encryption_keys_file": "keys"}
TOKENS = {"jwt.keys": "keys.json"}
PROBE = {"responses.authorize": "probe", "responses.probe": "/me"}


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
        (PROBE, ['responses.authorize is "probe", and there is no scope.path']),
        (PROBE | {"scope.path": "/{client}/"}, ["responses.probe leaves out {client} of scope.path"]),
        (PROBE | {"scope.path": "/{client}/", "responses.probe": "/{client}/me"}, []),
        (TOKENS | {"scope.from": "jwt"}, [ANONYMOUS, "jwt.issuer or jwt.audience is empty"]),
        (TOKENS | {"responses.authorize": "jwt", "jwt.issuer": "a"}, ["jwt.issuer or jwt.audience is empty"]),
        (TOKENS | {"responses.authorize": "jwt", "jwt.issuer": "a", "jwt.audience": "b"}, []),
        (SEALED, [ANONYMOUS, "records are encrypted, and store.hash_secret is empty"]),
        (SEALED | {"store.hash_secret": "pepper"}, [ANONYMOUS]),
        ({"preset": "mangopay"}, []),
        ({"preset": "ietf"}, [ANONYMOUS]),
    ],
)
def test_it_says_what_the_settings_mean_and_no_more(flags: dict[str, object], begins: list[str]) -> None:
    tls = {"tls.client_ca": "ca.pem", "tls.certificate": "c.pem", "tls.key": "k.pem"}
    said = list(advice(load(None, API | flags | (tls if "tls.client_certificates" in flags else {}))))
    assert len(said) == len(begins)
    for sentence, begin in zip(said, begins, strict=True):
        assert sentence.startswith(begin)
