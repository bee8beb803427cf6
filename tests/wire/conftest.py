"""The loop of production, and no test that passes over a defect: as for the integration tests."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.conftest import _no_defects, pytest_asyncio_loop_factories
from tests.wire.stand import Stand

__all__ = ["_no_defects", "pytest_asyncio_loop_factories"]


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with Stand() as stand:
        yield stand
