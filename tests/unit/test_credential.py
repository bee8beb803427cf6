"""Whose request it is: by a field, by a client certificate, or by nothing."""

from proxy.core.key import NO_CREDENTIAL, Hasher
from proxy.credential import certified, credential
from proxy.http1.fields import Watched
from proxy.http1.message import REQUEST_FIELDS, Limits, RequestHead, read_request

HEADERS = (b"authorization", b"x-api-key")
HASHER = Hasher(b"secret")
ALICE, BOB = certified(HASHER, b"DER of alice"), certified(HASHER, b"DER of bob")


def asked_with(fields: bytes = b"") -> RequestHead:
    data = b"GET / HTTP/1.1\r\nHost: api.test\r\n" + fields + b"\r\n"
    head = read_request(data, Limits(), Watched([*REQUEST_FIELDS, *HEADERS]))
    assert isinstance(head, RequestHead)
    return head


def test_a_certificate_counts_where_no_field_does() -> None:
    assert credential(HASHER, HEADERS, asked_with(), ALICE) == ALICE
    assert credential(HASHER, HEADERS, asked_with(), b"") == NO_CREDENTIAL
    token = asked_with(b"X-Api-Key: k\r\n")
    assert credential(HASHER, HEADERS, token, ALICE) == credential(HASHER, HEADERS, token, b"")
    assert credential(HASHER, HEADERS, token, ALICE) not in (ALICE, NO_CREDENTIAL)


def test_certificates_are_told_apart_and_none_is_none() -> None:
    assert len({ALICE, BOB, NO_CREDENTIAL}) == 3
    assert len(ALICE) == len(NO_CREDENTIAL)
    assert certified(HASHER, b"") == b""
    assert certified(Hasher(b"another secret"), b"DER of alice") != ALICE


def test_nobody_can_write_a_certificate_into_a_field() -> None:
    """A certificate is public: were its hash that of a field with the same bytes, whoever has seen it would have it."""
    name = b"client-certificate"
    data = b"GET / HTTP/1.1\r\nHost: a\r\nClient-Certificate: DER of alice\r\n\r\n"
    head = read_request(data, Limits(), Watched([*REQUEST_FIELDS, name]))
    assert isinstance(head, RequestHead)
    assert credential(HASHER, (name,), head, b"") not in (ALICE, NO_CREDENTIAL)
