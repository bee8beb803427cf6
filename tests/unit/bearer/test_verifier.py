"""Only what one of the issuer's own keys has signed is verified."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_decode, base64url_encode

from proxy.bearer.keys import Keys
from proxy.bearer.verifier import TRIED_LIMIT, NoKeys, Rejected, Verified
from tests.unit.bearer.conftest import Opened
from tests.unit.bearer.issuer import ALL, CLAIM, START, Issuer, Signer, key_set, parts, verdict, verifier

SIGNER = Signer()
RSA = Signer("rsa", "RS256", "RSA2048")
GOOD = Verified(b"acme")

KINDS = {"RS": "RSA2048", "PS": "RSA2048", "ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
EVERY = [Signer("x", name, KINDS.get(name) or KINDS[name[:2]]) for name in ALL if name != "EdDSA"] + [
    Signer("x", "EdDSA", "Ed25519"),
    Signer("x", "EdDSA", "Ed448"),
]


@pytest.mark.parametrize("signer", EVERY, ids=lambda signer: f"{signer.algorithm}-{signer.kind}")
async def test_a_token_of_every_asymmetric_algorithm_is_verified(
    signer: Signer, opened: Opened, issuer: Issuer
) -> None:
    issuer.document = key_set(signer)
    assert verdict(verifier(await opened()), signer.token()) == GOOD


# -- what is not signed by the issuer --------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "NONE", "", " none", None, 0, ["none"], ["ES256"], {}])
@pytest.mark.parametrize("kid", ["one", None])
async def test_a_token_that_is_not_signed_is_nothing(keys: Keys, algorithm: Any, kid: str | None) -> None:
    signed = parts({"alg": algorithm, "kid": kid} if kid else {"alg": algorithm}, {CLAIM: "acme", "exp": START + 60})
    for token in (signed + b".", signed, SIGNER.sign(signed)):
        assert isinstance(verdict(verifier(keys), token), Rejected)


async def test_a_token_without_an_algorithm_is_nothing(keys: Keys) -> None:
    assert verdict(verifier(keys), SIGNER.token({"alg": None})) == Rejected("its algorithm is not taken")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_a_public_key_is_no_secret_to_sign_with(algorithm: str, opened: Opened, issuer: Issuer) -> None:
    """CVE-2015-9235 and its many children."""
    issuer.document = key_set(RSA)
    by = verifier(await opened())
    public = RSA.private.public_key()
    encodings = [
        public.public_bytes(encoding, shape)
        for encoding, shape in (
            (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            (Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            (Encoding.PEM, PublicFormat.PKCS1),
        )
    ]
    hmac = jwt.algorithms.get_default_algorithms()[algorithm]
    for secret in [*encodings, encodings[0].strip(), json.dumps(RSA.jwk()).encode(), b""]:
        for header in ({"alg": algorithm, "kid": "rsa"}, {"alg": algorithm}):
            signed = parts(header, {CLAIM: "acme", "exp": START + 60})
            forged = signed + b"." + base64url_encode(hmac.sign(signed, secret))
            assert verdict(by, forged) == Rejected("its algorithm is not taken")


async def test_a_symmetric_key_in_the_set_is_not_used(opened: Opened, issuer: Issuer) -> None:
    secret = {"kty": "oct", "k": base64url_encode(b"s" * 32).decode(), "kid": "shared", "alg": "HS256"}
    issuer.document = key_set(secret, SIGNER)
    by = verifier(await opened())
    forged = jwt.encode({CLAIM: "acme", "exp": START + 60}, b"s" * 32, "HS256", {"kid": "shared"}).encode()
    assert verdict(by, forged) == Rejected("its algorithm is not taken")
    assert verdict(by, SIGNER.token()) == GOOD


def test_a_verifier_is_not_made_for_algorithms_that_need_a_secret() -> None:
    for algorithms in (["HS256"], ["ES256", "none"], [], ["es256"]):
        with pytest.raises(ValueError, match="ES256"):
            verifier(Keys("nowhere"), algorithms=algorithms)


async def test_an_algorithm_that_is_not_among_the_settings_is_not_taken(opened: Opened, issuer: Issuer) -> None:
    issuer.document = key_set(SIGNER, RSA)
    by = verifier(await opened(), algorithms=["RS256"])
    assert verdict(by, RSA.token()) == GOOD
    assert verdict(by, SIGNER.token()) == Rejected("its algorithm is not taken")
    assert verdict(by, RSA._replace(algorithm="PS256").token()) == Rejected("its algorithm is not taken")


async def test_a_signature_of_another_key_of_that_name_is_wrong(keys: Keys) -> None:
    assert verdict(verifier(keys), SIGNER._replace(number=1).token()) == Rejected("its signature is wrong")


async def test_a_signature_is_for_its_own_claims_and_header_alone(keys: Keys) -> None:
    header, payload, signature = SIGNER.token().split(b".")
    for forged in (
        [header, base64url_encode(json.dumps({CLAIM: "other", "exp": START + 60}).encode()), signature],
        [base64url_encode(b'{"alg":"ES256", "kid": "one"}'), payload, signature],
        [header, payload, SIGNER.token(jti="2").split(b".")[2]],
        [header, payload, base64url_encode(bytes(64))],
        [header, payload, base64url_encode(b"\xff" * 64)],
        [header, payload, base64url_encode(base64url_decode(signature)[:-1])],
        [header, payload, b""],
    ):
        assert verdict(verifier(keys), b".".join(forged)) == Rejected("its signature is wrong")


async def test_every_flipped_bit_of_a_signature_is_seen(keys: Keys) -> None:
    signed, _, encoded = SIGNER.token().rpartition(b".")
    signature = base64url_decode(encoded)
    by = verifier(keys)
    for bit in range(0, 8 * len(signature), 7):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        assert verdict(by, signed + b"." + base64url_encode(bytes(flipped))) == Rejected("its signature is wrong")


# -- which key ----------------------------------------------------------------------------------------------------


async def test_the_kid_of_another_key_does_not_help(opened: Opened, issuer: Issuer) -> None:
    second = SIGNER._replace(kid="two", number=1)
    issuer.document = key_set(SIGNER, second, RSA)
    by = verifier(await opened())
    assert verdict(by, second.token()) == GOOD
    assert verdict(by, second.token({"kid": "one"})) == Rejected("its signature is wrong")
    assert verdict(by, second.token({"kid": "rsa"})) == Rejected("its algorithm is not the key's")


@pytest.mark.parametrize("kid", [None, "their own"])
async def test_a_token_without_a_kid_is_verified_by_the_key_that_fits(
    opened: Opened, issuer: Issuer, kid: str | None
) -> None:
    """RFC 7515 §4.1.4: `kid` is a hint, and optional."""
    signers = [Signer(kid and f"{kid} {number}", number=number) for number in range(TRIED_LIMIT)]
    issuer.document = key_set(RSA, *signers)
    by = verifier(await opened())
    for signer in [RSA, *signers]:
        assert verdict(by, signer.token({"kid": None})) == GOOD
    assert verdict(by, signers[1].token({"kid": None}, exp=START)) == Rejected("it has expired")
    assert verdict(by, signers[1].token({"kid": None}, exp=None)) == Rejected("it has no exp")
    assert isinstance(verdict(by, Signer(None, number=TRIED_LIMIT).token()), NoKeys)


async def test_a_token_is_tried_with_a_few_keys_and_no_more(opened: Opened, issuer: Issuer) -> None:
    signers = [Signer(str(number), number=number) for number in range(TRIED_LIMIT + 1)]
    issuer.document = key_set(*signers)
    by = verifier(await opened())
    for signer in signers:
        assert verdict(by, signer.token({"kid": None})) == Rejected("several keys suit it")
        assert verdict(by, signer.token()) == GOOD


async def test_two_keys_of_one_name_and_algorithm_are_both_tried(opened: Opened, issuer: Issuer) -> None:
    """RFC 7517 §4.5: different keys "SHOULD use distinct "kid" values". Not all do."""
    twin = SIGNER._replace(number=1)
    issuer.document = key_set(SIGNER, twin)
    by = verifier(await opened())
    assert verdict(by, SIGNER.token()) == verdict(by, twin.token()) == GOOD
    assert verdict(by, SIGNER._replace(number=2).token()) == Rejected("its signature is wrong")


async def test_two_keys_of_one_name_are_told_apart_by_their_algorithms(opened: Opened, issuer: Issuer) -> None:
    """RFC 7517 §4.5: "the same "kid" value" for "different "kty" values" is allowed."""
    twin = RSA._replace(kid="one")
    issuer.document = key_set(SIGNER, twin)
    by = verifier(await opened())
    assert verdict(by, SIGNER.token()) == verdict(by, twin.token()) == GOOD


async def test_a_key_verifies_only_what_it_says_that_it_is_for(opened: Opened, issuer: Issuer) -> None:
    issuer.document = key_set(RSA.jwk(alg="RS256"))
    by = verifier(await opened())
    assert verdict(by, RSA.token()) == GOOD
    for algorithm in ("PS256", "RS512"):
        assert verdict(by, RSA._replace(algorithm=algorithm).token()) == Rejected("its algorithm is not the key's")


async def test_a_key_that_the_token_brings_along_is_ignored(keys: Keys, issuer: Issuer) -> None:
    """RFC 8725 §3.10. The issuer's own URL stands for a stranger's: nothing is fetched from it."""
    stranger = SIGNER._replace(number=1)
    brought = {"jwk": stranger.jwk(), "jku": issuer.url, "x5u": issuer.url, "x5c": ["MIIB"]}
    by = verifier(keys)
    assert verdict(by, stranger.token(brought)) == Rejected("its signature is wrong")
    assert isinstance(verdict(by, stranger.token(brought | {"kid": None})), NoKeys)  # the issuer may have it by now
    assert verdict(by, SIGNER.token(brought)) == GOOD
    assert issuer.asked == 1


@pytest.mark.parametrize(
    "header",
    [{"crit": ["exp"], "exp": 1}, {"crit": ["b64"], "b64": True}, {"crit": []}, {"crit": "b64"}, {"b64": False}],
)
async def test_extensions_that_must_be_understood_are_refused(keys: Keys, header: dict[str, Any]) -> None:
    assert isinstance(verdict(verifier(keys), SIGNER.token(header)), Rejected)


@pytest.mark.parametrize("kid", [1, True, ["one"], {"one": 1}])
async def test_a_kid_that_is_no_text_names_no_key(keys: Keys, issuer: Issuer, kid: Any) -> None:
    assert isinstance(verdict(verifier(keys), SIGNER.token({"kid": kid})), Rejected)
    assert issuer.asked == 1
