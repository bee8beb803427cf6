"""Whether a server is fit to keep records."""

import pytest

from proxy.store.base import StoreRefused
from proxy.store.redis.inspection import findings, parse, refuse_forgetful, refuse_unfit

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
        ({}, "Redis 7.0.15"),
        ({"valkey_version": "9.1.2"}, "Valkey 9.1.2"),
        ({"maxmemory_policy": "allkeys-lru"}, "it may evict records once it is given a maxmemory"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": "1"}, "it may evict records (maxmemory-policy allkeys-lru)"),
        ({}, "crash of a proxy: protected"),
    ],
)
def test_an_operator_is_told_what_the_server_is(change: dict[str, str], expected: str) -> None:
    assert [line for line in findings(FIT | change, "memory", "always") if line.startswith(expected)]


ONE = {"slave0": "ip=127.0.0.1,port=1,state=online,offset=1,lag=0"}
TWO = ONE | {"slave1": "ip=127.0.0.1,port=2,state=online,offset=1,lag=0"}
SYNCING = {"slave0": "ip=127.0.0.1,port=1,state=wait_bgsave,offset=0,lag=0", "slave_repl_offset": "state=online"}


@pytest.mark.parametrize(
    ("change", "durability", "syncs", "crash", "failover"),
    [
        ({}, "memory", "always", "protected while it is set up so", "NOT protected: there is no replica"),
        ({}, "fsync", "always", "protected, every write is seen to be", "NOT protected: there is no replica"),
        ({}, "memory", "everysec", "NOT protected: the keys of the last seconds", "NOT protected: there is no replica"),
        ({}, "memory", "", "NOT known", "NOT protected: there is no replica"),
        ({"aof_enabled": "0"}, "memory", "", "NOT protected: it comes back with its last snapshot or empty (", "NOT"),
        (
            ONE | {"aof_enabled": "0"},
            "replicas:1",
            "",
            "NOT protected: it comes back with its last snapshot or",
            "prot",
        ),
        (ONE, "memory", "always", "protected while", "NOT protected: what had not reached the replica"),
        (ONE, "replicas:1", "always", "protected while", "protected, if every replica that can be promoted is"),
        (TWO, "replicas:1", "always", "protected while", "protected, if every replica"),
    ],
)
def test_an_operator_is_told_what_is_kept_through_which_fault(
    change: dict[str, str], durability: str, syncs: str, crash: str, failover: str
) -> None:
    found = findings(FIT | change, durability, syncs)
    (of_crash,) = [line for line in found if line.startswith("crash of the server")]
    (of_loss,) = [line for line in found if line.startswith("loss of the server or its disk")]
    assert f": {crash}" in of_crash
    assert f": {failover}" in of_loss
    assert ("no other is promoted" in of_loss) is (change is TWO)


@pytest.mark.parametrize(
    ("change", "durability", "syncs"),
    [({}, "memory", ""), (ONE, "replicas:1", ""), (TWO, "replicas:1", ""), ({}, "fsync", "always")],
)
def test_a_server_that_can_be_as_durable_as_asked(change: dict[str, str], durability: str, syncs: str) -> None:
    refuse_forgetful(FIT | {"redis_version": "7.2.4"} | change, durability, syncs)


@pytest.mark.parametrize(
    ("change", "durability", "syncs", "why"),
    [
        ({}, "replicas:1", "always", "0 replicas are connected"),
        (SYNCING, "replicas:1", "always", "0 replicas are connected"),
        (ONE, "replicas:2", "always", "1 replicas are connected"),
        ({"redis_version": "7.0.15"}, "fsync", "always", "needs Redis 7.2 or Valkey: this is Redis 7.0.15"),
        ({"aof_enabled": "0"}, "fsync", "", "the server has appendonly no"),
        ({}, "fsync", "everysec", "the server has appendfsync everysec"),
        ({}, "fsync", "", "the server has appendfsync unknown"),
    ],
)
def test_a_server_that_cannot_be_as_durable_as_asked_is_refused(
    change: dict[str, str], durability: str, syncs: str, why: str
) -> None:
    with pytest.raises(StoreRefused, match=why):
        refuse_forgetful(FIT | {"redis_version": "7.2.4"} | change, durability, syncs)
