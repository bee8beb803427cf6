"""The whole proxy between a client and an origin that send, pause, half-close and reset in any order: a key is sent
once, an answer that was given is the one that is kept, and nothing is left behind."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from typing import Any

import uvloop
from hypothesis import event, given
from hypothesis import strategies as st

from proxy.store.memory import MemoryStore
from tests.fuzz.transport import no_errors_logged
from tests.support.proxy import Connection, Proxy, new_key, post, request
from tests.support.raw import Incomplete, Reply, eventually, exchange, take
from tests.wire.properties.origin import FRAMINGS, Answer, ScriptedOrigin
from tests.wire.properties.profile import as_long_as_it_takes, tried

pytestmark = as_long_as_it_takes

CHUNKED = (b"Transfer-Encoding", b"chunked")
TURNS = 30
"""Of the loop: in so many a request is through the proxy, a connection and all."""
Kind = str
Step = tuple[str, int]
KINDS = st.sampled_from(["keyed", "keyed", "keyed-chunked", "again", "get", "post", "post-chunked"])
STEPS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([1, 60, 170, 250, 1000])),
    st.tuples(st.just("origin answers"), st.sampled_from([1, 70, 130, 130, 1000])),
    st.tuples(st.sampled_from(["origin closes", "origin closes", "origin resets"]), st.just(0)),
    st.tuples(st.sampled_from(["half-close", "reset", "close", "rival"]), st.just(0)),
    st.tuples(st.just("turns"), st.integers(1, 30)),
)
BROKEN_OFF = st.tuples(
    st.tuples(st.just("origin answers"), st.sampled_from([1, 70, 130])),
    st.tuples(st.sampled_from(["origin closes", "origin resets"]), st.just(0)),
)
SCRIPTS = st.builds(
    lambda first, others: [("send", first), *(step for phrase in others for step in phrase)],
    st.sampled_from([50, 250, 1000, 1000]),
    st.lists(st.tuples(STEPS) | st.tuples(STEPS) | BROKEN_OFF),
)


class Client:
    """Says its requests one after another, as far as it gets."""

    def __init__(self, kinds: list[Kind]) -> None:
        self.keys: list[bytes] = []
        self.said: list[tuple[int, bytes | None, bytes]] = []
        """Where each request ends in what is sent; its key and its body."""
        self.wire = b""
        for number, kind in enumerate(kinds):
            self._say(kind, b'{"number": %d, "filled": "%b"}' % (number, b"y" * 50))
        self.sent = 0
        self.over = ""

    def whole(self) -> list[tuple[bytes | None, bytes]]:
        """Key and body of what was sent whole."""
        return [(key, body) for end, key, body in self.said if end <= self.sent]

    def _say(self, kind: Kind, body: bytes) -> None:
        chunks = b"%x\r\n%b\r\n5\r\n%b\r\n0\r\n\r\n" % (len(body) - 5, body[:-5], body[-5:])
        key = None
        if kind.startswith("keyed") or (kind == "again" and not self.keys):
            key = new_key()
            self.keys.append(key)
        elif kind == "again":
            key = self.keys[-1]
        named = [] if key is None else [(b"Idempotency-Key", key)]
        match kind:
            case "get":
                body, wire = b"", request(b"GET", b"/balance")
            case "keyed-chunked" | "post-chunked":
                wire = request(b"POST", b"/pay", [*named, CHUNKED], chunks)
            case _:
                wire = post(key, body=body)
        self.wire += wire
        self.said.append((len(self.wire), key, body))


class Story:
    """One example."""

    def __init__(self, kinds: list[Kind], framings: list[str], store_takes: float, seen: Counter[str]) -> None:
        self.client = Client(kinds)
        self.origin = ScriptedOrigin(cycle(framings))
        self._store_takes = store_takes
        self._seen = seen
        self._proxy: Proxy
        self._rivals: list[asyncio.Task[bytes]] = []
        self.replies: list[Reply] = []

    async def run(self, steps: list[Step]) -> None:
        """From the first step to the last, and then to the end of all that is under way."""
        await self.origin.start()
        try:
            url = f"http://127.0.0.1:{self.origin.port}"
            async with Proxy({"upstream.url": url, "store.url": "memory://"}) as self._proxy:
                _slow_down(self._proxy, self._store_takes)
                async with Connection(self._proxy.port, within=2) as connection:
                    for name, amount in steps:
                        await self._happens(name, amount, connection)
                    await self._end(connection)
                await self._judge()
        finally:
            await self.origin.stop()

    async def _happens(self, name: str, amount: int, connection: Connection) -> None:
        client = self.client
        if connection._writer.is_closing():
            client.over = client.over or "closed by the proxy"
        match name:
            case "send" if not client.over:
                connection.send(client.wire[client.sent : client.sent + amount])
                client.sent = min(client.sent + amount, len(client.wire))
            case "half-close" if not client.over:
                client.over = name
                connection.half_close()
            case "reset" | "close" if client.over in ("", "half-close"):
                client.over = name
                connection.reset() if name == "reset" else connection.abort()
            case "rival" if client.keys:
                self._rivals.append(asyncio.create_task(exchange(self._proxy.port, post(client.keys[0]))))
            case _ if name.startswith("origin "):
                await self._origin_does(name.removeprefix("origin "), amount)
        for _ in range(amount if name == "turns" else 3):
            await asyncio.sleep(0)

    async def _origin_does(self, name: str, amount: int) -> None:
        """At the oldest connection on which it has something to say, if there is one soon."""
        for _ in range(TURNS):
            if self.origin.waiting():
                break
            await asyncio.sleep(0)
        for peer in self.origin.waiting()[:1]:
            match name:
                case "answers":
                    peer.give(amount)
                case "closes":
                    peer.close()
                case _:
                    peer.reset()

    async def _end(self, connection: Connection) -> None:
        """The origin answers all that comes, the client says nothing more and hears the rest."""
        answering = asyncio.create_task(self._answer_all())
        try:
            if not (self.client.over or connection._writer.is_closing()):
                connection.half_close()
            if self.client.over not in ("reset", "close"):
                self._hear(await connection.rest())
            connection.close()
            for heard in await asyncio.gather(*self._rivals):
                self._hear(heard)
            await eventually(self._is_quiet)
        finally:
            answering.cancel()

    async def _answer_all(self) -> None:
        while True:
            for peer in self.origin.waiting():
                peer.give(1000)
            await asyncio.sleep(0.001)

    def _hear(self, data: bytes) -> None:
        """The answers that are whole."""
        while data:
            try:
                reply, data = take(data, head=False, ended=False)
            except Incomplete:
                return
            self.replies.append(reply)

    def _is_quiet(self) -> bool:
        """Nothing is under way, nothing is lent, nothing is left."""
        app = self._proxy._app
        pool, parts = app._pool, app._parts
        return not (
            app._server.connections
            or parts.unsettled
            or pool._waiting
            or pool._dialling
            or pool._open != set(pool._idle)
            or parts.bodies._left != app._settings.limits.bodies
        )

    # -- what must hold -----------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        said = self.client.whole()
        rivals = {(self.client.keys[0], b'{"Amount": 471}')} if self._rivals else set()
        for arrived in self.origin.requests:
            assert (arrived.key, arrived.body) in said or (arrived.key, arrived.body) in rivals, "it was not said so"
        for key in self.client.keys:
            whole = sum(arrived.key == key for arrived in self.origin.requests)
            parts = sum(key in part for part in self.origin.parts)
            assert whole + parts <= 1, f"sent {whole} times, and {parts} times in part"
            await self._judge_key(key, [answer for answer in self.origin.answers if answer.key == key])

    async def _judge_key(self, key: bytes, answers: list[Answer]) -> None:
        reply = await self._proxy.retrieve(key)
        if not answers:
            self._sees("never sent")
            assert reply.status == 404, (reply, "it never left")
            return
        (answer,) = answers
        record = await self._proxy.record(key)
        unknown = reply.field(b"Idempotency-State") == b"unknown"
        if answer.whole:
            self._sees("completed")
            assert record["Resource"] == answer.value, (record, "an answer was lost")
            assert "Truncated" not in record
        elif answer.reset:
            self._sees("reset")  # the kernel throws away what was on its way: any beginning of it may have come
            assert unknown or record["Truncated"] or answer.framing == "close", record
        elif answer.given < len(answer.head):
            self._sees("unknown")
            assert unknown, record
            assert record["StatusCode"] == "504"
        else:
            self._sees("cut short")
            assert answer.framing == "close" or record["Truncated"], record
        for reply in self.replies:
            if reply.status == 200 and reply.body.startswith(b'{"number": %d,' % answer.value["number"]):
                self._sees("given")
                assert record["Resource"] == _viewed(reply.body), (record, reply)
                assert "Truncated" not in record

    def _sees(self, what: str) -> None:
        event(what)
        self._seen[what] += 1


def _viewed(body: bytes) -> object:
    """As a record shows it. An answer that ends with its connection is whole wherever that ends."""
    try:
        return json.loads(body)
    except ValueError:
        return {"Text": body.decode()}


def _slow_down(proxy: Proxy, seconds: float) -> None:
    """Its store does what it does, and tells of it so much later."""
    store = proxy._app.store.beneath
    assert isinstance(store, MemoryStore)
    at_once: Callable[[Any, Callable[[Any], None]], None] = store._answer

    def later(operation: object, done: Callable[[object], None]) -> None:
        loop = asyncio.get_running_loop()

        def answered(result: object) -> None:
            loop.call_later(seconds, done, result)

        at_once(operation, answered)

    if seconds:
        store._answer = later  # type: ignore[assignment,method-assign]


def test_whatever_the_order_a_key_is_sent_once_and_its_answer_is_kept() -> None:
    seen: Counter[str] = Counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        @tried(150, shrinking=False)  # a hang takes seconds each time
        @given(
            st.lists(KINDS, min_size=1, max_size=3),
            st.lists(st.sampled_from(FRAMINGS), min_size=1, max_size=3),
            st.sampled_from([0, 0, 0.005]),
            SCRIPTS,
        )
        def check(kinds: list[Kind], framings: list[str], store_takes: float, steps: list[Step]) -> None:
            with no_errors_logged():
                runner.run(Story(kinds, framings, store_takes, seen).run(steps))

        check()
    assert {"never sent", "completed", "given", "reset", "unknown", "cut short"} <= set(seen), seen
