"""A cluster of three primaries and three replicas."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS
from redis.exceptions import RedisError

from tests.support.valkey import Valkey, free_port, wait_until

PRIMARIES = 3
NODE_TIMEOUT_MS = 1000


class ValkeyCluster:
    """All six; the first three begin as primaries. *password*: of all. All methods block."""

    def __init__(self, directory: Path, *, password: str | None = None) -> None:
        self.password = password
        self._stack = ExitStack()
        self._buses = [free_port() for _ in range(2 * PRIMARIES)]
        self.servers = [self._server(directory / str(number), bus) for number, bus in enumerate(self._buses)]

    @property
    def url(self) -> str:
        """As clients write it, password included."""
        return self.url_through([server.port for server in self.servers])

    def url_through(self, ports: list[int]) -> str:
        """The same with other ports."""
        entry = f":{self.password}@" if self.password else ""
        return f"redis+cluster://{entry}{','.join(f'127.0.0.1:{port}' for port in ports)}"

    def ask(self, server: Valkey, *words: object) -> Any:
        """One command to one of the servers."""
        with Redis(port=server.port, password=self.password, decode_responses=True) as client:
            return client.execute_command(*words)

    def identity(self, server: Valkey) -> str:
        """Its name in the cluster."""
        return str(self.ask(server, "CLUSTER MYID"))

    @property
    def primaries(self) -> list[Valkey]:
        """Those that run and have slots, in the order of their slots."""
        (witness, *_) = [server for server in self.servers if server.runs]
        ranges = sorted((first, port) for first, _, (_, port, *_), *_ in self._slots(witness))
        ports = dict.fromkeys(port for _, port in ranges)
        return [server for port in ports for server in self.servers if server.port == port and server.runs]

    def owner(self, slot: int) -> Valkey:
        """Who has *slot*."""
        for first, last, (_, port, *_), *_ in self._slots(self.servers[0]):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == port)
        raise AssertionError("nobody has it")

    def heal(self) -> None:
        """Start what was killed; wait until all know of all, and each primary has a replica that follows."""
        for server in self.servers:
            if not server.runs:
                server.start()
        wait_until(self._is_whole, within=30.0)

    def __enter__(self) -> Self:
        for server in self.servers:
            self._stack.enter_context(server)
        for number, server in enumerate(self.servers[:PRIMARIES]):
            first, last = SLOTS * number // PRIMARIES, SLOTS * (number + 1) // PRIMARIES - 1
            self.ask(server, "CLUSTER ADDSLOTSRANGE", first, last)
            self.ask(server, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        for server, bus in zip(self.servers[1:], self._buses[1:], strict=True):
            self.ask(self.servers[0], "CLUSTER MEET", "127.0.0.1", server.port, bus)
        wait_until(lambda: all(self._knows_all(server) for server in self.servers))
        for number, server in enumerate(self.servers[PRIMARIES:]):
            self.ask(server, "CLUSTER REPLICATE", self.identity(self.servers[number]))
        self.heal()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _server(self, directory: Path, bus: int) -> Valkey:
        directory.mkdir()
        settings = {
            "cluster-enabled": "yes",
            "cluster-port": str(bus),
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
            "masterauth": self.password or "",
        }
        return Valkey(directory, password=self.password, settings=settings)

    def _slots(self, server: Valkey) -> list[Any]:
        with Redis(port=server.port, password=self.password, decode_responses=True) as client:
            client.set_response_callback("CLUSTER SLOTS", lambda reply, **_: reply)
            return list(client.execute_command("CLUSTER SLOTS"))

    def _knows_all(self, server: Valkey) -> bool:
        info = self.ask(server, "CLUSTER INFO")
        return int(info["cluster_known_nodes"]) == len(self.servers)

    def _is_whole(self) -> bool:
        try:
            for server in self.servers:
                if self.ask(server, "CLUSTER INFO")["cluster_state"] != "ok":
                    return False
                if any(len(each) != 4 for each in self._slots(server)):
                    return False
            primaries = self.primaries
            return len(primaries) == PRIMARIES and all(
                self.ask(server, "INFO", "replication").get("slave0", {}).get("state") == "online"
                for server in primaries
            )
        except RedisError:
            return False
