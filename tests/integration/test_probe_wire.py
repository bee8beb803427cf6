"""The backend is asked whether a caller may see a record: what it sees of the caller, and what its answers mean."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from proxy.core.path import Pattern
from proxy.core.record import Response
from proxy.deadlines import Deadlines
from proxy.http1.fields import Watched
from proxy.http1.forward import Forwarding, Peer
from proxy.http1.message import REQUEST_FIELDS, Limits, RequestHead, read_request
from proxy.http1.outbox import Outbox
from proxy.http1.pool import Pool, Upstream
from proxy.probe import MOST, Granted, PassedOn, Prober, Proof, Unproven
from proxy.tokens import Tokens
from tests.support.origin import (
    Behaviour,
    Origin,
    Recorded,
    after,
    cut,
    hang,
    head,
    in_turn,
    raw,
    reset,
    respond,
    respond_chunked,
    slowly,
)
from tests.support.raw import Field, eventually

KEY_FIELD, CREDENTIALS = b"idempotency-key", (b"authorization", b"x-api-key")
TEMPLATE, SCOPE = "/v2.01/{client}/clients/", Pattern("/{_}/{client}/", prefix=True)
PATH = b"/V3.0/acme/payins/card/direct"
CALLER = Peer("192.0.2.7", trusted=False)
NOW = 1452723944
WHOLE = respond(200, body=b"acme")


def called(method: bytes = b"GET", path: bytes = PATH, fields: list[Field] | None = None) -> RequestHead:
    """A caller's request, as the proxy has read it."""
    lines = b"".join(b"%b: %b\r\n" % field for field in fields or [])
    data = b"%b %b HTTP/1.1\r\nHost: api.example.com\r\n%b\r\n" % (method, path, lines)
    read = read_request(data, Limits(), Watched([*REQUEST_FIELDS, KEY_FIELD, *CREDENTIALS]))
    assert isinstance(read, RequestHead), read
    return read


class Losing(Outbox):
    """Loses the connections of the next writes in the turn that would have written."""

    loses = 0

    def write(self, transport: asyncio.Transport, data: bytes, skipped: Callable[[], None] | None = None) -> None:
        """See `Outbox`."""
        super().write(transport, data, skipped)
        if self.loses:
            self.loses -= 1
            transport.abort()


class Stand:
    """A pool as the proxy has one, and what every question was told."""

    def __init__(self, port: int, max_connections: int = 4, max_waiting: int = 4) -> None:
        self.deadlines = Deadlines()
        upstream = Upstream("127.0.0.1", port, None, 1.0, 10.0, max_connections, max_waiting)
        self.outbox = Losing()
        self._pool = Pool(upstream, Limits(), self.deadlines, self.outbox)
        self.told: list[list[Proof | None]] = []

    def put(
        self, caller: RequestHead, *, template: str = TEMPLATE, pattern: Pattern | None = SCOPE, timeout: float = 5.0
    ) -> list[Proof | None]:
        """Ask; what is told comes into the list that is returned."""
        told: list[Proof | None] = []
        self.told.append(told)
        self.prober(template, pattern, timeout).ask(caller, CALLER, told.append)
        return told

    def prober(self, template: str, pattern: Pattern | None, timeout: float) -> Prober:
        """One that knows of the key and the credentials, as the proxy's does."""
        return Prober(
            self._pool,
            Forwarding(Tokens(), b"upstream.test", "us", [], [KEY_FIELD, *CREDENTIALS]),
            self.deadlines,
            lambda: NOW + 0.5,
            template=template,
            pattern=pattern,
            timeout=timeout,
            dropped=[KEY_FIELD],
        )

    async def ask(self, caller: RequestHead | None = None, *, timeout: float = 5.0) -> Proof | None:
        """Ask, and wait for the proof."""
        told = self.put(caller or called(), timeout=timeout)
        await eventually(lambda: told)
        return told[0]

    async def end(self) -> None:
        """Each question was told once, and nothing is left of any."""
        await eventually(lambda: all(self.told))
        await self._pool.close()
        await eventually(lambda: not self.deadlines._waiting)
        assert [len(told) for told in self.told] == [1] * len(self.told)


@pytest.fixture
async def stand(origin: Origin) -> AsyncIterator[Stand]:
    stand = Stand(origin.port)
    yield stand
    await stand.end()


def why(proof: Proof | None) -> str:
    """Why nothing is proven."""
    assert isinstance(proof, Unproven), proof
    return proof.why


# -- what the backend says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
async def test_a_2xx_grants_and_the_connection_is_used_again(origin: Origin, stand: Stand, status: int) -> None:
    origin.behave(respond(status, body=b"" if status == 204 else b"acme"))
    assert [await stand.ask(), await stand.ask()] == [Granted(), Granted()]
    assert (len(origin.requests), origin.connections) == (2, 1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 408, 421, 429, 499])
async def test_a_4xx_is_passed_on_whole_with_its_fields(origin: Origin, stand: Stand, status: int) -> None:
    date, challenge = (b"Date", b"Wed, 13 Jan 2016 22:25:56 GMT"), (b"WWW-Authenticate", b'Bearer error="expired"')
    hops = [(b"Connection", b"X-Hop"), (b"X-Hop", b"1"), (b"Keep-Alive", b"timeout=5")]
    ours = (b"Idempotency-Expires", b"never")
    origin.behave(respond(status, [date, challenge, *hops, challenge, ours], b'{"error": 1}'))
    reason = head(status, []).split(b" ", 2)[2].removesuffix(b"\r\n\r\n")
    fields = b"Date: %b\r\n%b: %b\r\n%b: %b\r\nContent-Length: 12\r\n" % (date[1], *challenge, *challenge)
    expected = Response(status, reason, fields, b'{"error": 1}', 12, False, NOW)
    assert await stand.ask() == PassedOn(expected)


async def test_a_4xx_in_chunks_is_passed_on_with_its_length(origin: Origin, stand: Stand) -> None:
    origin.behave(respond_chunked([b"no", b"body"], 403, [(b"Date", b"Wed, 13 Jan 2016 22:25:56 GMT")]))
    proof = await stand.ask()
    assert isinstance(proof, PassedOn)
    assert proof.response.fields == b"Date: Wed, 13 Jan 2016 22:25:56 GMT\r\nContent-Length: 6\r\n"
    assert (proof.response.body, proof.response.length) == (b"nobody", 6)


async def test_a_4xx_that_ends_with_its_connection_is_passed_on(origin: Origin, stand: Stand) -> None:
    origin.behave(raw(b"HTTP/1.0 403 No\r\n\r\nnobody", close=True))
    proof = await stand.ask()
    assert isinstance(proof, PassedOn)
    assert (proof.response.body, proof.response.truncated) == (b"nobody", False)


@pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 500, 502, 503, 599])
async def test_a_3xx_or_5xx_proves_nothing(origin: Origin, stand: Stand, status: int) -> None:
    origin.behave(respond(status, [(b"Location", b"/login")]))
    assert why(await stand.ask()) == f"the upstream answered {status}"
    assert len(origin.requests) == 1


async def test_informational_answers_are_not_the_answer(origin: Origin, stand: Stand) -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    origin.behave(slowly([hints, head(403, [(b"Content-Length", b"0")])], 0.05))
    assert isinstance(await stand.ask(), PassedOn)


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 9),
        raw(b"HTTP/2.0 200 OK\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        raw(b"220 mail.example.com ESMTP\r\n\r\n"),
        raw(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"),
        cut(b"HTTP/1.1 200 OK\r\nContent-Le"),
        cut(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\n", b"half"),
        cut(b""),
        reset(),
    ],
    ids=["101", "1xx", "version", "smuggling", "smtp", "chunk", "cut head", "cut body", "closed", "reset"],
)
async def test_an_unusable_answer_proves_nothing_and_is_not_asked_for_again(
    origin: Origin, stand: Stand, answer: Behaviour
) -> None:
    origin.behave(answer)
    assert why(await stand.ask())
    origin.behave(WHOLE)
    assert await stand.ask() == Granted()
    assert (len(origin.requests), origin.connections) == (2, 2)


# -- how much, and how late -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["at once", "length", "chunked", "until the end"])
async def test_a_4xx_that_is_too_large_is_not_passed_on(origin: Origin, stand: Stand, framing: str) -> None:
    body = b"x" * (MOST + 1)
    start = b"HTTP/1.1 403 No\r\n"
    answers = {
        "at once": respond(403, body=body),
        "length": slowly([start + b"Content-Length: %d\r\n\r\n" % len(body)], 0),  # and it never comes
        "chunked": respond_chunked([body[:1000], body[1000:]], 403),
        "until the end": raw(start + b"\r\n" + body, close=True),
    }
    origin.behave(answers[framing])
    assert why(await stand.ask()) == f"the upstream answered 403 with more than {MOST} bytes"


async def test_a_4xx_that_is_just_not_too_large_is_passed_on(origin: Origin, stand: Stand) -> None:
    origin.behave(respond_chunked([b"x" * (MOST - 1), b"x"], 403))
    proof = await stand.ask()
    assert isinstance(proof, PassedOn)
    assert len(proof.response.body) == MOST


@pytest.mark.parametrize("declared", [True, False])
async def test_a_2xx_without_end_grants_and_costs_a_connection_only_so_much(
    origin: Origin, stand: Stand, declared: bool
) -> None:
    framing = (b"Content-Length", b"9999999") if declared else (b"Transfer-Encoding", b"chunked")
    pieces = [head(200, [framing]), *[b"2000\r\n" + b"x" * 0x2000 + b"\r\n"] * 100]
    origin.behave(slowly(pieces, 0.001))
    assert await stand.ask() == Granted()
    await origin.until(lambda: origin.open == 0)


async def test_a_2xx_grants_with_its_head_and_its_connection_is_used_again(origin: Origin, stand: Stand) -> None:
    gate = asyncio.Event()

    async def behaviour(request: Recorded, writer: asyncio.StreamWriter) -> None:
        await raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nac")(request, writer)
        await after(gate, raw(b"me"))(request, writer)

    origin.behave(behaviour)
    assert await stand.ask() == Granted()  # the gate is shut
    gate.set()
    await eventually(lambda: stand._pool._idle)
    assert await stand.ask() == Granted()
    assert origin.connections == 1


async def test_of_a_2xx_that_ends_with_its_connection_nothing_is_waited_for(origin: Origin, stand: Stand) -> None:
    origin.behave(slowly([b"HTTP/1.1 200 OK\r\n\r\nac"], 0))
    assert await stand.ask(timeout=30) == Granted()
    await origin.until(lambda: origin.connections == 1 and not stand._pool._open)


async def test_a_2xx_whose_rest_does_not_come_lets_go_of_its_connection(origin: Origin, stand: Stand) -> None:
    origin.behave(slowly([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nac"], 0))
    assert await stand.ask(timeout=0.3) == Granted()
    await origin.until(lambda: origin.connections == 1 and not stand._pool._open)


@pytest.mark.parametrize(
    "answer",
    [
        hang(),
        slowly([b"HTTP/1.1 ", *[b"2"] * 50], 0.05),
        slowly([b"HTTP/1.1 403 No\r\nContent-Length: 60\r\n\r\n", *[b"x"] * 50], 0.05),
        slowly([b"HTTP/1.1 103 Hint\r\n\r\n"] * 8, 0.1),
    ],
    ids=["no head", "slow head", "slow body", "only hints"],
)
async def test_a_slow_answer_proves_nothing_and_its_connection_is_dropped(
    origin: Origin, stand: Stand, answer: Behaviour
) -> None:
    origin.behave(answer)
    began = stand.deadlines.now()
    assert why(await stand.ask(timeout=0.3)) == "no whole answer within 0.3 s"
    assert 0.3 <= stand.deadlines.now() - began < 1
    await origin.until(lambda: origin.open == 0)
    assert len(origin.requests) == 1


# -- connections ----------------------------------------------------------------------------------------------------


async def test_without_a_backend_nothing_is_proven(origin: Origin, stand: Stand) -> None:
    await origin.stop()
    assert "refused" in why(await stand.ask()).lower()


async def test_a_kept_connection_that_dies_is_replaced_once(origin: Origin, stand: Stand) -> None:
    origin.behave(in_turn(WHOLE, reset(), WHOLE))
    assert [await stand.ask(), await stand.ask()] == [Granted(), Granted()]
    _, lost, again = origin.requests
    assert lost.raw_head == again.raw_head
    assert origin.connections == 2


async def test_a_kept_connection_that_the_backend_has_closed_is_not_asked(origin: Origin, stand: Stand) -> None:
    origin.behave(in_turn(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", close=True), WHOLE))
    assert await stand.ask() == Granted()
    await origin.until(lambda: origin.open == 0)
    assert await stand.ask() == Granted()
    assert (len(origin.requests), origin.connections) == (2, 2)


async def test_in_place_of_one_that_dies_comes_a_new_one_and_not_another_kept_one(origin: Origin, stand: Stand) -> None:
    gate = asyncio.Event()
    origin.behave(after(gate, WHOLE))
    kept = [stand.put(called()), stand.put(called())]
    await origin.until(lambda: len(origin.requests) == 2)
    gate.set()
    await eventually(lambda: all(kept))
    origin.behave(in_turn(reset(), WHOLE))
    assert await stand.ask() == Granted()
    assert origin.connections == 3


async def test_a_connection_that_is_lost_before_it_was_written_to_is_replaced(origin: Origin, stand: Stand) -> None:
    stand.outbox.loses = 1
    assert await stand.ask() == Granted()
    await origin.until(lambda: origin.connections == 2)
    assert len(origin.requests) == 1


async def test_of_connections_that_are_lost_before_they_are_written_to_only_the_first_is_replaced(
    origin: Origin, stand: Stand
) -> None:
    stand.outbox.loses = 99
    assert why(await stand.ask())
    await origin.until(lambda: origin.connections == 2)
    assert (origin.requests, stand.outbox.loses) == ([], 97)


async def test_a_fresh_connection_that_dies_is_not_replaced_again(origin: Origin, stand: Stand) -> None:
    origin.behave(in_turn(WHOLE, reset(), reset(), WHOLE))
    assert await stand.ask() == Granted()
    assert why(await stand.ask())
    assert len(origin.requests) == 3


async def test_a_kept_connection_that_dies_behind_the_first_byte_is_not_replaced(origin: Origin, stand: Stand) -> None:
    origin.behave(in_turn(WHOLE, cut(b"H"), WHOLE))
    assert await stand.ask() == Granted()
    assert why(await stand.ask())
    assert len(origin.requests) == 2


async def test_where_no_more_may_wait_nothing_is_proven_at_once(origin: Origin) -> None:
    gate = asyncio.Event()
    origin.behave(after(gate, WHOLE))
    stand = Stand(origin.port, max_connections=1, max_waiting=1)
    served = stand.put(called())
    await origin.until(lambda: len(origin.requests) == 1)
    waits, too_many = stand.put(called()), stand.put(called())
    assert (served, waits) == ([], [])
    assert too_many == [Unproven("too many requests wait for a connection")]
    gate.set()
    await eventually(lambda: served and waits)
    assert served == waits == [Granted()]
    await stand.end()


async def test_who_waits_for_a_connection_waits_no_longer_than_for_an_answer(origin: Origin) -> None:
    origin.behave(hang())
    stand = Stand(origin.port, max_connections=1)
    served = stand.put(called(), timeout=1)
    await origin.until(lambda: len(origin.requests) == 1)
    assert why(await stand.ask(timeout=0.2)) == "no connection within 0.2 s"
    assert served == []
    await stand.end()
    assert len(origin.requests) == 1


# -- what the backend is asked --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (b"/V3.0/acme/payins/card/direct?id=7", b"/v2.01/acme/clients/"),
        (b"//v2.01//./Acme;v=1/responses/k", b"/v2.01/Acme/clients/"),
        (b"/x/../v2.01/%61cme/", b"/v2.01/acme/clients/"),
        (b"http://api.example.com/v2.01/acme/x", b"/v2.01/acme/clients/"),
        (b"/v2.01/a%20b%3Fc%23d%26e+f/x", b"/v2.01/a%20b%3Fc%23d%26e%2Bf/clients/"),
        (b"/v2.01/%0d%0aX-Evil:%201/x", b"/v2.01/%0D%0AX-Evil%3A%201/clients/"),
        (b"/v2.01/%FF%00%C3%A9/x", b"/v2.01/%FF%00%C3%A9/clients/"),
        (b"/v2.01/ac%252Fme/x", b"/v2.01/ac%252Fme/clients/"),
        (b"/v2.01/%252e%252e/x", b"/v2.01/%252e%252e/clients/"),
        (b"/v2.01/acme%5c..%5cother/x", b"/v2.01/acme%5C..%5Cother/clients/"),
        (b"/v2.01/acme%2Fother/x", b"/v2.01/acme/clients/"),
    ],
)
async def test_the_backend_is_asked_about_whom_the_scope_says(
    origin: Origin, stand: Stand, path: bytes, asked: bytes
) -> None:
    assert await stand.ask(called(path=path)) == Granted()
    assert [(request.method, request.target) for request in origin.requests] == [(b"GET", asked)]


@pytest.mark.parametrize(
    "path", [b"/", b"/v2.01", b"/v2.01/", b"/v2.01/acme/..", b"/%2e%2e/v2.01/%2e%2e;x/acme", b"/v2.01/./%2e"]
)
async def test_a_path_of_another_form_is_about_nobody(origin: Origin, stand: Stand, path: bytes) -> None:
    assert stand.put(called(path=path)) == [None]  # at once
    assert (origin.requests, origin.connections) == ([], 0)


async def test_a_template_without_captures_asks_the_same_of_everybody(origin: Origin, stand: Stand) -> None:
    told = stand.put(called(path=b"/"), template="/me", pattern=None)
    await eventually(lambda: told)
    assert told == [Granted()]
    assert origin.requests[0].target == b"/me"


@pytest.mark.parametrize(
    ("template", "pattern"), [("/{client}/", None), ("/{_}/", SCOPE), ("/{client}/", Pattern("/{tenant}/"))]
)
async def test_a_template_with_a_capture_that_there_is_not_is_refused(
    stand: Stand, template: str, pattern: Pattern | None
) -> None:
    with pytest.raises(ValueError, match=r"needs captures that there are not: (client|_)$"):
        stand.prober(template, pattern, 1.0)


async def test_a_post_is_asked_about_with_its_callers_fields_and_nothing_of_its_body(
    origin: Origin, stand: Stand
) -> None:
    kept = [
        (b"Authorization", b"Bearer abc"),
        (b"X-Api-Key", b"k"),
        (b"x-tenant", b"1"),
        (b"Accept", b"application/json"),
        (b"Accept-Encoding", b"gzip"),
        (b"X-Tenant", b"2"),
        (b"Cookie", b"a=b"),
        (b"Contents", b"stays"),
        (b"Iffy", b"stays"),
        (b"X-Request-Id", b"r1"),
    ]
    dropped = [
        (b"Content-Length", b"15"),
        (b"content-type", b"application/json"),
        (b"Content-Encoding", b"gzip"),
        (b"Content_Type", b"text/plain"),
        (b"Digest", b"sha-256=x"),
        (b"Repr-Digest", b"sha-256=:x:"),
        (b"Expect", b"100-continue"),
        (b"If-Match", b'"a"'),
        (b"IF-NONE-MATCH", b"*"),
        (b"If", b"(<urn:x>)"),
        (b"Range", b"bytes=0-1"),
        (b"Prefer", b"wait=10"),
        (b"Idempotency-Key", b"0123456789abcdef"),
        (b"Idempotency_Key", b"0123456789abcdef"),
        (b"X-HTTP-Method-Override", b"OPTIONS"),
        (b"X-Original-URL", b"/public"),
        (b"X_Rewrite_Url", b"/public"),
    ]
    mixed = [field for pair in zip(kept, dropped) for field in pair] + dropped[len(kept) :]
    assert await stand.ask(called(b"POST", PATH + b"?a=1", mixed)) == Granted()
    [request] = origin.requests
    assert (request.method, request.target, request.body) == (b"GET", b"/v2.01/acme/clients/", b"")
    assert request.fields == [
        (b"Host", b"upstream.test"),
        *kept,
        (b"Via", b"1.1 us"),
        (b"X-Forwarded-For", b"192.0.2.7"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"api.example.com"),
    ]


async def test_a_chunked_post_is_asked_about_without_any_framing(origin: Origin, stand: Stand) -> None:
    assert await stand.ask(called(b"POST", PATH, [(b"Transfer-Encoding", b"chunked")])) == Granted()
    [request] = origin.requests
    assert [request.all(name) for name in (b"Transfer-Encoding", b"Content-Length")] == [[], []]
    assert await stand.ask() == Granted()  # nothing is left on the connection
    assert origin.connections == 1


async def test_hop_by_hop_fields_go_and_no_credential_with_them(origin: Origin, stand: Stand) -> None:
    fields = [
        (b"Connection", b"keep-alive, X-Hop, Authorization, X-Api-Key, upgrade"),
        (b"X-Hop", b"1"),
        (b"Authorization", b"Bearer abc"),
        (b"X-Api-Key", b"k"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Upgrade", b"websocket"),
        (b"TE", b"trailers"),
        (b"Proxy-Connection", b"close"),
        (b"X-Request-Id", b"r1"),
    ]
    assert await stand.ask(called(fields=fields)) == Granted()
    assert [name for name, _ in origin.requests[0].fields] == [
        b"Host",
        b"Authorization",
        b"X-Api-Key",
        b"X-Request-Id",
        b"Via",
        b"X-Forwarded-For",
        b"X-Forwarded-Proto",
        b"X-Forwarded-Host",
    ]
