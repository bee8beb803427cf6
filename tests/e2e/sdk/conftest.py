"""See `tests.e2e.sdk.stand`."""

from collections.abc import Iterator

import pytest

from tests.e2e.sdk.stand import Stand
from tests.support.proxy import new_key


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """One for all tests of an SDK."""
    with Stand(tmp_path_factory.mktemp("sdk")) as stand:
        yield stand


@pytest.fixture
def stand(started: Stand) -> Stand:
    """As if nothing had happened yet."""
    started.forget()
    return started


@pytest.fixture
def key() -> str:
    """A key that nobody has used."""
    return new_key().decode("ascii")
