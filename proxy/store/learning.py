"""A dictionary for an upstream, learnt from its own responses.

What is alike in all of them (the names of JSON's members, of fields, their order) goes into the dictionary, once, and a
record is left with what is its own. One worker learns, when enough responses were seen, in a thread. A dictionary is
used only once it was seen in the store some seconds after it was put there: a failover that loses the last moment must
not leave records behind that nobody can read. All others, and those who are started later, find it by the *pointer*, a
name made of the upstream's.

It outlives its last use by more than any record that needs it: it is written again every hour, to be kept for four
retentions (a record's, and some to spare), never for less than somebody else wants it, and at the next look where it is
gone or lies there under another key than is used now; once more when the proxy stops.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import NamedTuple, TypeVar

import zstandard

from proxy.store.base import Done, Kept, KeptResult, Store, Unavailable
from proxy.store.compression import ID_SIZE, Compressor, Unusable
from proxy.store.dictionary import Library, Result, name_of
from proxy.store.vault import Vault

SIZE = 16 * 1024
"""Bytes of a dictionary, at most. A larger one gains nothing: the responses of one API are much alike."""
ENOUGH = 256
"""Responses from which one is learnt."""
SAMPLE = 4096
"""Bytes of a response that are looked at, from its beginning."""
WORTH = 0.9
"""A dictionary must bring what is compressed without one down to this part of it."""
RELEARN = 7 * 86_400
"""Seconds after which another is learnt: the API has changed, maybe, and what it had of people is forgotten."""
EVERY = 5.0
"""Seconds between two looks at the pointer, and at the dictionary itself."""
REFRESH = 3600.0
"""Seconds after which it is written again."""
TURN = 60_000
"""Milliseconds for which nobody else learns."""
DESPAIR = 3600.0
"""Seconds until the next try, where no dictionary of use came about."""

R = TypeVar("R")
logger = logging.getLogger(__name__)


class Noted(NamedTuple):
    """What a pointer says. *learnt*: Unix second."""

    id: bytes
    learnt: int

    def written(self) -> bytes:
        """As bytes."""
        return self.id + self.learnt.to_bytes(8, "big")


def noted(there: KeptResult) -> Noted | None:
    """What it says; None: nothing that we understand."""
    if isinstance(there, Kept) and len(there.value) == ID_SIZE + 8:
        return Noted(there.value[:ID_SIZE], int.from_bytes(there.value[ID_SIZE:], "big"))
    return None


class Learning:
    """Needs a running loop. *upstream*: its URL; *lifetime*: milliseconds for which a dictionary is kept, counted from
    its last use; *every*: seconds between two looks."""

    def __init__(
        self, store: Store, vault: Vault, library: Library, *, upstream: bytes, lifetime: int, every: float = EVERY
    ) -> None:
        self._store = store
        self._vault = vault
        self._library = library
        self._pointer = b"dictionary:" + blake2b(upstream, digest_size=16, person=b"upstream").hexdigest().encode()
        self._lifetime = lifetime
        self._every = every
        self._refresh = min(REFRESH, lifetime / 16_000)
        self._task: asyncio.Task[None] | None = None
        self._samples: list[bytes] = []
        self._enough = asyncio.Event()
        self._trained: Compressor | None = None
        """Put into the store, and not used yet."""
        self._resting_until = self._refresh_at = 0.0
        """Monotonic time."""
        self._unusable = b""
        """The id of a dictionary of which the log has been told."""
        self._unkept = False
        """Whether it has been told that none can be kept."""

    async def begin(self) -> None:
        """Find the dictionary that there is; then go on looking after it."""
        await self._try(self._round)
        self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        """Let go, and leave behind what records need that were written since the last look; while the store is open."""
        self._vault.sampled = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._try(self._leave)

    async def _leave(self) -> None:
        current = self._vault.compressor.id
        there = await self._ask(partial(self._store.kept, self._pointer))
        if current and not isinstance(there, Unavailable):
            await self._preserve(current, noted(there) or Noted(current, int(time.time())))

    async def finding(self) -> str:
        """What is there, for people."""
        there = await self._ask(partial(self._store.kept, self._pointer))
        known = noted(there)
        if isinstance(there, Unavailable):
            return f"dictionary: {there.why}"
        if known is None:
            return "dictionary: none learnt yet"
        found: Result = await self._ask(partial(self._library.find, known.id))
        day = time.strftime("%Y-%m-%d", time.gmtime(known.learnt))
        match found:
            case Compressor():
                return f"dictionary {known.id.hex()}: {len(found.dictionary)} bytes, learnt on {day}, can be read"
            case Unavailable(why):
                return f"dictionary {known.id.hex()}: {why}"
            case _:
                return f"dictionary {known.id.hex()}: UNREADABLE, learnt on {day}, {found}"

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._every):
                    await self._enough.wait()
            except TimeoutError:
                pass
            self._enough.clear()
            await self._try(self._round)

    async def _try(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Exception:  # a defect must cost nobody anything but the dictionary
            logger.exception("learning a dictionary failed")
            self._rest()

    def _rest(self) -> None:
        self._samples, self._vault.sampled = [], None
        self._resting_until = time.monotonic() + DESPAIR

    async def _round(self) -> None:
        there = await self._ask(partial(self._store.kept, self._pointer))
        if isinstance(there, Unavailable):
            return
        found = noted(there)
        if self._trained is not None:
            found = await self._use_trained() or found
        if found is not None and found.id != self._vault.compressor.id and not await self._adopt(found):
            return
        current, now = self._vault.compressor.id, int(time.time())
        if current:
            await self._preserve(current, found or Noted(current, now))
        old = found is not None and found.id == current and not 0 <= now - found.learnt < RELEARN  # nor of tomorrow
        if current and not old:
            self._samples, self._vault.sampled = [], None
        elif len(self._samples) >= ENOUGH:
            await self._learn()
        elif time.monotonic() >= self._resting_until:
            self._vault.sampled = self._sample

    # -- what others have learnt --------------------------------------------------------------------------------

    async def _adopt(self, found: Noted) -> bool:
        """Use it; False where it is not known yet whether that can be. One that cannot be read is as none."""
        result: Result = await self._ask(partial(self._library.find, found.id))
        match result:
            case Unavailable():
                return False
            case Compressor() if not (result.in_clear and self._vault.ring):
                self._vault.compressor = result
                self._refresh_at = 0.0
            case _ if self._unusable != found.id:
                self._unusable = found.id
                why = "which anybody may have put there in clear" if isinstance(result, Compressor) else result
                logger.warning("dictionary %s of this API, %s: another is learnt", found.id.hex(), why)
        return True

    async def _preserve(self, current: bytes, pointer: Noted) -> None:
        """See that it stays in the store, and that the pointer does; not a pointer to another that we cannot read."""
        now = time.monotonic()
        there = await self._ask(partial(self._store.kept, name_of(current)))
        if isinstance(there, Unavailable):
            return
        good = isinstance(there, Kept) and self._vault.is_current(there.value)
        if good and now < self._refresh_at:
            return
        if await self._put(self._vault.compressor) and (pointer.id != current or await self._point(pointer)):
            self._refresh_at = now + self._refresh

    # -- what is learnt here ------------------------------------------------------------------------------------

    def _sample(self, content: bytes) -> None:
        self._samples.append(content[:SAMPLE])
        if len(self._samples) >= ENOUGH:
            self._vault.sampled = None
            self._enough.set()

    async def _learn(self) -> None:
        samples, self._samples = self._samples, []
        turn = await self._ask(partial(self._store.keep, self._pointer + b":turn", os.urandom(8), TURN, first=True))
        if isinstance(turn, Unavailable):
            self._not_kept(turn.why)
        if not isinstance(turn, Done):
            return  # another is at it, or nobody can
        try:
            trained = await asyncio.to_thread(train, samples)
        except Unusable as error:
            logger.warning("no dictionary was learnt of %d responses: %s", len(samples), error)
            self._rest()
            return
        if await self._put(trained):
            self._trained = trained

    async def _use_trained(self) -> Noted | None:
        """It was put there a round ago: is it there now?"""
        trained, self._trained = self._trained, None
        if trained is None:
            return None
        found: Result = await self._ask(partial(self._library.find, trained.id))
        new = Noted(trained.id, int(time.time()))
        if not isinstance(found, Compressor) or found.digest != trained.digest or not await self._point(new):
            return None
        self._vault.compressor = found
        logger.info("dictionary %s learnt, %d bytes", found.id.hex(), len(found.dictionary))
        return new

    async def _put(self, compressor: Compressor) -> bool:
        sealed = self._vault.seal_dictionary(compressor.dictionary, compressor.id)
        return await self._keep(name_of(compressor.id), sealed)

    async def _point(self, new: Noted) -> bool:
        return await self._keep(self._pointer, new.written())

    async def _keep(self, name: bytes, value: bytes) -> bool:
        kept = await self._ask(partial(self._store.keep, name, value, self._lifetime))
        if isinstance(kept, Unavailable):
            self._not_kept(kept.why)
        else:
            self._unkept = False
        return isinstance(kept, Done)

    def _not_kept(self, why: str) -> None:
        """Told once; it may be for good (a missing right), and samples cost something."""
        if not self._unkept:
            logger.warning("no dictionary can be kept in the store: %s", why)
        self._unkept = True
        self._rest()

    async def _ask(self, operate: Callable[[Callable[[R], None]], None]) -> R:
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        operate(lambda result: None if future.done() else future.set_result(result))
        return await future


def train(samples: Sequence[bytes]) -> Compressor:
    """A dictionary of *samples*, tried out on some that it was not learnt from; raise Unusable."""
    tried = samples[::8]
    try:
        learnt = zstandard.train_dictionary(SIZE, [sample for n, sample in enumerate(samples) if n % 8])
    except zstandard.ZstdError as error:
        raise Unusable(str(error)) from None
    compressor, plain = Compressor(learnt.as_bytes()), Compressor()
    with_it, without = (sum(len(each.compress(sample)) for sample in tried) for each in (compressor, plain))
    if with_it > WORTH * without:
        raise Unusable(f"{with_it} bytes with it, {without} without")
    return compressor
