"""A body that ends with its connection, over TLS: whole only where TLS says that it has ended (RFC 9112 §9.8). Anybody
on the way can send a FIN."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from tests.integration.conftest import StartProxy
from tests.support.proxy import Proxy, new_key, request
from tests.support.raw import Incomplete, exchange, parse

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"


class Origin:
    """Answers one request a connection with a body that ends with it. *says_so*: by TLS's own alert."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.says_so = True
        self._context = context
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]

    def serve(self) -> None:
        """Until the socket is closed; in a thread."""
        while True:
            try:
                accepted, _ = self._sock.accept()
            except OSError:
                return
            try:
                self._answer(self._context.wrap_socket(accepted, server_side=True))
            except OSError:
                accepted.close()

    def _answer(self, tls: ssl.SSLSocket) -> None:
        heard = b""
        while not heard.endswith(b"\r\n\r\n"):
            heard += tls.recv(65536)
        tls.sendall(HEAD + b"half of it")
        if self.says_so:
            tls.settimeout(2)
            tls.unwrap().close()
        else:
            os.close(tls.detach())

    def close(self) -> None:
        """Accept no more."""
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


@pytest.fixture
async def origin(tmp_path: Path) -> AsyncIterator[Origin]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    origin = Origin(context)
    serving = asyncio.create_task(asyncio.to_thread(origin.serve))
    yield origin
    origin.close()
    await serving


@pytest.fixture
async def proxy(start_proxy: StartProxy, origin: Origin, tmp_path: Path) -> Proxy:
    settings = {"upstream.url": f"https://localhost:{origin.port}", "upstream.ca": str(tmp_path / "authority.pem")}
    return await start_proxy(**settings)


async def test_where_tls_says_that_it_has_ended_it_is_whole(origin: Origin, proxy: Proxy) -> None:
    key = new_key()
    assert (await proxy.post(key, body=b"")).body == b"half of it"
    record = await proxy.record(key)
    assert record["Resource"] == {"Text": "half of it"}
    assert "Truncated" not in record
    assert (await proxy.call(request(b"GET", b"/"))).body == b"half of it"


async def test_a_mere_fin_is_a_body_that_broke_off(origin: Origin, proxy: Proxy) -> None:
    origin.says_so = False
    key = new_key()
    answer = await exchange(proxy.port, request(b"POST", b"/", [(b"Idempotency-Key", key)]), until_eof=True)
    with pytest.raises(Incomplete):
        parse(answer)
    assert (await proxy.record(key))["Truncated"] is True
    with pytest.raises(Incomplete):
        parse(await exchange(proxy.port, request(b"GET", b"/"), until_eof=True))
