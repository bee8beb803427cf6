"""What every store promises of what is kept beside the records."""

import os

from proxy.core.lifecycle import State
from proxy.store.base import Absent, Done, Found, Granted, KeepResult, Kept, KeptResult, Unavailable
from tests.support.raw import eventually
from tests.support.stores import HOUR, Asked, Medium, answer, claim_of


async def keep(store: Asked, name: bytes, value: bytes, lifetime: int = HOUR, *, first: bool = False) -> KeepResult:
    return await answer(lambda done: store.store.keep(name, value, lifetime, done, first=first))


async def kept(store: Asked, name: bytes) -> KeptResult:
    return await answer(lambda done: store.store.kept(name, done))


def new_name() -> bytes:
    return b"thing:" + os.urandom(8).hex().encode()


async def test_what_one_store_keeps_another_finds_every_byte_of_it(medium: Medium) -> None:
    one, other = await medium.store(), await medium.store()
    name, value = new_name(), bytes(range(256)) * 64
    assert await kept(other, name) == Absent()
    assert await keep(one, name, value) == Done()
    assert await kept(other, name) == Kept(value)


async def test_what_is_kept_again_takes_the_place_of_what_was_there(store: Asked) -> None:
    name = new_name()
    await keep(store, name, b"before")
    assert await keep(store, name, b"after") == Done()
    assert await kept(store, name) == Kept(b"after")


async def test_of_two_who_want_to_be_first_one_is_and_the_other_is_told_what_is_there(store: Asked) -> None:
    name = new_name()
    assert await keep(store, name, b"one", first=True) == Done()
    assert await keep(store, name, b"other", first=True) == Kept(b"one")
    assert await kept(store, name) == Kept(b"one")


async def test_what_is_kept_is_gone_when_its_lifetime_is_over_and_another_may_be_first(store: Asked) -> None:
    name = new_name()
    await keep(store, name, b"short", 200)
    assert await kept(store, name) == Kept(b"short")

    async def gone() -> bool:
        return await kept(store, name) == Absent()

    await eventually(gone, within=3.0)
    assert await keep(store, name, b"next", first=True) == Done()


async def test_a_lifetime_is_counted_anew_when_it_is_kept_again(store: Asked) -> None:
    long, short = new_name(), new_name()
    await keep(store, long, b"value", 200)
    await keep(store, long, b"value")
    await keep(store, short, b"value", 200)

    async def gone() -> bool:
        return await kept(store, short) == Absent()

    await eventually(gone, within=3.0)
    assert await kept(store, long) == Kept(b"value")


async def test_what_is_kept_again_for_less_lasts_as_long_as_it_was_to_last(medium: Medium) -> None:
    """Two proxies with different retentions share it: the records of one live for longer."""
    long, short = await medium.store(), await medium.store()
    name, other = new_name(), new_name()
    await keep(long, name, b"before")
    assert await keep(short, name, b"after", 200) == Done()
    await keep(short, other, b"value", 200)

    async def gone() -> bool:
        return await kept(short, other) == Absent()

    await eventually(gone, within=3.0)
    assert await kept(long, name) == Kept(b"after")


async def test_it_does_not_meet_a_record_of_the_same_name(store: Asked) -> None:
    claim = claim_of(b"dictionary:01234")
    await keep(store, claim.attempt.key_hash, b"value")
    assert await store.claim(claim) == Granted()
    assert await store.read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS)
    assert await kept(store, claim.attempt.key_hash) == Kept(b"value")


async def test_each_is_answered_once_never_from_within_and_by_a_closed_store_as_well(store: Asked) -> None:
    results: list[KeepResult | KeptResult] = []
    name = new_name()
    store.store.keep(name, b"value", HOUR, results.append)
    store.store.kept(name, results.append)
    assert not results
    await eventually(lambda: len(results) == 2)
    assert results == [Done(), Kept(b"value")]
    await store.store.close()
    store.store.keep(name, b"late", HOUR, results.append)
    store.store.kept(name, results.append)
    assert len(results) == 2
    await eventually(lambda: len(results) == 4)
    assert all(isinstance(result, Unavailable) for result in results[2:])
