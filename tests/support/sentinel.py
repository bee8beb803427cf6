"""A primary and a replica, with three sentinels that watch over them."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis
from redis.exceptions import RedisError

from tests.support.valkey import Valkey, wait_until

SERVICE = "payments"
QUORUM = 2
DOWN_AFTER_MS = 500
FAILOVER_TIMEOUT_MS = 3000


class Sentinel(Valkey):
    """One that watches the server on port *monitored*. *password*: the server's; *own_password*: the sentinel's."""

    def __init__(self, directory: Path, monitored: int, password: str | None, own_password: str | None) -> None:
        super().__init__(directory, password=own_password)
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"dir {directory}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {monitored} {QUORUM}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} {FAILOVER_TIMEOUT_MS}",
        ]
        if password:
            lines.append(f"sentinel auth-pass {SERVICE} {password}")
        if own_password:
            lines += [f"requirepass {own_password}", f"sentinel sentinel-pass {own_password}"]
        self._file = directory / "sentinel.conf"
        self._file.write_text("\n".join(lines) + "\n")

    def _command(self) -> list[str]:
        return [str(self._program), str(self._file), "--sentinel"]


class SentinelGroup:
    """All five. *password*: of the servers; *sentinel_password*: of the sentinels. All methods block."""

    def __init__(self, directory: Path, *, password: str | None = None, sentinel_password: str | None = None) -> None:
        self._directory = directory
        self._password = password
        self._sentinel_password = sentinel_password
        self._stack = ExitStack()
        one = self._server("one", {})
        self.servers = [one, self._server("two", {"replicaof": f"127.0.0.1 {one.port}"})]
        self.sentinels = [
            Sentinel(self._made(f"sentinel{number}"), one.port, password, sentinel_password) for number in range(3)
        ]

    @property
    def url(self) -> str:
        """As clients write it, passwords included."""
        return self.url_through([sentinel.port for sentinel in self.sentinels])

    def url_through(self, ports: list[int]) -> str:
        """The same with other ports for the sentinels."""
        entry = f":{self._password}@" if self._password else ""
        query = f"?sentinel_password={self._sentinel_password}" if self._sentinel_password else ""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"redis+sentinel://{entry}{hosts}/{SERVICE}{query}"

    @property
    def primary(self) -> Valkey:
        """The server that most sentinels take for the primary."""
        ports = [int(self._named(sentinel)) for sentinel in self.sentinels]
        (server,) = [server for server in self.servers if ports.count(server.port) >= QUORUM]
        return server

    def client(self, server: Valkey) -> Redis:
        """Of one of the servers."""
        return Redis(port=server.port, password=self._password)

    def heal(self) -> None:
        """Start what was killed; wait until one server follows the other, and all sentinels know it."""
        for server in self.servers + self.sentinels:
            if not server.runs:
                server.start()
        wait_until(self._is_whole, within=30.0)

    def __enter__(self) -> Self:
        for server in self.servers + self.sentinels:
            self._stack.enter_context(server)
        self.heal()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _server(self, name: str, settings: dict[str, str]) -> Valkey:
        settings = {"repl-diskless-sync-delay": "0", "masterauth": self._password or "", **settings}
        return Valkey(self._made(name), password=self._password, settings=settings)

    def _made(self, name: str) -> Path:
        directory = self._directory / name
        directory.mkdir()
        return directory

    def _named(self, sentinel: Valkey) -> str:
        with Redis(port=sentinel.port, password=self._sentinel_password, decode_responses=True) as client:
            reply = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
        return str(reply[1])

    def _is_whole(self) -> bool:
        try:
            states = []
            for sentinel in self.sentinels:
                with Redis(port=sentinel.port, password=self._sentinel_password, decode_responses=True) as client:
                    states.append(client.info("sentinel")["master0"])
            seen = {(state["status"], state["slaves"], state["sentinels"], state["address"]) for state in states}
            with self.client(self.primary) as client:
                follower = client.info("replication").get("slave0", {})
        except (RedisError, ValueError):
            return False
        return len(seen) == 1 and next(iter(seen))[:3] == ("ok", 1, 3) and follower.get("state") == "online"
