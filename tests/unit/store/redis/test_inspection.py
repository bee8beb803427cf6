"""Whether a server is fit to keep records."""

import pytest

from proxy.store.base import StoreRefused
from proxy.store.redis.inspection import findings, parse, refuse_unfit

FIT = {
    "redis_version": "7.0.15",
    "role": "master",
    "cluster_enabled": "0",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "connected_slaves": "0",
}


def test_info_is_read_line_by_line() -> None:
    info = parse(b"# Server\r\nredis_version:7.0.15\r\nexecutable:/a:b\r\n\r\n# Memory\r\nodd\xff:1\r\n")
    assert info == {"redis_version": "7.0.15", "executable": "/a:b", "odd\ufffd": "1"}


@pytest.mark.parametrize("version", ["7.0.0", "7.2.4", "8.2.3", "10.0.1"])
def test_a_version_that_knows_what_is_needed(version: str) -> None:
    refuse_unfit(FIT | {"redis_version": version}, allow_eviction=False)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"redis_version": "6.2.14"}, "6.2.14"),
        ({"redis_version": "unstable"}, "unstable"),
        ({"role": "slave"}, "replica"),
        ({"cluster_enabled": "1"}, "cluster"),
        ({"maxmemory": "1000000", "maxmemory_policy": "allkeys-lru"}, "allkeys-lru"),
    ],
)
def test_an_unfit_server_is_refused(change: dict[str, str], why: str) -> None:
    with pytest.raises(StoreRefused, match=why):
        refuse_unfit(FIT | change, allow_eviction=False)


def test_eviction_may_be_allowed() -> None:
    refuse_unfit(FIT | {"maxmemory": "1000000", "maxmemory_policy": "allkeys-lru"}, allow_eviction=True)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ["Redis 7.0.15"]),
        ({"valkey_version": "9.1.2"}, ["Valkey 9.1.2"]),
        ({"aof_enabled": "0", "connected_slaves": "1"}, ["Redis 7.0.15"]),
        ({"aof_enabled": "0"}, ["Redis 7.0.15", "neither an append-only file nor a replica"]),
        ({"maxmemory_policy": "allkeys-lru"}, ["Redis 7.0.15", "it may evict records once it is given a maxmemory"]),
        (
            {"maxmemory_policy": "allkeys-lru", "maxmemory": "1"},
            ["Redis 7.0.15", "it may evict records (maxmemory-policy allkeys-lru)"],
        ),
    ],
)
def test_an_operator_is_told_what_does_not_protect_the_records(change: dict[str, str], expected: list[str]) -> None:
    found = findings(FIT | change)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))
