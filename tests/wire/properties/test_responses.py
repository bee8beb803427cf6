"""Any head of a response: read as h11 reads it, or refused for a reason; and given to the client as the same one."""

import re
from collections import Counter

import h11
from hypothesis import event, given
from hypothesis import strategies as st

from proxy.http1.message import CHUNKED, UNTIL_CLOSE, ResponseHead, read_response
from tests.fuzz import oracle
from tests.wire.properties.grammar import response_heads
from tests.wire.properties.profile import as_long_as_it_takes, tried

pytestmark = as_long_as_it_takes

STRICTER = {
    # RFC 9112 §2.2, §4, §5.2; RFC 9110 §5.5
    "a bare CR or LF, or a control byte": rb"(?<!\r)\n|\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]",
    "a folded line": rb"\r\n[ \t]",
    "a version other than 1.0 and 1.1": rb"\AHTTP/(?!1\.[01] )",
    "a status outside 100 to 599": rb"\A[^ ]+ (?![1-5]\d\d[ \r])",
    # RFC 9112 §6.1, §6.3; RFC 9110 §8.6: where the body ends would be a guess
    "a length and a coding": (
        rb"\r\nContent-Length:.*\r\nTransfer-Encoding:|\r\nTransfer-Encoding:.*\r\nContent-Length:"
    ),
    "a length that is repeated, listed or too large": (
        rb"\r\nContent-Length:.*\r\nContent-Length:|\r\nContent-Length:[^\r]*,|\r\nContent-Length:[ \t]*\d{19}"
    ),
    "a coding in HTTP/1.0": rb"\A[^\r]*1\.0 .*Transfer-Encoding:",
    # RFC 9110 §15.2
    "an interim response with a body": rb"\A[^ ]+ 1.*\r\n(Content-Length:[ \t]*0*[1-9]|Transfer-Encoding)",
    # RFC 9112 §5 allows it; llhttp does not, and to refuse is safe
    "a tab behind a length or a coding": rb"\r\n(?:Content-Length|Transfer-Encoding):[^\r]*\t[ \t]*\r",
}
"""What h11 takes, and we refuse: why, and how one knows it."""
FINAL = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
"""Behind an interim response."""


def test_whatever_is_read_means_the_same_to_h11_and_is_given_as_the_same_response() -> None:
    seen: Counter[str] = Counter()

    @tried(800)
    @given(response_heads, st.sampled_from([b"GET", b"HEAD", b"POST"]))
    def check(data: bytes, method: bytes) -> None:
        ours = read_response(data, method)
        theirs = oracle.read_response(data, method, ended=False)
        interim = theirs.head is None and not theirs.refused
        if ours is None:
            kind = _why(data) if interim or theirs.head is not None else "by h11, too"
        elif ours.status == 101:
            kind = "switches protocols"
        elif ours.status < 200:
            kind = "interim"
            assert ours.length == 0
            assert oracle.read_response(data + FINAL, method, ended=False).whole, data
        else:
            kind = "read"
            oracle.judge_response_head(ours, theirs)
            _judge_body(data, ours, method)
        seen[kind] += 1
        event(kind)

    check()
    assert seen["read"] > 150, seen
    assert seen["interim"] > 30, seen
    assert seen["by h11, too"] > 100, seen
    assert len(set(STRICTER) & set(seen)) > 5, seen  # the table is no dead letter


def _judge_body(data: bytes, head: ResponseHead, method: bytes) -> None:
    """Its length is what h11 counts, and what is given on is as long."""
    body = b"x" * min(max(head.length, 0), 10) if head.length >= 0 else b"some"
    if head.length > len(body):
        return  # a tebibyte, say
    wire = {CHUNKED: b"4\r\nsome\r\n0\r\n\r\n", UNTIL_CLOSE: body}.get(head.length, body)
    theirs = oracle.read_response(data + wire, method, ended=head.length == UNTIL_CLOSE)
    assert isinstance(theirs.head, h11.Response)
    assert theirs.whole, (data, theirs)
    assert (theirs.body, theirs.rest) == (body, b""), (data, theirs)
    oracle.judge_given(head, method, body)


def _why(data: bytes) -> str:
    for why, mark in STRICTER.items():
        if re.search(mark, data, re.IGNORECASE | re.DOTALL):
            return why
    raise AssertionError(f"refused for no reason that is known: {data!r}")
