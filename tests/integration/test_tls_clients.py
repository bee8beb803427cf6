"""Client certificates: who must show one, who may, and that what was made with one is shown to nobody else."""

import ssl
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.conftest import StartProxy
from tests.support.origin import Origin
from tests.support.proxy import Connection, Proxy, new_key, post, refused, request, responses
from tests.support.raw import Reply
from tests.support.tls import Authority, blocking, call

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class World(NamedTuple):
    """The proxy's authority, that of the clients, and one that the proxy does not know."""

    servers: Authority
    clients: Authority
    strangers: Authority

    def settings(self, client_certificates: str) -> dict[str, str]:
        """Of a listener."""
        certificate, key = self.servers.issue("proxy")
        return {
            "tls.certificate": certificate,
            "tls.key": key,
            "tls.client_ca": self.clients.path,
            "tls.client_certificates": client_certificates,
        }


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(*(Authority(tmp_path, name) for name in ("servers", "clients", "strangers")))


async def turned_away(proxy: Proxy, context: ssl.SSLContext) -> bool:
    """With TLS 1.3 a client learns of it only when it reads: its own handshake was over before."""
    try:
        async with Connection(proxy.port, tls=context) as client:
            client.send(post(new_key()))
            return await client.rest() == b""
    except (ssl.SSLError, ConnectionError):
        return True


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("asked_for", "without", "unknown"), [("none", True, True), ("optional", True, False), ("required", False, False)]
)
async def test_who_gets_in(
    origin: Origin,
    start_proxy: StartProxy,
    world: World,
    version: ssl.TLSVersion,
    asked_for: str,
    without: bool,
    unknown: bool,
) -> None:
    settings = world.settings(asked_for)
    if asked_for == "none":
        del settings["tls.client_ca"]
    proxy = await start_proxy(**settings)
    certificates = {None: without, world.strangers.issue("mallory"): unknown, world.clients.issue("alice"): True}
    for certificate, let_in in certificates.items():
        context = world.servers.client(certificate, version)
        before = len(origin.requests)
        if let_in:
            assert (await call(proxy.port, post(new_key()), context)).status == 200
        else:
            assert await turned_away(proxy, context)
        assert len(origin.requests) == before + let_in


async def test_what_was_made_with_a_certificate_is_shown_to_who_has_it_and_to_nobody_else(
    start_proxy: StartProxy, world: World
) -> None:
    proxy = await start_proxy(**world.settings("optional"))
    alice, bob = (world.servers.client(world.clients.issue(name)) for name in ("alice", "bob"))
    nobody = world.servers.client()
    key = new_key()
    assert (await call(proxy.port, post(key), alice)).status == 200

    async def ask(context: ssl.SSLContext) -> Reply:
        return await call(proxy.port, request(b"GET", responses(key)), context)

    assert (await ask(alice)).status == 200
    refused(await ask(bob), 404, "idempotency_key_not_found")
    refused(await ask(nobody), 404, "idempotency_key_not_found")
    refused(await call(proxy.port, post(key), bob), 409, "idempotent_creation_conflict")


async def test_what_was_made_without_a_certificate_is_not_shown_to_one(start_proxy: StartProxy, world: World) -> None:
    proxy = await start_proxy(**world.settings("optional"))
    key, nobody = new_key(), world.servers.client()
    assert (await call(proxy.port, post(key), nobody)).status == 200
    alice = world.servers.client(world.clients.issue("alice"))
    refused(await call(proxy.port, request(b"GET", responses(key)), alice), 404, "idempotency_key_not_found")
    assert (await call(proxy.port, request(b"GET", responses(key)), nobody)).status == 200


async def test_a_credential_in_a_field_goes_before_the_certificate(start_proxy: StartProxy, world: World) -> None:
    """So that who comes with a certificate of its own, a gateway, does not mix up those for whom it comes."""
    proxy = await start_proxy(**world.settings("required"))
    alice, bob = (world.servers.client(world.clients.issue(name)) for name in ("alice", "bob"))
    key, token = new_key(), [(b"Authorization", b"Bearer alice")]
    assert (await call(proxy.port, post(key, token), alice)).status == 200
    assert (await call(proxy.port, request(b"GET", responses(key), token), bob)).status == 200
    without = await call(proxy.port, request(b"GET", responses(key)), alice)
    refused(without, 404, "idempotency_key_not_found")


@pytest.mark.parametrize("version", VERSIONS)
async def test_who_resumes_a_session_is_who_began_it(
    start_proxy: StartProxy, world: World, version: ssl.TLSVersion
) -> None:
    proxy = await start_proxy(**world.settings("required"))
    context = world.servers.client(world.clients.issue("alice"), version)
    key = new_key()
    first, session, _ = await blocking(proxy.port, post(key), context, None)
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    again, _, reused = await blocking(proxy.port, request(b"GET", responses(key)), context, session)
    assert reused
    assert again.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_session_does_not_outlive_the_authority_that_let_it_in(start_proxy: StartProxy, world: World) -> None:
    proxy = await start_proxy(**world.settings("required"))
    context = world.servers.client(world.clients.issue("alice"))
    _, session, _ = await blocking(proxy.port, post(new_key()), context, None)
    world.clients.give_way(world.strangers)
    await proxy.reload()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await blocking(proxy.port, post(new_key()), context, session)
