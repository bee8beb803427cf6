"""Claims that are granted, and settlements that are done, only once a replica or the disk has them."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import redis

from proxy.core.lifecycle import State
from proxy.deadlines import TICK
from proxy.store.base import Absent, ClaimResult, Done, Foreign, Found, Granted, StoreRefused, Unavailable
from proxy.store.redis.store import RedisStore
from proxy.store.redis.withdrawals import Withdrawals
from tests.support.raw import eventually
from tests.support.redis_client import (
    DEADLINE,
    NEEDED,
    Client,
    OpenStore,
    admit,
    calls,
    connections,
    follow,
    is_granted,
    through,
)
from tests.support.relay import Relay
from tests.support.stores import Asked, claim_of, completed, ruling
from tests.support.valkey import Valkey

TOO_FEW = Unavailable("0 of 1 replicas had it within 150 ms")
Drop = Callable[[Asked], Awaitable[None]]


def withdrawals_of(asked: Asked) -> Withdrawals:
    assert isinstance(asked.store, RedisStore)
    return asked.store._withdrawals


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Valkey]:
    """Another server of the test's own."""
    (tmp_path / "replica").mkdir()
    with Valkey(tmp_path / "replica") as server:
        yield server


@pytest.fixture
async def replica_client(replica: Valkey) -> AsyncIterator[Client]:
    client = Client.from_url(replica.url)
    yield client
    await client.aclose()


@pytest.fixture
async def copied(
    victim: Valkey, client: Client, replica: Valkey, replica_client: Client, open_store: OpenStore
) -> Asked:
    """A store on a primary with one replica, which must have what is believed."""
    await follow(replica_client, client, victim.port)
    return await open_store(victim.url, prefix="test:", durability="replicas:1")


@pytest.fixture
def drop(client: Client) -> Drop:
    """Cuts the store's connection, and returns once it has another."""

    async def cut(store: Asked) -> None:
        (before,) = await connections(client)
        await client.client_kill_filter(_id=before)

        async def another() -> bool:
            return before not in (now := await connections(client)) and bool(now)

        await eventually(another)

    return cut


class TestReplicas:
    async def test_what_was_granted_and_recorded_survives_the_loss_of_its_server(
        self, copied: Asked, victim: Valkey, replica: Valkey, replica_client: Client, open_store: OpenStore
    ) -> None:
        claims = [claim_of() for _ in range(300)]
        results = await asyncio.gather(*(copied.claim(claim) for claim in claims))
        assert {type(result) for result in results} == {Granted}
        settled = await asyncio.gather(*(copied.settle(completed(claim)) for claim in claims[:100]))
        victim.kill()
        assert {type(result) for result in settled} == {Done}
        await replica_client.replicaof("NO", "ONE")

        promoted = await open_store(replica.url, prefix="test:")
        for claim in claims[:100]:
            assert await promoted.read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)
        for claim in claims[100:]:
            assert await promoted.claim(claim_of(claim.attempt.key_hash)) == Found(claim, State.IN_PROGRESS)

    async def test_a_claim_that_no_replica_has_is_not_granted_and_its_key_is_free(
        self, copied: Asked, replica: Valkey
    ) -> None:
        claim = claim_of()
        replica.pause()
        assert await copied.claim(claim) == TOO_FEW
        assert await copied.read(claim.attempt.key_hash) == Absent()
        replica.resume()
        assert await copied.claim(claim_of(claim.attempt.key_hash)) == Granted()

    async def test_whoever_is_found_there_is_found_whether_the_replica_follows_or_not(
        self, copied: Asked, replica: Valkey
    ) -> None:
        claim = claim_of()
        await copied.claim(claim)
        replica.pause()
        assert await copied.claim(claim_of(claim.attempt.key_hash)) == Found(claim, State.IN_PROGRESS)
        assert await copied.read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS)

    async def test_a_claim_that_was_repeated_and_found_is_not_granted_for_what_another_connection_wrote(
        self, victim: Valkey, client: Client, replica: Valkey, replica_client: Client, open_store: OpenStore
    ) -> None:
        """On a new connection WAIT counts a replica that has nothing: the claim is written anew before it waits."""
        await follow(replica_client, client, victim.port)
        async with Relay(victim.port) as relay:
            store = await open_store(through(relay), prefix="test:", durability="replicas:1", deadline=1.2)
            claim = claim_of()
            replica.pause()
            relay.links[0].change_replies = lambda _: b""
            sent = asyncio.create_task(store.claim(claim))

            async def written() -> bool:
                return bool(await client.exists(f"test:{claim.attempt.key_hash.hex()}"))

            await eventually(written)
            (lost,) = await connections(client)
            await client.client_kill_filter(_id=lost)
            assert await sent == Unavailable("0 of 1 replicas had it within 300 ms")
            assert await store.read(claim.attempt.key_hash) == Absent()

    async def test_a_claim_that_was_repeated_and_found_is_granted_once_it_is_copied(
        self, copied: Asked, drop: Drop, replica: Valkey
    ) -> None:
        claim = claim_of()
        await copied.claim(claim)
        await drop(copied)
        assert await copied.claim(claim) == Granted()
        replica.pause()
        assert await copied.claim(claim) == TOO_FEW

    @pytest.mark.parametrize("operation", ["settle", "release", "overrule"])
    async def test_what_is_done_already_is_done_only_once_the_replica_has_it(
        self, copied: Asked, drop: Drop, replica: Valkey, replica_client: Client, operation: str
    ) -> None:
        claim = claim_of(lease=0)  # an operator may rule over it at once
        word = ruling(claim)
        await copied.claim(claim)

        async def operate() -> object:
            match operation:
                case "settle":
                    return await copied.settle(completed(claim))
                case "release":
                    return await copied.release(claim)
                case _:
                    return await copied.overrule(claim.attempt, word)

        replica.pause()
        assert await operate() == TOO_FEW
        await drop(copied)
        assert await operate() == TOO_FEW, "by a connection that has written nothing yet"
        replica.resume()

        async def done() -> bool:
            return await operate() == Done()

        await eventually(done)
        left = await replica_client.get(f"test:{claim.attempt.key_hash.hex()}")
        assert (left is None) is (operation == "release")
        assert left is None or left[1:2] == b"c"

    async def test_a_release_that_anothers_record_refuses_is_refused_only_once_the_replica_has_that_record(
        self, copied: Asked, drop: Drop, replica: Valkey
    ) -> None:
        """Else the replica, promoted, could have the key as it was before, with nobody left to release it."""
        late = claim_of()
        owner = claim_of(late.attempt.key_hash)
        await copied.claim(owner)
        replica.pause()
        assert await copied.release(late) == TOO_FEW
        await drop(copied)
        assert await copied.release(late) == TOO_FEW, "by a connection that has written nothing yet"
        replica.resume()

        async def refused() -> bool:
            return await copied.release(late) == Foreign(owner)

        await eventually(refused)
        assert await copied.read(late.attempt.key_hash) == Found(owner, State.IN_PROGRESS)

    async def test_a_claim_that_is_withdrawn_is_not_granted_though_the_record_that_it_met_goes_meanwhile(
        self, victim: Valkey, client: Client, replica: Valkey, replica_client: Client, open_store: OpenStore
    ) -> None:
        """Of two copies that were sent only one was answered, so the claim is withdrawn, for good where the replica has
        it: a grant under its token would be a key that is freed under its request."""
        await follow(replica_client, client, victim.port)
        async with Relay(victim.port) as relay:
            store = await open_store(through(relay), prefix="test:", durability="replicas:1", deadline=1.5)
            owner = claim_of()
            key_hash = owner.attempt.key_hash
            assert await store.claim(owner) == Granted()
            gone: list[object] = []

            def go_meanwhile(data: bytes) -> bytes:
                """The owner's release overtakes the reply that shows its record."""
                if owner.attempt.token in data:
                    with redis.Redis.from_url(victim.url) as other:
                        gone.append(other.delete(f"test:{key_hash.hex()}"))
                return data

            relay.links[0].change_replies = lambda _: b""
            tried = await calls(client, "set")
            sent = asyncio.create_task(store.claim(claim_of(key_hash)))

            async def applied() -> bool:
                return await calls(client, "set") > tried

            await eventually(applied)
            relay.change_replies = go_meanwhile
            relay.reset()
            assert isinstance(await sent, Unavailable)
            assert gone[:1] == [1]

            retry = claim_of(key_hash)
            assert await store.claim(retry) == Granted()
            relay.treat_replies()
            await eventually(lambda: not withdrawals_of(store)._pending)
            assert await store.read(key_hash) == Found(retry, State.IN_PROGRESS)

    async def test_keys_that_were_refused_while_the_replica_is_away_are_free_at_once_however_many_they_are(
        self, copied: Asked, replica: Valkey
    ) -> None:
        replica.pause()
        claims = [claim_of() for _ in range(60)]
        for wave in (claims[:20], claims[20:40], claims[40:]):
            assert set(await asyncio.gather(*(copied.claim(claim) for claim in wave))) == {TOO_FEW}

        async def free() -> bool:
            return all([await copied.read(claim.attempt.key_hash) == Absent() for claim in claims])

        await eventually(free, within=2.0)

    async def test_more_of_them_than_may_wait_are_withdrawn_for_good_all_the_same_once_the_replica_is_back(
        self, copied: Asked, replica: Valkey, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The one that is tried for all may be the oldest, which is given up."""
        monkeypatch.setattr("proxy.store.redis.withdrawals.MAX_WITHDRAWALS", 20)
        loop, refused = asyncio.get_running_loop(), list[ClaimResult]()
        replica.pause()
        asked, end = 0, loop.time() + 2.5  # until one was tried and given up
        while loop.time() < end:
            copied.store.claim(claim_of(), refused.append)
            asked += 1
            await asyncio.sleep(0.03)
        await eventually(lambda: len(refused) == asked)
        assert set(refused) == {TOO_FEW}
        assert withdrawals_of(copied)._pending
        replica.resume()
        await eventually(lambda: not withdrawals_of(copied)._pending)
        assert await is_granted(copied)

    async def test_claims_that_were_taken_back_are_so_once_the_replica_has_it_and_few_ask_until_then(
        self, copied: Asked, client: Client, replica: Valkey, replica_client: Client
    ) -> None:
        claims = [claim_of() for _ in range(100)]
        withdrawals = withdrawals_of(copied)
        replica.pause()
        results = await asyncio.gather(*(copied.claim(claim) for claim in claims))
        assert set(results) == {TOO_FEW}
        await eventually(lambda: len(withdrawals._postponed) == 100)
        tried = await calls(client, "evalsha")
        await asyncio.sleep(1.5)
        assert 1 <= await calls(client, "evalsha") - tried <= 2, "one is tried now and then"
        assert len(withdrawals._pending) == 100
        replica.resume()
        await eventually(lambda: not withdrawals._pending)
        assert await replica_client.exists(*(f"test:{claim.attempt.key_hash.hex()}" for claim in claims)) == 0

    async def test_claims_of_one_tick_share_one_wait_and_reads_have_none(self, copied: Asked, client: Client) -> None:
        before = await calls(client, "wait")
        results = await asyncio.gather(*(copied.claim(claim_of()) for _ in range(100)))
        assert {type(result) for result in results} == {Granted}
        assert await calls(client, "wait") == before + 1
        await copied.read(bytes(16))
        assert await calls(client, "wait") == before + 1

    async def test_a_replica_that_is_away_leaves_no_heap_of_waits_and_everybody_is_answered_in_time(
        self, copied: Asked, replica: Valkey
    ) -> None:
        loop = asyncio.get_running_loop()
        longest = 0.0

        async def claim() -> object:
            nonlocal longest
            asked = loop.time()
            result = await copied.claim(claim_of())
            longest = max(longest, loop.time() - asked)
            return result

        replica.pause()
        began = loop.time()
        crowd = []
        while loop.time() < began + 1.0:
            crowd += [asyncio.create_task(claim()) for _ in range(10)]
            await asyncio.sleep(0.01)
        results = await asyncio.gather(*crowd)
        assert {type(result) for result in results} == {Unavailable}
        assert longest < DEADLINE + 5 * TICK
        assert await copied.read(bytes(16)) == Absent(), "with nothing but one wait in front of it"
        replica.resume()
        async with asyncio.timeout(1.0):
            await eventually(lambda: is_granted(copied))

    async def test_a_server_with_fewer_replicas_than_are_asked_for_is_refused(
        self, copied: Asked, victim: Valkey, open_store: OpenStore
    ) -> None:
        with pytest.raises(StoreRefused, match="1 replicas are connected"):
            await open_store(victim.url, durability="replicas:2")

    async def test_a_user_who_may_not_wait_is_refused_at_the_start(
        self, copied: Asked, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        url = f"redis://app:secret@127.0.0.1:{victim.port}"
        for durability, rights, why in (
            ("replicas:1", [], "the user may not run a command"),
            ("fsync", ["+config|get"], "the user may not run a command"),
            ("fsync", ["+waitaof"], "appendfsync unknown"),
        ):
            await admit(client, "~test:*", ["-@all", *NEEDED, *rights])
            with pytest.raises(StoreRefused, match=why):
                await open_store(url, durability=durability)
        for durability, rights in (("fsync", ["+waitaof", "+config|get"]), ("replicas:1", ["+wait"])):
            await admit(client, "~test:*", ["-@all", *NEEDED, *rights])
            assert await is_granted(await open_store(url, durability=durability))


class TestDisk:
    async def test_what_was_granted_is_on_the_disk(self, victim: Valkey, client: Client, open_store: OpenStore) -> None:
        store = await open_store(victim.url, prefix="test:", durability="fsync")
        before = await calls(client, "waitaof")
        claims = [claim_of() for _ in range(50)]
        results = await asyncio.gather(*(store.claim(claim) for claim in claims))
        victim.restart()
        assert {type(result) for result in results} == {Granted}
        for claim in claims:
            assert await store.read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS)
        assert before > 0, "the trial at the start"

    async def test_a_server_whose_file_is_switched_off_later_grants_nothing(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        store, claim = await open_store(victim.url, durability="fsync"), claim_of()
        await client.config_set("appendonly", "no")
        assert await store.claim(claim) == Unavailable("ERR: the server keeps no append-only file")
        assert await store.read(claim.attempt.key_hash) == Absent()

    @pytest.mark.parametrize(
        ("name", "value", "why"),
        [("appendfsync", "everysec", "appendfsync everysec"), ("appendonly", "no", "appendonly no")],
    )
    async def test_a_server_that_does_not_sync_before_it_answers_is_refused(
        self, victim: Valkey, client: Client, open_store: OpenStore, name: str, value: str, why: str
    ) -> None:
        await client.config_set(name, value)
        with pytest.raises(StoreRefused, match=why):
            await open_store(victim.url, durability="fsync")

    async def test_a_redis_that_cannot_wait_for_its_disk_is_refused(
        self, tmp_path: Path, open_store: OpenStore
    ) -> None:
        server = shutil.which("redis-server")
        if server is None:
            pytest.skip("there is no redis-server on this machine")
        with Valkey(tmp_path, appendonly=True, program=Path(server)) as old:
            client = Client.from_url(old.url)
            version = str((await client.info("server"))["redis_version"])
            await client.aclose()
            if tuple(int(part) for part in version.split(".")[:2]) >= (7, 2):
                pytest.skip(f"Redis {version} can")
            with pytest.raises(StoreRefused, match=f"needs Redis 7.2 or Valkey: this is Redis {version}"):
                await open_store(old.url, durability="fsync")
