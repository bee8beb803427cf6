"""What a store costs, and its durability: `make bench-stores`, or `python -m tests.bench.stores [--seconds N]`.

A real proxy on one core; wrk, an API and the store on the other. Every request has a new key. Each round runs every
store with every number of clients; ratios are taken within a round, and the median over the rounds is told. It is not a
test: figures depend on the machine, and above all on its disk. Linux only, and needs wrk. The exit status is 1 where a
goal is missed.
"""

import argparse
import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
from redis import Redis

from tests.support.process import ProxyProcess
from tests.support.valkey import Valkey, free_port, wait_until

CORES = sorted(os.sched_getaffinity(0))
"""The first is the proxy's, the last everybody else's."""
CLIENTS = (1, 32, 256)
GOAL = 0.3
"""SQLite's requests a second, of those with Redis, at 32 clients."""
REDIS, SQLITE = "redis", "sqlite"
COUNTED = ("set", "evalsha", "echo", "wait", "waitaof")
"""Commands. A settlement is a script with a SET in it; an ECHO closes each batch, which is one round trip."""
SCRIPT = """
local n = 0
local body = '{"AuthorId":"1397677","DebitedFunds":{"Currency":"EUR","Amount":110000},"DebitedWalletId":"1397678"}'
function request()
  n = n + 1
  return wrk.format("POST", "/v2.01/acme/payouts/bankwire/",
    {["Content-Type"] = "application/json", ["Idempotency-Key"] = string.format("%s-%%012d", n)}, body)
end
"""


class Kind(NamedTuple):
    """A store. *appends*: the server writes every command to its disk; *replicas*: so many follow it."""

    durability: str = "memory"
    appends: bool = False
    replicas: int = 0


KINDS = {
    REDIS: Kind(),
    "redis, replicas:1": Kind("replicas:1", replicas=1),
    "redis, appendfsync always": Kind(appends=True),
    "redis, fsync": Kind("fsync", appends=True),
    SQLITE: Kind(),
}
"""The first is what the others are compared with."""


class Stand(NamedTuple):
    """A proxy on a store. *server*: the store's, if it has one."""

    proxy: ProxyProcess
    server: Valkey | None


class Load(NamedTuple):
    """What one run of wrk came to. CPU in microseconds a request; *commands*: what the store's server ran a request."""

    rate: float
    p50: str
    p99: str
    proxy_cpu: float
    store_cpu: float
    commands: Mapping[str, float]


# -- what is started ------------------------------------------------------------------------------------------------


def pin(pid: int, core: int) -> None:
    """All threads of a process."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def cpu(pid: int) -> float:
    """Seconds that a process has used: proc(5), utime and stime."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def api() -> Iterator[int]:
    """An API; its port."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.upstream", str(port)])
    try:
        wait_until(lambda: listens(port))
        yield port
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Whether anybody does there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def server_of(kind: Kind, directory: Path, stack: ExitStack) -> Valkey:
    """With its replicas, which follow."""
    server = stack.enter_context(Valkey(directory, appendonly=kind.appends))
    for number in range(kind.replicas):
        own = directory / f"replica-{number}"
        own.mkdir()
        stack.enter_context(Valkey(own, settings={"replicaof": f"127.0.0.1 {server.port}"}))
    with Redis(port=server.port) as client:
        client.config_set("repl-diskless-sync-delay", "0")
        wait_until(lambda: str(client.info("replication")).count("online") == kind.replicas)
    return server


@asynccontextmanager
async def stands(directory: Path, upstream: int) -> AsyncIterator[dict[str, Stand]]:
    """One of each, all at once: who is not asked costs nothing."""
    async with AsyncExitStack() as stack:
        servers = stack.enter_context(ExitStack())
        found = {}
        for name, kind in KINDS.items():
            own = directory / re.sub(r"\W+", "-", name)
            own.mkdir()
            server = None if name == SQLITE else server_of(kind, own, servers)
            url = f"sqlite:///{own / 'records.db'}" if server is None else server.url
            settings = {
                "upstream.url": f"http://127.0.0.1:{upstream}",
                "upstream.max_connections": 512,
                "store.url": url,
                "store.durability": kind.durability,
            }
            proxy = await stack.enter_async_context(ProxyProcess(own, settings))
            pin(proxy.pid, CORES[0])
            found[name] = Stand(proxy, server)
        yield found


# -- what is measured -----------------------------------------------------------------------------------------------


def calls(server: Valkey | None) -> dict[str, int]:
    """How often the server has run which command."""
    if server is None:
        return {}
    with Redis(port=server.port) as client:
        statistics = client.info("commandstats")
        return {name: int(statistics.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in COUNTED}


def load(stand: Stand, script: Path, clients: int, seconds: int) -> Load:
    """Payments, as many as go; raise AssertionError where one was not made."""
    script.write_text(SCRIPT % os.urandom(8).hex())
    pids = [stand.proxy.pid, *([] if stand.server is None else [stand.server.pid])]
    before, ran = [cpu(pid) for pid in pids], calls(stand.server)
    words = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}", "--latency", "-s", str(script)]
    done = subprocess.run(
        [*words, f"http://127.0.0.1:{stand.proxy.port}"], capture_output=True, text=True, check=True
    ).stdout
    assert "Non-2xx" not in done, f"not every payment was made:\n{done}"
    assert "Socket errors" not in done, f"not every payment was made:\n{done}"
    requests = int(_found(r"(\d+) requests in", done))
    used = [(cpu(pid) - earlier) / requests * 1e6 for pid, earlier in zip(pids, before)]
    commands = {name: (count - ran[name]) / requests for name, count in calls(stand.server).items()}
    return Load(
        float(_found(r"Requests/sec:\s+([\d.]+)", done)),
        _found(r"50%\s+(\S+)", done),
        _found(r"99%\s+(\S+)", done),
        used[0],
        sum(used[1:]),
        commands,
    )


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found[1]


# -- what is told ---------------------------------------------------------------------------------------------------

Loads = Mapping[tuple[str, int], list[Load]]
"""Of each store with so many clients, a round each."""


def ratio(loads: Loads, one: str, other: str, clients: int) -> float:
    """Of their requests a second, within the rounds."""
    pairs = zip(loads[one, clients], loads[other, clients])
    return median(mine.rate / theirs.rate for mine, theirs in pairs)


def table(loads: Loads) -> Iterator[str]:
    """Line by line."""
    width = max(map(len, KINDS))
    yield f"{'':{width}}                     of                        µs CPU a request   of the store, a request"
    yield (
        f"{'store':{width}}  clients  requests/s  redis       p50       p99   proxy  store"
        "   claims  settlements  round trips  waits"
    )
    for (name, clients), rounds in loads.items():
        rate, last = median(each.rate for each in rounds), rounds[-1]
        own, store = median(each.proxy_cpu for each in rounds), median(each.store_cpu for each in rounds)
        yield (
            f"{name:{width}}  {clients:7}  {rate:10.0f}  {ratio(loads, name, REDIS, clients):5.2f}  {last.p50:>8}"
            f"  {last.p99:>8}  {own:6.1f}  {store:5.1f}   {_commands(last.commands)}"
        )


def _commands(a_request: Mapping[str, float]) -> str:
    if not a_request:
        return "     -            -            -      -"
    sets, scripts, echoes, *waits = (a_request[name] for name in COUNTED)
    return f"{sets - scripts:6.2f}  {scripts:11.2f}  {echoes:11.2f}  {sum(waits):5.2f}"


async def measure(directory: Path, seconds: int, rounds: int) -> Loads:
    """Everything."""
    loads: defaultdict[tuple[str, int], list[Load]] = defaultdict(list)
    with api() as upstream:
        async with stands(directory, upstream) as found:
            for _ in range(rounds):
                for clients in CLIENTS:
                    for name, stand in found.items():
                        done = await asyncio.to_thread(load, stand, directory / "load.lua", clients, seconds)
                        loads[name, clients].append(done)
    return loads


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stores")
    parser.add_argument("--seconds", type=int, default=2, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", help="where the stores write; it is their disk that counts")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        click.echo("wrk is not installed, and a load that Python makes would measure Python: nothing was measured")
        return 1
    os.sched_setaffinity(0, {CORES[-1]})  # inherited by all that is started, the proxies pinned anew
    with tempfile.TemporaryDirectory(dir=given.directory) as directory:
        began = time.monotonic()
        loads = asyncio.run(measure(Path(directory), given.seconds, given.rounds))
    for line in table(loads):
        click.echo(line)
    reached = ratio(loads, SQLITE, REDIS, 32)
    verdict = "" if reached >= GOAL else "  MISSED"
    click.echo(f"SQLite / Redis at 32 clients: {reached:.2f}, the goal is {GOAL}{verdict}")
    click.echo(f"{given.rounds} rounds of {given.seconds} s each, {time.monotonic() - began:.0f} s in all")
    return 0 if reached >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
