"""A primary that fails, and sentinels that know the next one, or do not."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from proxy.core.lifecycle import State
from proxy.deadlines import TICK
from proxy.store.base import Absent, Done, Found, Granted, StoreRefused, StoreUnavailable, Unavailable
from tests.support.load import Load
from tests.support.raw import eventually
from tests.support.redis_client import DEADLINE, OpenStore, is_granted
from tests.support.relay import Change, Relay
from tests.support.sentinel import SERVICE, SentinelGroup
from tests.support.stores import claim_of, completed
from tests.support.valkey import Valkey, free_port

PROMPT = 0.5
"""Seconds that nothing takes which does not wait for anybody."""


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[SentinelGroup]:
    """A group of the test's own, to be harmed."""
    with SentinelGroup(tmp_path) as group:
        yield group


def names(port: int, instead: int) -> Change:
    """Lets a sentinel name another port; both have five digits."""
    return lambda data: data.replace(b"$5\r\n%d" % port, b"$5\r\n%d" % instead)


class TestFailover:
    async def test_a_primary_that_is_killed_under_load_costs_no_key_that_its_replica_has_acknowledged(
        self, fragile: SentinelGroup, open_store: OpenStore
    ) -> None:
        """And who may wait for the new primary is served by it, in the order in which he asked."""
        durable = await open_store(fragile.url, durability="replicas:1", prefix="kept:")
        patient = await open_store(fragile.url, deadline=10.0, prefix="kept:")
        plain = await open_store(fragile.url)
        old, new = claim_of(), claim_of()
        await durable.claim(old)
        async with Load(durable) as kept, Load(plain) as served:
            await eventually(lambda: len(kept.granted) > 50 and len(served.granted) > 50)
            fragile.primary.kill()
            waiting = asyncio.gather(
                patient.claim(new), patient.settle(completed(old)), patient.read(old.attempt.key_hash)
            )
            await eventually(lambda: kept.unavailable and served.unavailable)
            seen = len(served.told)
            await eventually(lambda: any(isinstance(told.settled, Done) for told in served.told[seen:]), within=15.0)

        granted, done, found = await waiting
        assert (granted, done) == (Granted(), Done())
        assert found == Found(completed(old), State.COMPLETED)
        assert await kept.forgotten() == []

        async def nothing_is_blocked() -> bool:
            return not await kept.blocked() and not await served.blocked()

        await eventually(nothing_is_blocked)
        assert max(told.took for told in kept.told + served.told) < DEADLINE + 4 * TICK
        await plain.store.ping()

    @pytest.mark.full
    async def test_what_a_stalled_primary_applies_after_its_successor_was_chosen_blocks_no_key(
        self, fragile: SentinelGroup, open_store: OpenStore
    ) -> None:
        store, ghost = await open_store(fragile.url), claim_of()
        old = fragile.primary
        sets = sets_on(fragile, old)
        old.pause()
        assert isinstance(await store.claim(ghost), Unavailable)
        await eventually(lambda: is_granted(store), within=15.0)
        assert fragile.primary is not old
        old.resume()
        await eventually(lambda: sets_on(fragile, old) > sets)
        await asyncio.to_thread(fragile.heal)
        assert fragile.primary is not old
        assert isinstance(await store.claim(claim_of(ghost.attempt.key_hash)), Granted)


class TestSentinels:
    async def test_those_that_are_dead_or_silent_are_not_waited_for(
        self, sentinels: SentinelGroup, open_store: OpenStore
    ) -> None:
        ports = [sentinel.port for sentinel in sentinels.sentinels]
        async with Relay(ports[2]) as relay:
            relay.change_replies = lambda _: b""
            for odd in (free_port(), relay.port):
                began = time.monotonic()
                store = await open_store(sentinels.url_through([odd, *ports[:2]]))
                assert await is_granted(store)
                assert time.monotonic() - began < PROMPT

    async def test_one_that_lags_behind_a_failover_is_outvoted(
        self, sentinels: SentinelGroup, open_store: OpenStore
    ) -> None:
        ports, (primary, replica) = [sentinel.port for sentinel in sentinels.sentinels], ports_of(sentinels)
        async with Relay(ports[0]) as relay:
            relay.change_replies = names(primary, replica)
            assert await is_granted(await open_store(sentinels.url_through([relay.port, *ports[1:]])))

    async def test_a_replica_that_they_name_is_not_used(self, sentinels: SentinelGroup, open_store: OpenStore) -> None:
        primary, replica = ports_of(sentinels)
        async with Relay(sentinels.sentinels[0].port) as relay:
            relay.change_replies = names(primary, replica)
            with pytest.raises(StoreUnavailable, match=f":{replica}/0: it is a replica"):
                await open_store(sentinels.url_through([relay.port]))

    async def test_none_that_answers_is_a_store_that_is_unavailable(
        self, sentinels: SentinelGroup, open_store: OpenStore
    ) -> None:
        with pytest.raises(StoreUnavailable, match=r"\(sentinel\).*refused"):
            await open_store(sentinels.url_through([free_port()]))

    async def test_a_service_that_none_of_them_watches_is_refused(
        self, sentinels: SentinelGroup, open_store: OpenStore
    ) -> None:
        with pytest.raises(StoreRefused, match="watches no service of the name 'refunds'"):
            await open_store(sentinels.url.replace(f"/{SERVICE}", "/refunds"))

    async def test_passwords_are_told_to_those_alone_whose_they_are_and_shown_to_nobody(
        self, sentinels: SentinelGroup, open_store: OpenStore
    ) -> None:
        store = await open_store(sentinels.url)
        assert store.store.place.startswith("redis+sentinel://:***@127.0.0.1:")
        assert store.store.place.endswith(f"/{SERVICE}/0")
        wrong = sentinels.url.replace("?sentinel_password=", "?sentinel_password=hunter")
        with pytest.raises(StoreRefused, match=r"\(sentinel\): WRONGPASS: wrong user or password") as refused:
            await open_store(wrong)
        assert "hunter" not in str(refused.value)
        with pytest.raises(StoreRefused, match=r":\d+/0: WRONGPASS: wrong user or password"):
            await open_store(sentinels.url.replace("://:", "://:hunter"))

    async def test_sentinels_and_servers_behind_tls_are_reached_with_their_own_authority(
        self, sentinels: SentinelGroup, open_store: OpenStore, tmp_path: Path
    ) -> None:
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        primary, _ = ports_of(sentinels)
        async with Relay(sentinels.sentinels[0].port, context) as sentinel, Relay(primary, context) as server:
            sentinel.change_replies = names(primary, server.port)
            url = sentinels.url_through([sentinel.port]).replace("redis+", "rediss+", 1)
            assert await is_granted(await open_store(f"{url}&ssl_ca_certs={tmp_path / 'ca.pem'}"))
            with pytest.raises(StoreUnavailable, match="certificate verify failed"):
                await open_store(url)

    async def test_a_primary_that_falls_silent_holds_nobody_over_the_deadline(
        self, sentinels: SentinelGroup, open_store: OpenStore
    ) -> None:
        primary, _ = ports_of(sentinels)
        async with Relay(sentinels.sentinels[0].port) as sentinel, Relay(primary) as server:
            sentinel.change_replies = names(primary, server.port)
            store, claim = await open_store(sentinels.url_through([sentinel.port])), claim_of()
            server.change_replies = server.links[0].change_replies = lambda _: b""
            began = time.monotonic()
            assert isinstance(await store.claim(claim), Unavailable)
            assert time.monotonic() - began < DEADLINE + 4 * TICK
            server.change_replies = lambda data: data

            async def free() -> bool:
                return isinstance(await store.read(claim.attempt.key_hash), Absent)

            await eventually(free)


def ports_of(group: SentinelGroup) -> tuple[int, int]:
    """Primary and replica."""
    primary = group.primary
    (replica,) = [server for server in group.servers if server is not primary]
    return primary.port, replica.port


def sets_on(group: SentinelGroup, server: Valkey) -> int:
    """How many SET it has carried out."""
    return int(group.client(server).info("commandstats").get("cmdstat_set", {"calls": 0})["calls"])
