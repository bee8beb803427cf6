"""A token is verified once for many requests, and remembered no longer than it is good."""

import itertools
from typing import Any

import jwt
import pytest

from proxy.bearer import verifier as module
from proxy.bearer.keys import Keys
from proxy.bearer.verifier import Rejected, Verified
from tests.unit.bearer.issuer import START, Clock, Signer, verdict, verifier

SIGNER = Signer()
GOOD = Verified(b"acme")


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The tokens whose signature was looked at, in order."""
    seen: list[bytes] = []
    decode = jwt.PyJWT.decode

    def seeing(self: jwt.PyJWT, token: bytes, *args: Any, **kwargs: Any) -> Any:
        seen.append(token)
        return decode(self, token, *args, **kwargs)

    monkeypatch.setattr(jwt.PyJWT, "decode", seeing)
    return seen


async def test_a_clients_token_is_verified_once_for_all_its_requests(keys: Keys, signatures: list[bytes]) -> None:
    by, token = verifier(keys), SIGNER.token()
    assert [verdict(by, token) for _ in range(10)] == [GOOD] * 10
    assert signatures == [token]
    other = SIGNER.token(tenant="other")
    assert verdict(by, other) == Verified(b"other")
    assert signatures == [token, other]


async def test_a_bad_token_next_to_a_good_one_is_not_taken_for_it(keys: Keys) -> None:
    by, token = verifier(keys), SIGNER.token()
    assert verdict(by, token) == GOOD
    for near in (token[:-1], token + b"A", token.swapcase(), token[:-4] + b"AAAA", token + b" "):
        assert isinstance(verdict(by, near), Rejected)
    assert verdict(by, token) == GOOD


async def test_a_token_is_remembered_no_longer_than_it_is_good(keys: Keys) -> None:
    wall = Clock()
    by, token = verifier(keys, wall, leeway=2.0), SIGNER.token(exp=START + 60)
    assert verdict(by, token) == GOOD
    wall.now = START + 61.9
    assert verdict(by, token) == GOOD
    wall.now = START + 62
    assert verdict(by, token) == Rejected("it has expired")


async def test_what_is_remembered_is_bounded_and_the_oldest_goes(
    keys: Keys, signatures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED_LIMIT", 3)
    by = verifier(keys)
    tokens = [SIGNER.token(jti=str(number)) for number in range(5)]
    for token in tokens:
        assert verdict(by, token) == GOOD
        assert len(by._remembered) <= 3
    signatures.clear()
    for token in [*tokens[2:], tokens[0]]:
        assert verdict(by, token) == GOOD
    assert signatures == [tokens[0]]


async def test_a_token_is_kept_as_a_hash_only(keys: Keys) -> None:
    by, token = verifier(keys), SIGNER.token()
    assert verdict(by, token) == GOOD
    kept = list(itertools.chain.from_iterable((name, value) for name, value in by._remembered.items()))
    assert len(kept) == 2
    assert not any(token[-20:] in repr(part).encode() for part in kept)
