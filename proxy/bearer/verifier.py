"""JSON Web Tokens (RFC 7519), verified (RFC 8725): from a bearer token to the value of one of its claims."""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jwt
from jwt.types import Options

from proxy.bearer.jwks import ASYMMETRIC, Key, KeySet
from proxy.bearer.keys import Keys

TOKEN_LIMIT = 16 * 1024
"""Bytes of a token; a longer one is not looked at."""
REMEMBERED_LIMIT = 4096
"""Tokens whose verdict is kept."""
MISSED_LIMIT = 1024
"""Keys that are known not to be there."""
TRIED_LIMIT = 4
"""Keys that a token is tried with where its head leaves open which it is: as many signatures can a stranger make us
verify with a token, and as many again if the issuer changes its keys meanwhile."""
_WHY: dict[type[jwt.PyJWTError], str] = {
    jwt.InvalidIssuerError: "it is from another issuer",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.DecodeError: "it is no JSON Web Token",
}

_OPTIONS: Options = {
    "require": ["exp"],
    "verify_exp": False,  # these three by `wall`, in `_untimely`
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}


class Verified(NamedTuple):
    """*value*: the claim's, as UTF-8, a whole number as its digits. Never empty."""

    value: bytes


class Rejected(NamedTuple):
    """It proves nothing. *why*: for the log; neither the token nor what it claims is in it."""

    why: str


class NoKeys(NamedTuple):
    """Nothing can be said of it: the keys cannot be had."""

    why: str


Verdict = Verified | Rejected | NoKeys
_FORGED = Rejected("its signature is wrong")


class _Header(NamedTuple):
    algorithm: str
    kid: str | None


class _UnknownKey(NamedTuple):
    """The issuer may have it by now. *name*: its id; of a key without one, the hash of the token: what one token needs
    in vain says nothing of another's."""

    name: str | bytes


class _Remembered(NamedTuple):
    expires: float
    verdict: Verified


class Verifier:
    """Verifies tokens by *keys*, for the value of their top-level *claim*.

    *issuer*, *audience*: what `iss` has to be, and `aud` to name; empty: anything. *algorithms*: those of
    `jwks.ASYMMETRIC` that are taken; raise ValueError for others. *leeway*: seconds by which the issuer's clock may
    differ from *wall*, which gives Unix time.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        claim: str,
        issuer: str,
        audience: str,
        algorithms: Sequence[str],
        leeway: float,
        wall: Callable[[], float],
    ) -> None:
        if not algorithms or not ASYMMETRIC.issuperset(algorithms):
            raise ValueError(f"algorithms: one or more of {', '.join(sorted(ASYMMETRIC))}")
        self._keys = keys
        self._claim = claim
        self._issuer = issuer or None
        self._audience = audience or None
        self._algorithms = frozenset(algorithms)
        self._leeway = leeway
        self._wall = wall
        self._jwt = jwt.PyJWT(_OPTIONS)
        self._missed: dict[str | bytes, int] = {}
        """Names of keys that were not there, and how often the keys had been fetched when that was first seen."""
        self._remembered: dict[bytes, _Remembered] = {}
        self._remembered_by: KeySet = ()

    def verify(self, token: bytes, done: Callable[[Verdict], None]) -> None:
        """Call *done* exactly once: at once where the keys are known, else after they were fetched, within `Keys`' own
        deadline."""
        if len(token) > TOKEN_LIMIT:
            done(Rejected(f"it is longer than {TOKEN_LIMIT} bytes"))
            return
        keys = self._keys.known
        verdict = self._recall(token) or self._judge(token, keys)
        if not isinstance(verdict, _UnknownKey):
            done(verdict)
            return
        missed = self._missed.setdefault(verdict.name, self._keys.fetched)
        if len(self._missed) > MISSED_LIMIT:
            del self._missed[next(iter(self._missed))]
        if not self._keys.refetch(partial(self._finish, token, keys, missed, done)):
            done(self._without_key(missed))

    def _finish(self, token: bytes, tried: KeySet, missed: int, done: Callable[[Verdict], None]) -> None:
        keys = self._keys.known
        verdict = None if keys is tried else self._judge(token, keys)  # the same keys fit no better
        done(self._without_key(missed) if verdict is None or isinstance(verdict, _UnknownKey) else verdict)

    def _without_key(self, missed: int) -> Verdict:
        """The issuer may have the key all the same, unless it was asked since the key was first *missed*."""
        if self._keys.trouble:
            return NoKeys(self._keys.trouble)
        if self._keys.failure:
            return NoKeys(f"its key is not known, and {self._keys.failure}")
        if self._keys.fetched == missed:
            return NoKeys("its key is not known, and the key set was fetched a moment ago")
        return Rejected("its key is not in the key set")

    # -- tokens that were verified before -------------------------------------------------------------------------

    def _recall(self, token: bytes) -> Verified | None:
        keys = self._keys.known
        if keys is not self._remembered_by:  # the key that verified it may have been taken away
            self._remembered.clear()
            self._remembered_by = keys
            return None
        remembered = self._remembered.get(_name(token))
        return remembered.verdict if remembered and self._wall() - self._leeway < remembered.expires else None

    def _remember(self, token: bytes, expires: float, verdict: Verified) -> Verified:
        if len(self._remembered) >= REMEMBERED_LIMIT:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[_name(token)] = _Remembered(expires, verdict)
        return verdict

    # -- and those that were not ----------------------------------------------------------------------------------

    def _judge(self, token: bytes, keys: KeySet) -> Verdict | _UnknownKey:
        header = self._header(token)
        if isinstance(header, Rejected):
            return header
        suitable = _choose(keys, header)
        if isinstance(suitable, Rejected):
            return suitable
        readings = (self._read(token, header.algorithm, key) for key in suitable)
        claims = next((claims for claims in readings if claims is not _FORGED), _FORGED)
        if claims is _FORGED and (header.kid is None or not suitable):
            return _UnknownKey(_name(token) if header.kid is None else header.kid)
        return claims if isinstance(claims, Rejected) else self._untimely(claims) or self._granted(token, claims)

    def _read(self, token: bytes, algorithm: str, key: Key) -> dict[str, Any] | Rejected:
        """What it claims; `_FORGED`: another key has signed it, if any."""
        try:
            return self._jwt.decode(
                token,
                key.public,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                options={"verify_aud": self._audience is not None},
            )
        except jwt.InvalidSignatureError:
            return _FORGED
        except jwt.MissingRequiredClaimError as missing:
            return Rejected(f"it has no {missing.claim}")
        except jwt.PyJWTError as error:
            return Rejected(_WHY.get(type(error), "it is not valid"))

    def _header(self, token: bytes) -> _Header | Rejected:
        try:  # of the first part alone: the others are read when it is known that there is a key for them
            header = jwt.get_unverified_header(token.partition(b".")[0] + b"..")
        except jwt.PyJWTError:
            return Rejected(_WHY[jwt.DecodeError])
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            return Rejected("its algorithm is not taken")
        if "crit" in header:
            return Rejected("it asks for extensions that are not understood (crit)")  # RFC 7515 §4.1.11
        return _Header(algorithm, header.get("kid"))

    def _untimely(self, claims: dict[str, Any]) -> Rejected | None:
        now, leeway = self._wall(), self._leeway
        for name in ("exp", "nbf", "iat"):
            if name in claims and not _is_time(claims[name]):
                return Rejected(f"its {name} is no time")
        if claims["exp"] <= now - leeway:
            return Rejected("it has expired")
        if claims.get("nbf", now) > now + leeway or claims.get("iat", now) > now + leeway:
            return Rejected("it is not valid yet")
        return None

    def _granted(self, token: bytes, claims: dict[str, Any]) -> Verdict:
        value = claims.get(self._claim)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value:
            return Rejected(f"it has no claim {self._claim} that is a text or a whole number")
        try:
            verdict = Verified(value.encode())
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write
            return Rejected(f"its claim {self._claim} is no Unicode text")
        return self._remember(token, claims["exp"], verdict)


def _choose(keys: KeySet, header: _Header) -> KeySet | Rejected:
    """Those that may have signed the token, by its header; none: the key that it names is not there, or, where it names
    none, none that suits it."""
    named = tuple(key for key in keys if header.kid in (None, key.kid))
    suitable = tuple(key for key in named if header.algorithm in key.algorithms)
    if named and not suitable and header.kid is not None:
        return Rejected("its algorithm is not the key's")
    return suitable if len(suitable) <= TRIED_LIMIT else Rejected("several keys suit it")


def _is_time(value: object) -> bool:
    """RFC 7519 §2, NumericDate: "A JSON numeric value"."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _name(token: bytes) -> bytes:
    """Instead of the token, which is a secret and long."""
    return hashlib.sha256(token).digest()
