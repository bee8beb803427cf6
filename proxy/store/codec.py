"""A record as bytes. The first bytes lie at fixed offsets: the scripts in the store compare them without decoding.

0      version, 1 byte: 1
1      state, 1 byte: `i` in progress, `c` completed, `u` unknown
2..18  token
18..34 the key's own hash: a reply that belongs to another key is noticed
34..   first use (ms), lease (ms), retention (ms), credential, URL, and the response where there is one
"""

import struct

from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record, Response

VERSION = 1
STATE_OFFSET, TOKEN_OFFSET, HASH_OFFSET = 1, 2, 18
STATE_CODES = {State.IN_PROGRESS: b"i", State.COMPLETED: b"c", State.UNKNOWN: b"u"}
_STATES = {code: state for state, code in STATE_CODES.items()}

_ATTEMPT = struct.Struct(">Bc16s16sQQQ16sH")
_RESPONSE = struct.Struct(">HHIQBQI")


class Undecodable(Exception):
    """The bytes are no record of a version that we know, or belong to another key."""


def encode(record: Record) -> bytes:
    """The record as bytes."""
    attempt, state, response = record
    head = _ATTEMPT.pack(
        VERSION,
        STATE_CODES[state],
        attempt.token,
        attempt.key_hash,
        attempt.first_used,
        attempt.lease,
        attempt.retention,
        attempt.credential,
        len(attempt.url),
    )
    if response is None:
        return head + attempt.url
    status, reason, fields, body, length, truncated, date = response
    sizes = _RESPONSE.pack(status, len(reason), len(fields), length, truncated, date, len(body))
    return b"".join((head, attempt.url, sizes, reason, fields, body))


def decode(data: bytes, key_hash: bytes) -> Record:
    """The record in *data*, which was found under *key_hash*; raise Undecodable."""
    try:
        version, code, token, own_hash, first_used, lease, retention, credential, url_length = _ATTEMPT.unpack_from(
            data
        )
        if version != VERSION or own_hash != key_hash:
            raise Undecodable(f"version {version}" if version != VERSION else "a record of another key")
        reader = _Reader(data, _ATTEMPT.size)
        attempt = Attempt(own_hash, token, first_used, lease, retention, credential, reader.take(url_length))
        state, response = _STATES[code], _response(reader) if reader.left else None
        if state is State.COMPLETED and response is None:
            raise Undecodable("cut short")
        return Record(attempt, state, response)
    except (struct.error, KeyError) as error:
        raise Undecodable(f"damaged: {error}") from None


def _response(reader: "_Reader") -> Response:
    head = _RESPONSE.unpack(reader.take(_RESPONSE.size))
    status, reason_length, fields_length, length, truncated, date, body_length = head
    reason, fields, body = reader.take(reason_length), reader.take(fields_length), reader.take(body_length)
    response = Response(status, reason, fields, body, length, bool(truncated), date)
    if reader.left:
        raise Undecodable("bytes after the record")
    return response


class _Reader:
    """Takes bytes from the front; a short record is a damaged one."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise Undecodable("cut short")
        end = self._position + count
        piece = self._data[self._position : end]
        self._position = end
        return piece
