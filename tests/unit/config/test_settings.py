"""Each setting refuses what is not right, and says what would be."""

from ipaddress import ip_network

import pytest
from pydantic import BaseModel, ValidationError

from config.load import BadSettings, load
from config.settings import Forwarded, Settings, Upstream, every_setting
from config.urls import Address, Origin
from config.values import _UNGUARDABLE, GUARDABLE, ring_key
from proxy.http1.message import METHODS


def flags(setting: str, value: object) -> dict[str, object]:
    """That it is set; a setting of a rule in a rule that is right otherwise."""
    section, _, name = setting.partition(".")
    if section == "rules" and name:
        return {"rules": [{"path": "/pay", name: value}]}
    return {setting: value}


def problems(setting: str, value: object) -> list[str]:
    with pytest.raises(BadSettings) as bad:
        load(None, {"upstream.url": "http://api", **flags(setting, value)})
    return str(bad.value).split("\n  ")[1:]


def good(setting: str, value: object) -> object:
    found: object = load(None, {"upstream.url": "http://api", **flags(setting, value)})
    for name in setting.split("."):
        found = getattr(found, {"from": "of"}.get(name, name))
        found = found[0] if name == "rules" and isinstance(found, tuple) else found
    return found


DURATION = "must be a duration"
SIZE = "must be a size"
TOKEN = "must be a token"
NUMBER = "must be a whole number"
SWITCH = "must be true or false"
LIST = "must be a list"
STATUS = "must be a status from 400 to 499, as 404, 410 or 400, and none of 401, 407, 408, 409, 429"
KEYS = "must be the path of a file, or begin with https://"
RING_KEY = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="
BAD = [
    ("preset", "paypal", "must be 'none', 'mangopay', 'stripe' or 'ietf'"),
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
    ("idempotency.methods", ["POST", "PURGE"], "must be a method that is served here, one of POST, PUT, PATCH"),
    ("idempotency.release_statuses", [99], "a status from 100 to 599"),
    ("idempotency.release_statuses", [600], "a status from 100 to 599"),
    ("idempotency.release_statuses", [401, 201], "none of 2xx"),
    ("idempotency.release_statuses", ["unauthorized"], NUMBER),
    ("idempotency.dialect", "klingon", "must be 'mangopay'"),
    ("idempotency.on_reuse", "retry", "must be 'conflict' or 'replay'"),
    ("idempotency.replay_header", "Idempotent Replayed", TOKEN),
    ("idempotency.replay_header", "content-length", "must be a field that has no other meaning"),
    ("idempotency.replay_header", "Idempotency-State", "must be a field that has no other meaning"),
    ("idempotency.on_concurrent", "queue", "must be 'conflict' or 'wait'"),
    ("idempotency.wait_max", "0s", "must be at least 1ms"),
    ("idempotency.on_mismatch", "ignore", "must be 'conflict' or 'reject'"),
    ("rules.path", "pay", "must begin with a slash"),
    ("rules.path", "/pay?x=1", "without ? and #"),
    ("rules.path", "/{a}/{a}", "must not have a name twice"),
    ("rules.path", "/**/pay", "must have * only in ** as its last segment"),
    ("rules.path", "/x{a}", "must have braces only around a whole segment"),
    ("rules.path", "/a/../pay", "must not have . or .."),
    ("rules.path", "/%70ay", "must be written decoded"),
    ("rules.path", 3, "must be a text"),
    ("rules.methods", ["GET"], "changes something"),
    ("rules.methods", ["PUT", "PUT"], "must have nothing twice"),
    ("rules.protect", "perhaps", SWITCH),
    ("rules.require_key", 3, SWITCH),
    ("rules.retention", "soon", DURATION),
    ("rules.on_reuse", "retry", "must be 'conflict' or 'replay'"),
    ("rules.on_concurrent", "queue", "must be 'conflict' or 'wait'"),
    ("rules.on_mismatch", "ignore", "must be 'conflict' or 'reject'"),
    ("rules.release_statuses", [204], "none of 2xx"),
    ("rules.body", "lots", SIZE),
    ("rules.record", "2GiB", "must be at most 1GiB"),
    ("scope.from", "client", 'must be "none", or one or several of "path", "header", "jwt" and "credential"'),
    ("scope.from", ["none"], 'must be "none", or one or several'),
    ("scope.from", ["path", "none"], 'must be "none", or one or several'),
    ("scope.from", ["path", "path"], "must have nothing twice"),
    ("scope.from", [["path"]], 'must be "none", or one or several'),
    ("scope.from", {"path": "/{client}"}, 'must be "none", or one or several'),
    ("scope.from", 3, 'must be "none", or one or several'),
    ("scope.from", '["path"', LIST),
    ("scope.path", "{client}/", "must begin with a slash"),
    ("scope.path", "/v1/", "must have a capture that counts"),
    ("scope.path", "/{_}/", "must have a capture that counts"),
    ("scope.path", "/{client}/**", "must not end with **"),
    ("scope.header", "X Tenant", TOKEN),
    ("scope.header", ["X-Tenant", ""], TOKEN),
    ("scope.header", '["X-Tenant"', LIST),
    ("scope.header", ["X-Tenant", "x-tenant"], "must have nothing twice"),
    ("scope.header", ["X-Tenant", "X_Tenant"], "must have nothing twice"),
    ("scope.header", 3, LIST),
    ("scope.claim", "", "must not be empty"),
    ("scope.claim", "\udcff", "must be UTF-8"),
    ("jwt.keys", "http://issuer/keys", KEYS),
    ("jwt.keys", "http://127.0.0.1.example.com/keys", KEYS),
    ("jwt.keys", "ftp://issuer/keys", KEYS),
    ("jwt.keys", "https://user:word@issuer/keys", "must be without a user, a password"),
    ("jwt.keys", "https://issuer/keys#1", "must be without a user, a password and #"),
    ("jwt.keys", "https://issuer:x/keys", "as its port"),
    ("jwt.keys", "https:///keys", "must name a host"),
    ("jwt.keys", "a\0b", "must be the path of a file"),
    ("jwt.ca", "a\0b", "must be the path of a file"),
    ("jwt.issuer", 3, "must be a text"),
    ("jwt.audience", 3, "must be a text"),
    ("jwt.algorithms", [], "must not be empty"),
    *[("jwt.algorithms", ["ES256", it], "must be 'RS256'") for it in ("HS256", "none", "None", "es256", "")],
    ("jwt.leeway", "x", DURATION),
    ("jwt.refresh", "0s", "must be at least 1ms"),
    ("jwt.max_stale", "0s", "must be at least 1ms"),
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
    ("responses.authorize", "anybody", "must be 'credential', 'jwt', 'probe' or 'none'"),
    ("responses.probe", "v1/me", "must begin with a slash"),
    ("responses.probe", "/v1/me?fields=id", "without ? and #"),
    ("responses.probe", "/v1/{client}/**", "must not end with **"),
    ("responses.probe", "/{_}/{client}/clients", "must name its captures"),
    ("responses.probe_timeout", "0s", "must be at least 1ms"),
    *[("responses.unknown_key_status", it, STATUS) for it in (200, 399, 401, 409, 429, 500)],
    ("responses.unknown_key_status", "missing", NUMBER),
    *[("responses.unknown_key_type", it, "must be 1 to 64 letters, digits and _.-") for it in ("", "a b", "a:b", "ä")],
    ("responses.credential_headers", [], "must not be empty"),
    ("responses.credential_headers", ["X Api Key"], TOKEN),
    ("responses.wait_max", "x", DURATION),
    ("responses.view_limit", "4Mb", SIZE),
    ("record.max_body", "2GiB", "must be at most 1GiB"),
    ("record.drop_headers", ["Set Cookie"], TOKEN),
    ("record.drop_headers", ["Set-Cookie", "Content-Length"], "without it a replay could not be read"),
    ("record.drop_headers", ["transfer-encoding"], "must be none of connection, content-encoding"),
    ("record.compression", "gzip", "must be 'none' or 'zstd'"),
    ("record.encryption_keys", [f"0:{RING_KEY}"], "must be ID:KEY, with an ID from 1 to 255"),
    ("record.encryption_keys", [f"256:{RING_KEY}"], "must be ID:KEY, with an ID from 1 to 255"),
    ("record.encryption_keys", [RING_KEY], "must be ID:KEY, with an ID from 1 to 255"),
    ("record.encryption_keys", [f"1:{RING_KEY[:40]}"], "with a key of 32 random bytes in base64 or hexadecimal"),
    ("record.encryption_keys", [f"1:{RING_KEY[:-1]}!"], "with a key of 32 random bytes in base64 or hexadecimal"),
    ("record.encryption_keys", ["1:" + "0g" * 32], "with a key of 32 random bytes in base64 or hexadecimal"),
    ("record.encryption_keys", [f"1:{RING_KEY}", f"1:{'ab' * 32}"], "must not have a key's id twice"),
    ("record.encryption_keys", f"1:{RING_KEY}", LIST),
    ("record.encryption_keys", [7], "must be a text"),
    ("record.encryption_keys_file", "a\0b", "must be the path of a file"),
    ("record.encryption_keys_file", f"1:{RING_KEY}", "must be the path of a file with keys"),
    ("record.encryption_keys_file", f"1:{RING_KEY}\n2:{RING_KEY}\n", "must be the path of a file with keys"),
    ("record.encryption_keys_file", f"1:{RING_KEY[:-5]}", "must be the path of a file with keys"),
    ("record.encryption_keys_file", RING_KEY, "must be the path of a file with keys"),
    ("record.encryption_keys_file", "ab" * 32, "must be the path of a file with keys"),
    ("record.require_encryption", "always", SWITCH),
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
    ("limits.waiters", -1, "must be at least 0"),
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
    assert line.startswith(setting.replace("rules.", "rules[1]."))
    assert why in line
    assert "(by a flag)" in line


@pytest.mark.parametrize(
    ("setting", "value"),
    [(setting, value) for setting, value, _ in BAD if setting.startswith("record.encryption_keys")],
)
def test_what_is_wrong_with_a_key_is_told_without_the_key(setting: str, value: object) -> None:
    (line,) = problems(setting, value)
    for secret in (RING_KEY[:12], "0g0g0g", "abababab"):
        assert secret not in line


def test_keys_are_read_in_base64_and_in_hexadecimal_and_shown_to_nobody() -> None:
    settings = load(
        None, {"upstream.url": "http://api", "record.encryption_keys": f'["2:{RING_KEY}", "1:{"ab" * 32}"]'}
    )
    two, one = (ring_key(key.get_secret_value()) for key in settings.record.encryption_keys)
    assert (two[0], len(two[1])) == (2, 32)
    assert one == (1, b"\xab" * 32)
    assert RING_KEY not in repr(settings)
    assert "abab" not in repr(settings)


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
        ("scope.from", "none", ()),
        ("scope.from", [], ()),
        ("scope.from", "credential", ("credential",)),
        ("scope.from", '["credential"]', ("credential",)),
        ("scope.from", ["credential"], ("credential",)),
        ("rules.path", "/", "/"),
        ("rules.methods", ["QUERY"], ("QUERY",)),
        ("rules.path", "/**", "/**"),
        ("rules.path", "/v1/{_}/{_}/{client}/**", "/v1/{_}/{_}/{client}/**"),
        ("rules.methods", ["PUT", "POST"], ("PUT", "POST")),
        ("rules.retention", "7d", 7 * 86400.0),
        ("rules.release_statuses", [], ()),
        ("rules.body", "1KiB", 1024),
        ("responses.unknown_key_status", "410", 410),
        ("record.drop_headers", ["Set-Cookie", "Server"], ("Set-Cookie", "Server")),
    ],
)
def test_a_good_value_is_what_it_says(setting: str, value: object, meant: object) -> None:
    assert good(setting, value) == meant


@pytest.mark.parametrize(
    "probe", ["/my clients", "/\tx", "/a\r\nX-Evil: 1", '/"', "/<{client}>", "/a\\b", "/^", "/|", "/`"]
)
def test_what_would_be_no_target_of_a_request_is_not_asked(probe: str) -> None:
    (line,) = problems("responses.probe", probe)
    assert line.startswith("responses.probe = ")
    assert "(RFC 3986 §3.3)" in line or "braces only around a whole segment" in line


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", ()),
        ("X-Tenant", ("X-Tenant",)),
        (["X-Tenant"], ("X-Tenant",)),
        (["X-Tenant", "x-account"], ("x-account", "X-Tenant")),
        ('["X-Tenant", "x-account"]', ("x-account", "X-Tenant")),
    ],
)
def test_the_fields_of_a_scope_are_a_name_or_several_always_in_one_order(
    written: object, meant: tuple[str, ...]
) -> None:
    part = {"scope.from": "header"} if meant else {}
    assert load(None, {"upstream.url": "http://api", "scope.header": written, **part}).scope.header == meant


def test_the_methods_that_may_be_guarded_are_those_that_are_served_and_change_something() -> None:
    assert {method.encode() for method in GUARDABLE} == METHODS - {method.encode() for method in _UNGUARDABLE}


def test_the_lease_covers_every_wait_of_an_exchange() -> None:
    settings = load(None, {"upstream.url": "http://api"})
    assert settings.lease == 1 + 5 + 5 + 60 + 5


def test_a_settings_object_cannot_be_changed_at_any_depth() -> None:
    settings = load(None, {"upstream.url": "http://api"})
    models: list[BaseModel] = [settings, *(value for _, value in settings if isinstance(value, BaseModel))]
    assert len(models) == 13
    for model in models:
        name, value = next(iter(model))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(model, name, value)
    hash(settings)  # and nothing in it can


TLS = {"tls.certificate": "c.pem", "tls.key": "k.pem"}
HTTPS = {"upstream.url": "https://api"}
PATHS: dict[str, object] = {
    "scope.from": "path",
    "scope.path": "/{_}/{client}/",
    "responses.paths": ["/{v}/{client}/responses/{key}"],
}
PROBE: dict[str, object] = {"responses.authorize": "probe", "responses.probe": "/v1/{client}/me"}
JWKS: dict[str, object] = {"jwt.keys": "keys.json"}


def rules(*given: dict[str, object]) -> dict[str, object]:
    """Rules for /pay, unless they say otherwise."""
    return {"rules": [{"path": "/pay", **rule} for rule in given]}


REQUEST_CONFLICTS: list[tuple[dict[str, object], str, str]] = [
    (rules({}, {"path": "/x", "retention": "76s"}), "rules[2].retention, store.deadline", "longer than the lease, 76s"),
    (rules({"protect": False, "require_key": True}), "rules[1].protect, rules[1].require_key", "nothing else holds"),
    (
        rules({"protect": False, "retention": "48h", "on_reuse": "replay"}),
        "rules[1].protect, rules[1].retention, rules[1].on_reuse",
        "leave the others out, or protect",
    ),
    (rules({}, {"require_key": True}), "rules[2].path, rules[1].path", "rules[2] can never apply: rules[1] is for"),
    (rules({"path": "/a/{b}/**"}, {"path": "//A/{_}/**/"[:-1]}), "rules[2].path, rules[1].path", "the first counts"),
    (rules({"path": "/**", "protect": False}, {}), "rules[2].path, rules[1].path", "rules[2] can never apply"),
    (rules({"path": "/a/**"}, {"path": "/a"}), "rules[2].path, rules[1].path", "rules[2] can never apply"),
    (rules({"path": "/a/**"}, {"path": "/A/{b}/**"}), "rules[2].path, rules[1].path", "rules[2] can never apply"),
    (rules({"path": "/{a}/b"}, {"path": "/c/b"}), "rules[2].path, rules[1].path", "rules[2] can never apply"),
    (rules({"methods": ["PUT", "POST"]}, {}), "rules[2].path, rules[1].path", "rules[2] can never apply"),
    (
        rules({"on_concurrent": "wait"}) | {"limits.waiters": 0, "idempotency.on_concurrent": "wait"},
        "limits.waiters, idempotency.on_concurrent, rules[1].on_concurrent",
        "no request may wait",
    ),
    ({"scope.from": "path"}, "scope.from, scope.path", 'scope.from has "path", which takes a scope.path'),
    ({"scope.from": "header"}, "scope.from, scope.header", 'scope.from has "header", which takes a scope.header'),
    ({"scope.path": "/{client}/"}, "scope.path, scope.from", "scope.path has no effect"),
    ({"scope.header": "X-Tenant"}, "scope.header, scope.from", "scope.header has no effect"),
    (
        {"scope.header": "idempotency-key", "scope.from": "header"},
        "scope.header, idempotency.header",
        "idempotency-key cannot be both",
    ),
    (
        {"scope.header": ["X-Tenant", "X-API-Key"], "scope.from": "header"},
        "scope.header, responses.credential_headers",
        "X-API-Key cannot be both",
    ),
    ({"idempotency.header": "authorization"}, "idempotency.header, responses.credential_headers", "one field"),
    (PATHS | {"responses.paths": ["/responses/{key}"]}, "responses.paths, scope.path", "{key} stands where"),
    (PATHS | {"responses.paths": ["/{key}"]}, "responses.paths, scope.path", "it must begin as /{_}/{client}/ does"),
    (
        PATHS | {"scope.path": "/v1/{client}", "responses.paths": ["/v1/{client}/r/{key}", "/v2/{client}/r/{key}"]},
        "responses.paths, scope.path",
        "/v2/{client}/r/{key}: no record is found there: it must begin as /v1/{client} does, not with v2",
    ),
    (
        PROBE | {"scope.path": "/{_}/{client}/"},
        "responses.paths, scope.path",
        "/responses/{key}: no record is found there: {key} stands where /{_}/{client}/ has {client}",
    ),
    ({"responses.authorize": "probe"}, "responses.authorize, responses.probe", "takes a responses.probe"),
    ({"responses.probe": "/me"}, "responses.authorize, responses.probe", 'are authorized by "credential"'),
    (PROBE, "responses.probe, scope.path", "{client} of responses.probe must be a capture of scope.path"),
    (
        PROBE | PATHS | {"responses.probe": "/{v}/{client}/{user}/me"},
        "responses.probe, scope.path",
        "{user}, {v} of responses.probe must be",
    ),
    ({"scope.from": "jwt"}, "scope.from, jwt.keys", "cannot be verified without jwt.keys"),
    ({"responses.authorize": "jwt"}, "responses.authorize, jwt.keys", "cannot be verified without jwt.keys"),
    (JWKS, "jwt.keys, scope.from, responses.authorize", "jwt.keys has no effect"),
    ({"jwt.issuer": "a", "jwt.leeway": "1s"}, "jwt.issuer, jwt.leeway, jwt.keys", "the others have no effect"),
    (JWKS | {"jwt.ca": "ca.pem", "scope.from": "jwt"}, "jwt.ca, jwt.keys", "not for keys.json"),
    (JWKS | {"jwt.max_stale": "1m", "scope.from": "jwt"}, "jwt.max_stale, jwt.refresh", "fetched every 300s"),
    ({"scope.claim": "tenant"}, "scope.claim, scope.from", "scope.claim has no effect"),
]

CONFLICTS: list[tuple[dict[str, object], str, str]] = [
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
    (
        {"record.encryption_keys": [f"1:{RING_KEY}"], "record.encryption_keys_file": "ring"},
        "record.encryption_keys, record.encryption_keys_file",
        "two rings of keys",
    ),
    ({"record.require_encryption": True}, "record.require_encryption, record.encryption_keys", "nothing is encrypted"),
    ({"limits.bodies": "9MiB"}, "limits.body, limits.bodies", "a body of 10485760 bytes would never be let in"),
    (rules({"body": "256MiB"}, {"path": "/x", "body": "1GiB"}), "rules[2].body, limits.bodies", "never be let in"),
    ({"limits.head": "4KiB"}, "limits.head, limits.request_line", "a head of 4096 bytes"),
    ({"listen": "127.0.0.1:9090"}, "listen, ops_listen", "127.0.0.1:9090 and 127.0.0.1:9090 collide"),
    ({"listen": "0.0.0.0:9090"}, "listen, ops_listen", "collide"),
    ({"ops_listen": "[::]:8080"}, "listen, ops_listen", "collide"),
    *REQUEST_CONFLICTS,
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
        {"limits.bodies": "10MiB"},
        rules({"body": "256MiB"}),
        {"listen": "127.0.0.1:0", "ops_listen": "127.0.0.1:0"},
        {"listen": "127.0.0.2:9090"},
        {"listen": "unix:proxy.sock", "ops_listen": "127.0.0.1:0"},
        {**TLS, "tls.min_version": "1.3"},
        {**TLS, "tls.client_ca": "a.pem", "tls.client_certificates": "optional"},
        {**HTTPS, "upstream.ca": "a.pem", "upstream.certificate": "c.pem", "upstream.key": "k.pem"},
        {**HTTPS, "upstream.server_name": "api.test"},
        rules({"retention": "76.001s"}),
        rules({"protect": False}, {"path": "/pay/{a}"}, {"path": "/pay/{a}/**"}, {"path": "/pay/**"}, {"path": "/**"}),
        rules({"path": "/{a}/b"}, {"path": "/{a}/{b}"}, {"path": "/{a}/{b}/{c}"}),
        rules({"methods": ["POST"]}, {"methods": ["POST", "PUT"]}),
        rules({"protect": False, "methods": ["POST"]}),
        {"record.encryption_keys_file": "/run/secrets/1:ring", "record.require_encryption": True},
        {"limits.waiters": 0},
        {"limits.waiters": 1, "idempotency.on_concurrent": "wait"},
        PATHS,
        PATHS | {"scope.path": "//V1/{client}", "responses.paths": ["/{v}/{c}/{key}", "/v1/{c}/{key}"]},
        PATHS | {"scope.path": "/{_}/{_}/{client}/", "responses.paths": ["/{key}/r/{client}"]},
        PATHS | PROBE,
        PATHS | PROBE | {"scope.from": "none"},
        {"responses.authorize": "probe", "responses.probe": "/me"},
        {"responses.authorize": "probe", "responses.probe": "/me", "scope.path": "/{_}/{client}/"},
        {"scope.from": "header", "scope.header": "X-Tenant"},
        {"scope.from": "header", "scope.header": ["X-Tenant", "X-Account"]},
        JWKS | {"scope.from": "jwt", "scope.claim": "tenant"},
        JWKS | {"responses.authorize": "jwt", "jwt.refresh": "1h", "jwt.max_stale": "1h"},
        {"scope.from": "jwt", "jwt.keys": "https://issuer/keys?v=2", "jwt.ca": "ca.pem"},
        {"scope.from": "jwt", "jwt.keys": "http://127.0.0.1:8000/keys"},
        {"scope.from": "jwt", "jwt.keys": "http://[::1]:8000/keys"},
        {"scope.from": "jwt", "jwt.keys": "http://localhost/keys"},
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
    given = {"listen": "[::1]:0", "upstream.url": "http://api:8081", "forwarded.trusted": ["10.0.0.0/8"]}
    assert settings == load(None, given)
    assert Settings.model_validate_json(settings.model_dump_json(exclude={"store": {"hash_secret"}})) == settings
