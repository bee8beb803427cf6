"""Clients: they pay, retry with the same key whatever happens, race for keys, and look for lost responses."""

import asyncio
import json
from collections.abc import Sequence
from random import Random
from uuid import UUID

from tests.chaos.api import PROBE
from tests.chaos.ledger import Answer, Given, Ledger, Nothing, Said, Told, understood
from tests.chaos.proxies import Proxy
from tests.support.proxy import PATH, post, request, responses
from tests.support.raw import exchange

PATIENCE = 3.0
"""Seconds that a client waits for its answer."""
TRIES = 60
"""Of one payment, with a pause between them."""
AGAIN = 0.2
"""How likely it is that a client that has its answer pays again; that one without a response does, is twice so."""
CROWD = 100
"""Clients that race for one key, now and then."""


class Clients:
    """*count* of them in front of *proxies*; what they do follows from the seed and from what they are told."""

    def __init__(self, seed: int, proxies: Sequence[Proxy], ledger: Ledger, count: int) -> None:
        self._seed = seed
        self._proxies = proxies
        self._ledger = ledger
        self._count = count
        self._keys: list[bytes] = []
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
            (what,) = random.choices(("pay", "race", "crowd", "keyless", "look"), (70, 10, 0.2, 10, 10))
            match what:
                case "pay":
                    await self._pay(self._new_key(random), random, ending)
                case "race" | "crowd":
                    key, many = self._new_key(random), random.randint(2, 5) if what == "race" else CROWD
                    racers = [Random(random.random()) for _ in range(many)]
                    await asyncio.gather(*(self._pay(key, each, ending) for each in racers))
                case "keyless":
                    await self._pay_once(random)
                case "look":
                    if self._keys:
                        await self.look(random.choice(self._keys), random.randrange(len(self._proxies)))
            await asyncio.sleep(random.uniform(0.0, 0.1))

    def _new_key(self, random: Random) -> bytes:
        key = str(UUID(int=random.getrandbits(128), version=4)).encode()
        self._keys.append(key)
        return key

    # -- a payment ----------------------------------------------------------------------------------------------

    async def _pay(self, key: bytes, random: Random, ending: asyncio.Event) -> None:
        """Until there is an answer that ends it; now and then once more, as careless clients do."""
        for _ in range(TRIES):
            match await self.ask(key, random.randrange(len(self._proxies)), post(key, body=_body(key))):
                case Given(number) if self._ledger.executions[number].executed:
                    ended = random.random() > AGAIN
                case Said(409 | 504, _, "completed" | "unknown"):
                    await self.look(key, random.randrange(len(self._proxies)))
                    ended = random.random() > 2 * AGAIN
                case _:
                    ended = False
            if ended or ending.is_set():
                return
            await asyncio.sleep(random.uniform(0.01, 0.3))

    async def look(self, key: bytes, proxy: int) -> Answer:
        """Ask for its response."""
        return await self.ask(key, proxy, request(b"GET", responses(key)))

    async def probe(self, proxy: int) -> bool:
        """Whether a payment is made there now."""
        key = str(UUID(int=self._probes.getrandbits(128), version=4)).encode()
        answer = await self.ask(key, proxy, post(key, body=_body(key), path=PROBE))
        return isinstance(answer, Given) and answer.status == 201

    async def ask(self, key: bytes, proxy: int, data: bytes) -> Answer:
        """Send it, and write down what comes."""
        begun = self._ledger.now()
        answer = await self._exchange(proxy, data)
        self._ledger.told[key].append(Told(begun, self._ledger.now(), proxy, answer))
        return answer

    async def _pay_once(self, random: Random) -> None:
        body = _body(b"%x" % random.getrandbits(64))
        proxy = random.randrange(len(self._proxies))
        self._ledger.keyless.append((body, await self._exchange(proxy, post(body=body, path=PATH))))

    async def _exchange(self, proxy: int, data: bytes) -> Answer:
        try:
            return understood(await exchange(self._proxies[proxy].port, data, within=PATIENCE))
        except (OSError, AssertionError) as error:
            return Nothing(f"{type(error).__name__}: {error}"[:80])


def _body(nonce: bytes) -> bytes:
    return json.dumps({"Nonce": nonce.decode(), "Amount": 471}).encode()
