"""A record as bytes. The first bytes lie at fixed offsets: the scripts in the store compare them without decoding.

0      version, 1 byte: 2
1      state, 1 byte: `i` in progress, `c` completed, `u` unknown
2..18  token
18..34 the key's own hash: a reply that belongs to another key is noticed
34     form, 1 byte: which of the parts that follow are there
35..41 first use, 6 bytes, ms
then   lease and retention, ms: 3 and 4 bytes, or 5 and 5 where one is longer than that
then   credential and fingerprint, 16 bytes each, where there is one
then   the content: URL, and the response where there is one; or what `vault.py` has made of it

All before the content is the *head*. Version 1, which has other sizes and neither form nor fingerprint, is still read:
an upgrade forgets nothing.
"""

import struct
from functools import lru_cache

from proxy.core.key import NO_CREDENTIAL
from proxy.core.lifecycle import State
from proxy.core.record import NO_FINGERPRINT, Attempt, Record, Response

VERSION = 2
STATE_OFFSET, TOKEN_OFFSET, HASH_OFFSET = 1, 2, 18
STATE_CODES = {State.IN_PROGRESS: b"i", State.COMPLETED: b"c", State.UNKNOWN: b"u"}
_STATES = {code: state for state, code in STATE_CODES.items()}

_CREDENTIAL, _FINGERPRINT, SEALED, _LONG = 1, 2, 4, 8
"""Bits of the form: what is there, and how."""
_HEAD = struct.Struct(">Bc16s16sBHI")
_RESPONSE = struct.Struct(">HBHIHII")
_URL = struct.Struct(">H")
_TRUNCATED, _OTHER_LENGTH = 1, 2
"""Bits of a response: it is truncated; the length as given to the client, which is not the body's, stands behind it."""
_LOW, _SINCE = 0xFFFFFFFF, 0xFFFFFFFFFFFF
"""The low part of a time; and all of one that may be negative, in 6 bytes."""
_STARTS = {state: bytes((VERSION,)) + code for state, code in STATE_CODES.items()}
_FORMS = [bytes((form,)) for form in range(2 * _LONG)]
_DURATIONS = {0: (3, 4), _LONG: (5, 5)}
"""Bytes of a lease and of a retention."""

_HEAD_1 = struct.Struct(">Bc16s16sQQQ16sH")
_RESPONSE_1 = struct.Struct(">HHIQBQI")


class Undecodable(Exception):
    """The bytes are no record of a version that we know, or belong to another key."""


def encode(record: Record) -> bytes:
    """The record as bytes."""
    attempt, state, response, sealed = record
    if sealed:
        return head(attempt, state, SEALED) + sealed
    return head(attempt, state) + content(attempt, response)


def head(attempt: Attempt, state: State, sealed: int = 0) -> bytes:
    """What lies in clear in any case. *sealed*: SEALED where the content is."""
    key_hash, token, used, lease, retention, credential, _, fingerprint = attempt
    long, times = _durations(lease, retention)
    form = sealed | long
    if credential == NO_CREDENTIAL:
        credential = b""
    else:
        form |= _CREDENTIAL
    if fingerprint == NO_FINGERPRINT:
        fingerprint = b""
    else:
        form |= _FINGERPRINT
    first = used.to_bytes(6, "big")
    return b"".join((_STARTS[state], token, key_hash, _FORMS[form], first, times, credential, fingerprint))


@lru_cache(maxsize=256)
def _durations(lease: int, retention: int) -> tuple[int, bytes]:
    """A bit of the form, and they. They are the same for all requests, or for many."""
    long = _LONG if lease >> 24 or retention >> 32 else 0
    sizes = _DURATIONS[long]
    return long, lease.to_bytes(sizes[0], "big") + retention.to_bytes(sizes[1], "big")


def content(attempt: Attempt, response: Response | None) -> bytes:
    """The rest, before anything is made of it. A response's time is counted from the first use: what is alike in all
    responses is compressed, and that is."""
    url = attempt.url
    if response is None:
        return _URL.pack(len(url)) + url
    status, reason, fields, body, length, truncated, date = response
    bits = _TRUNCATED if truncated else 0
    size = len(body)
    if length != size:
        bits |= _OTHER_LENGTH
    since = (date - attempt.first_used // 1000) & _SINCE
    sizes = _RESPONSE.pack(status, bits, len(reason), len(fields), since >> 32, since & _LOW, size)
    if length != size:
        sizes += length.to_bytes(8, "big")
    return b"".join((_URL.pack(len(url)), url, sizes, reason, fields, body))


def decode(data: bytes, key_hash: bytes) -> Record:
    """The record in *data*, which was found under *key_hash*; raise Undecodable."""
    try:
        if data[HASH_OFFSET : HASH_OFFSET + len(key_hash)] != key_hash:
            raise Undecodable("a record of another key")
        read = _DECODERS.get(data[0])
        if read is None:
            raise Undecodable(f"version {data[0]}")
        record = read(data)
    except (struct.error, KeyError) as error:
        raise Undecodable(f"damaged: {error}") from None
    if record.state is State.COMPLETED and record.response is None and not record.sealed:
        raise Undecodable("cut short")
    return record


def opened(record: Record, content: bytes) -> Record:
    """A record that was sealed, with what was in it; raise Undecodable."""
    key_hash, token, first_used, lease, retention, credential, _, fingerprint = record.attempt
    reader = _Reader(content, 0)
    url = reader.take(int.from_bytes(reader.take(2), "big"))
    attempt = Attempt(key_hash, token, first_used, lease, retention, credential, url, fingerprint)
    if record.state is State.COMPLETED and not reader.left:
        raise Undecodable("cut short")
    return Record(attempt, record.state, _response(reader, first_used) if reader.left else None)


def _decode(data: bytes) -> Record:
    _, code, token, key_hash, form, used, low = _HEAD.unpack_from(data)
    if form > _CREDENTIAL | _FINGERPRINT | SEALED | _LONG:
        raise Undecodable("a form of another release")
    reader = _Reader(data, _HEAD.size)
    first_used = used << 32 | low
    lease, retention = (int.from_bytes(reader.take(size), "big") for size in _DURATIONS[form & _LONG])
    credential = reader.take(16) if form & _CREDENTIAL else NO_CREDENTIAL
    fingerprint = reader.take(16) if form & _FINGERPRINT else NO_FINGERPRINT
    sealed, url, response = b"", b"", None
    if form & SEALED:
        sealed = reader.take(max(reader.left, 1))
    else:
        url = reader.take(int.from_bytes(reader.take(2), "big"))
        response = _response(reader, first_used) if reader.left else None
    attempt = Attempt(key_hash, token, first_used, lease, retention, credential, url, fingerprint)
    return Record(attempt, _STATES[code], response, sealed)


def _response(reader: "_Reader", first_used: int) -> Response:
    head = _RESPONSE.unpack(reader.take(_RESPONSE.size))
    status, bits, reason_length, fields_length, since, low, body_length = head
    date = (first_used // 1000 + (since << 32 | low)) & _SINCE
    length = body_length if not bits & _OTHER_LENGTH else int.from_bytes(reader.take(8), "big")
    reason, fields, body = reader.take(reason_length), reader.take(fields_length), reader.take(body_length)
    reader.end()
    return Response(status, reason, fields, body, length, bool(bits & _TRUNCATED), date)


def _decode_1(data: bytes) -> Record:
    _, code, token, key_hash, first_used, lease, retention, credential, url_length = _HEAD_1.unpack_from(data)
    reader = _Reader(data, _HEAD_1.size)
    attempt = Attempt(key_hash, token, first_used, lease, retention, credential, reader.take(url_length))
    return Record(attempt, _STATES[code], _response_1(reader) if reader.left else None)


def _response_1(reader: "_Reader") -> Response:
    head = _RESPONSE_1.unpack(reader.take(_RESPONSE_1.size))
    status, reason_length, fields_length, length, truncated, date, body_length = head
    reason, fields, body = reader.take(reason_length), reader.take(fields_length), reader.take(body_length)
    reader.end()
    return Response(status, reason, fields, body, length, bool(truncated), date)


_DECODERS = {1: _decode_1, VERSION: _decode}


class _Reader:
    """Takes bytes from the front; a short record is a damaged one."""

    __slots__ = ("_data", "_position", "left")

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self.left = len(data) - position

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise Undecodable("cut short")
        start = self._position
        self._position = end = start + count
        self.left -= count
        return self._data[start:end]

    def end(self) -> None:
        if self.left:
            raise Undecodable("bytes after the record")
