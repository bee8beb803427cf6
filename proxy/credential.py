"""Whose request is this? The credential that it carries, as the hash that a record keeps."""

from functools import lru_cache

from proxy.core.key import NO_CREDENTIAL, Hasher
from proxy.http1.fields import lookalikes
from proxy.http1.message import RequestHead

_CERTIFICATE = b"client certificate"  # with a blank: no field has such a name


def credential(hasher: Hasher, headers: tuple[bytes, ...], head: RequestHead, certificate: bytes) -> bytes:
    """16 bytes: the hash of the first of *headers* (lower case) that has a value; where none has, *certificate*, which
    `certified` made; where there is none either, NO_CREDENTIAL. All values of a repeated field count: a second one must
    not hide the first."""
    for name in headers:
        # One without a value is nobody's. A backend may take X_Api_Key for X-Api-Key; who wrote it does.
        values = [value for spelling in spellings(name) for value in head.values(spelling) if value]
        if values:
            return hasher.credential(name, b", ".join(values) if len(values) > 1 else values[0])
    return certificate or NO_CREDENTIAL


@lru_cache(maxsize=64)
def spellings(name: bytes) -> tuple[bytes, ...]:
    """*name*, and what a backend may take for it."""
    return (name, *sorted(lookalikes(name)))


def certified(hasher: Hasher, certificate: bytes) -> bytes:
    """16 bytes that stand for a client's *certificate* (DER). Empty, as it is, where there is none."""
    return certificate and hasher.credential(_CERTIFICATE, certificate)
