"""What a URL says, and what is said of one that says nothing."""

import ssl
from pathlib import Path

import pytest
import trustme

from proxy.store.base import StoreRefused
from proxy.store.redis.address import parse


def test_a_url_with_everything() -> None:
    address = parse("redis://app:p%40ss@cache.example.com:6380/3")
    assert address[1:] == ("cache.example.com", 6380, None, None, "app", "p@ss", 3)
    assert address.place == "redis://app:***@cache.example.com:6380/3"


def test_a_url_with_next_to_nothing() -> None:
    assert parse("redis://") == ("redis://localhost:6379/0", "localhost", 6379, None, None, None, None, 0)


def test_an_ipv6_address_and_a_password_without_a_user() -> None:
    address = parse("redis://:secret@[::1]:1234")
    assert (address.host, address.port, address.username, address.password) == ("::1", 1234, None, "secret")
    assert address.place == "redis://:***@[::1]:1234/0"


def test_a_unix_socket() -> None:
    address = parse("unix:///run/valkey.sock?db=2")
    assert (address.path, address.database, address.place) == ("/run/valkey.sock", 2, "unix:///run/valkey.sock")


def test_tls_verifies_by_default_and_as_it_is_told(tmp_path: Path) -> None:
    authority, files = trustme.CA(), {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    issued = authority.issue_cert("proxy.example.com")
    issued.cert_chain_pems[0].write_to_path(files["cert"])
    issued.private_key_pem.write_to_path(files["key"])

    default = parse("rediss://h").tls
    own = parse(f"rediss://h?ssl_ca_certs={files['ca']}&ssl_certfile={files['cert']}&ssl_keyfile={files['key']}").tls
    loose = parse("rediss://h?ssl_check_hostname=false&ssl_min_version=772").tls
    none = parse("rediss://h?ssl_cert_reqs=none").tls

    assert default is not None
    assert own is not None
    assert loose is not None
    assert none is not None
    assert (default.verify_mode, default.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert any(dict(entry[0] for entry in ca["subject"])["organizationName"].startswith("trustme") for ca in _cas(own))
    assert (loose.verify_mode, loose.check_hostname) == (ssl.CERT_REQUIRED, False)
    assert loose.minimum_version is ssl.TLSVersion.TLSv1_3
    assert (none.verify_mode, none.check_hostname) == (ssl.CERT_NONE, False)


def _cas(context: ssl.SSLContext) -> list[dict[str, tuple[tuple[tuple[str, str], ...], ...]]]:
    return context.get_ca_certs()  # type: ignore[return-value]  # its values are of many kinds, "subject" is of this


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h", "cannot be read"),
        ("redis://:hunter/2@h", "cannot be read"),
        ("redis://:1/hunter@h", "database number"),
        ("redis://:1#hunter@h", "no others: db"),
        ("redis://:1?hunter@h", "no others: db"),
        ("redis://h:99999", "cannot be read"),
        ("redis://h?db=one", "cannot be read"),
        ("redis://h/one", "database number"),
        ("redis://h?timeout=1&ssl_ca_certs=x", "no others: db"),
        ("rediss://h?timeout=1", "no others: db, ssl_ca_certs"),
        ("rediss://h?ssl_cert_reqs=maybe", "none, optional or required"),
        ("rediss://h?ssl_ca_certs=/nowhere.pem", "TLS parameters"),
        ("rediss://h?ssl_min_version=3", "TLS parameters"),
        ("rediss://h?ssl_ciphers=none", "TLS parameters"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str, why: str) -> None:
    with pytest.raises(StoreRefused, match=why) as refused:
        parse(url)
    assert "hunter" not in str(refused.value)
