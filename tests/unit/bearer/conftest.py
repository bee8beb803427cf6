"""An issuer that is up, and its keys; what a test opens is closed after it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from proxy.bearer.keys import Keys
from tests.unit.bearer.issuer import Clock, Issuer, Signer, key_set

Opened = Callable[..., Awaitable[Keys]]


@pytest.fixture
def clock() -> Clock:
    """The keys' clock."""
    return Clock()


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """It has published one key."""
    async with Issuer(key_set(Signer())) as issuer:
        yield issuer


@pytest.fixture
async def opened(issuer: Issuer, clock: Clock) -> AsyncIterator[Opened]:
    """Opens the keys of a place, the issuer's by default."""
    all_of_them: list[Keys] = []

    async def opened(place: str | None = None, **settings: Any) -> Keys:
        keys = Keys(place or issuer.url, **{"now": clock} | settings)
        all_of_them.append(keys)
        await keys.open()
        return keys

    yield opened
    for keys in all_of_them:
        await keys.close()


@pytest.fixture
async def keys(opened: Opened) -> Keys:
    """The issuer's, fetched once."""
    return await opened()
