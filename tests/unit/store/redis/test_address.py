"""What a URL says, and what is said of one that says nothing."""

import ssl
from pathlib import Path

import pytest
import trustme

from proxy.store.base import StoreRefused
from proxy.store.redis.address import Address, Seeds, Sentinels, parse, read


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


def test_a_url_of_sentinels_keeps_their_entry_apart_from_the_servers() -> None:
    url = "redis+sentinel://app:p%40ss@one,[::1]:26380/pay%20ments/3?sentinel_username=watch&sentinel_password=w%26rd"
    found = read(url)
    assert isinstance(found, Sentinels)
    assert found.place == "redis+sentinel://app:***@one:26379,[::1]:26380/pay%20ments/3"
    assert found.service == "pay ments"
    assert [(each.host, each.port) for each in found.sentinels] == [("one", 26379), ("::1", 26380)]
    assert {(each.username, each.password, each.database) for each in found.sentinels} == {("watch", "w&rd", 0)}
    there = found.primary.at("10.0.0.1", 6380)
    assert there[1:] == ("10.0.0.1", 6380, None, None, "app", "p@ss", 3)
    assert there.place == "redis://app:***@10.0.0.1:6380/3"


def test_sentinels_without_an_entry_are_told_nothing() -> None:
    found = read("redis+sentinel://:secret@one/payments")
    assert isinstance(found, Sentinels)
    assert [(each.username, each.password) for each in found.sentinels] == [(None, None)]


def test_a_url_of_a_cluster_enters_all_nodes_alike() -> None:
    found = read("redis+cluster://app:secret@one:7000,two,[::1]:7001/0")
    assert isinstance(found, Seeds)
    assert found.place == "redis+cluster://app:***@one:7000,two:6379,[::1]:7001"
    assert [(each.host, each.port) for each in found.nodes] == [("one", 7000), ("two", 6379), ("::1", 7001)]
    assert {each[3:] for each in found.nodes} == {(None, None, "app", "secret", 0)}


def test_tls_holds_for_all_of_them(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    query = f"ssl_ca_certs={tmp_path / 'ca.pem'}&ssl_check_hostname=false"
    cluster, sentinels = read(f"rediss+cluster://one?{query}"), read(f"rediss+sentinel://one/payments?{query}")
    assert isinstance(cluster, Seeds)
    assert isinstance(sentinels, Sentinels)
    for address in (*cluster.nodes, *sentinels.sentinels, sentinels.primary):
        assert address.tls is not None
        assert not address.tls.check_hostname
        assert len(_cas(address.tls)) == 1
    assert cluster.nodes[0].at("h", 1).place == "rediss://h:1/0"


def test_a_url_of_one_server_is_one_server() -> None:
    assert isinstance(read("redis://h"), Address)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://h", "must name the service"),
        ("redis+sentinel://h/", "must name the service"),
        ("redis+sentinel://:hunter@h/payments/x", "database number"),
        ("redis+sentinel://:hunter@h/payments?password=hunter", "no others: db"),
        ("redis+sentinel://:hunter@h,/payments", "cannot be read"),
        ("redis+cluster://:hunter@h/1", "no database but 0"),
        ("redis+cluster://:hun/ter@h", "no database but 0"),
        ("redis+cluster://", "cannot be read"),
        ("redis+sentinel://:1/hunter@h", "must name the service"),
        ("redis+cluster://h#hunter", "cannot be read"),
        ("unix+cluster://:hunter@h", "cannot be read"),
        ("rediss+cluster://h?ssl_ca_certs=/nowhere.pem", "TLS parameters"),
    ],
)
def test_a_url_of_several_that_cannot_be_used_is_refused_without_its_password(url: str, why: str) -> None:
    with pytest.raises(StoreRefused, match=why) as refused:
        read(url)
    assert "hunter" not in str(refused.value)
