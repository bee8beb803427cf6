"""Any head of a request: read as h11 reads it, or refused for a reason; and passed on as the same request."""

import re
from collections import Counter

import h11
from hypothesis import event, given

from proxy.http1.message import Fault, Limits, RequestHead, read_request
from tests.fuzz import oracle
from tests.wire.properties.grammar import request_heads
from tests.wire.properties.profile import as_long_as_it_takes, tried

pytestmark = as_long_as_it_takes

STRICTER = {
    # RFC 9112 §2.2, §5.2; RFC 9110 §5.5
    "a bare CR or LF, or a control byte": rb"(?<!\r)\n|\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]",
    "a folded line": rb"\r\n[ \t]",
    # RFC 9112 §3; RFC 9110 §9.1
    "a method that is none, or that a gateway does not serve": (
        rb"\A(?!(?-i:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|QUERY) )"
    ),
    "a version other than 1.0 and 1.1": rb"\A[^\r]* HTTP/(?!1\.[01]\r)",
    "a target that is no URI": rb"\A[^ ]+ [^ \r]*[^!$-;=?-\[\]_`a-z~ \r][^ \r]* ",
    "a target in no form that this method has": rb"\A(?!OPTIONS)[^ ]+ \*|\A[^ ]+ (?!/|\*|https?://)|\A[^ ]+ \*[^ ]",
    "an authority with userinfo, or that is none": rb"\A[^ ]+ https?://(?![A-Za-z0-9._~-]+(:[0-9]*)?[/? ])",
    # RFC 9112 §3.2
    "a Host that is none": rb"\r\nHost:(?![ \t]*[a-z0-9._~%!$&'*+;=-]+(:\d{0,5})?[ \t]*\r)",
    "a Host that is there twice": rb"\r\nHost:.*\r\nHost:",
    "a Host other than the target's": rb"\A[^ ]+ https?://([^/? ]+)[^\r]*\r\n(?:.*\r\n)?Host:[ \t]*(?!\1[ \t]*\r)",
    # RFC 9112 §6.1, §6.3; RFC 9110 §8.6
    "a length and a coding": (
        rb"\r\nContent-Length:.*\r\nTransfer-Encoding:|\r\nTransfer-Encoding:.*\r\nContent-Length:"
    ),
    "a length that is repeated, listed or too large": (
        rb"\r\nContent-Length:.*\r\nContent-Length:|\r\nContent-Length:[^\r]*,|\r\nContent-Length:[ \t]*\d{19}"
    ),
    "a coding in HTTP/1.0": rb"\A[^\r]*1\.0\r\n.*Transfer-Encoding:",
    # RFC 9110 §10.1.1
    "an expectation other than ours, or two": rb"\r\nExpect:(?!.100-continue\r)|\r\nExpect:.*\r\nExpect:",
    # RFC 9112 §5 allows it; llhttp does not, and to refuse is safe
    "a tab behind a length or a coding": rb"\r\n(?:Content-Length|Transfer-Encoding):[^\r]*\t[ \t]*\r",
}
"""What h11 takes, and we refuse: why, and how one knows it."""


def test_whatever_is_read_means_the_same_to_h11_and_is_passed_on_as_the_same_request() -> None:
    seen: Counter[str] = Counter()

    @tried(1000)
    @given(request_heads)
    def check(data: bytes) -> None:
        ours, theirs = read_request(data, Limits()), oracle.read_request(data)
        match ours:
            case RequestHead():
                seen["read"] += 1
                event("read")
                oracle.judge_request_head(ours, theirs)
                oracle.judge_forwarded(ours)
            case Fault():
                kind = _why(data, theirs)
                seen[kind] += 1
                event(f"refused: {kind}")

    check()
    assert seen["read"] > 150, seen
    assert seen["by h11, too"] > 100, seen
    assert len(set(STRICTER) & set(seen)) > 8, seen  # the table is no dead letter


def _why(data: bytes, theirs: oracle.Reading) -> str:
    if not isinstance(theirs.head, h11.Request):
        return "by h11, too"
    for why, mark in STRICTER.items():
        if re.search(mark, data, re.IGNORECASE | re.DOTALL):
            return why
    raise AssertionError(f"refused for no reason that is known: {data!r}")
