"""Nodes that fail, slots that move, and commands that find their way."""

import asyncio
import os
import re
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme
from redis.crc import key_slot

from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.deadlines import TICK
from proxy.store.base import Absent, Done, Found, Granted, StoreRefused, StoreUnavailable, Unavailable
from proxy.store.redis.operations import name
from tests.support.cluster import ValkeyCluster
from tests.support.load import Load
from tests.support.raw import eventually
from tests.support.redis_client import DEADLINE, HELPFUL, NEEDED, OpenStore, is_granted
from tests.support.relay import Change, Relay
from tests.support.stores import claim_of, completed
from tests.support.valkey import Valkey

TAG = "{payments}"
"""A prefix that puts all keys into one slot."""
SLOT = key_slot(TAG.encode())
PROMPT = 0.3
"""Seconds that nothing takes which does not wait for anybody."""


def claim_on(cluster: ValkeyCluster, server: Valkey, prefix: str) -> Record:
    """The claim of a new key that lies on *server*."""
    while True:
        key_hash = os.urandom(16)
        if cluster.owner(key_slot(name(prefix.encode(), key_hash))) is server:
            return claim_of(key_hash)


def begin_move(cluster: ValkeyCluster) -> tuple[Valkey, Valkey]:
    """Begin to move SLOT; return where it was and where it will be."""
    source = cluster.owner(SLOT)
    target = next(server for server in cluster.primaries if server is not source)
    cluster.ask(target, "CLUSTER SETSLOT", SLOT, "IMPORTING", cluster.identity(source))
    cluster.ask(source, "CLUSTER SETSLOT", SLOT, "MIGRATING", cluster.identity(target))
    return source, target


def move_keys(cluster: ValkeyCluster, source: Valkey, target: Valkey) -> None:
    """All that the slot has."""
    while keys := cluster.ask(source, "CLUSTER GETKEYSINSLOT", SLOT, 100):
        password = cluster.password
        cluster.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 1000, "AUTH", password, "KEYS", *keys)


def end_move(cluster: ValkeyCluster, source: Valkey, target: Valkey) -> None:
    """The slot is the target's."""
    for server in (target, source):
        cluster.ask(server, "CLUSTER SETSLOT", SLOT, "NODE", cluster.identity(target))


def moved(cluster: ValkeyCluster, server: Valkey) -> int:
    """How often *server* said MOVED."""
    return int(cluster.ask(server, "INFO", "errorstats").get("errorstat_MOVED", {"count": 0})["count"])


@asynccontextmanager
async def relayed(cluster: ValkeyCluster, tls: ssl.SSLContext | None = None) -> AsyncIterator[dict[int, Relay]]:
    """A relay before each node, by the node's port. What the nodes say of each other names the relays."""
    async with AsyncExitStack() as stack:
        relays = {server.port: await stack.enter_async_context(Relay(server.port, tls)) for server in cluster.servers}

        def rename(data: bytes) -> bytes:
            for port, relay in relays.items():
                data = data.replace(b":%d\r\n" % port, b":%d\r\n" % relay.port)
            return data

        for relay in relays.values():
            relay.change_replies = rename
        yield relays


class TestFailover:
    async def test_a_node_that_is_killed_under_load_costs_no_key_that_its_replica_has_acknowledged(
        self, cluster: ValkeyCluster, open_store: OpenStore
    ) -> None:
        """And who may wait for the node that takes over is served by it."""
        durable = await open_store(cluster.url, durability="replicas:1")
        plain = await open_store(cluster.url)
        patient = await open_store(cluster.url, deadline=10.0, prefix="patient:")
        victim = cluster.primaries[0]
        claim = claim_on(cluster, victim, "patient:")
        try:
            async with Load(durable) as kept, Load(plain) as served:
                await eventually(lambda: len(kept.granted) > 50 and len(served.granted) > 50)
                victim.kill()
                waiting = asyncio.create_task(patient.claim(claim))
                await eventually(lambda: kept.unavailable and served.unavailable)
                await eventually(lambda: len(cluster.primaries) == 3, within=15.0)
                await plain.store.ping()

            async def all_is_served() -> bool:
                return all(await asyncio.gather(*(is_granted(plain) for _ in range(20))))

            await eventually(all_is_served)
            assert await waiting == Granted()
            assert await kept.forgotten() == []

            async def nothing_is_blocked() -> bool:
                return not await kept.blocked() and not await served.blocked()

            await eventually(nothing_is_blocked)
            assert max(told.took for told in kept.told + served.told) < DEADLINE + 4 * TICK
        finally:
            await asyncio.to_thread(cluster.heal)

    async def test_a_withdrawal_follows_its_key_to_the_node_that_takes_over(
        self, cluster: ValkeyCluster, open_store: OpenStore
    ) -> None:
        """The claim was applied and replicated; then its node fell silent, and died."""
        victim = cluster.primaries[0]
        claim = claim_on(cluster, victim, "lost:")
        async with relayed(cluster) as relays:
            store = await open_store(cluster.url_through([relay.port for relay in relays.values()]), prefix="lost:")
            relay = relays[victim.port]
            relay.change_replies = relay.links[-1].change_replies = lambda _: b""
            assert isinstance(await store.claim(claim), Unavailable)
            assert cluster.ask(victim, "EXISTS", name(b"lost:", claim.attempt.key_hash)) == 1
            victim.kill()
            try:
                await eventually(lambda: len(cluster.primaries) == 3, within=15.0)

                async def free() -> bool:
                    return isinstance(await store.read(claim.attempt.key_hash), Absent)

                await eventually(free)
            finally:
                await asyncio.to_thread(cluster.heal)

    async def test_a_node_that_is_dead_slows_no_key_of_the_others(
        self, cluster: ValkeyCluster, open_store: OpenStore
    ) -> None:
        store = await open_store(cluster.url, prefix="slow:")
        victim, other, third = cluster.primaries
        lost = claim_on(cluster, victim, "slow:")
        healthy = [claim_on(cluster, other, "slow:") for _ in range(20)]
        victim.pause()
        try:
            waiting = asyncio.create_task(store.claim(lost))
            for claim in healthy:
                began = time.monotonic()
                assert isinstance(await store.claim(claim), Granted)
                assert time.monotonic() - began < PROMPT
            await store.store.ping()
            assert isinstance(await waiting, Unavailable)
            third.pause()
            with pytest.raises(StoreUnavailable) as unavailable:
                await store.store.ping()
            assert all(f":{server.port}/0: no answer" in str(unavailable.value) for server in (victim, third))
        finally:
            victim.resume()
            third.resume()
            await asyncio.to_thread(cluster.heal)

    async def test_what_a_stalled_node_applies_after_its_successor_was_chosen_blocks_no_key(
        self, cluster: ValkeyCluster, open_store: OpenStore
    ) -> None:
        store, victim = await open_store(cluster.url, prefix="ghost:"), cluster.primaries[0]
        ghost, next_one = (claim_on(cluster, victim, "ghost:") for _ in range(2))
        rival = claim_of(ghost.attempt.key_hash)
        victim.pause()
        try:
            assert isinstance(await store.claim(ghost), Unavailable)

            async def served() -> bool:
                return isinstance(await store.claim(next_one), Granted)

            await eventually(served, within=15.0)
            assert isinstance(await store.claim(rival), Granted)
        finally:
            victim.resume()
            await asyncio.to_thread(cluster.heal)
        assert victim not in cluster.primaries
        assert await store.read(ghost.attempt.key_hash) == Found(rival, State.IN_PROGRESS)


class TestMove:
    async def test_keys_of_a_slot_that_moves_under_load_are_kept_and_claimed_once(
        self, cluster: ValkeyCluster, open_store: OpenStore
    ) -> None:
        store, rival = [await open_store(cluster.url, prefix=TAG, deadline=1.0) for _ in range(2)]
        raced: list[tuple[object, object]] = []

        async def race() -> None:
            while not moving.done() or len(raced) < 50:
                claim = claim_of()
                raced.append(await asyncio.gather(store.claim(claim), rival.claim(claim_of(claim.attempt.key_hash))))

        def move() -> None:
            source, target = begin_move(cluster)
            for _ in range(3):
                time.sleep(0.1)  # what is claimed meanwhile goes to the target by ASK
                move_keys(cluster, source, target)
            end_move(cluster, source, target)

        async with Load(store) as load:
            await eventually(lambda: len(load.granted) > 20)
            moving = asyncio.create_task(asyncio.to_thread(move))
            await race()
            await moving
            before = len(load.granted)
            await eventually(lambda: len(load.granted) > before + 20)
        assert load.unavailable == []
        assert await load.forgotten() == []
        assert {tuple(sorted(type(result).__name__ for result in each)) for each in raced} == {("Found", "Granted")}

    async def test_a_key_is_claimed_where_its_slot_goes_and_settled_where_it_lies(
        self, cluster: ValkeyCluster, open_store: OpenStore
    ) -> None:
        store, old, new = await open_store(cluster.url, prefix=TAG), claim_of(), claim_of()
        await store.claim(old)
        source, target = begin_move(cluster)
        try:
            count = cluster.ask(source, "CLUSTER COUNTKEYSINSLOT", SLOT)
            assert isinstance(await store.claim(new), Granted)
            assert isinstance(await store.settle(completed(new)), Done)
            assert isinstance(await store.settle(completed(old)), Done)
            assert cluster.ask(source, "CLUSTER COUNTKEYSINSLOT", SLOT) == count
            assert cluster.ask(target, "CLUSTER COUNTKEYSINSLOT", SLOT) == 1
            for claim in (old, new):
                assert await store.read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)
        finally:
            move_keys(cluster, source, target)
            end_move(cluster, source, target)
        for claim in (old, new):
            assert await store.read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)

    async def test_a_slot_that_has_moved_is_looked_for_once_for_all_commands(
        self, cluster: ValkeyCluster, open_store: OpenStore
    ) -> None:
        store = await open_store(cluster.url, prefix=TAG)
        source, target = begin_move(cluster)
        move_keys(cluster, source, target)
        end_move(cluster, source, target)
        before = moved(cluster, source)
        assert await is_granted(store)
        for _ in range(20):
            assert await is_granted(store)
        assert moved(cluster, source) == before + 1

    async def test_a_slot_without_a_node_is_waited_for(self, cluster: ValkeyCluster, open_store: OpenStore) -> None:
        store, owner = await open_store(cluster.url, prefix=TAG, deadline=5.0), cluster.owner(SLOT)
        cluster.ask(owner, "CLUSTER DELSLOTS", SLOT)
        try:
            pending = asyncio.create_task(store.claim(claim_of()))
            await eventually(lambda: "errorstat_CLUSTERDOWN" in cluster.ask(owner, "INFO", "errorstats"))
            assert not pending.done()
        finally:
            cluster.ask(owner, "CLUSTER ADDSLOTS", SLOT)
            await asyncio.to_thread(cluster.heal)
        assert isinstance(await pending, Granted)


class TestNetwork:
    async def test_a_claim_whose_reply_was_lost_is_repeated_and_granted(
        self, cluster: ValkeyCluster, open_store: OpenStore
    ) -> None:
        async with relayed(cluster) as relays:
            store = await open_store(cluster.url_through([relay.port for relay in relays.values()]), prefix="net:")
            node = cluster.primaries[0]
            relay = relays[node.port]
            before = len(relay.links)
            relay.links[-1].change_replies = lambda _: b""
            assert isinstance(await store.claim(claim_on(cluster, node, "net:")), Granted)
            assert len(relay.links) == before + 1

    async def test_a_node_that_falls_silent_holds_nobody_over_the_deadline(
        self, cluster: ValkeyCluster, open_store: OpenStore
    ) -> None:
        async with relayed(cluster) as relays:
            store = await open_store(cluster.url_through([relay.port for relay in relays.values()]), prefix="net:")
            node = cluster.primaries[0]
            relay, claim = relays[node.port], claim_on(cluster, node, "net:")
            heard, relay.change_replies = relay.change_replies, lambda _: b""
            relay.links[-1].change_replies = relay.change_replies
            began = time.monotonic()
            assert isinstance(await store.claim(claim), Unavailable)
            assert time.monotonic() - began < DEADLINE + 4 * TICK
            relay.change_replies = heard

            async def free() -> bool:
                return isinstance(await store.read(claim.attempt.key_hash), Absent)

            await eventually(free)

    async def test_nodes_behind_tls_are_reached_with_their_own_authority(
        self, cluster: ValkeyCluster, open_store: OpenStore, tmp_path: Path
    ) -> None:
        authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        async with relayed(cluster, context) as relays:
            url = cluster.url_through([relay.port for relay in relays.values()]).replace("redis+", "rediss+", 1)
            store = await open_store(f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}")
            assert all(await asyncio.gather(*(is_granted(store) for _ in range(10))))
            with pytest.raises(StoreUnavailable, match="certificate verify failed"):
                await open_store(url)

    async def test_two_nodes_that_send_a_command_to_each_other_are_not_asked_without_a_rest(
        self, cluster: ValkeyCluster, open_store: OpenStore
    ) -> None:
        async with relayed(cluster) as relays:
            url = cluster.url_through([relay.port for relay in relays.values()])
            store = await open_store(url, prefix=TAG)
            owner = cluster.owner(SLOT)
            other = next(server for server in cluster.primaries if server is not owner)
            told = 0

            def sends_to(server: Valkey, rename: Change) -> Change:
                def change(data: bytes) -> bytes:
                    nonlocal told
                    error = b"-MOVED %d 127.0.0.1:%d\r\n" % (SLOT, relays[server.port].port)
                    changed, count = re.subn(rb"(?m)^(\$-1|-MOVED [^\r]*)\r\n", error, rename(data))
                    told += count
                    return changed

                return change

            for one, another in ((owner, other), (other, owner)):
                link = relays[one.port].links[-1]
                link.change_replies = sends_to(another, link.change_replies)
            assert isinstance(await store.read(claim_of().attempt.key_hash), Unavailable)
            assert 4 < told < 30


class TestStart:
    async def test_one_node_that_is_there_leads_to_all(self, cluster: ValkeyCluster, open_store: OpenStore) -> None:
        replica = next(server for server in cluster.servers if server not in cluster.primaries)
        store = await open_store(cluster.url_through([1, replica.port]))
        assert store.store.place == f"redis+cluster://:***@127.0.0.1:1,127.0.0.1:{replica.port}"
        assert all(await asyncio.gather(*(is_granted(store) for _ in range(20))))

    async def test_a_right_that_is_missing_on_one_node_is_refused_at_the_start(
        self, cluster: ValkeyCluster, open_store: OpenStore
    ) -> None:
        node = cluster.primaries[2]
        rights = [*NEEDED, *HELPFUL, "+cluster|slots", "+asking"]
        for server in cluster.servers:
            cluster.ask(server, "ACL SETUSER", "app", "on", ">secret", "~test:*", *rights)
        url = cluster.url.replace("://:of-nodes@", "://app:secret@")
        assert await is_granted(await open_store(url))
        cluster.ask(node, "ACL SETUSER", "app", "-set")
        with pytest.raises(StoreRefused, match=rf"{node.port}/0: a claim was tried there.*may not run a command"):
            await open_store(url)

    async def test_a_cluster_is_entered_as_a_cluster_and_a_server_as_a_server(
        self, cluster: ValkeyCluster, valkey: Valkey, open_store: OpenStore
    ) -> None:
        with pytest.raises(StoreRefused, match=r"begin with redis\+cluster://"):
            await open_store(f"redis://:of-nodes@127.0.0.1:{cluster.primaries[0].port}")
        with pytest.raises(StoreRefused, match="no part of a cluster"):
            await open_store(f"redis+cluster://127.0.0.1:{valkey.port}")

    async def test_a_wrong_password_is_refused(self, cluster: ValkeyCluster, open_store: OpenStore) -> None:
        with pytest.raises(StoreRefused, match="wrong user or password") as refused:
            await open_store(cluster.url.replace("of-nodes", "hunter"))
        assert "hunter" not in str(refused.value)
