"""What several servers agree on."""

import asyncio
import time

import pytest

from proxy.store.base import StoreRefused, StoreUnavailable
from proxy.store.redis.topology import agreed


async def says(what: str) -> str:
    return what


async def fails(error: Exception) -> str:
    raise error


async def silent() -> str:
    await asyncio.Event().wait()
    raise AssertionError


async def test_what_more_than_half_say_is_taken_at_once() -> None:
    began = time.monotonic()
    assert await agreed([silent(), says("b"), says("b")], 10.0) == "b"
    assert time.monotonic() - began < 1.0


async def test_one_that_says_something_else_first_is_outvoted() -> None:
    assert await agreed([says("a"), says("b"), says("b")], 10.0) == "b"


async def test_without_more_than_half_the_most_is_taken_when_the_time_is_over() -> None:
    assert await agreed([says("a"), fails(StoreUnavailable("down")), silent(), silent()], 0.01) == "a"


async def test_where_nobody_says_anything_the_reasons_are_told() -> None:
    with pytest.raises(StoreUnavailable, match=r"^one; two$"):
        await agreed([fails(StoreUnavailable("one")), fails(StoreUnavailable("two")), silent()], 0.01)
    with pytest.raises(StoreRefused, match="two"):
        await agreed([fails(StoreUnavailable("one")), fails(StoreRefused("two"))], 0.01)
    with pytest.raises(StoreUnavailable, match="no answer within"):
        await agreed([silent()], 0.01)


async def test_nothing_is_left_behind() -> None:
    tasks = asyncio.all_tasks()
    await agreed([silent(), says("b"), says("b")], 10.0)
    assert asyncio.all_tasks() == tasks


async def test_a_defect_is_not_taken_for_silence() -> None:
    with pytest.raises(ZeroDivisionError):
        await agreed([fails(ZeroDivisionError()), says("a")], 1.0)
