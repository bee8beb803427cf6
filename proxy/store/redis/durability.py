"""What a write must have reached before it is believed: so many replicas, or the server's disk.

WAIT and WAITAOF look at the last write of their own connection and at nothing else: asked on a new connection, a
replica that has nothing acknowledges at once (seen on Valkey 9.1). Therefore whatever is believed was written by the
batch that waits: a claim of one's own that is there already is written anew (`confirm.lua`), and so is a settlement
(`settle.lua`) or a removal (`release.lua`).
"""

from hiredis import ReplyError

from proxy.store.redis.connection import Reply, Unusable, Wait, pack
from proxy.store.redis.errors import explain

SHARE = 4
"""The part of a store's deadline that a batch waits for acknowledgements at most: half of what counts as silence."""


def wait_for(durability: str, deadline: float) -> Wait | None:
    """What *durability* ("memory", "replicas:N" or "fsync") waits for; *deadline*: seconds that an operation may
    take."""
    ms = max(1, int(deadline * 1000 / SHARE))  # with 0 the server waits for ever
    if durability == "memory":
        return None
    if durability == "fsync":
        return Wait(pack((b"WAITAOF", b"1", b"0", b"%d" % ms)), lambda reply: _not_synced(reply, ms))
    wanted = replicas(durability)
    return Wait(pack((b"WAIT", b"%d" % wanted, b"%d" % ms)), lambda reply: _not_copied(reply, wanted, ms))


def replicas(durability: str) -> int:
    """How many of them must have a write."""
    kind, _, count = durability.partition(":")
    return int(count) if kind == "replicas" else 0


def _not_copied(reply: Reply, wanted: int, ms: int) -> str | None:
    if isinstance(reply, ReplyError):
        return explain(reply)
    if not isinstance(reply, int):
        raise Unusable("WAIT was answered with something else than a number")
    return None if reply >= wanted else f"{reply} of {wanted} replicas had it within {ms} ms"


def _not_synced(reply: Reply, ms: int) -> str | None:
    if isinstance(reply, ReplyError):
        return explain(reply)
    if not isinstance(reply, list) or not reply or not isinstance(reply[0], int):
        raise Unusable("WAITAOF was answered with something else than numbers")
    return None if reply[0] >= 1 else f"it was not on the server's disk within {ms} ms"
