"""The fingerprint of a payload: whether a key came back with the same request.

A client that makes a request anew for each try makes a new multipart boundary each time (RFC 2046 section 5.1.1), and
still asks for the same. So a multipart body is compared by its parts, whatever stands between them; any other body,
and one that is not strictly what its Content-Type says, by its bytes. Wherever a multipart could be read in two ways it
is compared by its bytes: at worst a retry is called another payload, and never another payload a retry.
"""

import re
from collections.abc import Iterator
from hashlib import blake2b
from itertools import chain
from struct import Struct

from proxy.core.key import HASH_SIZE

_NESTED = 2
"""How many multiparts may lie in one another within the outermost one; a deeper one counts by its bytes."""
_MOST_DASHES = 1024
"""Lines of a body that begin with two dashes. One with more counts by its bytes: each may have to be looked at, and the
backends' own limits for parts are like it (1000 with Django and Werkzeug)."""
_LONGEST_HEAD = 4096
"""Bytes; a part with a longer head counts by its bytes."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9a-z-]++"  # RFC 9110 section 5.6.2
_BLANK = rb"(?:[ \t]|\r\n[ \t])*+"  # folded, as mail programs write it in the head of a part
_OTHER = rb'%b;%b(?!boundary=)(?:%b=(?:"(?:[^"\\\r\n]|\\[^\r\n])*+"|[^\x00-\x20\x7f;,"]++))?+' % (
    _BLANK,
    _BLANK,
    _TOKEN,
)
_BOUNDARY = rb"[0-9a-z'()+_,./:=?-]{1,70}+"  # RFC 2046 wants quotes around some of these; not all clients know that
_QUOTED = rb'"[0-9a-z\'()+_,./:=? -]{0,69}[0-9a-z\'()+_,./:=?-]"'
_MULTIPART = re.compile(
    rb"%b(?P<type>multipart/%b)(?P<before>(?:%b)*+)%b;%bboundary=(?P<boundary>%b|%b)(?P<after>(?:%b)*+)%b(?=\r\n|\Z)"
    % (_BLANK, _TOKEN, _OTHER, _BLANK, _BLANK, _BOUNDARY, _QUOTED, _OTHER, _BLANK),
    re.IGNORECASE,
)
"""A Content-Type with exactly one boundary: with two, who knows which the backend takes."""

_HEADER = Struct(">QQ")
_NUMBER = Struct(">Q")


class Fingerprints:
    """Makes fingerprints, keyed by *secret* (0 to 64 bytes): who reads the store cannot try payloads against them."""

    def __init__(self, secret: bytes) -> None:
        self._payload = blake2b(digest_size=HASH_SIZE, key=secret, person=b"payload")

    def make(self, method: bytes, target: bytes, content_type: bytes, body: bytes) -> bytes:
        """16 bytes that are the same for requests with the same method, target (raw, with its query) and body.

        *content_type* is the field's value, empty without one. That of a multipart counts but for its boundary (`start`
        says which part is meant, RFC 2387 section 3.2); no other does. As with every hash here, two requests share one,
        or one is NO_FINGERPRINT, with a probability of 2 to the -128. Time and memory are linear in the length of
        *body*.
        """
        hashed = self._payload.copy()
        hashed.update(_HEADER.pack(len(method), len(target)) + method + target)
        encoded = _multipart(content_type, body) if content_type[:10].lower() == b"multipart/" else None
        if encoded is None:
            hashed.update(b"R")
            hashed.update(body)
        else:
            for chunk in encoded:
                hashed.update(chunk)
        return hashed.digest()


# What is hashed after the length of the method, that of the target, and both (all numbers have 8 bytes):
#
#   payload   = "R" body                       to its end
#             / "T" bytes bytes bytes multipart  the type, in lower case; the parameters before and after the boundary
#   multipart = bytes bytes count *part        the preamble, the epilogue, how many parts
#   part      = "P" bytes                      head and content
#             / "N" bytes bytes multipart      the head of a nested one, before and after its boundary
#   bytes     = length *OCTET
#
# It can be read back in one way only, so no two payloads have the same encoding.


def _multipart(content_type: bytes, body: bytes) -> Iterator[bytes] | None:
    """The encoding of a multipart body; None: it is none, strictly read."""
    declared = _MULTIPART.fullmatch(content_type)
    if declared is None or body.count(b"\r\n--") > _MOST_DASHES:
        return None
    pieces = _cut(body, declared["boundary"])
    if pieces is None:
        return None
    parameters = (declared[group].strip(b" \t\r\n;") for group in ("before", "after"))
    head = chain.from_iterable(map(_bytes, (declared["type"].lower(), *parameters)))
    return chain([b"T"], head, _parts(pieces, _NESTED))


def _cut(body: bytes, boundary: bytes) -> list[bytes] | None:
    """What stands before, between and after the delimiters; None: *body* is not as RFC 2046 section 5.1.1 has it.

    The first piece is the preamble, the last the rest of the closing delimiter with the epilogue. Every part begins
    with the CRLF that ends its delimiter: where one does not, there is padding (not to be generated), a longer
    boundary, or two delimiters that share a CRLF. There may be no part at all: clients send an empty form like this.
    Dashes and boundary within a line ("must not appear within the encapsulated material") could be a delimiter to a
    backend that is less strict: then the parts are not what we think.
    """
    dashed = b"--" + boundary.strip(b'"')
    pieces = (b"\r\n" + body).split(b"\r\n" + dashed)  # the first delimiter may lack its CRLF
    strict = (
        body.count(dashed) == len(pieces) - 1
        and pieces[-1][:4] in (b"--", b"--\r\n")
        and all(piece.startswith(b"\r\n") for piece in pieces[1:-1])
    )
    return pieces if strict else None


def _parts(pieces: list[bytes], levels: int) -> Iterator[bytes]:
    yield from _bytes(pieces[0])
    yield from _bytes(pieces[-1])
    yield _NUMBER.pack(len(pieces) - 2)
    for part in pieces[1:-1]:
        yield from _part(part, levels)


def _part(part: bytes, levels: int) -> Iterator[bytes]:
    """*part* begins with a CRLF, so that every line of its head does; *levels*: how many may still be nested."""
    end = part.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
    field = _content_type(part[: max(end, 0)]) if levels else None
    pieces = _cut(part[end + 4 :], field["boundary"]) if field else None
    if field is None or pieces is None:
        yield b"P"
        yield from _bytes(part)
    else:
        yield b"N"
        yield from _bytes(part[: field.start("boundary")])
        yield from _bytes(part[field.end("boundary") : end])
        yield from _parts(pieces, levels - 1)


def _content_type(head: bytes) -> re.Match[bytes] | None:
    """The one Content-Type of a part with this head, if it is a multipart's."""
    _, *values = head.lower().split(b"\r\ncontent-type:")
    return _MULTIPART.match(head, len(head) - len(values[0])) if len(values) == 1 else None


def _bytes(value: bytes) -> Iterator[bytes]:
    yield _NUMBER.pack(len(value))
    yield value
