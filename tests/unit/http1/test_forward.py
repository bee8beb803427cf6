"""What a gateway changes in a message, and what it leaves alone."""

from ipaddress import ip_network

import pytest

from proxy.http1 import fields as field_lines
from proxy.http1.fields import pairs
from proxy.http1.forward import Forwarding, Peer, end_to_end, framed, hints
from proxy.http1.message import Limits, RequestHead, ResponseHead, read_request, read_response
from proxy.tokens import Tokens

STRANGER = Peer("192.0.2.7", trusted=False)
BALANCER = Peer("10.0.0.1", trusted=True)


def forwarding(host: bytes | None = b"upstream.test") -> Forwarding:
    return Forwarding(Tokens(), host, "us", [ip_network("10.0.0.0/8"), ip_network("fd00::/8")], [b"idempotency-key"])


def request(fields: bytes = b"") -> RequestHead:
    head = read_request(b"POST /pay?a=1 HTTP/1.1\r\nHost: api.test\r\n" + fields + b"\r\n", Limits())
    assert isinstance(head, RequestHead)
    return head


def response(fields: bytes, status: int = 200, method: bytes = b"GET") -> ResponseHead:
    head = read_response(b"HTTP/1.1 %d X\r\n" % status + fields + b"\r\n", method)
    assert head is not None
    return head


def sent(head: RequestHead, peer: Peer = STRANGER, length: int = 0) -> list[tuple[bytes, bytes]]:
    data = forwarding().request(head, peer, length)
    line, _, rest = data.partition(b"\r\n")
    assert line == b"POST /pay?a=1 HTTP/1.1"
    assert rest.endswith(b"\r\n\r\n")
    return pairs(b"\r\n" + rest[:-4])


def test_fields_keep_order_case_and_repeats_behind_a_host_of_the_upstream() -> None:
    fields = sent(request(b"x-b: 1\r\nX-A: 2\r\nX-b: 3\r\nX-Request-Id: r\r\n"))
    assert fields == [
        (b"Host", b"upstream.test"),
        (b"x-b", b"1"),
        (b"X-A", b"2"),
        (b"X-b", b"3"),
        (b"X-Request-Id", b"r"),
        (b"Via", b"1.1 us"),
        (b"X-Forwarded-For", b"192.0.2.7"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"api.test"),
    ]


def test_the_host_can_be_the_clients() -> None:
    assert b"\r\nHost: api.test\r\n" in forwarding(None).request(request(), STRANGER, 0)


def test_a_request_without_an_id_is_given_one_that_no_other_has() -> None:
    ids = {dict(sent(request()))[b"X-Request-Id"] for _ in range(100)}
    assert len(ids) == 100
    assert {len(value) for value in ids} == {32}


def test_hop_by_hop_fields_and_those_that_connection_names_stay_here_but_not_what_frames_or_guards() -> None:
    named = b"Connection: x-hop, Content-Length, Host, Idempotency-Key, te\r\nX-Hop: 1\r\nTE: trailers\r\n"
    rest = b"Idempotency-Key: k\r\nContent-Length: 3\r\nUpgrade: h2c\r\nKeep-Alive: 1\r\nExpect: 100-continue\r\n"
    names = [name for name, _ in sent(request(named + rest), length=3)]
    assert names[:3] == [b"Host", b"Idempotency-Key", b"Content-Length"]
    assert not {b"X-Hop", b"TE", b"Upgrade", b"Keep-Alive", b"Expect", b"Connection"} & set(names)


@pytest.mark.parametrize("length", [7, 0])
def test_a_body_that_came_in_chunks_is_sent_with_its_length(length: int) -> None:
    fields = sent(request(b"Transfer-Encoding: chunked\r\n"), length=length)
    assert (b"Content-Length", b"%d" % length) in fields
    assert b"Transfer-Encoding" not in dict(fields)


def test_a_stranger_who_writes_where_a_request_came_from_is_not_believed() -> None:
    lies = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n"
    head = request(lies)
    fields = sent(head)
    assert [value for name, value in fields if name == b"X-Forwarded-For"] == [b"192.0.2.7"]
    assert (b"X-Forwarded-Host", b"api.test") in fields
    assert forwarding().url(head, STRANGER) == b"http://api.test/pay?a=1"


def test_a_trusted_peer_is_believed_and_added_to() -> None:
    head = request(b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: pay.example\r\n")
    fields = sent(head, BALANCER)
    assert (b"X-Forwarded-For", b"203.0.113.9, 10.0.0.1") in fields
    assert (b"X-Forwarded-Proto", b"https") in fields
    assert forwarding().url(head, BALANCER) == b"https://pay.example/pay?a=1"


def test_even_a_trusted_peer_cannot_make_a_url_of_anything() -> None:
    head = request(b"X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: " + b"h" * 9000 + b"\r\n")
    assert forwarding().url(head, BALANCER) == b"http://api.test/pay?a=1"


def test_who_came_by_https_is_told_so_and_a_trusted_peer_knows_better() -> None:
    stranger, balancer = STRANGER._replace(scheme=b"https"), BALANCER._replace(scheme=b"https")
    lie, truth = request(b"X-Forwarded-Proto: http\r\n"), request(b"X-Forwarded-Proto: HTTP\r\n")
    for head, peer, scheme in ((lie, stranger, b"https"), (request(), balancer, b"https"), (truth, balancer, b"http")):
        assert (b"X-Forwarded-Proto", scheme) in sent(head, peer)
        assert forwarding().url(head, peer) == scheme + b"://api.test/pay?a=1"


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("fd00::1", True),
        ("fe80::1%eth0", False),
        ("::ffff:10.1.2.3", True),  # on a socket for both families
        ("::ffff:11.1.2.3", False),
        ("::10.1.2.3", False),
        ("", False),
    ],
)
def test_who_is_trusted_is_a_matter_of_networks(address: str, trusted: bool) -> None:
    assert forwarding().peer(address) == Peer(address, trusted)


def test_a_response_keeps_its_fields_but_for_the_hop_and_gets_a_date_if_it_has_none() -> None:
    head = response(b"X-A: 1\r\nConnection: x-b, keep-alive\r\nx-b: 2\r\nSet-Cookie: a\r\nset-cookie: b\r\n")
    lines = end_to_end(head).split(b"\r\n")
    assert lines[:3] == [b"X-A: 1", b"Set-Cookie: a", b"set-cookie: b"]
    assert lines[3].startswith(b"Date: ")
    assert lines[4:] == [b""]


def test_a_date_is_not_replaced_and_a_field_gives_way() -> None:
    head = response(b"Date: D\r\nIdempotency-Expires: never\r\n")
    assert end_to_end(head, b"idempotency-expires") == b"Date: D\r\n"


@pytest.mark.parametrize(
    ("status", "method", "fields", "length"),
    [
        (200, b"GET", b"", b"Content-Length: 5\r\n"),
        (200, b"GET", b"Content-Length: 5\r\n", b"Content-Length: 5\r\n"),
        (200, b"HEAD", b"", b""),
        (304, b"GET", b"", b""),
        (204, b"GET", b"Content-Length: 5\r\n", b""),
    ],
)
def test_a_length_stands_where_it_has_a_place(status: int, method: bytes, fields: bytes, length: bytes) -> None:
    head = response(b"Date: D\r\n" + fields, status, method)
    assert framed(head, method, 5) == b"Date: D\r\n" + length


def test_what_a_peer_calls_hop_by_hop_is_dropped_and_no_pattern_is_made_of_it() -> None:
    """A pattern of each set of options would be the peer's to make, as many as it likes."""
    sent(request()), end_to_end(response(b"")), hints(response(b"", 103))
    made = field_lines._remover.cache_info().misses
    for number in range(50):
        named = b"Connection: x-%d, keep-alive\r\nX-%d: 1\r\nX: 2\r\n" % (number, number)
        assert [value for name, value in sent(request(named)) if name.lower().startswith(b"x-%d" % number)] == []
        assert (b"X", b"2") in sent(request(named))
        assert end_to_end(response(named + b"Date: D\r\n")) == b"X: 2\r\nDate: D\r\n"
        assert hints(response(named, 103)) == b"X: 2\r\n"
    assert field_lines._remover.cache_info().misses == made
