"""Bodies, whole and in any pieces: the same content, the same rest, the same refusals."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http1.body import LAST_CHUNK, BodyReader, MalformedBody, body_reader, chunk
from proxy.http1.message import CHUNKED, UNTIL_CLOSE, Limits

LIMITS = Limits(trailers=64, chunk_extensions=32)
Pieces = Iterable[bytes]


def read(length: int, pieces: Pieces, limits: Limits = LIMITS) -> tuple[bytes, bytes, bool]:
    """Feed a new reader: all content, all that is behind the body, and whether it is whole."""
    reader = body_reader(length, limits)
    assert reader is not None
    content, rest = b"", b""
    for piece in pieces:
        if reader.done:
            rest += piece
            continue
        part, rest = reader.feed(piece)
        content += part
        assert reader.done or not rest
    return content, rest, reader.done


def ways(data: bytes) -> Iterable[Pieces]:
    """Whole, split at every byte, and byte by byte."""
    yield [data]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    yield [data[at : at + 1] for at in range(len(data))]


def refused_in_every_way(data: bytes, limits: Limits = LIMITS) -> None:
    for pieces in ways(data):
        with pytest.raises(MalformedBody):
            read(CHUNKED, pieces, limits)


# -- which reader ---------------------------------------------------------------------------------------------------


def test_no_body_needs_no_reader() -> None:
    assert body_reader(0, LIMITS) is None


@pytest.mark.parametrize("length", [1, 2**60, CHUNKED, UNTIL_CLOSE])
def test_a_reader_begins_undone(length: int) -> None:
    reader = body_reader(length, LIMITS)
    assert reader is not None
    assert not reader.done


# -- of a known length ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", b"G", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_body_of_a_known_length_ends_where_the_next_request_begins(rest: bytes) -> None:
    for pieces in ways(b"hello\r\n0\r\n" + rest):
        assert read(10, pieces) == (b"hello\r\n0\r\n", rest, True)


def test_a_body_that_is_cut_short_is_not_whole() -> None:
    for pieces in ways(b"hell"):
        assert read(5, pieces) == (b"hell", b"", False)


def test_a_body_of_a_tebibyte_is_counted_and_not_kept() -> None:
    reader = body_reader(2**40, LIMITS)
    assert reader is not None
    piece = bytes(2**16)
    for _ in range(100):
        content, rest = reader.feed(piece)
        assert content is piece  # no copy: what passes through is not touched
        assert (rest, reader.done) == (b"", False)


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=50), st.data())
def test_any_body_in_any_pieces_ends_at_its_length(body: bytes, rest: bytes, data: st.DataObject) -> None:
    assert read(len(body), _cut(body + rest, data)) == (body, rest, True)


def _cut(data: bytes, draw: st.DataObject) -> list[bytes]:
    """*data* in pieces of any size, empty ones among them."""
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)])]


# -- until the connection closes ------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=50)))
def test_a_body_that_ends_with_its_connection_never_ends_before(pieces: list[bytes]) -> None:
    assert read(UNTIL_CLOSE, pieces) == (b"".join(pieces), b"", False)


# -- in chunks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", b"\r\n", b"POST / HTTP/1.1\r\n"])
@pytest.mark.parametrize(
    ("coded", "content"),
    [
        pytest.param(b"0\r\n\r\n", b"", id="empty"),
        pytest.param(b"5\r\nhello\r\n0\r\n\r\n", b"hello", id="one chunk"),
        pytest.param(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", id="two chunks"),
        pytest.param(b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", id="lower-case size"),
        pytest.param(b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", id="upper-case size"),
        pytest.param(b"000000000000005\r\nhello\r\n000\r\n\r\n", b"hello", id="leading zeros"),
        pytest.param(b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n", id="content that looks like an end"),
        pytest.param(b"5;a\r\nhello\r\n0;b=c\r\n\r\n", b"hello", id="extensions (RFC 9112 section 7.1.1)"),
        pytest.param(b'5 ;\ta="x y"\r\nhello\r\n0\r\n\r\n', b"hello", id="an extension behind blanks"),
        pytest.param(b"5;a;b;c\r\nhello\r\n0\r\n\r\n", b"hello", id="several extensions"),
        pytest.param(b"5;" + b"a" * 31 + b"\r\nhello\r\n0\r\n\r\n", b"hello", id="extensions at the limit"),
        pytest.param(b"0\r\nX: y\r\nA-b:\r\n\r\n", b"", id="trailers (RFC 9112 section 7.1.2)"),
        pytest.param(b"0\r\nX: " + b"y" * 57 + b"\r\n\r\n", b"", id="trailers at the limit"),
        pytest.param(b"0\r\nHost: evil\r\nContent-Length: 5\r\n\r\n", b"", id="trailers that would be framing"),
    ],
)
def test_a_chunked_body_is_the_same_in_any_pieces(coded: bytes, content: bytes, rest: bytes) -> None:

    for pieces in ways(coded + rest):
        assert read(CHUNKED, pieces) == (content, rest, True)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"-5", id="negative"),
        pytest.param(b"+5", id="signed"),
        pytest.param(b"0x5", id="with 0x"),
        pytest.param(b"5h", id="with h"),
        pytest.param(b"g", id="no hex digit"),
        pytest.param(b"5_0", id="underscore, which int() reads"),
        pytest.param(b" 5", id="blank before"),
        pytest.param(b"\t5", id="tab before"),
        pytest.param(b"5 ", id="blank behind"),
        pytest.param(b"5\t", id="tab behind"),
        pytest.param(b"5 5", id="two numbers"),
        pytest.param(b"5,5", id="list"),
        pytest.param(b"5.0", id="decimal"),
        pytest.param("\u0665".encode(), id="a digit that is not ASCII"),
        pytest.param(b"\xb2", id="superscript two"),
        pytest.param(b"5\0", id="NUL"),
        pytest.param(b"5\x0b", id="vertical tab"),
        pytest.param(b"5;a\0b", id="NUL in an extension"),
        pytest.param(b"5;a\x7fb", id="DEL in an extension"),
        pytest.param(b"5\n", id="bare LF before the CRLF"),
        pytest.param(b"5;a\nb", id="bare LF in an extension"),
        pytest.param(b"5\r", id="bare CR before the CRLF"),
        pytest.param(b"5;a\rb", id="bare CR in an extension"),
        pytest.param(b"0000000000000005", id="more digits than are read"),
        pytest.param(b"10000000000000005", id="2^64 and 5"),
        pytest.param(b"f" * 17, id="17 digits"),
        pytest.param(b"5;" + b"a" * 32, id="extensions over the limit"),
        pytest.param(b"5;" + b"a" * 300, id="extensions far over the limit"),
        pytest.param(b"5" * 300, id="digits without end"),
    ],
)
def test_a_hostile_size_line_is_refused_in_any_pieces(size: bytes) -> None:
    """RFC 9112 §7.1: what one reader takes for 5 and another for 0 is a smuggled request (§11.2)."""
    refused_in_every_way(size + b"\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "coded",
    [
        pytest.param(b"5\nhello\r\n0\r\n\r\n", id="LF ends the size"),
        pytest.param(b"5\r\nhello\n0\r\n\r\n", id="LF ends the chunk"),
        pytest.param(b"5\r\nhello\r\n0\n\r\n", id="LF ends the last size"),
        pytest.param(b"5\rhello\r\n0\r\n\r\n", id="CR ends the size"),
        pytest.param(b"5\r\nhello\r0\r\n\r\n", id="CR ends the chunk"),
        pytest.param(b"5\r\nhello0\r\n\r\n", id="nothing ends the chunk"),
        pytest.param(b"4\r\nhello\r\n0\r\n\r\n", id="a chunk longer than its size"),
        pytest.param(b"6\r\nhello\r\n0\r\n\r\n", id="a chunk shorter than its size"),
        pytest.param(b"5\r\nhello \r\n0\r\n\r\n", id="a blank behind the chunk"),
        pytest.param(b"5\r\nhello\r\r\n0\r\n\r\n", id="a CR too many behind the chunk"),
        pytest.param(b"5\r\nhello\r\n\r\n0\r\n\r\n", id="an empty line between chunks"),
        pytest.param(b"0\r\nX\r\n\r\n", id="a trailer without a colon"),
        pytest.param(b"0\r\nX : y\r\n\r\n", id="a blank before a trailer's colon"),
        pytest.param(b"0\r\n: y\r\n\r\n", id="a trailer without a name"),
        pytest.param(b"0\r\nX: y\r\n z\r\n\r\n", id="a folded trailer"),
        pytest.param(b"0\r\nX: y\nZ: a\r\n\r\n", id="bare LF in the trailers"),
        pytest.param(b"0\r\nX: y\rZ: a\r\n\r\n", id="bare CR in the trailers"),
        pytest.param(b"0\r\nX: \0\r\n\r\n", id="NUL in a trailer"),
        pytest.param(b"0\r\nX: " + b"y" * 60 + b"\r\n\r\n", id="a trailer over the limit"),
        pytest.param(b"0\r\n" + b"X: y\r\n" * 11 + b"\r\n", id="many trailers over the limit"),
        pytest.param(b"0\r\n" + b"X" * 300, id="a trailer without end"),
        pytest.param(b"0\r\nGET / HTTP/1.1\r\n\r\n", id="the next request where trailers are"),
    ],
)
def test_what_breaks_the_chunked_coding_is_refused_in_any_pieces(coded: bytes) -> None:
    refused_in_every_way(coded)


@pytest.mark.parametrize(
    "coded",
    [b"", b"5", b"5\r", b"5\r\n", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"0\r\n", b"0\r\n\r", b"0\r\nX: y"],
)
def test_a_chunked_body_that_broke_off_is_not_whole(coded: bytes) -> None:
    for pieces in ways(coded):
        content, rest, done = read(CHUNKED, pieces)
        assert not done
        assert not rest
        assert b"hello".startswith(content)


def test_a_line_that_never_ends_is_refused_long_before_it_fills_the_memory() -> None:
    for begun in (b"5;", b"0\r\nX: ", b"0\r\n" + b"X: y\r\n" * 5):
        reader = body_reader(CHUNKED, LIMITS)
        assert reader is not None
        reader.feed(begun)
        with pytest.raises(MalformedBody):
            _feed_until_refused(reader, lambda _: b"a", 100)


@pytest.mark.parametrize("begun", [b"5\n", b"5\r\nhello\n", b"0\r\nX: y\n"])
def test_a_bare_lf_is_refused_at_once_not_when_the_line_is_whole(begun: bytes) -> None:
    """Who ends lines so has sent all that it means to send: it would wait for its answer until the deadline."""
    with pytest.raises(MalformedBody):
        read(CHUNKED, [begun])


def test_one_byte_chunks_with_nothing_but_extensions_stay_within_the_limit_of_a_line() -> None:
    coded = (b"1;" + b"a" * 31 + b"\r\nx\r\n") * 1000 + LAST_CHUNK
    assert read(CHUNKED, [coded]) == (b"x" * 1000, b"", True)


def _feed_until_refused(reader: BodyReader, piece: Callable[[int], bytes], most: int) -> None:
    for number in range(most):
        reader.feed(piece(number))


def test_content_is_given_as_it_comes_not_when_its_chunk_is_whole() -> None:
    reader = body_reader(CHUNKED, LIMITS)
    assert reader is not None
    assert reader.feed(b"fffffff\r\nabc") == (b"abc", b"")
    assert reader.feed(bytes(2**16)) == (bytes(2**16), b"")
    assert not reader.done


chunks = st.lists(st.binary(min_size=1, max_size=60), max_size=6)
extensions = st.from_regex(rb"( ?;[a-z]{1,5}(=([a-z]{1,5}|\"[a-z ]{0,5}\"))?)?", fullmatch=True)
trailers = st.lists(st.from_regex(rb"X-[a-z]{1,5}: [ -~]{0,5}\r\n", fullmatch=True), max_size=3).map(b"".join)


@given(chunks, extensions, trailers, st.integers(0, 3), st.booleans(), st.binary(max_size=30), st.data())
def test_any_chunking_in_any_pieces_comes_back_as_it_was(
    parts: list[bytes],
    extension: bytes,
    trailer: bytes,
    zeros: int,
    upper: bool,
    rest: bytes,
    data: st.DataObject,
) -> None:
    size: Callable[[bytes], bytes] = lambda part: (b"%X" if upper else b"%x") % len(part)  # noqa: E731
    coded = b"".join(b"0" * zeros + size(part) + extension + b"\r\n" + part + b"\r\n" for part in parts)
    coded += b"0" + extension + b"\r\n" + trailer + b"\r\n"
    assert read(CHUNKED, _cut(coded + rest, data)) == (b"".join(parts), rest, True)


@given(chunks)
def test_what_we_write_in_chunks_we_read_as_it_was(parts: list[bytes]) -> None:
    coded = b"".join(chunk(part) for part in parts) + LAST_CHUNK
    assert read(CHUNKED, [coded]) == (b"".join(parts), b"", True)


def test_a_chunk_of_ours_is_one_that_every_reader_takes() -> None:
    assert chunk(b"0123456789abcdef") == b"10\r\n0123456789abcdef\r\n"
    assert LAST_CHUNK == b"0\r\n\r\n"


@given(st.binary(max_size=40) | st.text("0123456789abcdef;\r\n \tX:", max_size=40).map(str.encode), st.data())
def test_hostile_bytes_fare_the_same_whole_and_in_pieces(coded: bytes, data: st.DataObject) -> None:
    """Else a request's fate would depend on how the network cuts it. What is unfinished may be refused in pieces before
    it is refused whole, never be whole in one way and refused in the other."""

    def fate(pieces: Pieces) -> tuple[bytes, bytes, bool] | None:
        try:
            return read(CHUNKED, pieces)
        except MalformedBody:
            return None

    whole, cut = fate([coded]), fate(_cut(coded, data))
    assert whole == cut or (whole is not None and not whole[2] and cut is None)
