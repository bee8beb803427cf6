"""Clients: they pay, retry with the same key whatever happens, race for keys, and look for lost responses."""

import asyncio
import json
import struct
from collections.abc import Sequence
from random import Random
from socket import SO_LINGER, SOL_SOCKET
from uuid import UUID

from tests.chaos.api import GATHERING, PROBE
from tests.chaos.ledger import Answer, Given, Key, Ledger, Nothing, Said, Told, understood
from tests.chaos.modes import SCOPE, WAITERS, Mode
from tests.chaos.proxies import Proxy
from tests.support.proxy import PATH, post, request, responses
from tests.support.raw import Field, exchange

STAYS = 0.6
"""Seconds, at most, that one stays who does not wait for its answer."""
AT_HOME = 0.5
"""How likely it is that a try goes to the proxy that all who have the same key prefer."""
TOO_MANY = 5
"""Beside those that may wait, in a gathering."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: on, 0 seconds."""
TRIES = 60
"""Of one payment, with a pause between them."""
AGAIN = 0.2
"""How likely it is that a client that has its answer pays again; that one without a response does, is twice so."""
CROWD = 100
"""Clients that race for one key, now and then."""


class Clients:
    """*count* of them in front of *proxies*; what they do follows from the seed and from what they are told."""

    def __init__(self, seed: int, mode: Mode, proxies: Sequence[Proxy], ledger: Ledger, count: int) -> None:
        self._seed = seed
        self._mode = mode
        self._proxies = proxies
        self._ledger = ledger
        self._count = count
        self._keys: list[Key] = []
        self._probes = Random(f"{seed}:probes")
        self._round = 0

    async def work(self, ending: asyncio.Event) -> None:
        """Until *ending*, and then what was begun to its end."""
        self._round += 1
        async with asyncio.TaskGroup() as clients:
            for number in range(self._count):
                random = Random(f"{self._seed}:client:{self._round}:{number}")
                clients.create_task(self._one(random, ending))

    async def _one(self, random: Random, ending: asyncio.Event) -> None:
        while not ending.is_set():
            doings = self._mode.doings
            (what,) = random.choices([*doings], [*doings.values()])
            match what:
                case "pay":
                    await self._pay(_name(random), random, ending)
                case "race" | "crowd":
                    name, many = _name(random), random.randint(*self._mode.racers) if what == "race" else CROWD
                    racers = [Random(random.random()) for _ in range(many)]
                    await asyncio.gather(*(self._pay(name, each, ending) for each in racers))
                case "keyless":
                    await self._pay_once(random)
                case "look":
                    if self._keys:
                        await self.look(random.choice(self._keys), random.randrange(len(self._proxies)))
            await asyncio.sleep(random.uniform(0.0, 0.1))

    # -- a payment ----------------------------------------------------------------------------------------------

    async def _pay(self, name: bytes, random: Random, ending: asyncio.Event) -> None:
        """Until there is an answer that ends it; now and then once more, as careless clients do."""
        home = Random(name).randrange(len(self._proxies))
        key = Key(name, random.choice(self._mode.scopes))
        body = _body(name, 471 if random.random() >= self._mode.others else 472)
        self._keys.append(key)
        for _ in range(TRIES):
            leaves = random.uniform(0.0, STAYS) if random.random() < self._mode.leaving else None
            proxy = home if random.random() < AT_HOME else random.randrange(len(self._proxies))
            match await self._try(key, proxy, body, leaves=leaves):
                case Given(number) if self._ledger.executions[number].executed:
                    ended = random.random() > AGAIN
                case Said(422):
                    ended = random.random() > AGAIN
                case Said(409 | 504, _, "completed" | "unknown"):
                    await self.look(key, random.randrange(len(self._proxies)))
                    ended = random.random() > 2 * AGAIN
                case _:
                    ended = False
            if ended or ending.is_set():
                return
            await asyncio.sleep(random.uniform(0.01, 0.3))

    async def look(self, key: Key, proxy: int) -> Answer:
        """Ask for its response."""
        begun = self._ledger.now()
        answer = await self._exchange(proxy, request(b"GET", responses(key.name), _scope(key)))
        self._ledger.told[key].append(Told(begun, self._ledger.now(), proxy, answer))
        return answer

    async def probe(self, proxy: int) -> bool:
        """Whether a payment is made there now."""
        key = Key(_name(self._probes), self._mode.scopes[0])
        answer = await self._try(key, proxy, _body(key.name), path=PROBE)
        return isinstance(answer, Given) and answer.status == 201

    async def gather(self, proxy: int) -> bool:
        """Whether just as many can wait there as may: nobody who has gone is still counted. Late comers do not wait, so
        that it may have to be tried again."""
        key = Key(_name(self._probes), self._mode.scopes[0])
        many = 1 + WAITERS + TOO_MANY
        answers = await asyncio.gather(*(self._try(key, proxy, _body(key.name), path=GATHERING) for _ in range(many)))
        return [type(answer) for answer in answers].count(Given) == 1 + WAITERS

    async def _try(
        self, key: Key, proxy: int, body: bytes, *, path: bytes = PATH, leaves: float | None = None
    ) -> Answer:
        """Send a payment, and write down what comes. *leaves*: seconds after which the client goes."""
        data = post(key.name, _scope(key), body, path=path)
        begun = self._ledger.now()
        answer = await (self._exchange(proxy, data) if leaves is None else self._leave(proxy, data, leaves))
        self._ledger.told[key].append(Told(begun, self._ledger.now(), proxy, answer, body))
        return answer

    async def _pay_once(self, random: Random) -> None:
        body = _body(b"%x" % random.getrandbits(64))
        proxy = random.randrange(len(self._proxies))
        self._ledger.keyless.append((body, await self._exchange(proxy, post(body=body, path=PATH))))

    async def _exchange(self, proxy: int, data: bytes) -> Answer:
        try:
            return understood(await exchange(self._proxies[proxy].port, data, within=self._mode.patience))
        except (OSError, AssertionError) as error:
            return Nothing(f"{type(error).__name__}: {error}"[:80])

    async def _leave(self, proxy: int, data: bytes, after: float) -> Answer:
        """With a RST, or with a FIN, which a proxy may take for a client that has said all and waits."""
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._proxies[proxy].port)
        except OSError as error:
            return Nothing(f"{type(error).__name__}: {error}"[:80])
        if after > STAYS / 2:
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        writer.write(data)
        await asyncio.sleep(after)
        writer.transport.abort()
        return Nothing("the client has gone")


def _name(random: Random) -> bytes:
    """Of a key that nobody has used."""
    return str(UUID(int=random.getrandbits(128), version=4)).encode()


def _scope(key: Key) -> list[Field]:
    return [(SCOPE, key.scope)] if key.scope else []


def _body(nonce: bytes, amount: int = 471) -> bytes:
    return json.dumps({"Nonce": nonce.decode(), "Amount": amount}).encode()
