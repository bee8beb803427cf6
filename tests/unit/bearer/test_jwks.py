"""A key set: what can be used of it is, what cannot harms nobody, and nothing secret is told."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms

from proxy.bearer.jwks import ASYMMETRIC, Failed, read
from tests.unit.bearer.issuer import ALL, Signer, key_set

EC, RSA, ED = Signer(), Signer("rsa", "RS256", "RSA2048"), Signer("ed", "EdDSA", "Ed25519")


def usable(*members: Any) -> list[tuple[str | None, frozenset[str]]]:
    keys = read(key_set(*members))
    return [] if isinstance(keys, Failed) else [(key.kid, key.algorithms) for key in keys]


def test_only_signatures_that_whoever_verifies_cannot_make_are_taken() -> None:
    assert set(ALL) == ASYMMETRIC


def test_a_key_can_do_what_its_type_can_and_may_do_what_its_alg_says() -> None:
    rsa = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
    assert usable(RSA, EC, ED) == [("rsa", rsa), ("one", frozenset({"ES256"})), ("ed", frozenset({"EdDSA"}))]
    assert usable(RSA.jwk(alg="PS384")) == [("rsa", frozenset({"PS384"}))]


def private_jwk(signer: Signer) -> dict[str, Any]:
    found = get_default_algorithms()[signer.algorithm].to_jwk(signer.private, as_dict=True)
    assert isinstance(found, dict)
    return {name: value for name, value in found.items() if name != "key_ops"}


UNUSABLE: list[tuple[Any, str]] = [
    (EC.jwk(use="enc"), "another use"),
    (EC.jwk(use=1), "another use"),
    (EC.jwk(key_ops=["sign"]), "other operations"),
    (EC.jwk(key_ops="verify"), "other operations"),
    (EC.jwk(key_ops=[]), "other operations"),
    (EC.jwk(kid=1), "kid"),
    (EC.jwk(alg="ES384"), "algorithm"),
    (EC.jwk(alg="HS256"), "algorithm"),
    (EC.jwk(alg="none"), "algorithm"),
    (EC.jwk(alg=["ES256"]), "algorithm"),
    (RSA.jwk(alg="RSA-OAEP-256"), "algorithm"),
    (EC.jwk(crv="secp256k1"), "curve"),
    (EC.jwk(crv=None), "curve"),
    (EC.jwk(crv=["P-256"]), "curve"),
    (EC.jwk(crv="P-384"), "missing or wrong"),
    (EC.jwk(kty="RSA"), "type"),
    (EC.jwk(kty=None), "type"),
    (EC.jwk(kty=7), "type"),
    (EC.jwk(x=None), "missing or wrong"),
    (EC.jwk(x="AAAA"), "missing or wrong"),
    (EC.jwk(y=EC.jwk()["x"]), "missing or wrong"),  # not on the curve
    (EC.jwk(x=5), "missing or wrong"),
    (EC.jwk(x="é!"), "missing or wrong"),
    (RSA.jwk(n=None), "missing or wrong"),
    (RSA.jwk(e="AA"), "missing or wrong"),
    (RSA.jwk(n=[]), "missing or wrong"),
    (ED.jwk(x="AAAA"), "missing or wrong"),
    (ED.jwk(crv="X25519"), "curve"),
    ({"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "one"}, "type"),
    (Signer("weak", "RS256", "RSA1024").jwk(), "less than 2048 bits"),
    (private_jwk(EC), "a private key"),
    (private_jwk(RSA), "a private key"),
    (private_jwk(ED), "a private key"),
    ({}, "type"),
    (None, "no JSON object"),
    ("key", "no JSON object"),
    ([], "no JSON object"),
]


@pytest.mark.parametrize(("member", "why"), UNUSABLE, ids=range(len(UNUSABLE)))
def test_a_key_that_cannot_be_used_is_passed_over(member: Any, why: str) -> None:
    alone = read(json.dumps({"keys": [member]}).encode())
    assert isinstance(alone, Failed)
    assert why in alone.why
    between = read(json.dumps({"keys": [RSA.jwk(), member, EC.jwk(kid="last")]}).encode())
    assert not isinstance(between, Failed)
    assert [key.kid for key in between] == ["rsa", "last"]


def test_why_no_key_can_be_used_tells_each_reason_once_and_nothing_of_the_keys() -> None:
    secret = private_jwk(EC)
    failed = read(key_set(secret, secret, RSA.jwk(use="enc")))
    assert failed == Failed(
        "has no key to verify signatures with: a key for another use; "
        "a private key: whoever reads the set could sign tokens"
    )
    assert secret["d"] not in repr(failed)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "is no JSON"),
        (b"<html>", "is no JSON"),
        (b"\xff\xfe\xff", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"9" * 5000, "is no JSON"),
        (b"null", 'is no JWK Set: an object with a list "keys"'),
        (b"[]", 'is no JWK Set: an object with a list "keys"'),
        (b"{}", 'is no JWK Set: an object with a list "keys"'),
        (b'{"keys": {}}', 'is no JWK Set: an object with a list "keys"'),
        (json.dumps(EC.jwk()).encode(), 'is no JWK Set: an object with a list "keys"'),
        (b'{"keys": []}', "has no keys"),
    ],
)
def test_what_is_no_key_set_is_told(document: bytes, why: str) -> None:
    assert read(document) == Failed(why)


def test_the_same_keys_are_equal_and_others_are_not() -> None:
    """By this a fetch that brings nothing new is known."""
    assert read(key_set(EC, RSA)) == read(key_set(EC, RSA))
    assert read(key_set(EC)) != read(key_set(EC._replace(number=1)))
    assert read(key_set(EC)) != read(key_set(EC._replace(kid="two")))


TYPES = st.fixed_dictionaries(
    {
        "kty": st.sampled_from(["EC", "RSA", "OKP"]),
        "crv": st.sampled_from([None, "P-256", "P-521", "Ed25519", "Ed448"]),
    },
    optional=dict.fromkeys(
        ("x", "y", "n", "e"), st.text("AQab09-_=é", max_size=90) | st.integers() | st.none() | st.lists(st.none())
    ),
)


@settings(max_examples=300, deadline=None)
@given(member=TYPES)
def test_no_key_is_so_odd_that_the_set_is_lost(member: dict[str, Any]) -> None:
    odd = {name: value for name, value in member.items() if value is not None or name != "crv"}
    found = read(json.dumps({"keys": [odd, EC.jwk()]}).encode())
    assert not isinstance(found, Failed)
    assert found[-1].kid == "one"
