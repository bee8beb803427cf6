"""From a URL to the store that it names."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from proxy.deadlines import Deadlines
from proxy.store.base import Store
from proxy.store.memory import MemoryStore
from proxy.store.sqlite import SqliteStore


def make_store(
    url: str,
    *,
    deadline: float,
    prefix: str,
    allow_eviction: bool,
    durability: str,
    fingerprint: bytes,
    refuse_forgotten: bool,
    deadlines: Deadlines,
) -> Store:
    """The store at *url*, not opened yet; the settings have seen to it that there is one for its scheme. *deadline*:
    seconds for one operation; *fingerprint*: of what makes keys, and *refuse_forgotten*: see `marker.py`."""
    parts = urlsplit(url)
    match parts.scheme:
        case "memory":
            return MemoryStore()
        case "sqlite":
            return SqliteStore(
                Path(unquote(parts.path)),
                deadline=deadline,
                deadlines=deadlines,
                fingerprint=fingerprint,
                refuse_forgotten=refuse_forgotten,
            )
        case _:
            from proxy.store.redis.store import RedisStore  # noqa: PLC0415  # 50 ms at each start, and few have a Redis

            return RedisStore(
                url,
                deadline=deadline,
                prefix=prefix,
                deadlines=deadlines,
                allow_eviction=allow_eviction,
                durability=durability,
                fingerprint=fingerprint,
                refuse_forgotten=refuse_forgotten,
            )
