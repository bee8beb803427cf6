"""A connection to the upstream, lent from one request to the next: one's defect is not the other's."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.deadlines import Deadlines
from proxy.http1.client import UpstreamConnection
from proxy.http1.message import Limits, ResponseHead
from proxy.http1.outbox import Outbox
from proxy.http1.pool import Pool, Upstream
from tests.support.origin import Behaviour, Origin, after, respond, slowly
from tests.support.raw import eventually

WHOLE = respond(200, body=b"paid")
IN_PIECES = slowly([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"paid"], 0.05)


class Asking:
    """A request: borrows a connection, and listens. *fails_at*: the last word that it cannot take."""

    def __init__(self, pool: Pool, target: bytes, fails_at: str = "") -> None:
        self.heard: list[str] = []
        self.body = b""
        self._target = target
        self._fails_at = fails_at
        assert pool.borrow(self)

    def _hear(self, word: str) -> None:
        self.heard.append(word)
        if word.partition(":")[0] in self._fails_at.split():
            raise ValueError("a defect")

    def connected(self, connection: UpstreamConnection) -> None:
        assert connection.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % self._target, b"GET", self)

    def not_connected(self, why: str) -> None:
        self._hear(f"not connected: {why}")

    def informed(self, head: ResponseHead) -> None:
        self._hear("informed")

    def answered(self, head: ResponseHead, body: bytes) -> None:
        self.body = body
        self._hear("answered")

    def responded(self, head: ResponseHead) -> None:
        self._hear("responded")

    def content(self, data: bytes) -> None:
        self.body += data
        self._hear("content")

    def caught_up(self) -> None:
        """Of no interest."""

    def completed(self) -> None:
        self._hear("completed")

    def failed(self, why: str) -> None:
        self._hear(f"failed: {why}")

    def unsent(self, why: str) -> None:
        self._hear(f"unsent: {why}")

    def upload_paused(self) -> None:
        """There is no body."""

    def upload_resumed(self) -> None:
        """There is no body."""


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin(WHOLE) as origin:
        yield origin


@pytest.fixture
async def pool(origin: Origin) -> AsyncIterator[Pool]:
    """Of one connection."""
    upstream = Upstream(
        host="127.0.0.1",
        port=origin.port,
        tls=None,
        connect_timeout=5,
        idle_timeout=60,
        max_connections=1,
        max_waiting=10,
    )
    pool = Pool(upstream, Limits(), Deadlines(), Outbox())
    yield pool
    await pool.close()


@pytest.mark.parametrize(
    ("behaviour", "fails_at"),
    [
        (WHOLE, "answered"),
        (WHOLE, "answered failed"),
        (IN_PIECES, "completed"),
        (IN_PIECES, "completed failed"),
    ],
)
async def test_a_listener_that_fails_at_the_end_harms_nobody_but_itself(
    origin: Origin, pool: Pool, caplog: pytest.LogCaptureFixture, behaviour: Behaviour, fails_at: str
) -> None:
    gate = asyncio.Event()
    origin.behave(after(gate, behaviour))
    guilty = Asking(pool, b"/guilty", fails_at)
    await origin.until(lambda: origin.requests)
    following = [Asking(pool, b"/next"), Asking(pool, b"/last")]  # they wait for the connection
    gate.set()
    await eventually(lambda: all(one.heard and one.heard[-1] in ("answered", "completed") for one in following))
    assert guilty.heard[-2:] == [fails_at.split(maxsplit=1)[0], "failed: defect of the proxy"]
    assert [one.body for one in following] == [b"paid", b"paid"]
    assert not any("failed" in word for one in following for word in one.heard)
    assert [seen.target for seen in origin.requests] == [b"/guilty", b"/next", b"/last"]
    assert origin.connections == 1
    assert len(caplog.messages) == len(fails_at.split())


@pytest.mark.parametrize("fails_at", ["responded", "content"])
async def test_a_listener_that_fails_in_the_midst_loses_its_connection(
    origin: Origin, pool: Pool, caplog: pytest.LogCaptureFixture, fails_at: str
) -> None:
    """What is left of its answer must not become another's."""
    origin.behave(IN_PIECES)
    guilty = Asking(pool, b"/guilty", fails_at)
    following = Asking(pool, b"/next")
    await eventually(lambda: following.heard[-1:] == ["completed"])
    assert guilty.heard[-2:] == [fails_at, "failed: defect of the proxy"]
    assert following.body == b"paid"
    assert origin.connections == 2
    assert caplog.messages == ["a response's listener failed"]


class Unlucky(Asking):
    """The API ends the connection in the very turn of the loop in which it is given the request."""

    def connected(self, connection: UpstreamConnection) -> None:
        super().connected(connection)
        connection.close()


class Astonished(Asking):
    """The API says something in the very turn of the loop in which it is given the request."""

    def connected(self, connection: UpstreamConnection) -> None:
        super().connected(connection)
        connection.data_received(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        assert connection.is_closing()


@pytest.mark.parametrize("kind", [Unlucky, Astonished])
async def test_a_request_whose_connection_ends_before_the_first_byte_is_written_was_not_sent(
    origin: Origin, pool: Pool, kind: type[Asking]
) -> None:
    unlucky = kind(pool, b"/unlucky")
    await eventually(lambda: unlucky.heard)
    following = Asking(pool, b"/next")
    await eventually(lambda: following.heard == ["answered"])
    assert [word.partition(":")[0] for word in unlucky.heard] == ["unsent"]
    assert [seen.target for seen in origin.requests] == [b"/next"]


async def test_a_request_whose_connection_ends_behind_its_first_byte_may_have_been_sent(
    origin: Origin, pool: Pool
) -> None:
    class Abandoned(Asking):
        def connected(self, connection: UpstreamConnection) -> None:
            super().connected(connection)
            asyncio.get_running_loop().call_soon(connection.close)  # behind the outbox

    origin.behave(after(asyncio.Event(), WHOLE))
    abandoned = Abandoned(pool, b"/abandoned")
    await eventually(lambda: abandoned.heard)
    assert [word.partition(":")[0] for word in abandoned.heard] == ["failed"]
    await origin.until(lambda: origin.requests)


async def test_who_is_lent_a_connection_that_another_has_paused_hears_its_answer(origin: Origin, pool: Pool) -> None:
    """A story that is over may be slow to let go."""
    lent: list[UpstreamConnection] = []

    class Slow(Asking):
        def connected(self, connection: UpstreamConnection) -> None:
            lent.append(connection)
            super().connected(connection)

    slow = Slow(pool, b"/slow")
    await eventually(lambda: slow.heard == ["answered"])
    lent[0].pause_reading()
    following = Asking(pool, b"/next")
    await eventually(lambda: following.heard == ["answered"])
    assert origin.connections == 1
