"""Heads of requests and responses: what is read, and what is refused because another reader might read it otherwise."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.http1.fields import pairs
from proxy.http1.message import (
    CHUNKED,
    METHODS,
    UNTIL_CLOSE,
    Fault,
    Limits,
    RequestHead,
    ResponseHead,
    read_request,
    read_response,
)

LIMITS = Limits()
HOST = b"Host: api.example.com\r\n"


def read(*parts: bytes, limits: Limits = LIMITS) -> RequestHead | Fault:
    return read_request(b"".join(parts), limits)


def accepted(*parts: bytes) -> RequestHead:
    head = read(*parts)
    assert isinstance(head, RequestHead), head
    return head


def with_fields(fields: bytes, method: bytes = b"POST", minor: int = 1) -> RequestHead | Fault:
    """A request with a Host, and more *fields*: whole lines."""
    return read(b"%b /pay HTTP/1.%d\r\n" % (method, minor), HOST, fields, b"\r\n")


def with_target(target: bytes, host: bytes = b"api.example.com", method: bytes = b"GET") -> RequestHead | Fault:
    return read(b"%b %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (method, target, host))


def _cut_head(data: bytes) -> bytes:
    """As the connection cuts it: up to its first empty line."""
    return data[: (data + b"\r\n\r\n").index(b"\r\n\r\n")] + b"\r\n\r\n"


def _with(hostile: bytes, head: bytes) -> Iterator[bytes]:
    """*head* with *hostile* at each place where that does not end it."""
    for at in range(len(head) - 2):
        data = head[:at] + hostile + head[at:]
        if _cut_head(data) == data:
            yield data


# -- what is read ---------------------------------------------------------------------------------------------------


def test_a_payment_is_read_as_it_came() -> None:
    head = accepted(
        b"POST /v2.01/acme/payouts/bankwire/?a=1&b=%20 HTTP/1.1\r\n",
        b"Host: api.example.com:8443\r\n",
        b"Idempotency-Key: bf6cce22-4c12-454f-ac05-ca20c8683735\r\n",
        b"content-LENGTH: 471\r\n",
        b"X-Empty:\r\n",
        b"X-Blank:   \r\n",
        b"x-many:a\r\n",
        b"X-Many: \t b, c \t \r\n",
        b"X-Latin: caf\xe9\r\n",
        b"\r\n",
    )
    assert head.method == b"POST"
    assert head.target == b"/v2.01/acme/payouts/bankwire/?a=1&b=%20"
    assert head.path == b"/v2.01/acme/payouts/bankwire/"
    assert head.host == b"api.example.com:8443"
    assert head.minor == 1
    assert head.length == 471
    assert head.keep_alive
    assert not head.connection
    assert [tuple(field) for field in pairs(head.block)] == [
        (b"Host", b"api.example.com:8443"),
        (b"Idempotency-Key", b"bf6cce22-4c12-454f-ac05-ca20c8683735"),
        (b"content-LENGTH", b"471"),
        (b"X-Empty", b""),
        (b"X-Blank", b""),
        (b"x-many", b"a"),
        (b"X-Many", b"b, c"),
        (b"X-Latin", b"caf\xe9"),
    ]
    assert head.values(b"x-many") == [b"a", b"b, c"]
    assert head.values(b"x-empty") == [b""]
    assert head.values(b"idempotency-key") == [b"bf6cce22-4c12-454f-ac05-ca20c8683735"]
    assert head.values(b"cookie") == []


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_that_is_served_can_be_read(method: bytes) -> None:
    assert accepted(method + b" / HTTP/1.1\r\n", HOST, b"\r\n").method == method


token = st.from_regex(rb"X-[A-Za-z0-9!#$%&'*+.^_`|~-]{0,12}", fullmatch=True)
content = st.from_regex(rb"([!-~\x80-\xff]([\t -~\x80-\xff]{0,20}[!-~\x80-\xff])?)?", fullmatch=True)
blank = st.from_regex(rb"[ \t]{0,3}", fullmatch=True)


@given(st.lists(st.tuples(token, blank, content, blank), max_size=20))
def test_any_fields_keep_order_case_and_repeats_and_lose_only_the_blanks_around_them(
    lines: list[tuple[bytes, bytes, bytes, bytes]],
) -> None:
    head = accepted(b"GET / HTTP/1.1\r\n", HOST, *(b"%b:%b%b%b\r\n" % line for line in lines), b"\r\n")
    sent = [(name, value) for name, _, value, _ in lines]
    assert [tuple(field) for field in pairs(head.block)][1:] == sent
    for name, _ in sent:
        assert head.values(name.lower()) == [value for other, value in sent if other.lower() == name.lower()]


path = st.from_regex(rb"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,40}", fullmatch=True)
query = st.from_regex(rb"(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,40})?", fullmatch=True)


@given(path, query)
def test_any_target_stays_as_it_is(path: bytes, query: bytes) -> None:
    head = with_target(path + query)
    assert isinstance(head, RequestHead)
    assert (head.target, head.path) == (path + query, path)


@pytest.mark.parametrize(
    ("target", "host", "origin", "path"),
    [
        (b"http://api.example.com/a/b?c=/d", b"api.example.com", b"/a/b?c=/d", b"/a/b"),
        (b"HTTP://API.example.com/", b"api.EXAMPLE.com", b"/", b"/"),
        (b"https://api.example.com:443/x", b"api.example.com", b"/x", b"/x"),
        (b"http://api.example.com/x", b"api.example.com:80", b"/x", b"/x"),
        (b"http://api.example.com", b"api.example.com", b"/", b"/"),
        (b"http://api.example.com?a=1", b"api.example.com", b"/?a=1", b"/"),
        (b"http://[::1]:8080/x", b"[::1]:8080", b"/x", b"/x"),
        (b"//evil.example/x", b"api.example.com", b"//evil.example/x", b"//evil.example/x"),
        (b"/?", b"api.example.com", b"/?", b"/"),
        (b"/a/../b;c=d//", b"api.example.com", b"/a/../b;c=d//", b"/a/../b;c=d//"),
        (b"/%00%2f", b"api.example.com", b"/%00%2f", b"/%00%2f"),
    ],
)
def test_a_target_in_absolute_form_becomes_origin_form(target: bytes, host: bytes, origin: bytes, path: bytes) -> None:
    """RFC 9112 §3.2.2: the authority of the target is the host."""
    head = with_target(target, host)
    assert isinstance(head, RequestHead)
    assert (head.target, head.path) == (origin, path)
    assert head.host.lower().startswith(host.lower().removesuffix(b":80"))


@pytest.mark.parametrize("target", [b"*", b"http://api.example.com"])
def test_options_may_ask_about_the_server_itself(target: bytes) -> None:
    """RFC 9112 §3.2.4."""
    head = with_target(target, method=b"OPTIONS")
    assert isinstance(head, RequestHead)
    assert (head.target, head.path) == (b"*", b"*")


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        (b"", 0),
        (b"Content-Length: 0\r\n", 0),
        (b"Content-Length: 471\r\n", 471),
        (b"Content-Length: 00471\r\n", 471),
        (b"Content-Length: 999999999999999999\r\n", 10**18 - 1),
        (b"Transfer-Encoding: chunked\r\n", CHUNKED),
        (b"Transfer-Encoding: Chunked\r\n", CHUNKED),
        (b"transfer-encoding:chunked\r\n", CHUNKED),
        (b"Transfer_Encoding: chunked\r\n", 0),
        (b"X-Transfer-Encoding: chunked\r\nX-Content-Length: 5\r\n", 0),
    ],
)
def test_the_length_of_a_body_is_what_its_head_says(fields: bytes, length: int) -> None:
    head = with_fields(fields)
    assert isinstance(head, RequestHead)
    assert head.length == length


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"x"])
def test_a_body_is_still_a_body_under_an_upgrade(framing: bytes, protocol: bytes) -> None:
    """llhttp by itself would read it as the next request; common Java clients send exactly this."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMAAABk\r\n" % protocol
    head = with_fields(upgrade + framing)
    assert isinstance(head, RequestHead)
    assert head.length == (5 if b"5" in framing else CHUNKED)
    assert head.connection == {b"upgrade", b"http2-settings"}
    assert head.values(b"upgrade") == [protocol]


@pytest.mark.parametrize(
    ("minor", "fields", "keep_alive"),
    [
        (1, b"", True),
        (1, b"Connection: close\r\n", False),
        (1, b"Connection: CLOSE\r\n", False),
        (1, b"Connection: keep-alive, close\r\n", False),
        (1, b"Connection: keep-alive\r\nConnection: x ,\tclose\r\n", False),
        (1, b"Connection: closed\r\n", True),
        (0, b"", False),
        (0, b"Connection: keep-alive\r\n", True),
        (0, b"Connection: Keep-Alive\r\n", True),
        (0, b"Connection: close\r\n", False),
        (0, b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_a_connection_is_kept_as_its_client_means_it(minor: int, fields: bytes, keep_alive: bool) -> None:
    """RFC 9112 §9.3: close first of all, then the version, then keep-alive."""
    head = with_fields(fields, minor=minor)
    assert isinstance(head, RequestHead)
    assert head.minor == minor
    assert head.keep_alive is keep_alive


def test_the_options_of_all_connection_fields_count() -> None:
    head = with_fields(b"Connection: X-One ,x-two\r\nX-One: 1\r\nconnection: \tTE\r\n")
    assert isinstance(head, RequestHead)
    assert head.connection == {b"x-one", b"x-two", b"te"}


@pytest.mark.parametrize("host", [b"", b"Host:\r\n", b"Host: api.example.com\r\n"])
def test_in_http_1_0_the_host_may_be_missing(host: bytes) -> None:
    head = accepted(b"GET / HTTP/1.0\r\n", host, b"\r\n")
    assert head.host == (b"api.example.com" if b"api" in host else b"")


@pytest.mark.parametrize(
    ("minor", "fields", "expects"),
    [
        (1, b"Content-Length: 5\r\nExpect: 100-continue\r\n", True),
        (1, b"Transfer-Encoding: chunked\r\nexpect: 100-Continue\r\n", True),
        (1, b"Content-Length: 5\r\n", False),
        (1, b"Expect: 100-continue\r\n", False),
        (0, b"Content-Length: 5\r\nExpect: 100-continue\r\n", False),
    ],
)
def test_who_waits_for_100_is_known(minor: int, fields: bytes, expects: bool) -> None:
    """RFC 9110 §10.1.1: not without a body, not in HTTP/1.0."""
    head = with_fields(fields, minor=minor)
    assert isinstance(head, RequestHead)
    assert head.expects_continue is expects


# -- request lines that are refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        pytest.param(b"GET /", Fault.BAD_REQUEST, id="HTTP/0.9 without a version (RFC 9112 section 3)"),
        pytest.param(b"GET / HTTP/0.9", Fault.VERSION, id="HTTP/0.9"),
        pytest.param(b"GET / HTTP/2.0", Fault.VERSION, id="HTTP/2.0"),
        pytest.param(b"PRI * HTTP/2.0", Fault.VERSION, id="the preface of HTTP/2 (RFC 9113 section 3.4)"),
        pytest.param(b"GET / HTTP/3", Fault.VERSION, id="HTTP/3"),
        pytest.param(b"GET / HTTP/1.2", Fault.VERSION, id="HTTP/1.2"),
        pytest.param(b"GET / HTTP/1.10", Fault.VERSION, id="HTTP/1.10"),
        pytest.param(b"GET / HTTP/11", Fault.VERSION, id="HTTP/11"),
        pytest.param(b"GET / HTTP/1.", Fault.BAD_REQUEST, id="no minor version"),
        pytest.param(b"GET / http/1.1", Fault.BAD_REQUEST, id="lower case (RFC 9112 section 2.3)"),
        pytest.param(b"GET / RTSP/1.0", Fault.BAD_REQUEST, id="RTSP"),
        pytest.param(b"GET / ICE/1.0", Fault.BAD_REQUEST, id="ICE"),
        pytest.param(b"GET / HTTP/1.1 ", Fault.BAD_REQUEST, id="a blank at the end"),
        pytest.param(b"GET / HTTP/1.1 x", Fault.BAD_REQUEST, id="more at the end"),
        pytest.param(b" GET / HTTP/1.1", Fault.BAD_REQUEST, id="a blank at the beginning"),
        pytest.param(b"GET  / HTTP/1.1", Fault.BAD_REQUEST, id="two blanks before the target"),
        pytest.param(b"GET /  HTTP/1.1", Fault.BAD_REQUEST, id="two blanks behind the target"),
        pytest.param(b"GET\t/ HTTP/1.1", Fault.BAD_REQUEST, id="a tab"),
        pytest.param(b"GET /\x0bHTTP/1.1", Fault.BAD_REQUEST, id="a vertical tab"),
        pytest.param(b"GET HTTP/1.1", Fault.BAD_REQUEST, id="no target"),
        pytest.param(b"/ HTTP/1.1", Fault.BAD_REQUEST, id="no method"),
        pytest.param(b"", Fault.BAD_REQUEST, id="an empty line"),
        pytest.param(b"\x16\x03\x01\x02", Fault.BAD_REQUEST, id="a TLS client hello"),
        pytest.param(b"GE(T / HTTP/1.1", Fault.BAD_REQUEST, id="a method that is no token (RFC 9110 section 9.1)"),
        pytest.param(b"G\xc9T / HTTP/1.1", Fault.BAD_REQUEST, id="a method that is not ASCII"),
        pytest.param(b"get / HTTP/1.1", Fault.METHOD, id="a method in lower case: methods are case-sensitive"),
        pytest.param(b"CONNECT a:443 HTTP/1.1", Fault.METHOD, id="CONNECT: a tunnel around the guard"),
        pytest.param(b"TRACE / HTTP/1.1", Fault.METHOD, id="TRACE: would show credentials"),
        pytest.param(b"DESCRIBE / HTTP/1.1", Fault.METHOD, id="a method of RTSP"),
        pytest.param(b"M-SEARCH * HTTP/1.1", Fault.METHOD, id="a method of SSDP"),
        pytest.param(b"SOURCE / HTTP/1.1", Fault.METHOD, id="a method of Icecast"),
        pytest.param(b"PAY / HTTP/1.1", Fault.METHOD, id="a method of nobody"),
    ],
)
def test_a_request_line_that_is_not_served_is_refused(line: bytes, fault: Fault) -> None:
    assert read(line, b"\r\n", HOST, b"\r\n") is fault


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"/a#b", id="fragment (RFC 9112 section 3.2: never sent)"),
        pytest.param(b"http://api.example.com/#b", id="fragment in absolute-form"),
        pytest.param(b"http://user@api.example.com/", id="userinfo (RFC 9110 section 4.2.4)"),
        pytest.param(b"http://user:secret@api.example.com/", id="userinfo with password"),
        pytest.param(b"http://api.example.com@evil.example/", id="a host in userinfo"),
        *(pytest.param(b"/a%cb" % char, id=f"{char:c} (RFC 3986 section 2)") for char in b'"<>|^{}\\'),
        pytest.param(b"/caf\xe9", id="a byte beyond ASCII"),
        pytest.param(b"/a\x7fb", id="DEL"),
        pytest.param(b"/a\x00b", id="NUL"),
        pytest.param(b"/a\x1fb", id="a control character"),
        pytest.param(b"ftp://api.example.com/", id="another scheme"),
        pytest.param(b"file:///etc/passwd", id="a file"),
        pytest.param(b"javascript:alert(1)", id="a script"),
        pytest.param(b"http:///a", id="no authority (RFC 9110 section 4.2.1)"),
        pytest.param(b"http://:80/a", id="no host"),
        pytest.param(b"http:/a", id="one slash"),
        pytest.param(b"http://a b/", id="a blank"),
        pytest.param(b"api.example.com:80", id="authority-form is for CONNECT (RFC 9112 section 3.2.3)"),
        pytest.param(b"a/b", id="no form at all"),
        pytest.param(b"?a", id="a query alone"),
        pytest.param(b"*", id="asterisk-form is for OPTIONS (RFC 9112 section 3.2.4)"),
        pytest.param(b"*/a", id="more than an asterisk"),
    ],
)
def test_a_target_that_another_reader_could_take_otherwise_is_a_bad_request(target: bytes) -> None:
    assert with_target(target) is Fault.BAD_REQUEST


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"http://api.example.com/", b"evil.example"),
        (b"http://evil.example/", b"api.example.com"),
        (b"http://api.example.com:81/", b"api.example.com"),
        (b"https://api.example.com:80/", b"api.example.com"),
        (b"http://api.example.com/", b"api.example.com:443"),
        (b"http://api.example.com./", b"api.example.com"),
    ],
)
def test_a_target_that_contradicts_its_host_is_a_bad_request(target: bytes, host: bytes) -> None:
    """RFC 9112 §3.2.2: a proxy must take the target's; who stands behind it may take the other."""
    assert with_target(target, host) is Fault.BAD_REQUEST


# -- fields that are refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        pytest.param(b"", id="missing (RFC 9112 section 3.2)"),
        pytest.param(b"Host:\r\n", id="empty"),
        pytest.param(b"Host: a\r\nHost: a\r\n", id="repeated, though equal"),
        pytest.param(b"Host: a\r\nhost: b\r\n", id="repeated in another case"),
        pytest.param(b"Host: a, b\r\n", id="a list"),
        pytest.param(b"Host: a b\r\n", id="a blank"),
        pytest.param(b"Host: a/b\r\n", id="a path"),
        pytest.param(b"Host: a?b\r\n", id="a query"),
        pytest.param(b"Host: a#b\r\n", id="a fragment"),
        pytest.param(b"Host: u@a\r\n", id="userinfo"),
        pytest.param(b"Host: http://a\r\n", id="a URL"),
        pytest.param(b"Host: a:b\r\n", id="a port that is no number"),
        pytest.param(b"Host: a:-1\r\n", id="a negative port"),
        pytest.param(b"Host: a:999999\r\n", id="a port of six digits"),
        pytest.param(b"Host: a:1:2\r\n", id="two ports"),
        pytest.param(b"Host: :80\r\n", id="a port alone"),
        pytest.param(b"Host: [::1\r\n", id="a bracket that is not closed"),
        pytest.param(b"Host: []\r\n", id="empty brackets"),
        pytest.param(b"Host: ::1\r\n", id="IPv6 without brackets"),
        pytest.param(b"Host: caf\xe9\r\n", id="a byte beyond ASCII"),
        pytest.param(b'Host: "a"\r\n', id="quotes"),
        pytest.param(b"Host: a\\b\r\n", id="a backslash"),
        pytest.param(b"Host : a\r\n", id="a blank before the colon"),
    ],
)
def test_a_request_without_one_clear_host_is_a_bad_request(host: bytes) -> None:
    assert read(b"GET / HTTP/1.1\r\n", host, b"\r\n") is Fault.BAD_REQUEST


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(b"Content-Length: 5\r\nContent-Length: 5\r\n", id="repeated, though equal (RFC 9112 section 6.3)"),
        pytest.param(b"Content-Length: 5\r\ncontent-length: 6\r\n", id="repeated"),
        pytest.param(b"Content-Length: 5, 5\r\n", id="a list"),
        pytest.param(b"Content-Length: +5\r\n", id="signed"),
        pytest.param(b"Content-Length: -5\r\n", id="negative"),
        pytest.param(b"Content-Length: 0x5\r\n", id="hexadecimal"),
        pytest.param(b"Content-Length: 5_0\r\n", id="underscore, which int() reads"),
        pytest.param(b"Content-Length: 5 0\r\n", id="a blank inside"),
        pytest.param(b"Content-Length: 5.0\r\n", id="decimal"),
        pytest.param(b"Content-Length: \xb2\r\n", id="a digit that is not ASCII"),
        pytest.param(b"Content-Length:\r\n", id="empty"),
        pytest.param(b"Content-Length: \x0b5\r\n", id="vertical tab"),
        pytest.param(b"Content-Length : 5\r\n", id="a blank before the colon (RFC 9112 section 5.1)"),
        pytest.param(b"Content-Length: 9223372036854775808\r\n", id="2^63"),
        pytest.param(b"Content-Length: 18446744073709551621\r\n", id="2^64 and 5"),
        pytest.param(b"Content-Length: " + b"9" * 5000 + b"\r\n", id="5000 digits"),
        pytest.param(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", id="CL.TE (RFC 9112 section 6.1)"),
        pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", id="TE.CL"),
        pytest.param(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", id="TE repeated"),
        pytest.param(b"Transfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n", id="TE.TE"),
        pytest.param(b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", id="TE.TE, the other way round"),
        pytest.param(b"Transfer-Encoding : chunked\r\n", id="TE with a blank before the colon"),
        pytest.param(b"Transfer-Encoding: \x0bchunked\r\n", id="TE behind a vertical tab"),
        pytest.param(b"X: y\nTransfer-Encoding: chunked\r\n", id="TE behind a bare LF"),
        pytest.param(b"X: y\rTransfer-Encoding: chunked\r\n", id="TE behind a bare CR"),
        pytest.param(b" Transfer-Encoding: chunked\r\n", id="TE behind a blank"),
    ],
)
def test_a_body_whose_length_two_readers_could_take_differently_is_a_bad_request(fields: bytes) -> None:
    """RFC 9112 §11.2: request smuggling."""
    assert with_fields(fields) is Fault.BAD_REQUEST


@pytest.mark.parametrize(
    "coding", [b"gzip, chunked", b"identity, chunked", b"foo,chunked", b",chunked", b"chunked, chunked"]
)
def test_a_coding_before_chunked_is_not_understood(coding: bytes) -> None:
    """RFC 9112 §6.1; llhttp takes them for chunked."""
    assert with_fields(b"Transfer-Encoding: %b\r\n" % coding) is Fault.CODING


@pytest.mark.parametrize(
    "coding",
    [
        b"gzip",
        b"identity",
        b"chunked,",
        b"chunked, gzip",
        b"chunked;a=b",
        b'"chunked"',
        b"xchunked",
        b"chunkedx",
        b"chunked\xa0",
        b"",
    ],
)
def test_a_body_whose_last_coding_is_not_chunked_has_no_end_that_anybody_could_know(coding: bytes) -> None:
    """RFC 9112 §6.3; llhttp takes some of them for chunked, some for a body that ends with the connection."""
    assert with_fields(b"Transfer-Encoding: %b\r\n" % coding) is Fault.BAD_REQUEST


@pytest.mark.parametrize("coding", [b"\r\n chunked", b"chunked\0", b"chun\rked", b"chunked\r\n , gzip", b"chunked\x01"])
def test_a_coding_that_cannot_be_read_is_refused_one_way_or_the_other(coding: bytes) -> None:
    assert with_fields(b"Transfer-Encoding: %b\r\n" % coding) in (Fault.BAD_REQUEST, Fault.CODING)


def test_http_1_0_knows_no_transfer_codings() -> None:
    """RFC 9112 §6.1: faulty, even if it says chunked."""
    assert with_fields(b"Transfer-Encoding: chunked\r\n", minor=0) is Fault.BAD_REQUEST


@pytest.mark.parametrize("expect", [b"200-ok", b"100-continue, x", b"100-continue;a=b", b"", b"x"])
def test_an_expectation_other_than_100_continue_is_refused(expect: bytes) -> None:
    assert with_fields(b"Content-Length: 5\r\nExpect: %b\r\n" % expect) is Fault.EXPECTATION


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"X\r\n", id="no colon"),
        pytest.param(b": a\r\n", id="no name"),
        pytest.param(b"X : a\r\n", id="a blank before the colon"),
        pytest.param(b"X\t: a\r\n", id="a tab before the colon"),
        pytest.param(b"X Y: a\r\n", id="a blank in the name"),
        pytest.param(b"X(Y): a\r\n", id="no token"),
        pytest.param(b"X\xe9: a\r\n", id="a name beyond ASCII"),
        pytest.param(b"X\0: a\r\n", id="NUL in the name"),
        pytest.param(b"X: a\0b\r\n", id="NUL in the value"),
        pytest.param(b"X: a\x01b\r\n", id="a control character in the value"),
        pytest.param(b"X: a\x7fb\r\n", id="DEL in the value"),
        pytest.param(b"X: a\r\n b\r\n", id="obs-fold (RFC 9112 section 5.2)"),
        pytest.param(b"X: a\r\n\tb\r\n", id="obs-fold with a tab"),
        pytest.param(b"X: a\nY: b\r\n", id="bare LF"),
        pytest.param(b"X: a\rY: b\r\n", id="bare CR"),
        pytest.param(b"X: a\r\r\n", id="CR before the CRLF"),
        pytest.param(b"X: a\n\r\n", id="LF before the CRLF"),
        pytest.param(b"\nX: a\r\n", id="LF at the beginning"),
    ],
)
def test_a_field_line_that_is_none_is_a_bad_request(line: bytes) -> None:
    assert with_fields(line) is Fault.BAD_REQUEST
    assert read(b"GET / HTTP/1.1\r\n", line, HOST, b"\r\n") is Fault.BAD_REQUEST


WHOLE = b"POST /pay?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX: y z\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("hostile", [b"\r", b"\n", b"\0", b"\x0b", b"\x7f", b"\r\n ", b"\n\n"])
def test_a_hostile_byte_is_noticed_wherever_it_stands(hostile: bytes) -> None:
    assert isinstance(read(WHOLE), RequestHead)
    for data in _with(hostile, WHOLE):
        assert isinstance(read(data), Fault), data


@given(st.integers(0, len(WHOLE) - 3), st.binary(max_size=4), st.integers(0, 4))
def test_whatever_is_changed_in_a_head_it_is_refused_or_says_what_stands_in_it(at: int, put: bytes, cut: int) -> None:
    data = _cut_head(WHOLE[:at] + put + WHOLE[at + cut :])
    head = read(data)
    if isinstance(head, Fault):
        return
    line, *lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert line.startswith(head.method + b" ")
    read_here = [(name, value.strip(b" \t")) for name, _, value in (each.partition(b":") for each in lines)]
    assert [tuple(field) for field in pairs(head.block)] == read_here
    lengths = [value for name, value in read_here if name.lower() == b"content-length"]
    assert head.length == int(lengths[0] if lengths else b"0")
    assert len(lengths) <= 1


# -- limits ---------------------------------------------------------------------------------------------------------


def test_a_request_line_of_just_the_limit_is_read_and_one_byte_more_is_not() -> None:
    limits = Limits(request_line=100)
    line = b"GET /" + b"a" * 86 + b" HTTP/1.1"
    assert len(line) == 100
    assert isinstance(read(line, b"\r\n", HOST, b"\r\n", limits=limits), RequestHead)
    longer = line.replace(b"/", b"/a", 1)
    assert read(longer, b"\r\n", HOST, b"\r\n", limits=limits) is Fault.URI_TOO_LONG


@pytest.mark.parametrize("count", [99, 100, 101])
def test_a_hundred_fields_are_read_and_one_more_is_not(count: int) -> None:
    fields = HOST + b"X: y\r\n" * (count - 1)
    head = read(b"GET / HTTP/1.1\r\n", fields, b"\r\n")
    assert head is Fault.FIELDS_TOO_LARGE if count > 100 else isinstance(head, RequestHead)


# -- responses ------------------------------------------------------------------------------------------------------


def answer(data: bytes, method: bytes = b"POST") -> ResponseHead:
    head = read_response(data, method)
    assert head is not None
    return head


def test_a_response_is_read_as_it_came() -> None:
    head = answer(
        b"HTTP/1.1 201 Created caf\xe9\r\nDate: Wed, 13 Jan 2016 22:25:56 GMT\r\nSet-Cookie: a=1\r\n"
        b"set-cookie: b=2\r\nCONTENT-LENGTH: 471 \r\nX-Empty:\r\n\r\n"
    )
    assert (head.status, head.reason, head.minor, head.length) == (201, b"Created caf\xe9", 1, 471)
    assert head.keep_alive
    assert [tuple(field) for field in pairs(head.block)] == [
        (b"Date", b"Wed, 13 Jan 2016 22:25:56 GMT"),
        (b"Set-Cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"CONTENT-LENGTH", b"471"),
        (b"X-Empty", b""),
    ]
    assert [name.lower() for name, _ in pairs(head.block)] == [
        b"date",
        b"set-cookie",
        b"set-cookie",
        b"content-length",
        b"x-empty",
    ]


@pytest.mark.parametrize("status", [*range(100, 600, 7), 103, 204, 304, 599])
def test_any_status_from_100_to_599_is_read(status: int) -> None:
    assert answer(b"HTTP/1.1 %d X\r\n\r\n" % status).status == status


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 200 Not\tbad"])
def test_a_status_line_may_do_without_a_reason(line: bytes) -> None:
    """RFC 9112 §4: the blank before it must be there, the reason need not."""
    head = answer(line + b"\r\n\r\n")
    assert head.reason == line[13:]


@pytest.mark.parametrize(
    ("method", "head", "length", "keep_alive"),
    [
        pytest.param(b"POST", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 5, True, id="by length"),
        pytest.param(b"POST", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", 0, True, id="empty"),
        pytest.param(b"POST", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", CHUNKED, True, id="in chunks"),
        pytest.param(b"POST", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n", CHUNKED, True, id="in CHUNKS"),
        pytest.param(b"POST", b"HTTP/1.1 200 OK\r\n", UNTIL_CLOSE, False, id="until the close"),
        pytest.param(b"POST", b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", UNTIL_CLOSE, False, id="all the same"),
        pytest.param(b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 0, True, id="HEAD"),
        pytest.param(b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", 0, True, id="HEAD, in chunks"),
        pytest.param(b"HEAD", b"HTTP/1.1 200 OK\r\n", 0, True, id="HEAD without length"),
        pytest.param(b"POST", b"HTTP/1.1 204 No Content\r\n", 0, True, id="204"),
        pytest.param(b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", 0, True, id="304 with the length"),
        pytest.param(b"POST", b"HTTP/1.1 100 Continue\r\n", 0, True, id="100"),
        pytest.param(b"POST", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n", 0, True, id="103"),
        pytest.param(b"POST", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n", 5, False, id="close"),
        pytest.param(b"POST", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", 5, False, id="1.0"),
        pytest.param(
            b"POST", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n", 5, True, id="1.0 keep-alive"
        ),
        pytest.param(
            b"POST",
            b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive, close\r\n",
            5,
            False,
            id="1.0 keep-alive and close",
        ),
        pytest.param(
            b"POST",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: upgrade\r\nUpgrade: h2c\r\n",
            5,
            True,
            id="an upgrade that is only offered",
        ),
    ],
)
def test_where_a_response_ends(method: bytes, head: bytes, length: int, keep_alive: bool) -> None:
    """RFC 9112 §6.3, §9.3."""
    found = answer(head + b"\r\n", method)
    assert (found.length, found.keep_alive) == (length, keep_alive)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/0.9 200 OK\r\n", id="HTTP/0.9"),
        pytest.param(b"HTTP/2 200 OK\r\n", id="HTTP/2"),
        pytest.param(b"HTTP/2.0 200 OK\r\n", id="HTTP/2.0"),
        pytest.param(b"HTTP/1.2 200 OK\r\n", id="HTTP/1.2"),
        pytest.param(b"http/1.1 200 OK\r\n", id="lower case"),
        pytest.param(b"ICY 200 OK\r\n", id="Icecast"),
        pytest.param(b"RTSP/1.0 200 OK\r\n", id="RTSP"),
        pytest.param(b"<html>\r\n", id="no status line"),
        pytest.param(b"\r\n" + OK, id="an empty line before it"),
        pytest.param(b"HTTP/1.1 099 X\r\n", id="status 099"),
        pytest.param(b"HTTP/1.1 000 X\r\n", id="status 000"),
        pytest.param(b"HTTP/1.1 600 X\r\n", id="status 600"),
        pytest.param(b"HTTP/1.1 999 X\r\n", id="status 999"),
        pytest.param(b"HTTP/1.1 20 X\r\n", id="two digits"),
        pytest.param(b"HTTP/1.1 2000 X\r\n", id="four digits"),
        pytest.param(b"HTTP/1.1 -20 X\r\n", id="negative"),
        pytest.param(b"HTTP/1.1 2OO OK\r\n", id="letters"),
        pytest.param(b"HTTP/1.1  200 OK\r\n", id="two blanks"),
        pytest.param(b"HTTP/1.1\t200 OK\r\n", id="a tab"),
        pytest.param(b"HTTP/1.1 200 O\0K\r\n", id="NUL in the reason"),
        pytest.param(b"HTTP/1.1 200 O\x1bK\r\n", id="a control character in the reason"),
        pytest.param(b"HTTP/1.1 200 O\x7fK\r\n", id="DEL in the reason"),
        pytest.param(b"HTTP/1.1 200 O\rK\r\n", id="bare CR in the reason"),
        pytest.param(b"HTTP/1.1 200 O\nK\r\n", id="bare LF in the reason"),
        pytest.param(OK + b"Content-Length: 5\r\nContent-Length: 5\r\n", id="length repeated, though equal"),
        pytest.param(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n", id="length repeated"),
        pytest.param(OK + b"Content-Length: 5, 5\r\n", id="length in a list"),
        pytest.param(OK + b"Content-Length: +5\r\n", id="length signed"),
        pytest.param(OK + b"Content-Length:\r\n", id="length empty"),
        pytest.param(OK + b"Content-Length: 9223372036854775808\r\n", id="length 2^63"),
        pytest.param(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", id="length and coding"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", id="coding repeated"),
        pytest.param(OK + b"Transfer-Encoding: gzip\r\n", id="gzip: must not end with the connection"),
        pytest.param(OK + b"Transfer-Encoding: gzip, chunked\r\n", id="gzip, chunked"),
        pytest.param(OK + b"Transfer-Encoding: identity\r\n", id="identity"),
        pytest.param(OK + b"Transfer-Encoding: ,chunked\r\n", id=",chunked"),
        pytest.param(OK + b"Transfer-Encoding: chunked, gzip\r\n", id="chunked, gzip"),
        pytest.param(OK + b"Transfer-Encoding:\r\n", id="coding empty"),
        pytest.param(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", id="a coding in HTTP/1.0"),
        pytest.param(OK + b"Transfer-Encoding : chunked\r\n", id="a blank before the colon"),
        pytest.param(OK + b"X: a\r\n b\r\n", id="obs-fold"),
        pytest.param(OK + b"X: a\nY: b\r\n", id="bare LF"),
        pytest.param(OK + b"X: a\rY: b\r\n", id="bare CR"),
        pytest.param(OK + b"X: a\0\r\n", id="NUL"),
        pytest.param(OK + b": a\r\n", id="no name"),
        pytest.param(OK + b"X\r\n", id="no colon"),
        pytest.param(b"HTTP/1.1 199 X\r\nContent-Length: 5\r\n", id="199 with a body"),
        pytest.param(b"HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n", id="103 with a body in chunks"),
    ],
)
@pytest.mark.parametrize("method", [b"POST", b"HEAD"])
def test_a_response_that_two_readers_could_take_differently_is_unusable(method: bytes, head: bytes) -> None:
    assert read_response(head + b"\r\n", method) is None


WHOLE_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y z\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("hostile", [b"\r", b"\n", b"\0", b"\x0b", b"\x7f", b"\r\n ", b"\n\n"])
def test_a_hostile_byte_in_a_response_is_noticed_wherever_it_stands(hostile: bytes) -> None:
    assert read_response(WHOLE_RESPONSE, b"POST") is not None
    for data in _with(hostile, WHOLE_RESPONSE):
        assert read_response(data, b"POST") is None, data


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: b"GET / HTTP/1.1\r\n" + rest))
def test_any_bytes_are_read_or_refused_and_never_raise(data: bytes) -> None:
    whole = _cut_head(data)
    assert isinstance(read(whole), RequestHead | Fault)
    assert isinstance(read_response(whole, b"GET"), ResponseHead | None)
