"""What becomes of a record's content before it is kept: compressed, encrypted, both or nothing.

    how    1 byte: which of these it is
    ...    4 bytes, the dictionary's id, where one was used; 1 byte, the key's id, where it is encrypted
    body   the zstd frame, or the content as it is; encrypted: the nonce (12 bytes), the ciphertext and its tag (16)

What lies in clear, the record's head (`codec.py`) and this beginning, is associated data of the ciphertext, and so is
the digest of the dictionary: what was encrypted for one record cannot be made to pass for another's, nor its owner, its
state, its times or its dictionary be exchanged.
"""

from collections import OrderedDict
from collections.abc import Callable

from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record
from proxy.store import codec
from proxy.store.compression import ID_SIZE, PLAIN, Compressor
from proxy.store.dated import restored, shortened
from proxy.store.keyring import KeyRing, Unopenable

_COMPRESSED, _LEARNT, _ENCRYPTED, _DATED = 1, 2, 4, 8
AUTHENTIC = 1024 * 1024 * 1024 + 256 * 1024
"""Bytes that the content of a frame which was encrypted may have: somebody with the key has made it, and no bomb."""
MOST_KNOWN = 32
"""Dictionaries that are kept in memory."""
Sampler = Callable[[bytes], None]
_RECORD, _DICTIONARY = b"record ", b"dictionary "
_AS_IT_IS = (0, b"", b"", b"")


class UnknownDictionary(Exception):
    """It takes a dictionary that is not here: the store may have it. *id*: which."""

    def __init__(self, id: bytes) -> None:  # noqa: A002  # it is called so everywhere
        super().__init__(f"it is compressed with dictionary {id.hex()}")
        self.id = id


class Vault:
    """*compress*: whether responses are; *ring*: None: nothing is encrypted. *limit*: the largest content, in bytes, of
    a frame that anybody may have made. Whatever they are, what was compressed can be read, and with a ring what was not
    encrypted, unless *strict*: then nothing counts but what somebody with a key has written."""

    def __init__(self, *, compress: bool, ring: KeyRing | None, limit: int, strict: bool = False) -> None:
        self.compress = compress
        self.ring = ring
        """May be exchanged at any time."""
        self.compressor = PLAIN
        """That is used now."""
        self.sampled: Sampler | None = None
        """Is told each content that is compressed."""
        self._limit = limit
        self._strict = strict
        self._known: OrderedDict[bytes, Compressor] = OrderedDict()

    # -- records ------------------------------------------------------------------------------------------------

    def seal(self, record: Record) -> Record:
        """As it is kept in a store. What has no response is not compressed: the way of a claim is short."""
        attempt, state, response, sealed = record
        if not self.compress or response is None or sealed:
            return self.encrypt(record)
        dated = shortened(response)
        content = codec.content(attempt, dated or response)
        if self.sampled is not None:
            self.sampled(content)
        start = self.compressor.id
        frame = self.compressor.compress(content)
        if len(frame) + len(start) >= len(content):
            return self.encrypt(record)
        how = _COMPRESSED | (_LEARNT if start else 0) | (_DATED if dated else 0)
        return self._closed(attempt, state, how, start, frame)

    def encrypt(self, record: Record) -> Record:
        """As it lies beside the store, where nothing but a key may be needed to read it: without compression, since
        the dictionary is in the store, and with that it may be lost."""
        attempt, state, response, sealed = record
        if self.ring is None or sealed:
            return record
        if state is State.ABSENT:  # a release, on its way to the spool: its URL is of no use to anyone
            return Record(_bare(attempt), state, None)
        return self._closed(attempt, state, 0, b"", codec.content(attempt, response))

    def _closed(self, attempt: Attempt, state: State, how: int, start: bytes, body: bytes) -> Record:
        """Encrypted, where there is a ring, and behind what tells how."""
        if self.ring is None:
            return Record(_bare(attempt), state, None, bytes((how, *start)) + body)
        clear = bytes((how | _ENCRYPTED, *start, self.ring.first))
        used = self.compressor.digest if start else b""
        associated = codec.head(attempt, state, codec.SEALED) + clear + used
        encrypted = self.ring.encrypt(_RECORD + attempt.token, body, associated)
        return Record(_bare(attempt), state, None, clear + encrypted)

    def open(self, record: Record) -> Record:
        """As it was; raise Unopenable or UnknownDictionary."""
        attempt, state, _, sealed = record
        how, dictionary, clear, body = _parts(sealed) if sealed else _AS_IT_IS
        if self._strict and not how & _ENCRYPTED:
            raise Unopenable("it is not encrypted, and by record.require_encryption it must be")
        if not sealed:
            return record
        compressor = self.known(dictionary) if dictionary else PLAIN
        if how & _ENCRYPTED:
            associated = codec.head(attempt, state, codec.SEALED) + clear + compressor.digest
            body = self._decrypt(clear[-1], _RECORD + attempt.token, body, associated)
        if how & _COMPRESSED:
            body = compressor.decompress(body, AUTHENTIC if how & _ENCRYPTED else self._limit)
        try:
            opened = codec.opened(record, body)
            if how & _DATED and opened.response is not None:
                opened = opened._replace(response=restored(opened.response))
        except (codec.Undecodable, ValueError) as error:
            raise Unopenable(f"its content is damaged: {error}") from None
        return opened

    # -- dictionaries -------------------------------------------------------------------------------------------

    def known(self, id: bytes) -> Compressor:  # noqa: A002  # as above
        """The one of that dictionary; raise UnknownDictionary."""
        try:
            self._known.move_to_end(id)
        except KeyError:
            raise UnknownDictionary(id) from None
        return self._known[id]

    def learn(self, compressor: Compressor) -> None:
        """Keep it in mind; the one that was of no use for the longest time may be forgotten."""
        self._known[compressor.id] = compressor
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def seal_dictionary(self, data: bytes, id: bytes) -> bytes:  # noqa: A002  # as above
        """As it is kept: it has pieces of responses in it."""
        if self.ring is None:
            return b"\0" + data
        clear = bytes((_ENCRYPTED, self.ring.first))
        return clear + self.ring.encrypt(_DICTIONARY + id, data, clear)

    def open_dictionary(self, kept: bytes, id: bytes) -> bytes:  # noqa: A002  # as above
        """As it was; raise Unopenable."""
        if in_clear(kept):
            return kept[1:]
        if len(kept) < 2 or kept[0] != _ENCRYPTED:
            raise Unopenable("it is of another release, or damaged")
        return self._decrypt(kept[1], _DICTIONARY + id, kept[2:], kept[:2])

    def is_current(self, kept: bytes) -> bool:
        """Whether a dictionary that is kept so would be kept so now: with the key that encrypts, or with none."""
        return in_clear(kept) if self.ring is None else kept[:2] == bytes((_ENCRYPTED, self.ring.first))

    def _decrypt(self, number: int, purpose: bytes, data: bytes, associated: bytes) -> bytes:
        if self.ring is None:
            raise Unopenable(f"it is encrypted with key {number}, and there is no key at all")
        return self.ring.decrypt(number, purpose, data, associated)


def _bare(attempt: Attempt) -> Attempt:
    """Without its URL, which is content."""
    return Attempt(*attempt[:6], b"", attempt.fingerprint)


def in_clear(kept: bytes) -> bool:
    """Whether a dictionary that is kept so is not encrypted."""
    return kept[:1] == b"\0"


def _parts(sealed: bytes) -> tuple[int, bytes, bytes, bytes]:
    """How, the dictionary's id, all that lies in clear, and the rest; raise Unopenable."""
    how = sealed[0]
    behind_id = 1 + (ID_SIZE if how & _LEARNT else 0)
    end = behind_id + (1 if how & _ENCRYPTED else 0)
    if how > _COMPRESSED | _LEARNT | _ENCRYPTED | _DATED or len(sealed) < end:
        raise Unopenable("it is of another release, or damaged")
    return how, sealed[1:behind_id], sealed[:end], sealed[end:]
