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


def test_a_name_that_a_backend_may_take_for_the_fields_counts_as_the_field() -> None:
    """X_Api_Key is X-Api-Key to WSGI and PHP: its record is not shown to whoever has no credential."""
    meant = credential(HASHER, HEADERS, asked_with(b"X-Api-Key: k\r\n"), b"")
    for spelling in (b"X_Api_Key", b"x-api_key", b"X_API-KEY"):
        assert credential(HASHER, HEADERS, asked_with(spelling + b": k\r\n"), b"") == meant
    assert credential(HASHER, HEADERS, asked_with(b"X-Api-Key: k\r\nX_Api_Key: other\r\n"), b"") != meant


def test_a_field_without_a_value_is_nobodys() -> None:
    key = credential(HASHER, HEADERS, asked_with(b"X-Api-Key: k\r\n"), b"")
    assert credential(HASHER, HEADERS, asked_with(b"Authorization:\r\nX-Api-Key: k\r\n"), b"") == key
    assert credential(HASHER, HEADERS, asked_with(b"Authorization: \r\n"), b"") == NO_CREDENTIAL


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
