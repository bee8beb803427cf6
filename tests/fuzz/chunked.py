"""A body in chunks: is it read in every cut as it is whole, and as h11 reads it?"""

from proxy.http1.body import ChunkedReader, MalformedBody
from proxy.http1.message import Limits
from tests.fuzz.oracle import explained, read_request
from tests.fuzz.script import steps

LIMITS = Limits(trailers=64, chunk_extensions=32)
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(pieces: list[bytes]) -> tuple[bytes, bytes, bool] | None:
    """Content, rest, and whether it is whole; None: malformed."""
    reader = ChunkedReader(LIMITS)
    content, rest = b"", b""
    for piece in pieces:
        if reader.done:
            rest += piece
            continue
        try:
            part, rest = reader.feed(piece)
        except MalformedBody:
            return None
        content += part
        assert reader.done or not rest
    return content, rest, reader.done


async def chunked(data: bytes) -> None:
    """Read *data* whole, in the pieces that its marks cut, and byte by byte; raise AssertionError."""
    pieces = [wire for _, wire in steps(data)]
    wire = b"".join(pieces)
    whole = read([wire])
    assert read(pieces) == whole, (pieces, whole)
    assert read([wire[at : at + 1] for at in range(len(wire))]) == whole, (wire, whole)
    if whole is None:
        return
    content, rest, done = whole
    theirs = read_request(HEAD + wire)
    if explained(theirs, wire):
        return
    assert not (theirs.refused and done), (wire, theirs)
    assert content.startswith(theirs.body) or theirs.body.startswith(content), (wire, theirs, content)
    assert theirs.whole or not done, (wire, theirs)
    if done:
        assert (theirs.body, theirs.rest) == (content, rest), (wire, theirs, whole)
        prefix = read([wire[: len(wire) - len(rest) - 1]])
        assert prefix is not None, "a body whose beginning is malformed"
        assert not prefix[2], "a prefix that is whole"
