"""Each setting refuses what is not right, and says what would be."""

from ipaddress import ip_network

import pytest
from pydantic import BaseModel, ValidationError

from config.load import BadSettings, load
from config.settings import Forwarded, Settings, Upstream, every_setting
from config.urls import Address, Origin


def problems(setting: str, value: object) -> list[str]:
    with pytest.raises(BadSettings) as bad:
        load(None, {"upstream.url": "http://api", setting: value})
    return str(bad.value).split("\n  ")[1:]


def good(setting: str, value: object) -> object:
    found: object = load(None, {"upstream.url": "http://api", setting: value})
    for name in setting.split("."):
        found = getattr(found, name)
    return found


DURATION = "must be a duration"
SIZE = "must be a size"
TOKEN = "must be a token"
NUMBER = "must be a whole number"
SWITCH = "must be true or false"
LIST = "must be a list"
BAD = [
    ("listen", ":8080", "must be HOST:PORT"),
    ("listen", "unix:", "must be unix:/absolute/path"),
    ("listen_mode", 660, "must be permissions in octal"),
    ("listen_mode", "rw-rw----", "must be permissions in octal"),
    ("listen_mode", "0668", "must be permissions in octal"),
    ("ops_listen", "nowhere", "must be HOST:PORT"),
    ("ops_listen", "unix:/run/ops.sock", "must be HOST:PORT"),
    ("workers", 0, "must be at least 1"),
    ("workers", "two", NUMBER),
    ("workers", 1.5, NUMBER),
    ("workers", True, NUMBER),
    ("upstream.url", "ftp://api", "begins with http:// or https://"),
    ("upstream.timeout", "soon", DURATION),
    ("upstream.timeout", 0, "must be at least 1ms"),
    ("upstream.connect_timeout", "1x", DURATION),
    ("upstream.max_connections", 0, "must be at least 1"),
    ("upstream.max_waiting", -1, "must be at least 0"),
    ("upstream.pool_timeout", "", DURATION),
    ("upstream.idle_timeout", "0s", "must be at least 1ms"),
    ("upstream.host", "a b", "must be upstream, preserve or a host"),
    ("upstream.host", 3, "must be a text"),
    ("upstream.ca", 3, "must be a text"),
    ("upstream.certificate", "a\0b", "must be the path of a file"),
    ("upstream.key", "\udcff", "must be UTF-8"),
    ("upstream.server_name", "api:443", "must be the name of a host"),
    ("upstream.server_name", "https://api", "must be the name of a host"),
    ("store.url", "mysql://store", "must be sqlite:relative.db"),
    ("store.deadline", "0", "must be at least 1ms"),
    ("store.durability", "disk", 'must be "memory", "fsync" or "replicas:N"'),
    ("store.durability", "replicas:0", 'must be "memory", "fsync" or "replicas:N"'),
    ("store.durability", "replicas:100", 'must be "memory", "fsync" or "replicas:N"'),
    ("store.durability", "replicas", 'must be "memory", "fsync" or "replicas:N"'),
    ("store.prefix", 3, "must be a text"),
    ("store.prefix", "\udcff", "must be UTF-8"),
    ("store.hash_secret", "é" * 33, "must be at most 64 bytes"),
    ("store.hash_secret", 12, "must be a text"),
    ("store.allow_eviction", "perhaps", SWITCH),
    ("store.on_forgotten", "panic", "must be 'unready' or 'refuse'"),
    ("spool.path", "", "must not be empty"),
    ("spool.path", "a\0b", "must be the path of a file"),
    ("spool.max_size", "64 MiBs", "must be a size"),
    ("idempotency.header", "Idempotency Key", TOKEN),
    ("idempotency.header", "", TOKEN),
    ("idempotency.header", "Key:", TOKEN),
    ("idempotency.key_min", 0, "must be at least 1"),
    ("idempotency.key_max", 1025, "must be at most 1024"),
    ("idempotency.key_chars", "", "must be the inside of a regular expression's character class"),
    ("idempotency.key_chars", "z-a", "must be the inside of a regular expression's character class"),
    ("idempotency.key_chars", "a-z]|[a-z", "must be the inside of a regular expression's character class"),
    ("idempotency.key_chars", "a-z\\", "must be the inside of a regular expression's character class"),
    ("idempotency.key_chars", "a--z", "must be the inside of a regular expression's character class"),
    ("idempotency.key_chars", "a-zé", "must be the inside of a regular expression's character class"),
    ("idempotency.key_chars", "a-z,", "must not match a comma"),
    ("idempotency.key_chars", '!-"', "must not match a comma"),
    ("idempotency.key_chars", "+-0", "must not match a comma"),
    ("idempotency.key_chars", "a-z\\s", "must not match a comma"),
    ("idempotency.key_chars", "^a", "must not match a comma"),
    ("idempotency.key_chars", "^\\x00-\\x7f", "must not match a comma"),
    ("idempotency.retention", "-1h", DURATION),
    ("idempotency.retention", "400d", "must be at most 366d"),
    ("idempotency.lease_margin", "5 seconds", DURATION),
    ("idempotency.methods", [], "must not be empty"),
    ("idempotency.methods", ["post"], "must be in capitals"),
    ("idempotency.methods", ["PO ST"], TOKEN),
    ("idempotency.methods", ["POST", "POST"], "must have nothing twice"),
    ("idempotency.methods", "POST", LIST),
    ("idempotency.methods", '{"POST": 1}', LIST),
    ("idempotency.methods", '"POST"', LIST),
    *[("idempotency.methods", [it], "changes something") for it in ("GET", "HEAD", "OPTIONS", "TRACE", "CONNECT")],
    ("idempotency.release_statuses", [99], "a status from 100 to 599"),
    ("idempotency.release_statuses", [600], "a status from 100 to 599"),
    ("idempotency.release_statuses", [401, 201], "none of 2xx"),
    ("idempotency.release_statuses", ["unauthorized"], NUMBER),
    ("idempotency.dialect", "klingon", "must be 'mangopay'"),
    ("responses.paths", [], "must not be empty"),
    ("responses.paths", ["responses/{key}"], "must begin with a slash"),
    ("responses.paths", ["/responses/{key}?x"], "must begin with a slash"),
    ("responses.paths", ["/responses /{key}"], "must begin with a slash"),
    ("responses.paths", ["/réponses/{key}"], "must begin with a slash"),
    ("responses.paths", ["/responses/"], "must have {key} exactly once"),
    ("responses.paths", ["/{key}/{key}"], "must have {key} exactly once"),
    ("responses.paths", ["/{a}/{a}/{key}"], "another name for each other capture"),
    ("responses.paths", ["/x{key}"], "each capture as a segment of its own"),
    ("responses.paths", ["/{key}/{}"], "each capture as a segment of its own"),
    ("responses.paths", ["/{key}/{2}"], "each capture as a segment of its own"),
    ("responses.paths", ["/{key}/{a"], "each capture as a segment of its own"),
    ("responses.authorize", "probe", "must be 'credential' or 'none'"),
    ("responses.credential_headers", [], "must not be empty"),
    ("responses.credential_headers", ["X Api Key"], TOKEN),
    ("responses.wait_max", "x", DURATION),
    ("responses.view_limit", "4Mb", SIZE),
    ("record.max_body", "2GiB", "must be at most 1GiB"),
    ("limits.request_line", 255, "must be at least 256"),
    ("limits.request_line", "33KiB", "must be at most 32768"),
    ("limits.head", "2MiB", "must be at most 1048576"),
    ("limits.fields", 0, "must be at least 1"),
    ("limits.body", "1.5B", SIZE),
    ("limits.bodies", "lots", SIZE),
    ("limits.head_timeout", "0s", "must be at least 1ms"),
    ("limits.body_idle_timeout", "0s", "must be at least 1ms"),
    ("limits.body_timeout", "0s", "must be at least 1ms"),
    ("limits.write_timeout", "0s", "must be at least 1ms"),
    ("limits.keepalive_timeout", "0s", "must be at least 1ms"),
    ("limits.drain_timeout", "0s", "must be at least 1ms"),
    ("limits.connections", 0, "must be at least 1"),
    ("limits.tunnels", -1, "must be at least 0"),
    ("limits.tunnel_idle_timeout", "0s", "must be at least 1ms"),
    ("limits.response_head", "65KiB", "must be at most 65536"),
    ("limits.trailers", "x", SIZE),
    ("limits.chunk_extensions", -1, SIZE),
    ("tls.certificate", 3, "must be a text"),
    ("tls.key", "a\0b", "must be the path of a file"),
    ("tls.client_ca", "a\0b", "must be the path of a file"),
    ("tls.client_certificates", "yes", "must be 'none', 'optional' or 'required'"),
    ("tls.min_version", "1.1", "must be '1.2' or '1.3'"),
    ("forwarded.trusted", ["10.0.0.1/8"], "must be a network without host bits"),
    ("forwarded.trusted", ["lan"], "must be a network without host bits"),
    ("forwarded.trusted", [10], "must be a network without host bits"),
    ("forwarded.via", "a proxy", TOKEN),
    ("log.level", "loud", "must be 'debug', 'info', 'warning' or 'error'"),
    ("log.requests", "sometimes", SWITCH),
    ("log.format", "xml", "must be 'json' or 'console'"),
]


@pytest.mark.parametrize(("setting", "value", "why"), BAD)
def test_a_bad_value_is_told_with_its_name_and_what_would_be_right(setting: str, value: object, why: str) -> None:
    (line,) = problems(setting, value)
    assert line.startswith(setting)
    assert why in line
    assert "(by a flag)" in line


def test_every_setting_is_in_the_table_of_bad_values() -> None:
    assert {setting for setting, _, _ in BAD} == {name for name, _ in every_setting()}


@pytest.mark.parametrize(
    ("setting", "value", "meant"),
    [
        ("idempotency.key_chars", "A-Za-z0-9_.~-", "A-Za-z0-9_.~-"),
        ("idempotency.key_chars", "\\w:-", "\\w:-"),
        ("idempotency.methods", '["POST", "PATCH"]', ("POST", "PATCH")),
        ("idempotency.release_statuses", [], ()),
        ("idempotency.release_statuses", "[401, 503]", (401, 503)),
        ("responses.paths", ["/{version}/{client}/responses/{key}"], ("/{version}/{client}/responses/{key}",)),
        ("forwarded.trusted", ["10.0.0.0/8", "fd00::/8"], (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
        ("store.allow_eviction", "true", True),
        ("log.requests", "off", False),
        ("workers", "4", 4),
        ("upstream.timeout", "90", 90.0),
        ("limits.body", "64MiB", 64 * 1024 * 1024),
        ("listen", "unix:/run/proxy.sock", Address("", 0, "/run/proxy.sock")),
        ("listen_mode", "0600", 0o600),
        ("listen_mode", "666", 0o666),
        ("upstream.url", "unix:api.sock", Origin("http", "localhost", 80, "api.sock")),
    ],
)
def test_a_good_value_is_what_it_says(setting: str, value: object, meant: object) -> None:
    assert good(setting, value) == meant


def test_the_lease_covers_every_wait_of_an_exchange() -> None:
    settings = load(None, {"upstream.url": "http://api"})
    assert settings.lease == 1 + 5 + 5 + 60 + 5


def test_a_settings_object_cannot_be_changed_at_any_depth() -> None:
    settings = load(None, {"upstream.url": "http://api"})
    models: list[BaseModel] = [settings, *(value for _, value in settings if isinstance(value, BaseModel))]
    assert len(models) == 11
    for model in models:
        name, value = next(iter(model))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, name, value)
    hash(settings)  # and nothing in it can


TLS = {"tls.certificate": "c.pem", "tls.key": "k.pem"}
HTTPS = {"upstream.url": "https://api"}
CONFLICTS = [
    ({"idempotency.retention": "76s"}, "idempotency.retention, store.deadline", "longer than the lease, 76s"),
    ({"upstream.timeout": "24h"}, "idempotency.retention, store.deadline", "the retention, 86400s"),
    ({"store.url": "memory://", "workers": 2}, "store.url, workers", "2 workers cannot share a memory:// store"),
    ({"store.durability": "fsync"}, "store.durability, store.url", "sqlite: syncs every write to the disk by itself"),
    (
        {"store.durability": "replicas:2", "store.url": "memory://"},
        "store.durability, store.url",
        'a durability of "replicas:2" is for Redis and Valkey',
    ),
    ({"idempotency.key_min": 37}, "idempotency.key_min, idempotency.key_max", "the shortest key, 37"),
    ({"limits.head": "4KiB"}, "limits.head, limits.request_line", "a head of 4096 bytes"),
    ({"listen": "127.0.0.1:9090"}, "listen, ops_listen", "127.0.0.1:9090 and 127.0.0.1:9090 collide"),
    ({"listen": "0.0.0.0:9090"}, "listen, ops_listen", "collide"),
    ({"ops_listen": "[::]:8080"}, "listen, ops_listen", "collide"),
    ({"tls.certificate": "c.pem"}, "tls.certificate, tls.key", "tls.certificate is of no use without tls.key"),
    ({"tls.key": "k.pem"}, "tls.key, tls.certificate", "tls.key is of no use without tls.certificate"),
    ({"upstream.key": "k", **HTTPS}, "upstream.key, upstream.certificate", "of no use without upstream.certificate"),
    ({"upstream.certificate": "c", **HTTPS}, "upstream.certificate, upstream.key", "of no use without upstream.key"),
    ({"tls.client_ca": "a.pem", **TLS}, "tls.client_certificates, tls.client_ca", '"optional" or "required"'),
    ({"tls.client_certificates": "optional", **TLS}, "tls.client_certificates, tls.client_ca", 'client_ca is ""'),
    ({"tls.min_version": "1.3"}, "tls.min_version, tls.certificate", "without tls.certificate there is no TLS"),
    (
        {"tls.client_ca": "a.pem", "tls.client_certificates": "required"},
        "tls.client_ca, tls.certificate",
        "without tls.certificate there is no TLS",
    ),
    ({"upstream.ca": "a.pem"}, "upstream.url, upstream.ca", "http://api is without TLS"),
    ({"upstream.server_name": "api.test"}, "upstream.url, upstream.server_name", "let it begin with https://"),
    (
        {"upstream.url": "unix:api.sock", "upstream.certificate": "c.pem", "upstream.key": "k.pem"},
        "upstream.url, upstream.certificate, upstream.key",
        "unix:api.sock is without TLS",
    ),
]


@pytest.mark.parametrize(("flags", "names", "why"), CONFLICTS)
def test_settings_that_do_not_go_together_are_told_by_all_their_names(
    flags: dict[str, object], names: str, why: str
) -> None:
    with pytest.raises(BadSettings) as bad:
        load(None, {"upstream.url": "http://api", **flags})
    (line,) = str(bad.value).split("\n  ")[1:]
    assert line.startswith(names)
    assert why in line


@pytest.mark.parametrize(
    "flags",
    [
        {"idempotency.retention": "76.001s"},
        {"store.url": "memory://", "workers": 1},
        {"store.url": "sqlite:a.db", "store.durability": "memory"},
        {"store.url": "redis://a", "store.durability": "fsync"},
        {"store.url": "redis+sentinel://a:1/b", "store.durability": "replicas:99"},
        {"store.url": "rediss+cluster://a:1", "store.durability": "replicas:1"},
        {"idempotency.key_min": 36},
        {"limits.head": "8KiB"},
        {"listen": "127.0.0.1:0", "ops_listen": "127.0.0.1:0"},
        {"listen": "127.0.0.2:9090"},
        {"listen": "unix:proxy.sock", "ops_listen": "127.0.0.1:0"},
        {**TLS, "tls.min_version": "1.3"},
        {**TLS, "tls.client_ca": "a.pem", "tls.client_certificates": "optional"},
        {**HTTPS, "upstream.ca": "a.pem", "upstream.certificate": "c.pem", "upstream.key": "k.pem"},
        {**HTTPS, "upstream.server_name": "api.test"},
    ],
)
def test_settings_that_just_go_together_are_taken(flags: dict[str, object]) -> None:
    assert isinstance(load(None, {"upstream.url": "http://api", **flags}), Settings)


def test_every_setting_says_why() -> None:
    for name, field in every_setting():
        assert field.description, name
        assert len(field.description) > 15, name


def test_a_part_of_the_program_may_set_what_it_has_read_already() -> None:
    settings = Settings(
        listen=Address("::1", 0),
        upstream=Upstream(url=Origin("http", "api", 8081)),
        forwarded=Forwarded(trusted=(ip_network("10.0.0.0/8"),)),
    )
    flags = {"listen": "[::1]:0", "upstream.url": "http://api:8081", "forwarded.trusted": ["10.0.0.0/8"]}
    assert settings == load(None, flags)
    assert Settings.model_validate_json(settings.model_dump_json(exclude={"store": {"hash_secret"}})) == settings
