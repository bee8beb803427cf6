"""A token that is signed is good for its time, from its issuer, for its audience; and says what its claim says."""

from typing import Any

import pytest

from proxy.bearer.keys import Keys
from proxy.bearer.verifier import Rejected, Verified
from tests.unit.bearer.issuer import CLAIM, START, Clock, Signer, parts, verdict, verifier

SIGNER = Signer()
GOOD = Verified(b"acme")


async def test_a_token_is_good_from_its_nbf_until_its_exp(keys: Keys) -> None:
    wall = Clock()
    by = verifier(keys, wall)
    token = SIGNER.token(nbf=START + 10, exp=START + 20)
    expected = {9.9: "it is not valid yet", 10: None, 19.9: None, 20: "it has expired", 10**9: "it has expired"}
    for after, why in expected.items():
        wall.now = START + after
        assert verdict(by, token) == (Rejected(why) if why else GOOD)


async def test_the_clocks_may_differ_by_the_leeway(keys: Keys) -> None:
    wall = Clock()
    by = verifier(keys, wall, leeway=5.0)
    token = SIGNER.token(iat=START + 10, nbf=START + 10, exp=START + 20)
    expected = {4.9: "it is not valid yet", 5: None, 24.9: None, 25: "it has expired"}
    for after, why in expected.items():
        wall.now = START + after
        assert verdict(by, token) == (Rejected(why) if why else GOOD)


async def test_a_token_from_the_future_is_not_valid_yet(keys: Keys) -> None:
    assert verdict(verifier(keys), SIGNER.token(iat=START + 1)) == Rejected("it is not valid yet")


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [f'"{START + 60:.0f}"', "true", "[]", "{}", "NaN", "Infinity", "-Infinity", "1e999"])
async def test_a_time_that_is_none_is_refused(keys: Keys, name: str, value: str) -> None:
    claims = f'"{CLAIM}": "acme", "exp": {START + 60}, "{name}": {value}'
    token = SIGNER.sign(parts({"alg": "ES256", "kid": "one"}, f"{{{claims}}}".encode()))
    assert verdict(verifier(keys), token) == Rejected(f"its {name} is no time")


async def test_a_token_that_never_expires_is_refused(keys: Keys) -> None:
    by = verifier(keys)
    assert verdict(by, SIGNER.token(exp=None)) == Rejected("it has no exp")
    null = b'{"tenant": "acme", "exp": null}'
    assert verdict(by, SIGNER.sign(parts({"alg": "ES256", "kid": "one"}, null))) == Rejected("it has no exp")


async def test_a_very_late_expiry_is_a_time_like_any_other(keys: Keys) -> None:
    by = verifier(keys, leeway=1.5)
    for token in (SIGNER.token(exp=10**400), SIGNER.token(exp=1e300), SIGNER.token(exp=10**400, nbf=-(10**400))):
        assert verdict(by, token) == verdict(by, token) == GOOD
    assert verdict(by, SIGNER.token(nbf=10**400)) == Rejected("it is not valid yet")


@pytest.mark.parametrize(
    ("iss", "why"),
    [
        ("https://issuer.test", None),
        ("https://issuer.test/", "it is from another issuer"),
        ("https://issuer", "it is from another issuer"),  # CVE-2024-53861: a part of the text was enough
        ("", "it is from another issuer"),
        (["https://issuer.test"], "it is from another issuer"),
        (None, "it has no iss"),
    ],
)
async def test_the_issuer_has_to_be_the_one(keys: Keys, iss: Any, why: str | None) -> None:
    by = verifier(keys, issuer="https://issuer.test")
    assert verdict(by, SIGNER.token(iss=iss)) == (Rejected(why) if why else GOOD)
    assert verdict(verifier(keys), SIGNER.token(iss=iss)) == GOOD  # where no issuer is set


@pytest.mark.parametrize(
    ("aud", "why"),
    [
        ("payments", None),
        (["billing", "payments"], None),
        ("payments2", "it is for another audience"),
        (["billing"], "it is for another audience"),
        (["payments", 1], "it is for another audience"),
        ({"payments": 1}, "it is for another audience"),
        ([], "it has no aud"),
        (None, "it has no aud"),
    ],
)
async def test_the_audience_has_to_be_named(keys: Keys, aud: Any, why: str | None) -> None:
    by = verifier(keys, audience="payments")
    assert verdict(by, SIGNER.token(aud=aud)) == (Rejected(why) if why else GOOD)
    assert verdict(verifier(keys), SIGNER.token(aud=aud)) == GOOD


REFUSED = Rejected(f"it has no claim {CLAIM} that is a text or a whole number")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("acme", GOOD),
        ("Ärzte/東京 ", Verified("Ärzte/東京 ".encode())),
        (17, Verified(b"17")),
        (0, Verified(b"0")),
        (10**30, Verified(b"1" + b"0" * 30)),
        (17.0, REFUSED),
        (True, REFUSED),
        (False, REFUSED),
        ("", REFUSED),
        ([], REFUSED),
        (["acme"], REFUSED),
        ({"id": "acme"}, REFUSED),
        (None, REFUSED),
        ("\ud800", Rejected(f"its claim {CLAIM} is no Unicode text")),
    ],
)
async def test_the_claim_is_a_text_or_a_whole_number(keys: Keys, value: Any, expected: Verified | Rejected) -> None:
    assert verdict(verifier(keys), SIGNER.token(tenant=value)) == expected


@pytest.mark.parametrize("name", ["https://example.com/tenant", "a.b", "sub", "iss", "tenant id"])
async def test_a_claim_may_have_any_name_and_is_on_the_top_level(keys: Keys, name: str) -> None:
    by = verifier(keys, claim=name)
    assert verdict(by, SIGNER.token(None, **{name: "acme"})) == GOOD
    assert isinstance(verdict(by, SIGNER.token(a={"b": "acme"}, https={"tenant": "acme"})), Rejected)


async def test_a_subject_may_be_a_number(keys: Keys) -> None:
    """It should be a text (RFC 7519 §4.1.2), but there are issuers who count."""
    assert verdict(verifier(keys, claim="sub"), SIGNER.token(sub=42)) == Verified(b"42")
