"""TLS on the listener: who gets in, what the API is told, and that a connection behaves as one without TLS does."""

import asyncio
import json
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.http1.connection import LINGER_SECONDS
from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, after, raw, respond
from tests.support.origin import head as response_head
from tests.support.proxy import HOST, PATH, Connection, Proxy, new_key, post, refused, request, responses
from tests.support.raw import eventually, exchange
from tests.support.tls import Authority, call

PAYOUT = b'{"Id": "2241581"}'
PAYS = respond(200, [(b"Content-Type", b"application/json")], PAYOUT)
LARGE = bytes(range(256)) * 16 * 1024  # 4 MiB
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # how a TLS client begins


@pytest.fixture(autouse=True)
def _nothing_to_warn_of(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio warns where a protocol wants of TLS what TLS cannot do."""
    yield
    said = [*caplog.get_records("setup"), *caplog.get_records("call"), *caplog.records]
    assert [record.getMessage() for record in said if record.levelno >= logging.WARNING] == []


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def tls(authority: Authority) -> dict[str, str]:
    """The settings of a listener."""
    certificate, key = authority.issue("proxy")
    return {"tls.certificate": certificate, "tls.key": key}


@pytest.fixture
async def proxy(origin: Origin, start_proxy: StartProxy, tls: dict[str, str]) -> Proxy:
    origin.behave(PAYS)
    return await start_proxy(**tls)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_payment_is_made_once_recorded_with_https_and_refused_the_second_time(
    origin: Origin, proxy: Proxy, authority: Authority, version: ssl.TLSVersion
) -> None:
    client, key = authority.client(version=version), new_key()
    paid = await call(proxy.port, post(key), client)
    assert (paid.status, paid.body) == (200, PAYOUT)
    refused(await call(proxy.port, post(key), client), 409, "idempotent_creation_conflict")
    (seen,) = origin.requests
    assert seen.all(b"X-Forwarded-Proto") == [b"https"]
    record = json.loads((await call(proxy.port, request(b"GET", responses(key)), client)).body)
    assert record["RequestURL"] == f"https://{HOST.decode()}{PATH.decode()}"


async def test_a_trusted_peer_still_says_how_its_own_client_came(
    origin: Origin, start_proxy: StartProxy, authority: Authority, tls: dict[str, str]
) -> None:
    proxy = await start_proxy(**tls, **{"forwarded.trusted": ["127.0.0.0/8"]})
    for said, told in (([], b"https"), ([(b"X-Forwarded-Proto", b"http")], b"http")):
        await call(proxy.port, request(b"GET", b"/", said), authority.client())
        assert origin.requests[-1].all(b"X-Forwarded-Proto") == [told]


async def test_the_protocol_is_http_1_1_whatever_else_is_offered(proxy: Proxy, authority: Authority) -> None:
    context = authority.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with Connection(proxy.port, tls=context) as client:
        assert client.tls.selected_alpn_protocol() == "http/1.1"
        assert client.tls.compression() is None


@pytest.mark.parametrize(
    ("least", "spoken"), [("1.2", ssl.TLSVersion.TLSv1_1), ("1.3", ssl.TLSVersion.TLSv1_2)], ids=["1.1", "1.2"]
)
async def test_an_older_version_is_refused(
    origin: Origin,
    start_proxy: StartProxy,
    authority: Authority,
    tls: dict[str, str],
    least: str,
    spoken: ssl.TLSVersion,
) -> None:
    proxy = await start_proxy(**tls, **{"tls.min_version": least})
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await call(proxy.port, request(b"GET", b"/"), authority.client(version=spoken))
    assert (await call(proxy.port, request(b"GET", b"/"), authority.client())).status == 200
    assert len(origin.requests) == 1


async def test_http_without_tls_gets_no_answer_and_reaches_nobody(origin: Origin, proxy: Proxy) -> None:
    try:
        said = await exchange(proxy.port, post(new_key()), until_eof=True)
    except ConnectionError:
        said = b""
    assert not said.startswith(b"HTTP/")
    assert origin.requests == []


async def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(
    origin: Origin, proxy: Proxy, authority: Authority
) -> None:
    async with Connection(proxy.port, tls=authority.client()) as client:
        for _ in range(3):
            client.send(post(new_key()))
            assert (await client.reply()).body == PAYOUT
        key = new_key()
        client.send(post(key) + request(b"GET", b"/one") + post(key) + request(b"GET", b"/two"))
        assert [(await client.reply()).status for _ in range(4)] == [200, 200, 409, 200]
    assert [seen.target for seen in origin.requests[3:]] == [PATH, b"/one", b"/two"]


async def test_a_request_that_comes_with_the_last_bytes_of_the_handshake_is_read(
    origin: Origin, proxy: Proxy, authority: Authority
) -> None:
    """Whoever speaks TLS 1.3 need not wait: 50 at once, each with its request behind its Finished."""
    context = authority.client()

    def speak() -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket_to(proxy.port) as sock:
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    incoming.write(sock.recv(65536))
            client.write(request(b"GET", b"/early", [(b"Connection", b"close")]))
            sock.sendall(outgoing.read())  # both in one
            while True:
                try:
                    return client.read(65536)
                except ssl.SSLWantReadError:
                    incoming.write(sock.recv(65536))

    answers = await asyncio.gather(*(asyncio.to_thread(speak) for _ in range(50)))
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in answers)
    assert len(origin.requests) == 50


async def test_large_bodies_go_both_ways_unchanged(origin: Origin, proxy: Proxy, authority: Authority) -> None:
    origin.behave(respond(200, body=LARGE))
    for key in (None, new_key()):
        reply = await call(proxy.port, post(key, body=LARGE), authority.client())
        assert reply.body == LARGE
        assert origin.requests[-1].body == LARGE


async def test_a_client_that_goes_away_loses_its_answer_and_not_its_record(
    origin: Origin, proxy: Proxy, authority: Authority
) -> None:
    answer = asyncio.Event()
    origin.behave(after(answer, PAYS))
    keys = [new_key(), new_key()]
    async with (
        Connection(proxy.port, tls=authority.client()) as polite,
        Connection(proxy.port, tls=authority.client()) as rude,
    ):
        for client, key in ((polite, keys[0]), (rude, keys[1])):
            client.send(post(key))
        await origin.until(lambda: len(origin.requests) == 2)
        polite.close()  # with a close_notify: TLS has no half-close here
        rude.reset()
    await eventually(lambda: not proxy._app._server.connections)
    answer.set()

    async def recorded() -> bool:
        replies = [await call(proxy.port, request(b"GET", responses(key)), authority.client()) for key in keys]
        return all(reply.status == 200 and json.loads(reply.body)["StatusCode"] == "200" for reply in replies)

    await eventually(recorded)
    assert len(origin.requests) == 2


async def test_a_body_that_ends_with_the_connection_is_ended_by_tls_and_a_broken_one_is_not(
    origin: Origin, proxy: Proxy, authority: Authority
) -> None:
    """RFC 9112 §9.8: a client cannot take a connection that was cut for a whole answer."""
    old = request(b"GET", b"/").replace(b"HTTP/1.1", b"HTTP/1.0")
    whole = raw(response_head(200, []) + b"all of it", close=True)
    broken = raw(response_head(200, [(b"Transfer-Encoding", b"chunked")]) + b"4\r\npart\r\n", close=True)
    for behaviour, body, told in ((whole, b"all of it", True), (broken, b"part", False)):
        origin.behave(behaviour)
        data, ended_well = await asyncio.to_thread(read_to_the_end, proxy.port, old, authority.client())
        assert data.endswith(b"\r\n\r\n" + body)
        assert ended_well is told


def socket_to(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def read_to_the_end(port: int, data: bytes, context: ssl.SSLContext) -> tuple[bytes, bool]:
    """All that comes back, and whether a close_notify ended it."""
    received = b""
    with context.wrap_socket(socket_to(port), server_hostname="localhost", suppress_ragged_eofs=False) as client:
        client.sendall(data)
        try:
            while piece := client.recv(65536):
                received += piece
        except (ssl.SSLEOFError, ConnectionResetError):
            return received, False
        return received, True


@pytest.mark.parametrize("limit", ["limits.body", "limits.head"])
async def test_a_client_that_is_still_sending_sees_why_it_is_refused(
    origin: Origin, start_proxy: StartProxy, authority: Authority, tls: dict[str, str], limit: str
) -> None:
    """Nor is it a reset that it sees, although it reads only when all is sent: 600 KiB wait in no socket's buffer."""
    proxy = await start_proxy(**tls, **{limit: "8KiB"})
    much = bytes(600 * 1024)
    too_large = {
        "limits.body": (413, post(new_key(), body=much)),
        "limits.head": (431, request(b"GET", b"/", [(b"X-Much", b"x" * len(much))])),
    }
    status, data = too_large[limit]
    for _ in range(5):
        answer = await asyncio.to_thread(send_all_then_read, proxy.port, data, authority.client())
        assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert origin.requests == []


def send_all_then_read(port: int, data: bytes, context: ssl.SSLContext) -> bytes:
    with context.wrap_socket(socket_to(port), server_hostname="localhost") as client:
        for start in range(0, len(data), 16384):
            client.sendall(data[start : start + 16384])
        return client.recv(65536)


async def test_a_client_that_reads_slowly_after_close_gets_everything(
    origin: Origin, start_proxy: StartProxy, authority: Authority, tls: dict[str, str]
) -> None:
    """An answer that is closed behind may take longer than closing TLS may: also when TLS has encrypted it all, and
    what is left lies beneath. One is streamed, the other, with a key, is given at once."""
    proxy = await start_proxy(**tls, **{"record.max_body": "32MiB", "limits.write_timeout": "1s"})
    much = LARGE * 4
    origin.behave(respond(200, body=much))
    requests = [post(key, [(b"Connection", b"close")]) for key in (None, new_key())]
    readings = [asyncio.to_thread(read_slowly, proxy.port, data, authority.client()) for data in requests]
    for took, slow in await asyncio.gather(*readings):
        assert slow.endswith(much)
        assert took > LINGER_SECONDS + 1


def read_slowly(port: int, data: bytes, context: ssl.SSLContext) -> tuple[float, bytes]:
    """All of the answer, at 4 MiB a second; and how long it took."""
    received, began = bytearray(), time.monotonic()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        with context.wrap_socket(sock, server_hostname="localhost") as client:
            client.sendall(data)
            while piece := client.recv(65536):
                received += piece
                ahead = len(received) / (4 * 1024 * 1024) - (time.monotonic() - began)
                if ahead > 0:
                    time.sleep(ahead)
    return time.monotonic() - began, bytes(received)


async def test_a_client_that_never_reads_is_dropped(
    origin: Origin, start_proxy: StartProxy, authority: Authority, tls: dict[str, str]
) -> None:
    proxy = await start_proxy(**tls, **{"limits.write_timeout": "200ms"})
    origin.behave(respond(200, body=LARGE * 4))
    with socket_to(proxy.port) as sock:
        sock.settimeout(None)

        def ask() -> ssl.SSLSocket:
            client = authority.client().wrap_socket(sock, server_hostname="localhost")
            client.sendall(request(b"GET", b"/"))
            return client

        client = await asyncio.to_thread(ask)
        await origin.until(lambda: origin.requests)
        await eventually(lambda: not proxy._app._server.connections)
        client.close()


async def test_a_handshake_that_is_not_finished_in_time_ends_and_those_under_way_count_as_connections(
    start_proxy: StartProxy, authority: Authority, tls: dict[str, str]
) -> None:
    proxy = await start_proxy(**tls, **{"limits.head_timeout": "500ms", "limits.connections": 3})
    async with Connection(proxy.port) as silent, Connection(proxy.port) as half, Connection(proxy.port) as third:
        half.send(HELLO)
        handshakes = proxy._app._handshakes
        assert handshakes is not None
        await eventually(lambda: len(handshakes._under_way) == 3)
        async with Connection(proxy.port) as fourth:
            assert await fourth.rest() == b""  # at once
        assert len(handshakes._under_way) == 3
        for client in (silent, half, third):
            assert await client.rest() == b""
    assert not handshakes._under_way
    assert (await call(proxy.port, request(b"GET", b"/"), authority.client())).status == 200


async def test_a_stop_does_not_wait_for_handshakes_nor_for_idle_connections(proxy: Proxy, authority: Authority) -> None:
    async with Connection(proxy.port) as silent, Connection(proxy.port, tls=authority.client()) as idle:
        handshakes = proxy._app._handshakes
        assert handshakes is not None
        await eventually(lambda: handshakes._under_way and proxy._app._server.connections)
        async with asyncio.timeout(2):
            await proxy.stop()
        assert await silent.rest() == await idle.rest() == b""
