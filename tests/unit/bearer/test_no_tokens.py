"""Whatever is sent instead of a token is refused, in words that give nothing of it away."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jwt.utils import base64url_encode

from proxy.bearer.keys import Keys
from proxy.bearer.verifier import TOKEN_LIMIT, Rejected, Verified
from tests.unit.bearer.issuer import CLAIM, START, Issuer, Signer, key_set, parts, verdict, verifier

SIGNER = Signer()
GOOD = Verified(b"acme")


async def test_a_token_that_is_too_long_is_not_read(keys: Keys) -> None:
    room = TOKEN_LIMIT - len(SIGNER.token(pad=""))
    just = SIGNER.token(pad="x" * (room * 3 // 4))
    assert TOKEN_LIMIT - 4 <= len(just) <= TOKEN_LIMIT
    over = SIGNER.token(pad="x" * (room * 3 // 4 + 6))
    assert len(over) > TOKEN_LIMIT
    by = verifier(keys)
    assert verdict(by, just) == GOOD
    assert verdict(by, over) == Rejected(f"it is longer than {TOKEN_LIMIT} bytes")


def nested(depth: int) -> bytes:
    return base64url_encode(b'{"a":' + b"[" * depth + b"]" * depth + b"}")


HEADER = base64url_encode(b'{"alg":"ES256","kid":"one"}')
NO_TOKENS = [
    b"",
    b".",
    b"..",
    b"...",
    b"a.b.c",
    HEADER,
    HEADER + b".",
    HEADER + b"..",
    HEADER + b".e30.",
    HEADER + b".e30.AAAA.AAAA.AAAA",
    b"e30.e30.AAAA",
    b"W10.e30.AAAA",
    b"bnVsbA.e30.AAAA",
    base64url_encode(b"\xff\xfe{}") + b".e30.AAAA",
    nested(5000) + b".e30.AAAA",
    HEADER + b"." + nested(5000) + b".AAAA",
    b"\x00\xff\r\n" * 10,
    "ё.ё.ё".encode(),
    HEADER + b"\n.e30.AAAA",
    b" " + HEADER + b".e30.AAAA",
]


@pytest.mark.parametrize("token", NO_TOKENS, ids=range(len(NO_TOKENS)))
async def test_what_is_no_token_is_refused(keys: Keys, issuer: Issuer, token: bytes) -> None:
    assert isinstance(verdict(verifier(keys), token), Rejected)
    assert issuer.asked == 1


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b'"acme"', b"\xff", b"{", b'{"exp": ' + b"9" * 5000 + b"}"])
async def test_claims_that_are_no_object_are_refused_though_they_are_signed(keys: Keys, payload: bytes) -> None:
    token = SIGNER.sign(parts({"alg": "ES256", "kid": "one"}, payload))
    assert verdict(verifier(keys), token) == Rejected("it is no JSON Web Token")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.fixed_dictionaries({}, optional=dict.fromkeys(("alg", "kid", "typ", "cty", "crit", "b64", "jwk"), JSON))
CLAIMS = st.fixed_dictionaries({}, optional=dict.fromkeys((CLAIM, "exp", "nbf", "iat", "iss", "aud", "sub"), JSON))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=FIELDS, claims=CLAIMS, signature=st.binary(max_size=80))
@example(header={"alg": "ES256", "kid": "one"}, claims={"exp": float("nan")}, signature=b"")
def test_nothing_that_a_stranger_sends_is_ever_verified(
    tmp_path: Path, header: dict[str, Any], claims: dict[str, Any], signature: bytes
) -> None:
    by = verifier(_from_file(tmp_path), issuer="i", audience="a")
    for fields in (header, {"alg": "ES256", "kid": "one"} | header):
        assert not isinstance(verdict(by, parts(fields, claims) + b"." + base64url_encode(signature)), Verified)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(claims=CLAIMS)
def test_whatever_the_issuer_signs_has_a_verdict(tmp_path: Path, claims: dict[str, Any]) -> None:
    by = verifier(_from_file(tmp_path))
    token = SIGNER.sign(parts({"alg": "ES256", "kid": "one"}, {"exp": START + 60} | claims))
    assert isinstance(verdict(by, token), Verified | Rejected)


def _from_file(directory: Path) -> Keys:
    """Keys that stay known after their loop has ended: Hypothesis runs no coroutines."""
    path = directory / "jwks.json"
    path.write_bytes(key_set(SIGNER))
    keys = Keys(str(path))
    asyncio.run(keys.reload())
    return keys


async def test_no_reason_gives_anything_of_the_token_away(keys: Keys) -> None:
    canary = "canary-4711"
    by = verifier(keys, issuer="i", audience="a")
    good: dict[str, Any] = {"iss": "i", "aud": "a"}
    tokens = [
        SIGNER.token({"alg": canary}),
        SIGNER.token({"crit": [canary], canary: 1}),
        SIGNER.token(tenant=[canary], **good),
        SIGNER.token(iss=canary, aud="a"),
        SIGNER.token(iss="i", aud=canary),
        SIGNER.token(exp=canary, **good),
        SIGNER.token(exp=1, jti=canary, **good),
        SIGNER.token(jti=canary, **good) + b"AAAA",
        SIGNER.sign(parts({"alg": "ES256", "kid": "one"}, b'{"canary-4711')),
        canary.encode(),
    ]
    for token in tokens:
        told = verdict(by, token)
        assert isinstance(told, Rejected)
        assert "canary" not in told.why
        assert told.why
