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
        A comma-joined list fails by its characters, whatever *chars* allows.
        """
        if len(values) != 1:
            return None
        value = values[0]
        if value[:1] == b'"' and value[-1:] == b'"' and len(value) > 1:
            value = value[1:-1]
        if b"," in value or self._valid(value) is None:
            return None
        return value


class Hasher:
    """Makes the names and the proofs that are kept: keyed hashes, so that who reads the store learns no key and no
    credential from it. All proxies on one store need the same *secret* (0 to 64 bytes): another secret, another key."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def key(self, key: bytes) -> bytes:
        """The 16 bytes under which the record of *key* lies."""
        return blake2b(key, digest_size=HASH_SIZE, key=self._secret, person=b"key").digest()

    def credential(self, name: bytes, value: bytes) -> bytes:
        """The 16 bytes that stand for a credential; *name* is the lower-case name of the field that carried it."""
        return blake2b(name + b"\0" + value, digest_size=HASH_SIZE, key=self._secret, person=b"credential").digest()


NO_CREDENTIAL = bytes(HASH_SIZE)
"""Stands for the absence of any credential."""
