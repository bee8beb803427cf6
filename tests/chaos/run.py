"""A run: proxies on one store in front of one API, clients, and faults on tracks of their own, in rounds with a quiet
moment behind each, in which every key is looked at."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from proxy.core.key import Hasher
from proxy.core.scope import NO_SCOPE, joined
from tests.chaos import verdict
from tests.chaos.api import Api
from tests.chaos.clients import Clients
from tests.chaos.ledger import Answer, Key, Ledger, Said, Told
from tests.chaos.modes import MODES, WAIT_MAX, Mode
from tests.chaos.proxies import LEASE, Port, Proxy, fault, killed_amid
from tests.chaos.schedule import DISK_FULL, PROXY_KINDS, PROXY_PAUSE, STORE_PAUSE, Event, events
from tests.chaos.stands import BLINDING, FAILOVERS, OF_ONE_PROXY, STANDS, Stand
from tests.chaos.verdict import Violation
from tests.support.origin import Origin
from tests.support.raw import eventually

AND_A_PROXY = ", proxy killed"
"""What the store's faults are called amid which a proxy is killed."""
ROUND = 30.0
"""Seconds of faults between two quiet moments."""
RECOVERY = 60.0
"""Seconds within which a fault must be over once it is lifted."""
PROBE_PAUSE = 0.05
"""Seconds between two payments that shall show whether a proxy makes some."""
SMALL_SPOOL = "4KiB"
"""Of one of the proxies: a handful of responses, and it refuses payments."""
READERS = 8
"""Questions at a time in a quiet moment."""
LONGEST = WAIT_MAX + LEASE + 2.0
"""Seconds within which whoever waits must have an answer: it may be its turn at the end of its wait. The rest is for a
busy machine."""


class Plan(NamedTuple):
    """What is to be run. *durability*: see `store.durability`; *way*: one of MODES."""

    store: str
    seed: int
    seconds: float
    durability: str = "memory"
    proxies: int = 3
    clients: int = 16
    way: str = "conflict"

    @property
    def mode(self) -> Mode:
        """See MODES."""
        return MODES[self.way]


class Happened(NamedTuple):
    """A fault. *recovered*: when each of the proxies that it may concern made payments again, be it that it had never
    ceased to. Times are the ledger's."""

    kind: str
    begun: float
    lifted: float
    recovered: Mapping[int, float]

    @property
    def over(self) -> float:
        """When all of them did."""
        return max(self.recovered.values())


class Outcome(NamedTuple):
    """What came of it."""

    plan: Plan
    ledger: Ledger
    final: dict[Key, Answer]
    happened: list[Happened]
    violations: list[Violation]
    excused: list[Violation]
    """Which the durability of the store does not protect from."""
    unsafe: list[Violation]
    """Of responses that were on no disk when they were given: the log says so."""
    proxies: Sequence[Proxy]

    @property
    def clean(self) -> bool:
        """Nothing that must not be."""
        return not self.violations and not any(proxy.tracebacks for proxy in self.proxies)


async def chaos(plan: Plan, directory: Path) -> Outcome:
    """Run it; raise AssertionError where something does not come back."""
    ledger = Ledger()
    async with AsyncExitStack() as stack:
        (directory / "store").mkdir()
        stand = await stack.enter_async_context(STANDS[plan.store](directory / "store", plan.proxies))
        origin = await stack.enter_async_context(Origin(Api(plan.seed, ledger, plan.mode.moods)))
        proxies = await stack.enter_async_context(_started(plan, directory, stand, origin))
        run = _Run(plan, ledger, stand, proxies)
        rounds = max(1, round(plan.seconds / ROUND))
        for _ in range(rounds):
            await run.faults_for(plan.seconds / rounds)
            await run.look_at(set(ledger.told) - set(run.final))
            await run.gather()
        await run.look_at(set(run.final))
    for proxy in proxies:
        proxy.read_log()
    return run.outcome()


@asynccontextmanager
async def _started(plan: Plan, directory: Path, stand: Stand, origin: Origin) -> AsyncIterator[list[Proxy]]:
    async with AsyncExitStack() as stack:
        proxies = []
        for number, url in enumerate(stand.urls):
            own = directory / f"proxy-{number}"
            own.mkdir()
            settings = {
                **plan.mode.settings,
                "upstream.url": f"http://127.0.0.1:{origin.port}",
                "store.url": url,
                "store.durability": plan.durability,
                "forwarded.via": f"proxy-{number}",
                "spool.max_size": SMALL_SPOOL if number == 0 else "64MiB",
            }
            port = stack.enter_context(closing(Port()))
            proxies.append(Proxy(own, settings, port))
            await stack.enter_async_context(proxies[-1])
        yield proxies


class _Run:
    def __init__(self, plan: Plan, ledger: Ledger, stand: Stand, proxies: list[Proxy]) -> None:
        self.final: dict[Key, Answer] = {}
        self._plan = plan
        self._ledger = ledger
        self._stand = stand
        self._proxies = proxies
        self._clients = Clients(plan.seed, plan.mode, proxies, ledger, plan.clients)
        self._happened: list[Happened] = []
        kinds = {name: kind for name, (kind, _) in stand.faults.items()}
        kinds |= {name + AND_A_PROXY: kind for name, kind in kinds.items() if name in BLINDING}
        self._of_store = events(plan.seed, "store", kinds, STORE_PAUSE)
        self._of_proxies = [events(plan.seed, f"proxy {n}", PROXY_KINDS, PROXY_PAUSE) for n in range(plan.proxies)]

    async def faults_for(self, seconds: float) -> None:
        """Faults and clients for so long, and until each has come to its end."""
        ending = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._clients.work(ending))
            tasks.create_task(self._track(self._of_store, None, ending))
            for number, track in enumerate(self._of_proxies):
                tasks.create_task(self._track(track, number, ending))
            await asyncio.sleep(seconds)
            ending.set()

    async def _track(self, track: Iterator[Event], proxy: int | None, ending: asyncio.Event) -> None:
        """One fault after the other. *proxy*: whose; None: the store's."""
        while not ending.is_set():
            event = next(track)
            try:
                async with asyncio.timeout(event.pause):
                    await ending.wait()
                return
            except TimeoutError:
                pass
            if proxy is not None:
                await self._happen(event, fault(self._proxies[proxy], event.kind), [proxy])
            else:
                await self._of_the_store(event)

    async def _of_the_store(self, event: Event) -> None:
        everybody, one = list(range(len(self._proxies))), event.target % len(self._proxies)
        kind = event.kind.removesuffix(AND_A_PROXY)
        _, make = self._stand.faults[kind]
        context = make(event.target)
        if kind != event.kind:
            context = killed_amid(self._proxies[one], context)
        await self._happen(event, context, [one] if kind in OF_ONE_PROXY else everybody)

    async def _happen(self, event: Event, context: AbstractAsyncContextManager[None], whom: list[int]) -> None:
        begun = self._ledger.now()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(context)
            await asyncio.sleep(event.duration)
            lifted = self._ledger.now()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(stack.pop_all().aclose())
                recovering = {proxy: tasks.create_task(self._recovered(proxy)) for proxy in whom}
        recovered = {proxy: task.result() for proxy, task in recovering.items()}
        self._happened.append(Happened(event.kind, begun, lifted, recovered))

    async def _recovered(self, proxy: int) -> float:
        """When it makes payments again."""
        async with asyncio.timeout(RECOVERY):
            while not await self._clients.probe(proxy):
                await asyncio.sleep(PROBE_PAUSE)
        return self._ledger.now()

    async def look_at(self, keys: set[Key]) -> None:
        """In quiet: every proxy makes payments, and nothing waits in its spool."""
        for number, proxy in enumerate(self._proxies):
            await self._recovered(number)
            await eventually(proxy.settled, RECOVERY)
        left = iter(sorted(keys | set(self._ledger.told) - set(self.final)))

        async def reader(number: int) -> None:
            for key in left:
                self.final[key] = await self._end_of(key, number % len(self._proxies))

        await asyncio.gather(*(reader(number) for number in range(READERS)))

    async def gather(self) -> None:
        """In quiet: as many can wait as may, so nobody waits, or is counted as if."""
        if self._plan.mode.waits:
            proxies = range(len(self._proxies))
            await asyncio.gather(*(eventually(partial(self._clients.gather, proxy), RECOVERY) for proxy in proxies))

    async def _end_of(self, key: Key, proxy: int) -> Answer:
        """What is shown of it; where it is in progress, of someone who was killed, once the lease is over."""
        deadline = self._ledger.now() + LEASE + 1.0
        while True:
            answer = await self._clients.look(key, proxy)
            waits = isinstance(answer, Said) and answer.state == "in_progress"
            if not waits or self._ledger.now() > deadline:
                return answer
            await asyncio.sleep(0.1)

    def outcome(self) -> Outcome:
        """All of it."""
        found = verdict.judge(self._ledger, self.final, self._plan.mode)
        found += verdict.endless(self._ledger, LONGEST, self._was_stopped)
        excused = [each for each in found if self._is_excused(each.key)]
        unsafe_hashes = set[str]().union(*(proxy.unsafe for proxy in self._proxies))
        unsafe = [
            each
            for each in found
            if each not in excused
            and each.wrong is verdict.Wrong.LOST
            and each.key is not None
            and _hash(each.key) in unsafe_hashes
        ]
        left = [each for each in found if each not in excused and each not in unsafe]
        return Outcome(
            self._plan, self._ledger, self.final, self._happened, left, excused, unsafe, tuple(self._proxies)
        )

    def _was_stopped(self, told: Told) -> bool:
        """Whether the proxy that told it was killed or held still meanwhile."""
        return any(
            told.proxy in each.recovered and each.begun < told.at and each.over > told.begun
            for each in self._happened
            if (each.kind in PROXY_KINDS and each.kind != DISK_FULL) or each.kind.endswith(AND_A_PROXY)
        )

    def _is_excused(self, key: Key | None) -> bool:
        """Whether a failover that nothing protects from came while it was in use."""
        if self._plan.durability != "memory" or key is None:
            return False
        first, last = self._ledger.written(key)
        return any(
            each.kind.removesuffix(AND_A_PROXY) in FAILOVERS and first < each.over + 1 and last > each.begun - 1
            for each in self._happened
        )


def _hash(key: Key) -> str:
    """By which the logs know it."""
    return Hasher(b"").key(key.name, joined([key.scope]) if key.scope else NO_SCOPE).hex()
