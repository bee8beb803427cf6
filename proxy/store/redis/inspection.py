"""Whether a server is fit to keep records, by what it says of itself in INFO."""

from collections.abc import Mapping

from proxy.store.base import StoreRefused

Info = Mapping[str, str]

OLDEST = (7, 0)
"""SET NX GET and the scripts' flags are there since Redis 7.0; every Valkey has them."""


def parse(reply: bytes) -> Info:
    """The fields of INFO, sections thrown together: their names do not clash."""
    lines = reply.decode("utf-8", "replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def refuse_unfit(info: Info, *, allow_eviction: bool) -> None:
    """Raise StoreRefused where records are not safe there."""
    version = info.get("redis_version", "unknown")
    if _number(version) < OLDEST:
        raise StoreRefused(f"its version is {version}, and at least {OLDEST[0]}.{OLDEST[1]} is needed")
    if info.get("role", "master") != "master":
        raise StoreRefused("it is a replica; the primary is needed")
    if info.get("cluster_enabled") == "1":
        raise StoreRefused("it is part of a cluster; a single server is needed")
    if _evicts(info) and _limited(info) and not allow_eviction:
        raise StoreRefused(
            f"it may evict records (maxmemory-policy {info['maxmemory_policy']}), and an evicted key can be used a"
            " second time; set maxmemory-policy to noeviction, or allow eviction in so many words"
        )


def findings(info: Info) -> list[str]:
    """What an operator should know."""
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
    if info.get("aof_enabled") != "1" and info.get("connected_slaves", "0") == "0":
        found.append(
            "neither an append-only file nor a replica protects the records: after a crash of the server the keys of"
            " the last minutes, or all, can be used a second time"
        )
    return found


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()


def _evicts(info: Info) -> bool:
    return info.get("maxmemory_policy", "noeviction") != "noeviction"


def _limited(info: Info) -> bool:
    return info.get("maxmemory", "0") != "0"
