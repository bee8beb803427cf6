"""A server that dies or forgets, and networks that lose and delay."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from proxy.core.lifecycle import State
from proxy.store.base import Absent, Done, Found, Granted, StoreUnavailable, Unavailable
from tests.support.raw import eventually
from tests.support.redis_client import NEEDED, Client, OpenStore, admit, calls, is_granted, through
from tests.support.relay import Relay
from tests.support.stores import claim_of, completed, unknown
from tests.support.valkey import Valkey


class TestServerThatDies:
    async def test_commands_survive_a_restart_within_their_deadline(
        self, victim: Valkey, open_store: OpenStore
    ) -> None:
        store, claim, old = await open_store(victim.url, deadline=3.0), claim_of(), claim_of()
        await store.claim(old)
        victim.kill()
        pending = asyncio.gather(store.claim(claim), store.settle(completed(old)), store.read(old.attempt.key_hash))
        await asyncio.to_thread(victim.start)
        granted, done, found = await pending
        assert (type(granted), type(done)) == (Granted, Done)
        assert found == Found(completed(old), State.COMPLETED)

    async def test_a_server_that_stays_away_makes_commands_unavailable_until_it_is_back(
        self, victim: Valkey, open_store: OpenStore
    ) -> None:
        store = await open_store(victim.url)
        victim.kill()
        result = await store.claim(claim_of())
        assert isinstance(result, Unavailable)
        assert "refused" in result.why.lower()
        with pytest.raises(StoreUnavailable, match="no answer within the deadline"):
            await store.store.ping()
        await asyncio.to_thread(victim.start)
        await eventually(lambda: is_granted(store))

    async def test_a_server_that_forgot_its_scripts_settles_and_releases(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        store = await open_store(victim.url)
        one, other = claim_of(), claim_of()
        await store.claim(one)
        await store.claim(other)
        await client.script_flush()
        assert isinstance(await store.settle(completed(one)), Done)
        await client.script_flush()
        assert isinstance(await store.release(other), Done)
        assert await store.read(one.attempt.key_hash) == Found(completed(one), State.COMPLETED)
        assert isinstance(await store.read(other.attempt.key_hash), Absent)


class TestNetwork:
    async def test_a_claim_whose_reply_was_lost_is_repeated_and_granted(
        self, valkey: Valkey, open_store: OpenStore
    ) -> None:
        async with Relay(valkey.port) as relay:
            store, claim = await open_store(through(relay)), claim_of()
            relay.links[0].change_replies = lambda _: b""
            assert isinstance(await store.claim(claim), Granted)
            assert len(relay.links) == 2

    async def test_a_copy_of_a_claim_that_was_delayed_is_not_applied_behind_its_release(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        async with Relay(victim.port) as relay:
            store, claim = await open_store(through(relay)), claim_of()
            relay.links[0].requests_pass.clear()
            assert isinstance(await store.claim(claim), Granted), "the second copy, on a new connection"
            assert isinstance(await store.release(claim), Done)
            sets = await calls(client, "set")
            relay.links[0].requests_pass.set()
            await eventually(lambda: relay.links[0].ended)
            assert await calls(client, "set") == sets
            assert isinstance(await store.read(claim.attempt.key_hash), Absent)

    async def test_what_was_sent_first_is_repeated_first(
        self, valkey: Valkey, open_store: OpenStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Relay(valkey.port) as relay:
            store, first = await open_store(through(relay)), claim_of()
            relay.links[0].requests_pass.clear()
            sent = asyncio.create_task(store.claim(first))
            await eventually(lambda: [record for record in caplog.records if "was lost" in record.message])
            second = await store.claim(claim_of(first.attempt.key_hash))
            assert isinstance(await sent, Granted)
            assert second == Found(first, State.IN_PROGRESS)

    async def test_where_connections_may_not_be_killed_the_log_says_so_once(
        self, victim: Valkey, client: Client, open_store: OpenStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        await admit(client, "~*", NEEDED)
        async with Relay(victim.port) as relay:
            store = await open_store(f"redis://app:secret@127.0.0.1:{relay.port}")
            for _ in range(2):
                relay.links[-1].change_replies = lambda _: b""
                assert isinstance(await store.claim(claim_of()), Granted)
        assert sum("CLIENT KILL" in record.message for record in caplog.records) == 1

    @pytest.mark.parametrize("extra", [b"$-1\r\n", b":1\r\n"])
    async def test_a_reply_too_many_grants_nobody_a_key(
        self, valkey: Valkey, open_store: OpenStore, extra: bytes
    ) -> None:
        async with Relay(valkey.port) as relay:
            store, owner = await open_store(through(relay)), claim_of()
            await store.claim(owner)
            relay.links[0].change_replies = lambda data: extra + data
            assert await store.claim(claim_of(owner.attempt.key_hash)) == Found(owner, State.IN_PROGRESS)
            assert len(relay.links) == 2

    async def test_a_reply_too_few_grants_nobody_a_key(self, valkey: Valkey, open_store: OpenStore) -> None:
        """The next reply is a grant: one off, it would be taken for the claim of the owner's key."""
        async with Relay(valkey.port) as relay:
            store, owner = await open_store(through(relay)), claim_of()
            await store.claim(owner)
            await store.settle(unknown(owner))
            relay.links[0].change_replies = lambda data: data[data.index(b"$-1\r\n") :]
            rival, other = store.claim(claim_of(owner.attempt.key_hash)), store.claim(claim_of())
            found, granted = await asyncio.gather(rival, other)
            assert found == Found(unknown(owner), State.UNKNOWN)
            assert isinstance(granted, Granted)
            assert len(relay.links) == 2

    async def test_a_server_on_a_unix_socket_is_reached(self, tmp_path: Path, open_store: OpenStore) -> None:
        with Valkey(tmp_path, settings={"unixsocket": str(tmp_path / "s")}):
            store = await open_store(f"unix://{tmp_path / 's'}")
            assert isinstance(await store.claim(claim_of()), Granted)

    async def test_a_server_behind_tls_is_reached_with_its_own_authority(
        self, valkey: Valkey, open_store: OpenStore, tmp_path: Path
    ) -> None:
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        async with Relay(valkey.port, tls=context) as relay:
            url = f"rediss://localhost:{relay.port}"
            store = await open_store(f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}")
            assert isinstance(await store.claim(claim_of()), Granted)
            assert store.store.place == f"{url}/0"
            with pytest.raises(StoreUnavailable, match="certificate verify failed"):
                await open_store(url)
