"""Every end that an exchange with the backend can have, and what it means for the key."""

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator

import pytest

from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Behaviour, Origin, cut, hang, in_turn, raw, reset, respond
from tests.support.proxy import Connection, Proxy, new_key, post, refused, responses
from tests.support.raw import Reply, eventually
from tests.support.valkey import free_port

FAST = {"upstream.timeout": "300ms"}
JSON = (b"Content-Type", b"application/json")
CLOSED_CLEANLY = raw(b"", close=True)


def says_unknown(reply: Reply, key: bytes) -> None:
    """The 504 of an exchange whose outcome is not known."""
    refused(reply, 504, "upstream_outcome_unknown")
    assert reply.field(b"Idempotency-State") == b"unknown"
    assert reply.field(b"Idempotency-Expires")
    assert reply.field(b"Link") == b'<%b>; rel="describedby"' % responses(key)
    assert reply.field(b"Retry-After") is None


def says_free(reply: Reply) -> None:
    """An answer that freed the key carries nothing of it."""
    for name in (b"Idempotency-State", b"Idempotency-Expires", b"Link"):
        assert reply.field(name) is None, name


# -- never sent ------------------------------------------------------------------------------------------------------


async def test_a_backend_that_refuses_the_connection_is_a_502_and_the_key_is_free(
    origin: Origin, start_proxy: StartProxy, store: Flags
) -> None:
    proxy = await start_proxy(**store)
    await origin.stop()
    key = new_key()
    for _ in range(2):
        reply = await proxy.post(key)
        refused(reply, 502, "upstream_unreachable")
        says_free(reply)
        assert (await proxy.retrieve(key)).status == 404
    await origin.start()
    assert [(await proxy.post(key)).status for _ in range(2)] == [200, 409]
    assert len(origin.requests) == 1


@pytest.mark.parametrize("host", ["no-such-host.invalid"])
async def test_a_backend_that_cannot_be_found_is_a_502(start_proxy: StartProxy, host: str) -> None:
    proxy = await start_proxy(**{"upstream.url": f"http://{host}:{free_port()}"})
    key = new_key()
    refused(await proxy.post(key), 502, "upstream_unreachable")
    assert (await proxy.retrieve(key)).status == 404


async def test_who_gets_no_connection_in_time_has_used_no_key(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(
        **{"upstream.max_connections": 1, "upstream.pool_timeout": "200ms", "upstream.connect_timeout": "200ms"}
    )
    origin.behave(hang())
    key = new_key()
    async with Connection(proxy.port) as client:
        client.send(post(new_key()))
        await origin.until(lambda: origin.requests)
        reply = await proxy.post(key)
    refused(reply, 503, "overloaded")
    assert re.fullmatch(rb"[1-9]\d*", reply.field(b"Retry-After") or b"")
    says_free(reply)
    assert (await proxy.retrieve(key)).status == 404
    assert len(origin.requests) == 1


async def test_who_would_be_one_too_many_to_wait_is_told_at_once(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"upstream.max_connections": 1, "upstream.max_waiting": 1})
    origin.behave(hang())
    async with Connection(proxy.port) as client, Connection(proxy.port) as waiting:
        client.send(post(new_key()))
        await origin.until(lambda: origin.requests)
        key, other = new_key(), new_key()
        waiting.send(post(other))

        async def claimed() -> bool:
            return (await proxy.retrieve(other)).status == 409

        await eventually(claimed)
        began = time.monotonic()
        refused(await proxy.post(key), 503, "overloaded")
        assert time.monotonic() - began < 2
    assert (await proxy.retrieve(key)).status == 404


class HalfClosing:
    """An API that accepts and says at once, some turns of the loop later, that it will say nothing. What it is sent it
    reads to the end: `received`, of each connection. *turns*: how many, for each connection in order."""

    def __init__(self, turns: list[int]) -> None:
        self.received: list[bytes] = []
        self._turns = turns
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    async def serve(self) -> None:
        """Until all *turns* are used."""
        loop = asyncio.get_running_loop()
        with self._listener:
            for turns in self._turns:
                sock, _ = await loop.sock_accept(self._listener)
                with sock:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    sock.shutdown(socket.SHUT_WR)
                    data = b""
                    while piece := await loop.sock_recv(sock, 65536):
                        data += piece
                self.received.append(data)


@contextlib.asynccontextmanager
async def half_closing(turns: list[int]) -> AsyncIterator[HalfClosing]:
    api = HalfClosing(turns)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(api.serve())
        yield api


@pytest.mark.parametrize("keyed", [True, False])
async def test_what_never_left_for_an_api_that_closes_at_once_is_a_502_and_the_key_is_free(
    start_proxy: StartProxy, keyed: bool
) -> None:
    """Whether it left, the API is the judge of; when its word of the end comes, the turns of the loop are."""
    turns = [number % 8 for number in range(200)]
    async with half_closing(turns) as api:
        proxy = await start_proxy(**{"upstream.url": api.url})
        asked: list[bytes] = []
        for key in (new_key() for _ in turns):
            asked.append(key)
            reply = await proxy.post(key if keyed else None)
            await eventually(lambda: len(api.received) == len(asked))
            if not api.received[-1]:
                refused(reply, 502, "upstream_unreachable")
                says_free(reply)
                assert (await proxy.retrieve(key)).status == 404
            elif keyed:
                says_unknown(reply, key)
                assert await proxy.state(key) == b"unknown"
            else:
                refused(reply, 504, "upstream_timeout")
    assert b"" in api.received
    assert any(api.received)


# -- turned away before it was treated -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 429])
async def test_who_was_turned_away_comes_back_with_the_same_key(
    origin: Origin, start_proxy: StartProxy, store: Flags, status: int
) -> None:
    proxy = await start_proxy(**store)
    fields = [(b"WWW-Authenticate", b"Bearer"), (b"Retry-After", b"7"), (b"Idempotency-Expires", b"never")]
    origin.behave(in_turn(respond(status, fields, b"go away"), respond(201)))
    key = new_key()
    reply = await proxy.post(key)
    assert (reply.status, reply.body, reply.field(b"Retry-After")) == (status, b"go away", b"7")
    says_free(reply)
    assert (await proxy.retrieve(key)).status == 404
    assert [(await proxy.post(key)).status for _ in range(2)] == [201, 409]
    assert len(origin.requests) == 2


@pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 500, 502, 503, 504, 302])
async def test_any_other_answer_is_kept(origin: Origin, proxy: Proxy, status: int) -> None:
    origin.behave(respond(status, [JSON], b'{"no": "money"}'))
    key = new_key()
    reply = await proxy.post(key)
    assert (reply.status, reply.body) == (status, b'{"no": "money"}')
    assert reply.field(b"Idempotency-Expires")
    assert (await proxy.post(key)).field(b"Idempotency-State") == b"completed"
    assert (await proxy.record(key))["StatusCode"] == str(status)
    assert len(origin.requests) == 1


async def test_which_statuses_free_a_key_is_a_setting(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**{"idempotency.release_statuses": [403]})
    origin.behave(respond(403))
    key = new_key()
    assert [(await proxy.post(key)).status for _ in range(2)] == [403, 403]
    origin.behave(respond(401))
    assert [(await proxy.post(key)).status for _ in range(2)] == [401, 409]


# -- nobody knows ----------------------------------------------------------------------------------------------------


def half_a_head() -> Behaviour:
    return cut(b"HTTP/1.1 200 OK\r\nContent-Le")


UNUSABLE = {
    "hangs": hang(),
    "resets": reset(),
    "closes": CLOSED_CLEANLY,
    "closes in the head": half_a_head(),
    "hangs in the head": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "hangs behind an interim answer": raw(b"HTTP/1.1 102 Processing\r\n\r\n"),
    "no HTTP": cut(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "HTTP/0.9": cut(b"<html>paid</html>\r\n\r\n"),
    "HTTP/2": cut(b"HTTP/2 200 OK\r\n\r\n"),
    "no number": cut(b"HTTP/1.1 2xx OK\r\n\r\n"),
    "status 99": cut(b"HTTP/1.1 099 OK\r\n\r\n"),
    "status 600": cut(b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n"),
    "two lengths": cut(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "length and coding": cut(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "an odd coding": cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "a folded field": cut(b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 0\r\n\r\n"),
    "a control byte": cut(b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n"),
    "an unasked tunnel": cut(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
    "interim answers for ever": cut(b"HTTP/1.1 102 Processing\r\n\r\n" * 50 + b"HTTP/1.1 200 OK\r\n\r\n"),
    "a head without end": cut(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("behaviour", UNUSABLE.values(), ids=UNUSABLE)
async def test_without_a_usable_answer_the_outcome_is_unknown_and_nothing_is_executed_again(
    origin: Origin, start_proxy: StartProxy, behaviour: Behaviour
) -> None:
    proxy = await start_proxy(**FAST)
    origin.behave(behaviour)
    key = new_key()
    says_unknown(await proxy.post(key), key)
    origin.behave(respond(200))
    later = await proxy.post(key)
    refused(later, 409, "idempotent_creation_conflict")
    assert later.field(b"Idempotency-State") == b"unknown"
    assert (await proxy.record(key))["StatusCode"] == "504"
    assert len(origin.requests) == 1
    assert (await proxy.post(new_key())).status == 200


@pytest.mark.parametrize("behaviour", [hang(), reset()], ids=["hangs", "resets"])
async def test_the_outcome_is_unknown_in_every_store(
    origin: Origin, start_proxy: StartProxy, store: Flags, behaviour: Behaviour
) -> None:
    proxy = await start_proxy(**store, **FAST)
    origin.behave(behaviour)
    key = new_key()
    says_unknown(await proxy.post(key), key)
    origin.behave(respond(200))
    assert (await proxy.post(key)).field(b"Idempotency-State") == b"unknown"
    assert await proxy.state(key) == b"unknown"
    assert len(origin.requests) == 1


async def test_a_kept_connection_that_dies_under_a_guarded_request_is_not_tried_again(
    origin: Origin, proxy: Proxy
) -> None:
    origin.behave(in_turn(respond(200), reset(), respond(200)))
    assert (await proxy.post(new_key())).status == 200
    key = new_key()
    says_unknown(await proxy.post(key), key)
    assert len(origin.requests) == 2
    assert origin.connections == 1


async def test_an_answer_that_comes_without_being_asked_is_nobodys(origin: Origin, proxy: Proxy) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    origin.behave(raw(answer + b"first" + answer + b"stray"))
    assert [(await proxy.post(new_key())).body for _ in range(3)] == [b"first"] * 3
    assert origin.connections == 3


async def test_an_answer_after_the_deadline_is_nobodys(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**FAST)
    origin.behave(hang())
    key = new_key()
    says_unknown(await proxy.post(key), key)
    await origin.until(lambda: origin.open == 0)  # the connection is given up, and whatever comes on it
    assert await proxy.state(key) == b"unknown"
