"""Addresses and URLs: what they mean, and what is shown of them."""

import pytest

from config.urls import Address, Origin, address, masked, origin, store_url, upstream_host


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[::]:80", Address("::", 80)),
    ],
)
def test_an_address_is_read_and_written_back(written: str, meant: Address) -> None:
    assert address(written) == meant
    assert str(meant) == written


@pytest.mark.parametrize(
    "written",
    [
        ":8080",
        "8080",
        8080,
        "host",
        "host:",
        "host:http",
        "host:65536",
        "host:-1",
        "::1:80",
        "[::1]",
        "[host]:80",
        "a b:1",
        "a:1\n",
    ],
)
def test_what_is_no_address_is_told_what_one_looks_like(written: object) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        address(written)


@pytest.mark.parametrize(
    ("written", "meant", "shown"),
    [
        ("http://api", Origin("http", "api", 80), "http://api"),
        ("http://api:80/", Origin("http", "api", 80), "http://api"),
        ("https://API.example.com", Origin("https", "api.example.com", 443), "https://api.example.com"),
        ("https://api:80", Origin("https", "api", 80), "https://api:80"),
        ("http://[::1]:8081", Origin("http", "::1", 8081), "http://[::1]:8081"),
    ],
)
def test_an_upstream_is_an_origin(written: str, meant: Origin, shown: str) -> None:
    assert origin(written) == meant
    assert str(meant) == shown


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("api:8080", "begins with http:// or https://"),
        ("ftp://api", "begins with http:// or https://"),
        ("http://user:secret@api", "must not carry a user or a password"),
        ("http://api/v2", "must end after host and port"),
        ("http://api?x=1", "must end after host and port"),
        ("http://api#x", "must end after host and port"),
        ("http://", "must name a host"),
        ("http://a_b-.:80", "must name a host"),
        ("http://api:http", "a number from 1 to 65535"),
        ("http://api:0", "a number from 1 to 65535"),
        ("http://api:65536", "a number from 1 to 65535"),
        ("http://[::1", "an IPv6 address stands in brackets"),
        ("http://a\tpi", "without blanks"),
        ("http://api\n", "without blanks"),
        ("", "begins with http:// or https://"),
        (80, "must be a URL"),
    ],
)
def test_a_bad_upstream_is_told_why(written: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        origin(written)


@pytest.mark.parametrize(
    "written",
    [
        "memory://",
        "sqlite:idempotency.db",
        "sqlite:data/idempotency.db",
        "sqlite:///data/idempotency.db",
        "redis://store",
        "redis://store:6379/0",
        "redis://:secret@store:6379/15",
        "redis://user:p%40ss@[::1]:6379/",
        "rediss://store:6380?ssl_ca_certs=/etc/ca.pem",
    ],
)
def test_a_store_keeps_its_url(written: str) -> None:
    assert store_url(written) == written


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "must be sqlite:relative.db, sqlite:///absolute/path"),
        ("idempotency.db", "must be sqlite:relative.db, sqlite:///absolute/path"),
        ("mysql://store", "must be sqlite:relative.db, sqlite:///absolute/path"),
        ("memory:", "memory:// and nothing more"),
        ("memory://x", "memory:// and nothing more"),
        ("sqlite:", "must name a file"),
        ("sqlite://", "must name a file"),
        ("sqlite:///", "must name a file"),
        ("sqlite:data/", "must name a file"),
        ("sqlite::memory:", "is memory://"),
        ("sqlite://idempotency.db", "(three)"),
        ("sqlite:a.db?mode=ro", r"without \? and #"),
        ("redis://", "must name a host"),
        ("redis://:secret@:6379", "must name a host"),
        ("redis://store:x", "a number from 1 to 65535"),
        ("redis://store:70000", "a number from 1 to 65535"),
        ("redis://store/x", "the number of a database"),
        ("redis://store/0/1", "the number of a database"),
        ("redis://store/-1", "the number of a database"),
        ("redis://store?db=1", "only rediss:// takes parameters"),
        ("redis://store?ssl_ca_certs=x", "only rediss:// takes parameters"),
        ("rediss://store?ssl_ca_certs=x&db=1", "only rediss:// takes parameters"),
        ("redis://store#1", "only rediss:// takes parameters"),
        ("redis://a b", "without blanks"),
        (5, "must be a URL"),
    ],
)
def test_a_bad_store_is_told_why(written: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        store_url(written)


@pytest.mark.parametrize(
    "written", ["upstream", "preserve", "api.example.com", "api.example.com:8443", "[::1]", "[::1]:80"]
)
def test_a_host_towards_the_upstream(written: str) -> None:
    assert upstream_host(written) == written


@pytest.mark.parametrize("written", ["", "a b", "a:b", "http://a", "a/b", "a,b", "a:123456", "[::1", "a\r\nX: y"])
def test_what_is_no_host_cannot_become_a_field(written: str) -> None:
    with pytest.raises(ValueError, match="must be upstream, preserve or a host"):
        upstream_host(written)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("redis://store:6379/0", "redis://store:6379/0"),
        ("redis://[::1]:6379/x", "redis://[::1]:6379/x"),
        ("sqlite:a.db", "sqlite:a.db"),
        ("redis://:hush@store/x", "redis://***@store/x"),
        ("redis://user:hush@store:x", "redis://***@store:***"),
        ("redis://:hu/sh@hu@sh@store/x", "redis://***@store/x"),
        ("redis://:hush://hush@store/x", "redis://***@store/x"),
        ("redis://:hush", "redis://:***"),
        ("redis://user:hush/0", "redis://user:***/0"),
        ("redis://store?password=hush", "redis://store?***"),
        ("user:hush@store", "***@store"),
        ("api.example.com", "api.example.com"),
    ],
)
def test_a_password_is_not_shown_wherever_it_landed(written: str, shown: str) -> None:
    assert masked(written) == shown
