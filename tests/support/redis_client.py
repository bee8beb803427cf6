"""What tests of the Redis store ask and do beside it, on the same server."""

from collections.abc import Awaitable, Callable

import redis.asyncio

from proxy.store.base import Granted
from tests.support.raw import eventually
from tests.support.relay import Relay
from tests.support.stores import Asked, claim_of

DEADLINE = 0.6
"""Of a store, in seconds."""
NEEDED = ["+ping", "+echo", "+info", "+set", "+get", "+pttl", "+del", "+evalsha", "+eval"]
"""The rights that a store cannot do without."""
HELPFUL = ["+script|load", "+client|setname", "+client|info", "+client|kill"]

Client = redis.asyncio.Redis
OpenStore = Callable[..., Awaitable[Asked]]


async def calls(client: Client, command: str) -> int:
    """How often the server has run *command*, from whomever."""
    statistics = await client.info("commandstats")
    return int(statistics.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def connections(client: Client) -> list[str]:
    """The ids of the stores' connections, as the server has them."""
    return [entry["id"] for entry in await client.client_list() if entry["name"] == "idempotency-proxy"]


async def follow(replica: Client, primary: Client, port: int) -> None:
    """Make *replica* one of *primary*, which is at *port*, and wait until it follows."""
    await primary.config_set("repl-diskless-sync", "no")
    await replica.config_set("repl-diskless-load", "on-empty-db")  # by way of its disk it takes a second
    await replica.replicaof("127.0.0.1", str(port))

    async def follows() -> bool:
        up = (await replica.info("replication"))["master_link_status"] == "up"
        return bool(up and (await primary.info("replication"))["slave0"]["state"] == "online")

    await eventually(follows)


async def admit(client: Client, keys: str, rights: list[str]) -> None:
    """Let in a user `app` with the password `secret`."""
    command = ("ACL", "SETUSER", "app", "on", ">secret", keys, *rights)
    await client.execute_command(*command)  # type: ignore[no-untyped-call]


def through(relay: Relay) -> str:
    return f"redis://127.0.0.1:{relay.port}"


async def is_granted(store: Asked) -> bool:
    """Whether a claim of a new key is."""
    return isinstance(await store.claim(claim_of()), Granted)
