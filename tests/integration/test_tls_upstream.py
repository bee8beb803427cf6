"""TLS towards the API: whom the proxy trusts, what it shows, and what becomes of a key where one of them is refused."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import Recorded, respond, send
from tests.support.proxy import Connection, new_key, post, refused
from tests.support.tls import Authority, TlsOrigin, speak

PAYS = respond(200, [(b"Content-Type", b"application/json")], b'{"Id": "1"}')


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Of the API; the system does not know it."""
    return Authority(tmp_path, "authority")


@pytest.fixture
async def api(authority: Authority) -> AsyncIterator[TlsOrigin]:
    origin = TlsOrigin(authority.server(authority.issue("api")), PAYS)
    async with origin:
        yield origin


async def test_the_authority_that_is_named_is_trusted(
    start_proxy: StartProxy, authority: Authority, api: TlsOrigin
) -> None:
    proxy = await start_proxy(**{"upstream.url": f"https://localhost:{api.port}", "upstream.ca": authority.path})
    for _ in range(3):
        assert (await proxy.post(new_key())).status == 200
    assert len(api.requests) == 3
    assert api.connections <= 2


@pytest.mark.parametrize("trusted", ["the system's", "another"])
async def test_in_the_place_of_any_other(
    start_proxy: StartProxy,
    tmp_path: Path,
    authority: Authority,
    api: TlsOrigin,
    monkeypatch: pytest.MonkeyPatch,
    trusted: str,
) -> None:
    """Where one is named the system's are not trusted, not even one that vouches for the API."""
    monkeypatch.setenv("SSL_CERT_FILE", authority.path if trusted == "another" else "")
    settings = {"upstream.url": f"https://localhost:{api.port}"}
    if trusted == "another":
        settings["upstream.ca"] = Authority(tmp_path, "another").path
    proxy, key = await start_proxy(**settings), new_key()
    for _ in range(2):  # the key stays free
        refused(await proxy.post(key), 502, "upstream_unreachable")
    assert await proxy.state(key) is None
    assert api.requests == []


@pytest.mark.parametrize(
    ("host", "server_name", "status"),
    [
        ("localhost", None, 200),
        ("127.0.0.1", None, 502),
        ("127.0.0.1", "localhost", 200),
        ("localhost", "api.example.com", 502),
    ],
)
async def test_the_name_is_verified_the_one_of_the_url_or_the_one_that_is_set(
    start_proxy: StartProxy, authority: Authority, api: TlsOrigin, host: str, server_name: str | None, status: int
) -> None:
    asked: list[str | None] = []
    api._context.sni_callback = lambda _object, name, _context: asked.append(name)
    settings = {"upstream.url": f"https://{host}:{api.port}", "upstream.ca": authority.path}
    if server_name is not None:
        settings["upstream.server_name"] = server_name
    proxy, key = await start_proxy(**settings), new_key()
    reply = await proxy.post(key)
    assert reply.status == status
    assert await proxy.state(key) == (b"completed" if status == 200 else None)
    assert asked == [server_name or (None if host == "127.0.0.1" else host)]  # RFC 6066 §3: no address
    assert len(api.requests) == (status == 200)
    assert all(seen.all(b"Host") == [f"{host}:{api.port}".encode()] for seen in api.requests)


async def test_a_certificate_that_has_expired_is_refused_and_the_key_is_free(
    start_proxy: StartProxy, authority: Authority
) -> None:
    context = authority.server(authority.issue("api", expires=datetime(2020, 1, 1, tzinfo=UTC)))
    async with TlsOrigin(context) as api:
        proxy = await start_proxy(**{"upstream.url": f"https://localhost:{api.port}", "upstream.ca": authority.path})
        key = new_key()
        refused(await proxy.post(key), 502, "upstream_unreachable")
        assert await proxy.state(key) is None
        assert api.requests == []


async def test_an_api_that_speaks_no_tls_1_2_is_refused(start_proxy: StartProxy, authority: Authority) -> None:
    context = authority.server(authority.issue("api"))
    speak(context, ssl.TLSVersion.TLSv1_1)
    async with TlsOrigin(context) as api:
        proxy = await start_proxy(**{"upstream.url": f"https://localhost:{api.port}", "upstream.ca": authority.path})
        refused(await proxy.post(new_key()), 502, "upstream_unreachable")


@pytest.mark.parametrize("ends_well", [True, False])
async def test_a_body_that_ends_with_the_connection_is_whole_only_if_tls_was_closed(
    start_proxy: StartProxy, authority: Authority, api: TlsOrigin, ends_well: bool
) -> None:
    """RFC 9112 §9.8: a FIN without close_notify may be an attacker's."""

    async def answer(_request: Recorded, writer: asyncio.StreamWriter) -> None:
        await send(writer, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nthe first half")
        if ends_well:
            writer.close()
        else:
            writer.transport.abort()

    api.behave(answer)
    proxy, key = (
        await start_proxy(**{"upstream.url": f"https://localhost:{api.port}", "upstream.ca": authority.path}),
        new_key(),
    )
    async with Connection(proxy.port) as client:
        client.send(post(key, [(b"Connection", b"close")]))
        said = await client.rest()
    assert said.endswith(b"\r\n\r\nthe first half" if ends_well else b"\r\n\r\ne\r\nthe first half\r\n")
    record = await proxy.record(key)
    assert (record["Resource"], record.get("Truncated", False)) == (
        ({"Text": "the first half"}, False) if ends_well else (None, True)
    )


class TestClientCertificate:
    """An API that asks for one."""

    @pytest.fixture
    def clients(self, tmp_path: Path) -> Authority:
        return Authority(tmp_path, "clients")

    @pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def strict(
        self, request: pytest.FixtureRequest, authority: Authority, clients: Authority
    ) -> AsyncIterator[TlsOrigin]:
        """Requires one that *clients* vouches for."""
        context = authority.server(authority.issue("api"))
        context.load_verify_locations(clients.path)
        context.verify_mode = ssl.CERT_REQUIRED
        speak(context, request.param)
        origin = TlsOrigin(context, PAYS)
        async with origin:
            yield origin

    def settings(self, strict: TlsOrigin, authority: Authority, own: Authority | None) -> dict[str, str]:
        settings = {"upstream.url": f"https://localhost:{strict.port}", "upstream.ca": authority.path}
        if own is not None:
            certificate, key = own.issue("proxy")
            settings |= {"upstream.certificate": certificate, "upstream.key": key}
        return settings

    async def test_it_is_shown_and_taken(
        self, start_proxy: StartProxy, strict: TlsOrigin, authority: Authority, clients: Authority
    ) -> None:
        proxy = await start_proxy(**self.settings(strict, authority, clients))
        assert (await proxy.post(new_key())).status == 200
        ((_, writer),) = strict._serving
        assert writer.get_extra_info("ssl_object").getpeercert()["subject"]

    @pytest.mark.parametrize("own", ["none", "unknown"])
    async def test_one_that_is_refused_after_the_request_was_written_leaves_the_outcome_unknown(
        self, start_proxy: StartProxy, tmp_path: Path, strict: TlsOrigin, authority: Authority, own: str
    ) -> None:
        """With TLS 1.3 the handshake is over for the client before the server has seen its certificate (RFC 8446 §2):
        the refusal comes when the request is on its way. With 1.2 it comes before, and the key is free."""
        stranger = None if own == "none" else Authority(tmp_path, "strangers")
        proxy, key = await start_proxy(**self.settings(strict, authority, stranger)), new_key()
        reply = await proxy.post(key)
        if strict._context.maximum_version is ssl.TLSVersion.TLSv1_3:
            refused(reply, 504, "upstream_outcome_unknown")
            assert await proxy.state(key) == b"unknown"
            assert json.loads((await proxy.retrieve(key)).body)["StatusCode"] == "504"
            refused(await proxy.post(key), 409, "idempotent_creation_conflict")  # and is not sent again
        else:
            refused(reply, 502, "upstream_unreachable")
            assert await proxy.state(key) is None
        assert strict.requests == []
