"""Encryption with a ring of keys: the first encrypts, all of them decrypt.

AES-256-GCM. Each thing is encrypted under a key of its own, derived from one of the ring and what it is for (a record's
token, a dictionary's name): a key sees a handful of messages, so that random nonces never come near the number at which
they may repeat (2^32 of one key, NIST SP 800-38D §8.3), however many records there are.
"""

import os
from collections.abc import Mapping
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_SIZE = 32
NONCE_SIZE = 12
LARGEST_ID = 255


class Unopenable(Exception):
    """It cannot be read. The message says why, for the log: ids, no key and no content."""


class KeyRing:
    """*keys*: by their ids, 1 to 255, 32 bytes each, at least one; the first encrypts."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._keys = {
            number: blake2b(digest_size=KEY_SIZE, key=key, person=b"idempotency") for number, key in keys.items()
        }
        self.first = next(iter(keys))
        """The id of the key that encrypts."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Of all keys, in their order."""
        return tuple(self._keys)

    def marks(self) -> Mapping[int, bytes]:
        """By which each key is told from another of the same id, and nothing else is learnt of it."""
        marks = {}
        for number, derived in self._keys.items():
            mark = derived.copy()
            mark.update(b"mark")
            marks[number] = mark.hexdigest()[:16].encode()
        return marks

    def encrypt(self, purpose: bytes, data: bytes, associated: bytes) -> bytes:
        """A nonce, and behind it *data* under the first key. *associated* is not in it, and must be the same again."""
        nonce = os.urandom(NONCE_SIZE)
        return nonce + self._cipher(self.first, purpose).encrypt(nonce, data, associated)

    def decrypt(self, number: int, purpose: bytes, data: bytes, associated: bytes) -> bytes:
        """What was encrypted with the key *number*; raise Unopenable."""
        if number not in self._keys:
            ring = ", ".join(map(str, self._keys))
            raise Unopenable(f"it is encrypted with key {number}, and the ring has {ring}")
        try:
            return self._cipher(number, purpose).decrypt(data[:NONCE_SIZE], data[NONCE_SIZE:], associated)
        except (InvalidTag, ValueError):  # ValueError: too short for a nonce
            raise Unopenable(
                f"it is not what was encrypted with key {number}: damaged, moved, or the key is another"
            ) from None

    def _cipher(self, number: int, purpose: bytes) -> AESGCM:
        derived = self._keys[number].copy()
        derived.update(purpose)
        return AESGCM(derived.digest())
