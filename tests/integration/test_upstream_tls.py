"""An API behind TLS: verified against the authorities of the system, whose file the tests name by SSL_CERT_FILE."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from tests.integration.conftest import StartProxy
from tests.support.proxy import new_key

PAYOUT = b'{"Id": "1"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n" + PAYOUT


class TlsOrigin:
    """Answers every request of one read with a payout, and counts them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests = 0
        self.connections = 0


@pytest.fixture
async def tls_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TlsOrigin]:
    """Its certificate is for localhost; its authority is what SSL_CERT_FILE names."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    origin = TlsOrigin(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        origin.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                origin.requests += 1
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    origin.port = server.sockets[0].getsockname()[1]
    yield origin
    server.close()


async def test_payments_go_through_tls_and_share_a_connection(start_proxy: StartProxy, tls_origin: TlsOrigin) -> None:
    proxy = await start_proxy(**{"upstream.url": f"https://localhost:{tls_origin.port}"})
    for _ in range(3):
        reply = await proxy.post(new_key(), body=b"")
        assert (reply.status, reply.body) == (200, PAYOUT)
    assert tls_origin.requests == 3
    assert tls_origin.connections <= 2  # a session ticket that was not read yet makes a kept connection unfit, once


async def test_an_api_that_cannot_prove_its_name_is_sent_nothing_and_the_key_is_free(
    start_proxy: StartProxy, tls_origin: TlsOrigin
) -> None:
    key = new_key()
    stranger = await start_proxy(**{"upstream.url": f"https://127.0.0.1:{tls_origin.port}"})
    reply = await stranger.post(key, body=b"")
    assert reply.status == 502
    assert tls_origin.requests == 0


async def test_an_authority_that_nobody_knows_is_refused(
    start_proxy: StartProxy, tls_origin: TlsOrigin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    proxy = await start_proxy(**{"upstream.url": f"https://localhost:{tls_origin.port}"})
    assert (await proxy.post(new_key(), body=b"")).status == 502
    assert tls_origin.requests == 0
