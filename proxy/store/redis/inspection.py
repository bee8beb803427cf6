"""Whether a server is fit to keep records, by what it says of itself in INFO."""

import re
from collections.abc import Mapping

from proxy.store.base import StoreRefused
from proxy.store.redis.durability import replicas

Info = Mapping[str, str]

OLDEST = (7, 0)
"""SET NX GET and the scripts' flags are there since Redis 7.0; every Valkey has them."""
WAITAOF = (7, 2)
"""Likewise."""
_REPLICA = re.compile(r"slave\d+")


def parse(reply: bytes) -> Info:
    """The fields of INFO, sections thrown together: their names do not clash."""
    lines = reply.decode("utf-8", "replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def refuse_unfit(info: Info, *, allow_eviction: bool, cluster: bool = False) -> None:
    """Raise StoreRefused where records are not safe there. *cluster*: whether it is to be a node of one."""
    version = info.get("redis_version", "unknown")
    if _number(version) < OLDEST:
        raise StoreRefused(f"its version is {version}, and at least {OLDEST[0]}.{OLDEST[1]} is needed")
    if info.get("role", "master") != "master":
        raise StoreRefused("it is a replica; the primary is needed")
    if info.get("cluster_enabled") == "1" and not cluster:
        raise StoreRefused(
            "it is part of a cluster: the URL must begin with redis+cluster:// (rediss+cluster:// for TLS)"
        )
    if _evicts(info) and _limited(info) and not allow_eviction:
        raise StoreRefused(
            f"it may evict records (maxmemory-policy {info['maxmemory_policy']}), and an evicted key can be used a"
            " second time; set maxmemory-policy to noeviction, or allow eviction in so many words"
        )


def refuse_forgetful(info: Info, durability: str, syncs: str) -> None:
    """Raise StoreRefused where no write could be as durable as is asked: every claim would be refused there. *syncs*:
    the server's appendfsync; empty where it is not known."""
    wanted = replicas(durability)
    if wanted > _online(info):
        raise StoreRefused(
            f'store.durability is "{durability}", and {_online(info)} replicas are connected: no claim could be'
            " granted; connect the replicas first, or ask for fewer"
        )
    if durability != "fsync":
        return
    if _number(info.get("redis_version", "")) < WAITAOF:
        raise StoreRefused(
            f'store.durability is "fsync", which needs Redis 7.2 or Valkey: this is Redis {info.get("redis_version")}'
        )
    if syncs != "always":
        have = f"appendfsync {syncs}" if syncs else "appendfsync unknown" if appends(info) else "appendonly no"
        raise StoreRefused(
            f'store.durability is "fsync", and the server has {have}: set appendonly yes and appendfsync always there'
            " (and let our user run CONFIG GET); with anything else it may acknowledge before the disk has the write"
        )


def findings(info: Info, durability: str, syncs: str) -> list[str]:
    """What an operator should know: what the server is, and what is kept through which fault. *syncs*: see
    `refuse_forgetful`."""
    if "valkey_version" in info:
        found = [f"Valkey {info['valkey_version']}"]
    else:
        found = [f"Redis {info.get('redis_version', 'of unknown version')}"]
    if _evicts(info):
        when = "" if _limited(info) else " once it is given a maxmemory"
        found.append(
            f"it may evict records{when} (maxmemory-policy {info['maxmemory_policy']}):"
            " an evicted key can be used a second time"
        )
    return [*found, *_protection(info, durability, syncs)]


def _protection(info: Info, durability: str, syncs: str) -> list[str]:
    """For each fault, in words, what becomes of what the server has acknowledged."""
    return [
        "crash of a proxy: protected, the records are in the store",
        f"crash of the server, and it comes back: {_crash(info, durability, syncs)}",
        f"loss of the server or its disk, and a replica takes over: {_failover(replicas(durability), _online(info))}",
        "an empty server in its place: noticed by its marker, and no key is granted until the proxies are restarted",
    ]


def _crash(info: Info, durability: str, syncs: str) -> str:
    if not appends(info):
        theirs = ", and its replicas with it" if _online(info) else ""
        return f"NOT protected: it comes back with its last snapshot or empty{theirs} (appendonly no)"
    match syncs:
        case "always" if durability == "fsync":
            return "protected, every write is seen to be on the disk before it is believed"
        case "always":
            return 'protected while it is set up so (appendfsync always); store.durability = "fsync" would see to it'
        case "":
            return "NOT known to be protected, appendfsync cannot be read (our user lacks +config|get)"
        case _:
            return f"NOT protected: the keys of the last seconds can be used a second time (appendfsync {syncs})"


def _failover(wanted: int, online: int) -> str:
    if wanted:
        others = f"; {online} are connected: see that no other is promoted" if online > wanted else ""
        return (
            f"protected, if every replica that can be promoted is among the {wanted} that have a write before it is"
            f" believed{others}"
        )
    if online:
        return (
            'NOT protected: what had not reached the replica can be used a second time (store.durability "replicas:N")'
        )
    return "NOT protected: there is no replica, and every key can be used a second time"


def appends(info: Info) -> bool:
    """Whether the server keeps an append-only file."""
    return info.get("aof_enabled") == "1"


def _online(info: Info) -> int:
    """Replicas that follow."""
    return sum(1 for name, value in info.items() if _REPLICA.fullmatch(name) and "state=online" in value.split(","))


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()


def _evicts(info: Info) -> bool:
    return info.get("maxmemory_policy", "noeviction") != "noeviction"


def _limited(info: Info) -> bool:
    return info.get("maxmemory", "0") != "0"
