"""The Idempotency-Key: what is one, and under what name its record lies in the store."""

import re
from collections.abc import Sequence
from hashlib import blake2b

HASH_SIZE = 16
"""Bytes of every hash that we keep: 128 bits, no collision to be met among the keys of any retention."""


class KeyRule:
    """Says whether a field value is a key. *chars* is the inside of a regular expression's character class."""

    def __init__(self, shortest: int, longest: int, chars: str) -> None:
        self._valid = re.compile(rb"[%s]{%d,%d}" % (chars.encode("ascii"), shortest, longest)).fullmatch

    def read(self, values: Sequence[bytes]) -> bytes | None:
        """The key in the values of all Idempotency-Key fields of one request; None where there is no single valid one.

        A value in double quotes is an RFC 9651 string, as draft-ietf-httpapi-idempotency-key-header writes it.
        A comma-joined list fails by its characters: *chars* must not match a comma or a quote.
        """
        if len(values) != 1:
            return None
        value = values[0]
        if self._valid(value):
            return value
        unquoted = value[1:-1]
        return unquoted if value == b'"%b"' % unquoted and self._valid(unquoted) else None


class Hasher:
    """Makes the names and the proofs that are kept: keyed hashes, so that who reads the store learns no key and no
    credential from it. All proxies on one store need the same *secret* (0 to 64 bytes): another secret, another key."""

    def __init__(self, secret: bytes) -> None:
        self._key = blake2b(digest_size=HASH_SIZE, key=secret, person=b"key")
        self._scoped = blake2b(digest_size=HASH_SIZE, key=secret, person=b"scoped key")
        self._credential = blake2b(digest_size=HASH_SIZE, key=secret, person=b"credential")
        self._fingerprint = blake2b(digest_size=HASH_SIZE, key=secret, person=b"fingerprint")

    def key(self, key: bytes, scope: bytes = b"") -> bytes:
        """The 16 bytes under which the record of *key* lies. *scope*: see `core.scope`."""
        hashed = (self._scoped if scope else self._key).copy()  # a third of what setting one up costs
        hashed.update(scope + key)
        return hashed.digest()

    def fingerprint(self, *ways: str) -> bytes:
        """16 bytes that are the same for two proxies only if they find the same key in a request, and the same name for
        it: by their secret, and by their *ways* of finding it."""
        hashed = self._fingerprint.copy()
        for way in ways:
            hashed.update(way.encode() + b"\0")
        return hashed.digest()

    def credential(self, name: bytes, value: bytes) -> bytes:
        """The 16 bytes that stand for a credential; *name* is the lower-case name of the field that carried it."""
        hashed = self._credential.copy()
        hashed.update(name + b"\0" + value)
        return hashed.digest()


NO_CREDENTIAL = bytes(HASH_SIZE)
"""Stands for the absence of any credential."""
