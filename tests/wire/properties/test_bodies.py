"""Any content, in any chunks, in any pieces: the content, and never more or less."""

import re

from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.http1.body import ChunkedReader, LengthReader, MalformedBody
from proxy.http1.message import Limits
from tests.fuzz import oracle
from tests.fuzz.chunked import HEAD
from tests.wire.properties.profile import as_long_as_it_takes, tried

pytestmark = as_long_as_it_takes

LIMITS = Limits(trailers=64, chunk_extensions=32)
PART = st.binary(min_size=1, max_size=40)
RESTS = st.sampled_from([b"", b"G", b"0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
CUTS = st.lists(st.integers(1, 200), max_size=12)
EXTENSIONS = st.sampled_from([b"", b"", b";a", b";a=b", b' ; a="b;c"', b";"])
TRAILERS = st.sampled_from([b"", b"", b"X: 1\r\n", b"Host: b\r\nX:\r\n"])
SIZES = st.sampled_from(["%x", "%X", "%03x"])
BREAKS = st.sampled_from([b"", b"\r", b"\n", b"\0", b" ", b"g", b";", b"-", b"+", b"0", b"_", b"\r\n", b"\x0b"])


@st.composite
def chunkings(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A content, and its chunks up to the end of the body."""
    parts = draw(st.lists(PART, max_size=5))
    lines = [(draw(SIZES) % len(part)).encode() + draw(EXTENSIONS) for part in parts]
    chunks = b"".join(line + b"\r\n" + part + b"\r\n" for line, part in zip(lines, parts, strict=True))
    return b"".join(parts), chunks + b"0" + draw(EXTENSIONS) + b"\r\n" + draw(TRAILERS) + b"\r\n"


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """*data* in pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


def read(reader: ChunkedReader | LengthReader, pieces: list[bytes]) -> tuple[bytes, bytes, bool]:
    """Content, rest, and whether it is whole; raise MalformedBody."""
    content, rest = b"", b""
    for piece in pieces:
        if reader.done:
            rest += piece
        else:
            part, rest = reader.feed(piece)
            content += part
    return content, rest, reader.done


@tried(300)
@given(chunkings(), RESTS, CUTS)
def test_chunks_in_any_pieces_are_the_content(body: tuple[bytes, bytes], rest: bytes, sizes: list[int]) -> None:
    content, chunks = body
    assert read(ChunkedReader(LIMITS), cut(chunks + rest, sizes)) == (content, rest, True)
    theirs = oracle.read_request(HEAD + chunks + rest)
    if not oracle.explained(theirs, chunks):
        assert (theirs.body, theirs.rest, theirs.whole) == (content, rest, True)


@tried(300)
@given(chunkings(), st.data())
def test_the_beginning_of_a_chunked_body_is_never_whole(body: tuple[bytes, bytes], data: st.DataObject) -> None:
    content, chunks = body
    beginning = chunks[: data.draw(st.integers(0, len(chunks) - 1))]
    read_so_far, rest, whole = read(ChunkedReader(LIMITS), [beginning])
    assert not whole
    assert rest == b""
    assert content.startswith(read_so_far)


@tried(600)
@given(chunkings(), st.data(), BREAKS, st.integers(0, 2), CUTS)
def test_a_chunked_body_that_is_broken_somewhere_is_read_as_by_h11_or_not_at_all(
    body: tuple[bytes, bytes], data: st.DataObject, put_in: bytes, taken_out: int, sizes: list[int]
) -> None:
    at = data.draw(st.integers(0, len(body[1]) - 1))
    chunks = body[1][:at] + put_in + body[1][at + taken_out :]
    try:
        content, rest, whole = read(ChunkedReader(LIMITS), cut(chunks, sizes))
    except MalformedBody:
        return
    theirs = oracle.read_request(HEAD + chunks)
    assume(not oracle.explained(theirs, chunks))
    if whole:
        assert (theirs.body, theirs.rest, theirs.whole) == (content, rest, True), chunks
    else:
        assert not theirs.whole, chunks
        assert theirs.body.startswith(content) or content.startswith(theirs.body), chunks


@tried(200)
@given(st.text("0123456789abcdefABCDEFx_+- \t;", min_size=1, max_size=8))
def test_only_hexadecimal_digits_are_a_size(text: str) -> None:
    line = text.encode()
    behind = b"a" * 40 + b"\r\n0\r\n\r\n"
    try:
        content, _, whole = read(ChunkedReader(LIMITS), [line + b"\r\n" + behind])
    except MalformedBody:
        return
    size = re.match(rb"([0-9A-Fa-f]+)(?:[ \t]*;.*)?\Z", line)
    assert size is not None, line
    assert content == behind[: int(size[1], 16)]
    assert whole == (int(size[1], 16) == 40)


@tried(200)
@given(PART, RESTS, CUTS)
def test_a_counted_body_in_any_pieces_is_the_content(content: bytes, rest: bytes, sizes: list[int]) -> None:
    assert read(LengthReader(len(content)), cut(content + rest, sizes)) == (content, rest, True)


@tried(100)
@given(PART, CUTS)
def test_the_beginning_of_a_counted_body_is_never_whole(content: bytes, sizes: list[int]) -> None:
    assert read(LengthReader(len(content) + 1), cut(content, sizes)) == (content, b"", False)
