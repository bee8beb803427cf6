"""A JWK Set (RFC 7517) as the public keys that can verify a signature, and what each of them may be used for."""

import json
from typing import Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK, PyJWTError
from jwt.algorithms import AllowedPublicKeys

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_ALGORITHMS = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("OKP", "Ed25519"): frozenset({"EdDSA"}),
    ("OKP", "Ed448"): frozenset({"EdDSA"}),
}
"""What a key of a type and curve can verify (RFC 7518 §3.1, RFC 8037 §3.1). Any other type is never
used, `oct` above all: whoever can verify with it can sign."""
ASYMMETRIC = frozenset().union(*_ALGORITHMS.values())
"""All algorithms there are."""
_RSA_LEAST = 2048
"""Bits (RFC 7518 §3.3)."""


class Failed(NamedTuple):
    """No keys. *why* goes on from the name of where they should come from: "is no JSON"."""

    why: str


class Key(NamedTuple):
    """A public key that may verify signatures made by any of *algorithms*."""

    kid: str | None
    algorithms: frozenset[str]
    public: AllowedPublicKeys


KeySet = tuple[Key, ...]


def read(document: bytes) -> KeySet | Failed:
    """The keys in a JWK Set that can be used, in its order: "Implementations SHOULD ignore JWKs within a JWK Set that
    use "kty" values that are not understood by them, that are missing required members, or for which values are out of
    the supported ranges" (RFC 7517 §5)."""
    try:
        content = json.loads(document)
    except (ValueError, RecursionError):
        return Failed("is no JSON")
    members = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(members, list):
        return Failed('is no JWK Set: an object with a list "keys"')
    read = [_key(member) for member in members]
    return tuple(key for key in read if isinstance(key, Key)) or _none_of([key for key in read if isinstance(key, str)])


def _none_of(reasons: list[str]) -> Failed:
    told = sorted(set(reasons))
    return Failed(f"has no key to verify signatures with: {'; '.join(told)}" if told else "has no keys")


def _key(jwk: Any) -> Key | str:
    """The key, or why it cannot be used; nothing of its content is in that."""
    if not isinstance(jwk, dict):
        return "no JSON object"
    if "d" in jwk:
        return "a private key: whoever reads the set could sign tokens"
    if jwk.get("use", "sig") != "sig":
        return "a key for another use"
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return "a key for other operations"
    if not isinstance(jwk.get("kid"), str | None):
        return "a kid that is no text"
    algorithms = _algorithms(jwk)
    if not algorithms:
        return "another type, curve or algorithm"
    try:
        public = PyJWK(jwk, min(algorithms)).key
    except (PyJWTError, UnsupportedAlgorithm):
        return "a member is missing or wrong"
    if isinstance(public, RSAPublicKey) and public.key_size < _RSA_LEAST:
        return f"an RSA key of less than {_RSA_LEAST} bits"
    return Key(jwk.get("kid"), algorithms, public)


def _algorithms(jwk: dict[str, Any]) -> frozenset[str]:
    """What the key can verify by its type, and may verify by its `alg`."""
    kind, curve, algorithm = jwk.get("kty"), jwk.get("crv"), jwk.get("alg")
    if not (isinstance(kind, str) and isinstance(curve, str | None) and isinstance(algorithm, str | None)):
        return frozenset()
    able = _ALGORITHMS.get((kind, curve), frozenset())
    return able if algorithm is None else able & {algorithm}
