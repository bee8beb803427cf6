"""Heads as they may come: most of them nearly right. A mutation breaks one place of a head that was not."""

import re

from hypothesis import strategies as st

Head = bytes
NAMES = [
    b"X-A",
    b"x-a",
    b"X_A",
    b"Accept",
    b"Cookie",
    b"TE",
    b"Keep-Alive",
    b"Proxy-Connection",
    b"Trailer",
    b"Upgrade",
    b"X-Forwarded-For",
    b"X-Forwarded-Proto",
    b"X-Forwarded-Host",
    b"X-Request-Id",
    b"Via",
    b"Date",
    b"Idempotency-Key",
    b"Authorization",
    b"Content_Length",
    b"Prefer",
    b"!#$%&'*+.^`|~",
]
FRAMING = [
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"content-length:5",
    b"CONTENT-LENGTH:\t00005 ",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding:  Chunked\t",
]
ODD_FRAMING = [
    b"Content-Length: 5, 5",
    b"Content-Length: +5",
    b"Content-Length: -1",
    b"Content-Length:",
    b"Content-Length: 0x5",
    b"Content-Length: 9999999999999999999",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding:",
]
MEANT_FOR_US = [
    b"Expect: 100-continue",
    b"expect: tea",
    b"Connection: close",
    b"Connection: keep-alive",
    b"connection: Upgrade, HTTP2-Settings",
    b"Connection: x-a, , Accept",
    b"Connection: content-length, transfer-encoding, host",
    b"Connection: idempotency-key, authorization, date, via",
]
_MUTATIONS = [
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b"\r\n",
    b"\r\n ",
    b"\r\n\t",
    b"\x01",
    b"\x0b",
    b"\x1f",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"#",
    b"%",
    b"@",
    b"HTTP/1.1",
    b"\r\nHost: b",
    b"\r\nContent-Length: 6",
    b"\r\nTransfer-Encoding: chunked",
]

blanks = st.sampled_from([b" ", b"", b"  ", b"\t", b" \t "])
_visible = st.binary(max_size=12).map(lambda value: re.sub(rb"[^\t -~\x80-\xfe]", b"a", value))
values = st.one_of(st.sampled_from([b"", b"1", b"a, b", b"https", b"198.51.100.7", b'"q"']), _visible)
lines = st.builds(
    lambda name, before, value, behind: name + b":" + before + value + behind,
    st.sampled_from(NAMES),
    blanks,
    values,
    st.sampled_from([b"", b"", b" ", b"\t "]),
)


def _blocks(framing: st.SearchStrategy[list[bytes]], hosts: st.SearchStrategy[list[bytes]]) -> st.SearchStrategy[bytes]:
    """Field lines in any order, CRLF before each."""
    others = st.lists(st.one_of(lines, lines, st.sampled_from(MEANT_FOR_US)), max_size=6)
    together = st.tuples(framing, hosts, others).flatmap(
        lambda parts: st.permutations([*parts[0], *parts[1], *parts[2]])
    )
    return together.map(lambda all_lines: b"".join(b"\r\n" + line for line in all_lines))


Choice = tuple[list[bytes], list[bytes]]
"""What is right; and what is not, or not everywhere."""
METHODS: Choice = (
    [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"QUERY"],
    [b"CONNECT", b"TRACE", b"PURGE", b"get", b"G(T", b""],
)
TARGETS: Choice = (
    [b"/", b"/pay?a=b&c[]=%7B", b"//x/../y;z", b"http://api.example.com/x", b"http://API.example.com:80?q"],
    [b"x", b"*", b"/a b", b"/a#b", b"/\xe4", b"/{}", b"http://other/", b"ftp://api.example.com/", b"http://u@h/", b""],
)
VERSIONS: Choice = (
    [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"],
    [b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"ICE/1.0", b""],
)
HOSTS: Choice = (
    [b"Host: api.example.com", b"host:api.example.com:80 "],
    [b"Host: a b", b"Host: [::1", b"Host:", b"Host: other"],
)
STATUSES: Choice = (
    [b"200", b"201", b"204", b"304", b"404", b"503", b"103", b"100"],
    [b"099", b"600", b"20", b"2000", b"+20", b"101"],
)
REASONS: Choice = ([b" OK", b" Not \xe4t", b" ", b"", b" a\tb"], [b" \x01", b"\t", b" a\x7f"])


def _one(choice: Choice, *, odd: bool) -> st.SearchStrategy[bytes]:
    right, others = choice
    return st.sampled_from(right) | st.sampled_from(others) if odd else st.sampled_from(right)


def _some(choice: Choice, least: int, *, odd: bool) -> st.SearchStrategy[list[bytes]]:
    """*least* or one; where it may be odd, two."""
    return st.lists(_one(choice, odd=odd), min_size=0 if odd else least, max_size=2 if odd else 1)


def _requests(*, odd: bool) -> st.SearchStrategy[bytes]:
    line = st.tuples(*(_one(choice, odd=odd) for choice in (METHODS, TARGETS, VERSIONS))).map(b" ".join)
    block = _blocks(_some((FRAMING, ODD_FRAMING), 0, odd=odd), _some(HOSTS, 1, odd=odd))
    return st.builds(lambda start, fields: start + fields + b"\r\n\r\n", line, block)


def _responses(*, odd: bool) -> st.SearchStrategy[bytes]:
    version, status, reason = (_one(choice, odd=odd) for choice in (VERSIONS, STATUSES, REASONS))
    line = st.builds(lambda *parts: b"%b %b%b" % parts, version, status, reason)
    block = _blocks(_some((FRAMING, ODD_FRAMING), 0, odd=odd), st.just([]))
    return st.builds(lambda start, fields: start + fields + b"\r\n\r\n", line, block)


@st.composite
def _mutated(draw: st.DrawFn, heads: st.SearchStrategy[Head]) -> Head:
    """One with something put in, taken out or doubled somewhere; its end is the first empty line."""
    head = draw(heads)
    at = draw(st.integers(0, len(head) - 4))
    length = draw(st.integers(0, 2))
    piece = draw(st.sampled_from([b"", head[at : at + 8], *_MUTATIONS]))
    broken = head[:at] + piece + head[at + length :] + b"\r\n\r\n"
    return broken[: broken.index(b"\r\n\r\n") + 4]


right_requests, right_responses = _requests(odd=False), _responses(odd=False)
request_heads = st.one_of(right_requests, _requests(odd=True), _mutated(right_requests))
"""A request's head, right or not; ends with its only empty line."""
response_heads = st.one_of(right_responses, _responses(odd=True), _mutated(right_responses))
"""A response's."""
