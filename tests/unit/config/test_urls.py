"""Addresses and URLs: what they mean, and what is shown of them."""

import pytest

from config.urls import Address, Origin, address, listen_address, masked, origin, server_name, store_url, upstream_host


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
        ("unix:/run/api.sock", Origin("http", "localhost", 80, "/run/api.sock"), "unix:/run/api.sock"),
        ("unix:run/my api.sock", Origin("http", "localhost", 80, "run/my api.sock"), "unix:run/my api.sock"),
    ],
)
def test_an_upstream_is_an_origin_or_a_socket_on_this_machine(written: str, meant: Origin, shown: str) -> None:
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
        ("UNIX:/run/api.sock", "begins with http:// or https://, or unix:PATH"),
        ("unix:", "unix:/absolute/path"),
        ("unix://run/api.sock", r"unix:/absolute/path \(one slash\)"),
        ("unix:/run/api\n.sock", "unix:/absolute/path"),
        ("unix:/run/api\0.sock", "unix:/absolute/path"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
        (80, "must be a URL"),
    ],
)
def test_a_bad_upstream_is_told_why(written: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        origin(written)


def test_clients_may_come_by_a_socket_on_this_machine_or_by_a_port() -> None:
    assert listen_address("unix:/run/proxy.sock") == Address("", 0, "/run/proxy.sock")
    assert str(listen_address("unix:proxy.sock")) == "unix:proxy.sock"
    assert listen_address("[::1]:80") == listen_address(Address("::1", 80)) == Address("::1", 80)
    for bad in ("unix:", ":80", 80):
        with pytest.raises(ValueError, match="must be"):
            listen_address(bad)


@pytest.mark.parametrize("written", ["", "api.example.com", "192.0.2.1", "2001:db8::1"])
def test_a_name_for_a_certificate(written: str) -> None:
    assert server_name(written) == written


@pytest.mark.parametrize("written", ["api:443", "https://api", "[::1]", "*.example.com", "a b", "-", "é.example"])
def test_what_no_certificate_can_be_for(written: str) -> None:
    with pytest.raises(ValueError, match="must be the name of a host"):
        server_name(written)


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
        "redis+sentinel://one,two:26380/payments",
        "redis+sentinel://user:p%40ss@one:26379,[::1]:26379/payments/3?sentinel_username=app&sentinel_password=p%26ss",
        "rediss+sentinel://:secret@one:26379/payments?sentinel_password=x&ssl_ca_certs=/etc/ca.pem",
        "redis+cluster://one:7000,two,[::1]:7000,[::2]",
        "rediss+cluster://user:secret@one:7000,two:7000/0?ssl_check_hostname=false",
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
        ("redis+sentinel://one,two", "must name the service"),
        ("redis+sentinel://one/#payments", "must name the service"),
        ("redis+sentinel://one,,two/payments", "must name a host"),
        ("redis+sentinel://one,two:x/payments", "a number from 1 to 65535"),
        ("redis+sentinel://one/payments/x", "the number of a database"),
        ("redis+sentinel://one/payments?password=x", "only rediss:// takes parameters"),
        ("redis+sentinel://o ne/payments", "without blanks"),
        ("redis+cluster://", "must name a host"),
        ("redis+cluster://one,two/1", "a cluster has no databases"),
        ("redis+cluster://one?sentinel_password=x", "only rediss:// takes parameters"),
        ("redis+cluster://one,two#x", "a cluster has no databases"),
        ("redis+clutter://one", "must be sqlite:relative.db"),
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
        ("redis+sentinel://one:1,two:2/payments/0", "redis+sentinel://one:1,two:2/payments/0"),
        ("redis+sentinel://:hu,sh@one:1,two:2/x?sentinel_password=hush", "redis+sentinel://***@one:1,two:2/x?***"),
        ("redis+cluster://[::1]:7000,two", "redis+cluster://[::1]:7000,two"),
        ("redis+cluster://:hu,sh:1", "redis+cluster://:***"),
        ("redis+cluster://user:hush,one:1,two:2", "redis+cluster://user:***"),
        ("user:hush@store", "***@store"),
        ("api.example.com", "api.example.com"),
    ],
)
def test_a_password_is_not_shown_wherever_it_landed(written: str, shown: str) -> None:
    assert masked(written) == shown
