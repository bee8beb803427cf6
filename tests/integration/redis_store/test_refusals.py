"""A server that says no."""

from pathlib import Path

import pytest

from proxy.store.base import Done, Granted, StoreRefused, StoreUnavailable, Unavailable
from tests.support.raw import eventually
from tests.support.redis_client import HELPFUL, NEEDED, Client, OpenStore, admit, is_granted
from tests.support.stores import Asked, claim_of, completed
from tests.support.valkey import Valkey


class TestServerThatSaysNo:
    async def test_a_wrong_password_is_refused_and_not_repeated_to_anybody(
        self, tmp_path: Path, open_store: OpenStore
    ) -> None:
        with Valkey(tmp_path, password="right") as server:
            for entry, why in ((":wrong-secret@", "wrong user or password"), ("", "a password is needed")):
                with pytest.raises(StoreRefused, match=why) as refused:
                    await open_store(f"redis://{entry}127.0.0.1:{server.port}")
                assert "secret" not in str(refused.value)
            store = await open_store(server.url)
            assert store.store.place == f"redis://:***@127.0.0.1:{server.port}/0"

    @pytest.mark.parametrize("missing", NEEDED)
    async def test_a_user_who_lacks_a_right_is_refused_at_the_start(
        self, victim: Valkey, client: Client, open_store: OpenStore, missing: str
    ) -> None:
        rights = [right for right in NEEDED + HELPFUL if right != missing]
        await admit(client, "~test:*", rights)
        with pytest.raises(StoreRefused, match="the user may not run"):
            await open_store(f"redis://app:secret@127.0.0.1:{victim.port}")

    async def test_a_user_who_has_just_the_rights_that_are_needed_is_served(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        await admit(client, "~test:*", NEEDED)
        store, claim = await open_store(f"redis://app:secret@127.0.0.1:{victim.port}"), claim_of()
        assert isinstance(await store.claim(claim), Granted)
        assert isinstance(await store.settle(completed(claim)), Done)

    async def test_a_server_that_may_evict_is_refused_unless_that_is_wanted(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        await client.config_set("maxmemory-policy", "volatile-ttl")
        assert any("once it is given a maxmemory" in line for line in await findings_of(await open_store(victim.url)))
        await client.config_set("maxmemory", "1gb")
        with pytest.raises(StoreRefused, match="volatile-ttl"):
            await open_store(victim.url)
        store = await open_store(victim.url, allow_eviction=True)
        assert any("it may evict records (" in line for line in await findings_of(store))

    async def test_a_server_without_memory_takes_no_claims_and_every_settlement(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        store, claim = await open_store(victim.url), claim_of()
        await store.claim(claim)
        await client.config_set("maxmemory", "1")
        assert await store.claim(claim_of()) == Unavailable("OOM: the server is out of memory (maxmemory)")
        assert isinstance(await store.settle(completed(claim)), Done)
        assert isinstance(await store.settle(completed(claim_of())), Done), "rewritten, though it was not there"

    async def test_a_server_that_became_a_replica_takes_no_claims_until_it_is_the_primary_again(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        store = await open_store(victim.url)
        await client.replicaof("127.0.0.1", "1")
        result = await store.claim(claim_of())
        assert isinstance(result, Unavailable)
        assert "the server is a replica" in result.why
        with pytest.raises(StoreRefused, match="it is a replica"):
            await open_store(victim.url)
        await client.replicaof("NO", "ONE")
        await eventually(lambda: is_granted(store))

    async def test_something_that_is_no_record_makes_the_key_unavailable_never_free(
        self, victim: Valkey, client: Client, open_store: OpenStore
    ) -> None:
        store, claim = await open_store(victim.url, prefix="test:"), claim_of()
        name = f"test:{claim.attempt.key_hash.hex()}"
        await client.rpush(name, "x")
        for result in (await store.claim(claim), await store.read(claim.attempt.key_hash), await store.release(claim)):
            assert result == Unavailable("WRONGTYPE: something that is no record lies under the key")
        await client.delete(name)
        await client.set(name, b"no record")
        for operation in (store.claim(claim), store.read(claim.attempt.key_hash), store.settle(completed(claim))):
            result = await operation
            assert isinstance(result, Unavailable)
            assert "cannot be decoded" in result.why

    async def test_nobody_listens(self, open_store: OpenStore) -> None:
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1/0: .*[Rr]efused"):
            await open_store("redis://127.0.0.1:1")

    async def test_an_open_store_says_what_it_stands_on(
        self, victim: Valkey, valkey: Valkey, open_store: OpenStore
    ) -> None:
        version, *protection = await findings_of(await open_store(victim.url))
        assert version.startswith("Valkey 9.")
        assert any(line.startswith("crash of the server, and it comes back: protected") for line in protection)
        _, *protection = await findings_of(await open_store(valkey.url))
        assert any(line.startswith("crash of the server, and it comes back: NOT protected") for line in protection)


async def findings_of(store: Asked) -> list[str]:
    return await store.store.findings()
