"""What a record costs: bytes in Redis and microseconds of CPU, by how it is kept. `make bench-records`.

The bytes are what a real server says of the key (MEMORY USAGE: its name and what lies around it, too), the median of
many records. Responses are those of a payments API, each with its own ids, amounts, names and times; the dictionary is
learnt from others, three days before. The exit status is 1 where a goal is missed.
"""

import asyncio
import json
import os
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from email.utils import formatdate
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import click
from redis import Redis

from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record, Response
from proxy.deadlines import Deadlines
from proxy.store.base import Done, Found, Granted
from proxy.store.codec import encode
from proxy.store.keyring import KeyRing
from proxy.store.learning import ENOUGH, train
from proxy.store.redis.store import RedisStore
from proxy.store.sealing import Sealing
from proxy.store.vault import Vault
from tests.support.opening import Opening
from tests.support.valkey import Valkey

COUNT = 1000
GOAL, GOAL_RATIO = 300, 4.0
"""Bytes a record with a learnt dictionary at most; of JSON's, so many times less at least."""
PREFIX = "idempotency:"
DAY = 86_400_000
MEASURED = 1_767_225_600
"""Unix second of the first record; the dictionary is three days older."""
FIRST = ("Olivia", "Liam", "Emma", "Noah", "Ava", "Elijah", "Sophia", "Lucas", "Camille", "Hugo", "Chloe", "Manon")
LAST = ("Martin", "Bernard", "Dubois", "Thomas", "Robert", "Petit", "Durand", "Leroy", "Moreau", "Smith", "Taylor")
STREETS = ("rue de la Paix", "avenue Victor Hugo", "High Street", "Station Road", "Church Lane", "quai de Seine")
CITIES = ("Paris", "Lyon", "Luxembourg", "London", "Leeds", "Bordeaux", "Nantes", "Manchester")


class Kind(NamedTuple):
    """How records are kept."""

    compress: bool = False
    learnt: bool = False
    encrypt: bool = False


JSON = "JSON"
KINDS = {
    "as they are": Kind(),
    "zstd": Kind(compress=True),
    "zstd, learnt dictionary": Kind(compress=True, learnt=True),
    "AES-256-GCM": Kind(encrypt=True),
    "zstd, learnt dictionary, AES-256-GCM": Kind(compress=True, learnt=True, encrypt=True),
}
LEARNT = "zstd, learnt dictionary"


# -- payments -------------------------------------------------------------------------------------------------------


def payments(seed: str, start: int, count: int) -> list[Record]:
    """Records of them, a hundred a second from the Unix second *start* on."""
    chance = random.Random(seed)
    return [payment(chance, start + number // 100) for number in range(count)]


def payment(chance: random.Random, now: int) -> Record:
    """A record of one."""
    body = json.dumps(_payout(chance, now), separators=(",", ":")).encode()
    fields = (
        f"Server: nginx\r\nDate: {formatdate(now, usegmt=True)}\r\nContent-Type: application/json; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nX-Request-Id: {uuid.UUID(int=chance.getrandbits(128))}\r\n"
    ).encode()
    client = chance.choice(["acme", "globex", "initech"])
    attempt = Attempt(
        key_hash=os.urandom(16),
        token=os.urandom(16),
        first_used=now * 1000 - chance.randrange(50, 1500),
        lease=76_000,
        retention=DAY,
        credential=os.urandom(16),
        url=f"https://api.example.com/v2.01/{client}/payouts/bankwire/".encode(),
    )
    response = Response(200, b"OK", fields, body, len(body), truncated=False, date=now)
    return Record(attempt, State.COMPLETED, response)


def _payout(chance: random.Random, now: int) -> dict[str, object]:
    """In Mangopay's manner."""
    currency, amount = chance.choice(["EUR", "GBP", "USD"]), chance.randrange(100, 2_000_000)
    fees = amount // chance.choice([50, 100, 200])
    return {
        "Id": str(chance.randrange(10**8, 10**9)),
        "Tag": f"order {chance.randrange(10**5, 10**6)}",
        "CreationDate": now,
        "AuthorId": str(chance.randrange(10**7, 10**8)),
        "DebitedFunds": {"Currency": currency, "Amount": amount},
        "CreditedFunds": {"Currency": currency, "Amount": amount - fees},
        "Fees": {"Currency": currency, "Amount": fees},
        "Status": chance.choice(["CREATED", "SUCCEEDED", "SUCCEEDED", "FAILED"]),
        "ResultCode": "000000",
        "ResultMessage": "Success",
        "ExecutionDate": now + chance.randrange(1, 9),
        "Type": "PAYOUT",
        "Nature": "REGULAR",
        "DebitedWalletId": str(chance.randrange(10**7, 10**8)),
        "BankAccountId": str(chance.randrange(10**7, 10**8)),
        "BankWireRef": f"{chance.choice(FIRST)} {chance.choice(LAST)}",
        "PaymentType": "BANK_WIRE",
        "OwnerAddress": f"{chance.randrange(1, 300)} {chance.choice(STREETS)}, {chance.choice(CITIES)}",
    }


def as_json(record: Record) -> bytes:
    """As it is kept where one has not thought of it."""
    attempt, _, response, _ = record
    assert response is not None
    lines = response.fields.decode().split("\r\n")[:-1]
    return json.dumps(
        {
            "state": "completed",
            "token": str(uuid.UUID(bytes=attempt.token)),
            "credential": attempt.credential.hex(),
            "first_used": attempt.first_used,
            "lease": attempt.lease,
            "retention": attempt.retention,
            "url": attempt.url.decode(),
            "status": response.status,
            "reason": response.reason.decode(),
            "headers": [line.split(": ", 1) for line in lines],
            "body": response.body.decode(),
            "date": response.date,
        }
    ).encode()


# -- what is measured -----------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """Bytes a record: as a value, and of the server's memory. Microseconds to make it, and to read it."""

    value: float
    memory: float
    seal: float
    open: float


def vault(kind: Kind) -> Vault:
    """That keeps them so; a dictionary is learnt from other payments."""
    made = Vault(compress=kind.compress, ring=KeyRing({1: os.urandom(32)}) if kind.encrypt else None, limit=2**21)
    if kind.learnt:
        samples: list[bytes] = []
        made.sampled = samples.append
        for other in payments("others", MEASURED - 3 * 86_400, ENOUGH):
            made.seal(other)
        made.sampled = None
        made.compressor = train(samples)
        made.learn(made.compressor)
    return made


def microseconds(work: Callable[[Record], object], records: list[Record]) -> float:
    """Of CPU a record, the best of three."""
    rounds = []
    for _ in range(3):
        began = time.process_time()
        for record in records:
            work(record)
        rounds.append((time.process_time() - began) / len(records) * 1e6)
    return min(rounds)


async def keep(server: Valkey, own: Vault, records: list[Record]) -> None:
    """Through the store, as the proxy does, and read back."""
    deadlines = Deadlines()
    beneath = RedisStore(server.url, deadline=2.0, prefix=PREFIX, deadlines=deadlines)
    sealing = partial(Sealing, deadline=2.0, deadlines=deadlines, upstream=b"", lifetime=DAY, learns=False)
    store = Opening(sealing(beneath, own))
    await store.store.open()
    for record in records:
        assert await store.claim(Record(record.attempt, State.IN_PROGRESS, None)) == Granted()
        assert await store.settle(record) == Done()
        assert await store.read(record.attempt.key_hash) == Found(record, State.COMPLETED)
    await store.store.close()


def memory(client: "Redis", records: list[Record]) -> float:
    """Of the server, a record."""
    names = [f"{PREFIX}{record.attempt.key_hash.hex()}" for record in records]
    return median(int(client.memory_usage(name, 0) or 0) for name in names)


async def measure(server: Valkey, records: list[Record]) -> dict[str, Cost]:
    """All kinds."""
    costs = {}
    with Redis(port=server.port) as client:
        for record in records:
            client.set(f"{PREFIX}{record.attempt.key_hash.hex()}", as_json(record), px=DAY)
        size = mean(len(as_json(record)) for record in records)
        costs[JSON] = Cost(size, memory(client, records), microseconds(as_json, records), 0.0)
        for name, kind in KINDS.items():
            own = vault(kind)
            client.flushall()
            await keep(server, own, records)
            sealed = [own.seal(record) for record in records]
            costs[name] = Cost(
                mean(len(encode(record)) for record in sealed),
                memory(client, records),
                microseconds(own.seal, records),
                microseconds(own.open, sealed),
            )
    return costs


def table(costs: dict[str, Cost]) -> Iterator[str]:
    """Line by line."""
    yield f"{'':36}  {'value':>7}  {'in Redis':>8}  {'of JSON':>7}  {'seal µs':>7}  {'open µs':>7}"
    for name, cost in costs.items():
        part = cost.memory / costs[JSON].memory
        times = ("", "") if name == JSON else (f"{cost.seal:.1f}", f"{cost.open:.1f}")
        yield f"{name:36}  {cost.value:5.0f} B  {cost.memory:6.0f} B  {part:7.2f}  {times[0]:>7}  {times[1]:>7}"


def main() -> int:
    """Measure, print, judge."""
    records = payments("measured", MEASURED, COUNT)
    bodies = mean(len(record.response.body) for record in records if record.response)
    with tempfile.TemporaryDirectory() as directory, Valkey(Path(directory)) as server:
        with Redis(port=server.port) as client:
            version = client.info("server").get("valkey_version") or client.info("server")["redis_version"]
        costs = asyncio.run(measure(server, records))
    click.echo(f"{COUNT} responses with bodies of {bodies:.0f} bytes, server {version}")
    for line in table(costs):
        click.echo(line)
    learnt, ratio = costs[LEARNT].memory, costs[JSON].memory / costs[LEARNT].memory
    good = learnt <= GOAL and ratio >= GOAL_RATIO
    goals = f"the goals are {GOAL} B and {GOAL_RATIO:g} times less than JSON"
    click.echo(f"{learnt:.0f} B, {ratio:.1f} times less than JSON: {goals}{'' if good else '  MISSED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
