"""Bearer tokens of now, good and bad, and the file with the keys that verify them."""

import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_encode

from tests.support.raw import Field
from tests.unit.bearer.issuer import Signer, key_set, parts

SIGNER = Signer("one")
STRANGER = Signer("one", number=1)
"""Has a key of its own, and calls it as the issuer does."""
ISSUER, AUDIENCE = "https://issuer.example.com", "payments"
SETTINGS: dict[str, Any] = {
    "scope.claim": "tenant",
    "jwt.issuer": ISSUER,
    "jwt.audience": AUDIENCE,
    "jwt.algorithms": ["ES256"],
    "jwt.leeway": "5s",
}
"""All but where the keys are."""


def key_file(directory: Path, *signers: Signer) -> str:
    """The path of a key set with the keys of *signers*; of none: the issuer's. Written anew by each call."""
    path = directory / "jwks.json"
    path.write_bytes(key_set(*(signers or (SIGNER,))))
    return str(path)


def _claims(changes: dict[str, Any]) -> dict[str, Any]:
    now = int(time.time())
    usual = {"tenant": "acme", "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 3600}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def token(signer: Signer = SIGNER, header: dict[str, Any] | None = None, **claims: Any) -> bytes:
    """A good token of the tenant acme, for an hour; a claim that is changed to None is left out."""
    return signer.sign(parts({"alg": signer.algorithm, "kid": signer.kid} | (header or {}), _claims(claims)))


def unsigned(algorithm: str) -> bytes:
    """The same, with an algorithm that signs nothing."""
    return parts({"alg": algorithm, "kid": SIGNER.kid}, _claims({})) + b"."


def shared_secret(secret: bytes) -> bytes:
    """The same, signed with *secret*, as if it were shared (HS256)."""
    signed = parts({"alg": "HS256", "kid": SIGNER.kid}, _claims({}))
    return signed + b"." + base64url_encode(jwt.algorithms.get_default_algorithms()["HS256"].sign(signed, secret))


def public_pem() -> bytes:
    """The issuer's public key, which everybody has."""
    return SIGNER.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def tampered() -> bytes:
    """The claims of acme under the signature of another token."""
    header, _, signature = token(tenant="evil").split(b".")
    return b".".join((header, token().split(b".")[1], signature))


def bearer(value: bytes) -> Field:
    """The field that carries it."""
    return b"Authorization", b"Bearer " + value
