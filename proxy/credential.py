"""Whose request is this? The credential that it carries, as the hash that a record keeps."""

from proxy.core.key import NO_CREDENTIAL, Hasher
from proxy.http1.message import RequestHead


def credential(hasher: Hasher, headers: tuple[bytes, ...], head: RequestHead) -> bytes:
    """16 bytes: the hash of the first of *headers* (lower case) that is present, NO_CREDENTIAL where none is. All
    values of a repeated field count: a second one must not hide the first."""
    for name in headers:
        values = head.values(name)
        if values:
            return hasher.credential(name, b", ".join(values) if len(values) > 1 else values[0])
    return NO_CREDENTIAL
