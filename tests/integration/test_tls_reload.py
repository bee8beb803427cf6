"""Certificates read again while the proxy runs: new connections have the new ones, the others are not disturbed, and a
file that cannot be used changes nothing."""

import asyncio
import ssl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, Recorded, after, respond
from tests.support.proxy import Connection, Proxy, new_key, post, request
from tests.support.raw import eventually
from tests.support.relay import Relay
from tests.support.tls import Authority, TlsOrigin, call


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
async def proxy(start_proxy: StartProxy, authority: Authority) -> Proxy:
    certificate, key = authority.issue("proxy")
    return await start_proxy(**{"tls.certificate": certificate, "tls.key": key})


async def shown(proxy: Proxy, authority: Authority) -> bytes | None:
    """The certificate that a new connection is shown."""
    async with Connection(proxy.port, tls=authority.client()) as client:
        return client.tls.getpeercert(binary_form=True)


def content(path: str) -> str:
    return Path(path).read_text()


def write(path: str, text: str) -> None:
    Path(path).write_text(text)


async def test_a_new_certificate_is_shown_to_new_connections_and_the_old_ones_go_on(
    origin: Origin, proxy: Proxy, authority: Authority
) -> None:
    before = await shown(proxy, authority)
    answer = asyncio.Event()
    async with (
        Connection(proxy.port, tls=authority.client()) as idle,
        Connection(proxy.port, tls=authority.client()) as busy,
    ):
        origin.behave(after(answer, respond(200, body=b"paid")))
        busy.send(post(new_key()))
        await origin.until(lambda: origin.requests)
        authority.issue("proxy")
        with capture_logs() as logs:
            await proxy.reload()
        assert [line["event"] for line in logs] == ["certificates reloaded"]
        assert await shown(proxy, authority) not in (before, None)
        answer.set()
        assert (await busy.reply()).body == b"paid"
        for client in (idle, busy):
            client.send(request(b"GET", b"/"))
            assert (await client.reply()).status == 200
            assert client.tls.getpeercert(binary_form=True) == before


async def test_a_handshake_that_had_begun_ends_with_what_it_began_with(proxy: Proxy, authority: Authority) -> None:
    async with Connection(proxy.port) as half:
        handshakes = proxy._app._handshakes
        assert handshakes is not None
        while not handshakes._under_way:
            await asyncio.sleep(0)
        await proxy.reload()
        assert len(handshakes._under_way) == 1
        half.close()


@pytest.mark.parametrize("which", ["tls.certificate", "tls.key"])
async def test_a_file_that_cannot_be_used_is_named_and_the_old_certificate_stays(
    proxy: Proxy, authority: Authority, which: str
) -> None:
    before = await shown(proxy, authority)
    pair = dict(zip(("tls.certificate", "tls.key"), authority.issue("proxy"), strict=True))
    write(pair[which], "no PEM any more")
    with capture_logs() as logs:
        await proxy.reload()
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("certificates not reloaded", "error")
    assert line["reason"].startswith(f"{which} = {pair[which]!r}: no PEM file with")
    assert await shown(proxy, authority) == before


async def test_a_certificate_whose_key_has_not_come_yet_waits_for_the_next_signal(
    proxy: Proxy, authority: Authority
) -> None:
    before, certificate, key = await shown(proxy, authority), proxy._settings.tls.certificate, proxy._settings.tls.key
    old = content(key)
    authority.issue("proxy")
    new = content(key)
    write(key, old)
    with capture_logs() as logs:
        await proxy.reload()
    assert logs[0]["reason"] == f"tls.key = {key!r}: does not fit the certificate in tls.certificate"
    assert await shown(proxy, authority) == before
    write(key, new)
    await proxy.reload()
    assert await shown(proxy, authority) == ssl.PEM_cert_to_DER_cert(content(certificate))


async def test_clients_are_let_in_by_the_new_authority_and_no_more_by_the_old(
    start_proxy: StartProxy, tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.issue("proxy")
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    proxy = await start_proxy(
        **{
            "tls.certificate": certificate,
            "tls.key": key,
            "tls.client_ca": old.path,
            "tls.client_certificates": "required",
        }
    )
    leaving, coming = authority.client(old.issue("alice")), authority.client(new.issue("alice"))
    get = request(b"GET", b"/")
    async with Connection(proxy.port, tls=leaving) as client:
        old.give_way(new)
        await proxy.reload()
        client.send(get)
        assert (await client.reply()).status == 200
    assert (await call(proxy.port, get, coming)).status == 200
    with pytest.raises((AssertionError, ssl.SSLError, ConnectionError)):
        await call(proxy.port, get, leaving)


async def test_the_api_is_shown_the_new_certificate_and_lent_connections_end_with_their_request(
    start_proxy: StartProxy, tmp_path: Path, authority: Authority
) -> None:
    clients = Authority(tmp_path, "clients")
    mine = clients.issue("proxy")
    context = authority.server(authority.issue("api"))
    context.load_verify_locations(clients.path)
    context.verify_mode = ssl.CERT_REQUIRED
    answer = asyncio.Event()
    async with TlsOrigin(context, after(answer, respond(200, body=b"paid"))) as api:
        proxy = await start_proxy(
            **{
                "upstream.url": f"https://localhost:{api.port}",
                "upstream.ca": authority.path,
                "upstream.certificate": mine.certificate,
                "upstream.key": mine.key,
            }
        )
        under_way = asyncio.create_task(proxy.post(new_key()))
        await api.until(lambda: api.requests)
        clients.issue("proxy")
        await proxy.reload()
        answer.set()
        assert (await under_way).body == b"paid"
        assert (await proxy.post(new_key())).body == b"paid"
        first, second = (writer.get_extra_info("ssl_object") for _, writer in api._serving)
        assert first.getpeercert(True) != second.getpeercert(True)
        await api.until(lambda: api.open == 1)  # the one of before is not kept for others


async def test_a_connection_that_is_being_made_with_the_old_certificate_carries_no_request_any_more(
    start_proxy: StartProxy, tmp_path: Path, authority: Authority
) -> None:
    """Who waits for it waits for the next."""
    clients = Authority(tmp_path, "clients")
    mine = clients.issue("proxy")
    context = authority.server(authority.issue("api"))
    context.load_verify_locations(clients.path)
    context.verify_mode = ssl.CERT_REQUIRED
    seen: list[bytes | None] = []

    async def behaviour(asked: Recorded, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        await respond(200, body=b"paid")(asked, writer)

    async with TlsOrigin(context, behaviour) as api, Relay(api.port) as relay:
        relay.hold()
        proxy = await start_proxy(
            **{
                "upstream.url": f"https://localhost:{relay.port}",
                "upstream.ca": authority.path,
                "upstream.certificate": mine.certificate,
                "upstream.key": mine.key,
            }
        )
        under_way = asyncio.create_task(proxy.post(new_key()))
        await eventually(lambda: relay.links and relay.links[0].held)  # its TLS has begun
        clients.issue("proxy")
        await proxy.reload()
        relay.let_go()
        assert (await under_way).body == b"paid"
        new = ssl.PEM_cert_to_DER_cert(content(mine.certificate))
        assert (await proxy.post(new_key())).body == b"paid"
        assert seen == [new, new]
        await eventually(lambda: len(relay.open) == 1)
        assert len(relay.links) == 2


async def test_idle_connections_to_the_api_are_closed_and_made_anew(
    start_proxy: StartProxy, authority: Authority
) -> None:
    async with TlsOrigin(authority.server(authority.issue("api"))) as api:
        settings = {"upstream.ca": authority.path, "upstream.idle_timeout": "60s"}
        proxy = await start_proxy(**{"upstream.url": f"https://localhost:{api.port}", **settings})
        assert (await proxy.post(new_key())).status == 200
        await proxy.reload()
        await api.until(lambda: not api.open)
        authority.give_way(Authority(Path(authority.path).parent, "other"))
        await proxy.reload()
        assert (await proxy.post(new_key())).status == 502  # the authority that vouched for it is not trusted any more


async def test_without_certificates_there_is_nothing_to_reload(start_proxy: StartProxy) -> None:
    proxy = await start_proxy()
    with capture_logs() as logs:
        await proxy.reload()
    assert logs == [{"event": "no certificates to reload", "log_level": "info"}]
    assert (await proxy.call(request(b"GET", b"/"))).status == 200
