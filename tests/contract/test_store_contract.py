"""What every store promises, as stories. The table of transitions has its own file."""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import pytest

from proxy.core.lifecycle import State
from proxy.core.record import Record, Response
from proxy.store.base import Absent, Done, Foreign, Found, Granted, StoreUnavailable, Unavailable
from tests.support.raw import eventually
from tests.support.stores import HOUR, Asked, Medium, claim_of, completed, now_ms, ruling, unknown

MIB = 1024 * 1024
EVERY_BYTE = bytes(range(256))


class TestClaim:
    async def test_of_a_hundred_racing_claimants_on_two_stores_exactly_one_is_granted(self, medium: Medium) -> None:
        stores = [await medium.store(), await medium.store()]
        first = claim_of()
        claims = [first, *(claim_of(first.attempt.key_hash) for _ in range(99))]

        results = await asyncio.gather(*(stores[n % 2].claim(claim) for n, claim in enumerate(claims)))

        (winner,) = [claim for claim, result in zip(claims, results, strict=True) if result == Granted()]
        assert results.count(Found(winner, State.IN_PROGRESS)) == 99

    async def test_a_claim_that_is_repeated_finds_its_own_token_and_is_granted(self, store: Asked) -> None:
        claim = claim_of()
        assert await store.claim(claim) == Granted()
        assert await store.claim(claim) == Granted()

    async def test_a_claim_that_was_settled_meanwhile_is_found_not_granted_again(self, store: Asked) -> None:
        claim = claim_of()
        await store.claim(claim)
        await store.settle(completed(claim))
        assert await store.claim(claim) == Found(completed(claim), State.COMPLETED)

    async def test_keys_do_not_meet(self, store: Asked) -> None:
        one, other = claim_of(), claim_of()
        await store.claim(one)
        assert await store.claim(other) == Granted()
        await store.settle(completed(one))
        assert await store.read(other.attempt.key_hash) == Found(other, State.IN_PROGRESS)


class TestTime:
    async def test_a_key_whose_retention_is_over_is_absent_and_can_be_claimed(self, store: Asked) -> None:
        claim = claim_of(retention=300)
        await store.claim(claim)
        assert await store.read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS)

        async def gone() -> bool:
            return await store.read(claim.attempt.key_hash) == Absent()

        await eventually(gone, within=3.0)
        assert await store.claim(claim_of(claim.attempt.key_hash)) == Granted()

    async def test_an_attempt_past_its_lease_reads_as_unknown_to_everybody_and_belongs_to_nobody_else(
        self, store: Asked
    ) -> None:
        claim = claim_of(lease=300)
        rival = claim_of(claim.attempt.key_hash)
        await store.claim(claim)
        assert await store.claim(rival) == Found(claim, State.IN_PROGRESS)

        async def lapsed() -> bool:
            return await store.read(claim.attempt.key_hash) == Found(claim, State.UNKNOWN)

        await eventually(lapsed, within=3.0)
        assert await store.claim(rival) == Found(claim, State.UNKNOWN)

    async def test_a_proxy_whose_clock_is_wrong_bends_neither_label_nor_retention(self, store: Asked) -> None:
        slow, fast = claim_of(first_used=now_ms() - 20 * HOUR), claim_of(first_used=now_ms() + 20 * HOUR)
        for claim in (slow, fast):
            await store.claim(claim)
            assert await store.read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS)

    async def test_a_settle_keeps_the_time_at_which_the_key_expires(self, store: Asked, medium: Medium) -> None:
        claim = claim_of()
        await store.claim(claim)
        await medium.expire_in(claim.attempt.key_hash, 30_000)
        await store.settle(unknown(claim))
        assert 20_000 < await medium.expires_in(claim.attempt.key_hash) <= 30_000
        await store.settle(completed(claim))
        assert 20_000 < await medium.expires_in(claim.attempt.key_hash) <= 30_000


class TestSettle:
    async def test_a_settle_that_is_repeated_is_done_and_the_first_answer_stays(self, store: Asked) -> None:
        claim = claim_of()
        await store.claim(claim)
        assert await store.settle(completed(claim, b"first")) == Done()
        assert await store.settle(completed(claim, b"second")) == Done()
        assert await store.read(claim.attempt.key_hash) == Found(completed(claim, b"first"), State.COMPLETED)

    async def test_completed_is_never_changed(self, store: Asked) -> None:
        claim = claim_of()
        await store.claim(claim)
        await store.settle(completed(claim))
        assert await store.settle(unknown(claim)) == Done()
        assert await store.release(claim) == Foreign(completed(claim))
        assert await store.read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)

    async def test_an_answer_that_comes_late_turns_unknown_into_completed(self, store: Asked) -> None:
        claim = claim_of()
        await store.claim(claim)
        await store.settle(unknown(claim))
        assert await store.settle(completed(claim)) == Done()
        assert await store.read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)

    async def test_an_attempt_past_its_lease_can_still_be_settled(self, store: Asked) -> None:
        claim = claim_of(lease=0)
        await store.claim(claim)
        assert await store.read(claim.attempt.key_hash) == Found(claim, State.UNKNOWN)
        assert await store.settle(completed(claim)) == Done()
        assert await store.read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)

    async def test_another_attempts_settle_and_release_are_refused_with_the_owners_record(self, store: Asked) -> None:
        claim = claim_of()
        stranger = claim_of(claim.attempt.key_hash)
        await store.claim(claim)
        for there in (claim, unknown(claim), completed(claim)):
            if there is not claim:
                await store.settle(there)
            assert await store.settle(completed(stranger)) == Foreign(there)
            assert await store.settle(unknown(stranger)) == Foreign(there)
            assert await store.release(stranger) == Foreign(there)
            assert await store.read(claim.attempt.key_hash) == Found(there, there.state)

    async def test_a_record_that_the_store_lost_is_written_anew_to_expire_with_the_first_use(
        self, store: Asked, medium: Medium
    ) -> None:
        claim = claim_of(first_used=now_ms() - HOUR // 2)
        assert await store.settle(completed(claim)) == Done()
        assert await store.read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)
        assert HOUR // 2 - 10_000 < await medium.expires_in(claim.attempt.key_hash) <= HOUR // 2

    async def test_a_record_whose_retention_is_over_is_not_written_anew(self, store: Asked) -> None:
        claim = claim_of(first_used=now_ms() - 2 * HOUR)
        assert await store.settle(completed(claim)) == Done()
        assert await store.read(claim.attempt.key_hash) == Absent()


class TestRelease:
    async def test_a_key_that_was_released_can_be_claimed_by_the_next_attempt(self, store: Asked) -> None:
        claim = claim_of()
        await store.claim(claim)
        assert await store.release(claim) == Done()
        assert await store.release(claim) == Done()
        assert await store.claim(claim_of(claim.attempt.key_hash)) == Granted()

    async def test_an_attempt_that_never_sent_may_release_past_its_lease(self, store: Asked) -> None:
        claim = claim_of(lease=0)
        await store.claim(claim)
        assert await store.release(claim) == Done()
        assert await store.read(claim.attempt.key_hash) == Absent()


class TestOverrule:
    """An operator, who has looked at the backend."""

    async def test_what_an_operator_says_of_an_unknown_key_stands_until_the_key_expires(
        self, store: Asked, medium: Medium
    ) -> None:
        claim = claim_of(lease=0)
        said = ruling(claim)
        await store.claim(claim)
        await store.settle(unknown(claim))
        await medium.expire_in(claim.attempt.key_hash, 30_000)
        assert await store.overrule(claim.attempt, said) == Done()
        assert await store.read(claim.attempt.key_hash) == Found(said, State.COMPLETED)
        assert 20_000 < await medium.expires_in(claim.attempt.key_hash) <= 30_000

    async def test_it_is_never_released_and_never_written_over_and_a_late_answer_meets_it(self, store: Asked) -> None:
        claim = claim_of(lease=0)
        said = ruling(claim)
        await store.claim(claim)
        await store.settle(unknown(claim))
        await store.overrule(claim.attempt, said)
        for result in (
            await store.settle(unknown(claim)),
            await store.settle(completed(claim, b"the backend's own answer, late")),
            await store.release(claim),
            await store.overrule(claim.attempt, None),
            await store.overrule(claim.attempt, ruling(claim)),
            await store.overrule(said.attempt, None),
        ):
            assert result == Foreign(said)
        assert await store.claim(claim) == Found(said, State.COMPLETED)
        assert await store.read(claim.attempt.key_hash) == Found(said, State.COMPLETED)

    async def test_a_key_that_an_operator_frees_can_be_claimed_and_a_late_answer_meets_its_owner(
        self, store: Asked
    ) -> None:
        claim = claim_of(lease=0)
        second = claim_of(claim.attempt.key_hash, lease=0)
        await store.claim(claim)
        await store.settle(unknown(claim))
        assert await store.overrule(claim.attempt, None) == Done()
        assert await store.claim(second) == Granted()
        assert await store.settle(completed(claim)) == Foreign(second)
        assert await store.overrule(claim.attempt, None) == Foreign(second), "the operator spoke of the first"
        assert await store.overrule(claim.attempt, ruling(claim)) == Foreign(second)

    async def test_before_its_lease_is_over_nobody_is_overruled_whatever_the_record_says(self, store: Asked) -> None:
        """The attempt may still send; or what it has sent is still on its way, and the operator looked too early."""

        async def wait_for_the_lease(frees: bool, says_unknown: bool) -> None:
            claim = claim_of(lease=400)
            act = None if frees else ruling(claim)
            there = unknown(claim) if says_unknown else claim
            await store.claim(claim)
            if says_unknown:
                await store.settle(there)
            assert await store.overrule(claim.attempt, act) == Foreign(there)

            async def done() -> bool:
                return await store.overrule(claim.attempt, act) == Done()

            await eventually(done, within=3.0)
            expected = Absent() if act is None else Found(act, State.COMPLETED)
            assert await store.read(claim.attempt.key_hash) == expected

        await asyncio.gather(*(wait_for_the_lease(*how) for how in product((True, False), repeat=2)))

    async def test_the_age_of_an_attempt_is_judged_by_the_stores_clock(self, store: Asked) -> None:
        for claim in (claim_of(first_used=now_ms() - 20 * HOUR), claim_of(first_used=now_ms() + 20 * HOUR)):
            await store.claim(claim)
            assert await store.overrule(claim.attempt, None) == Foreign(claim)

    async def test_an_operator_who_repeats_himself_is_done_and_one_who_comes_too_late_is_told(
        self, store: Asked
    ) -> None:
        claim = claim_of(lease=0)
        said = ruling(claim)
        await store.claim(claim)
        await store.settle(unknown(claim))
        assert await store.overrule(claim.attempt, said) == Done()
        assert await store.overrule(claim.attempt, said) == Done()
        assert await store.overrule(claim_of().attempt, None) == Absent()
        assert await store.overrule(claim_of().attempt, ruling(claim_of())) == Absent()


class TestRecords:
    @pytest.mark.parametrize(
        "response",
        [
            Response(204, b"", b"", b"", 0, truncated=False, date=0),
            Response(200, EVERY_BYTE, b"A: 1\r\na: " + EVERY_BYTE + b"\r\nA:\r\n", EVERY_BYTE, 256, False, 2**40),
            Response(201, b"Created", b"X: y\r\n", EVERY_BYTE * (MIB // 256), MIB, False, 1452723956),
            Response(200, b"OK", b"X: y\r\n", b"", 2**40, truncated=True, date=1452723956),
        ],
        ids=["empty", "every byte", "1 MiB", "truncated"],
    )
    async def test_a_response_comes_back_byte_for_byte(self, store: Asked, response: Response) -> None:
        claim = claim_of(url=EVERY_BYTE, credential=EVERY_BYTE[:16])
        record = completed(claim)._replace(response=response)
        await store.claim(claim)
        assert await store.settle(record) == Done()
        assert await store.read(claim.attempt.key_hash) == Found(record, State.COMPLETED)

    async def test_an_unknown_record_keeps_what_was_said_to_the_client(self, store: Asked) -> None:
        claim = claim_of()
        said = unknown(completed(claim, b"504, that is"))
        await store.claim(claim)
        await store.settle(said)
        assert await store.read(claim.attempt.key_hash) == Found(said, State.UNKNOWN)

    async def test_a_record_that_cannot_be_decoded_is_unavailable_never_absent(
        self, store: Asked, medium: Medium
    ) -> None:
        claim = claim_of()
        await store.claim(claim)
        await medium.damage(claim.attempt.key_hash, b"\xffno record of ours")
        results = [
            await store.read(claim.attempt.key_hash),
            await store.claim(claim_of(claim.attempt.key_hash)),
            await store.settle(completed(claim_of(claim.attempt.key_hash))),
        ]
        for result in results:
            assert isinstance(result, Unavailable)
            assert "decode" in result.why
            assert claim.attempt.key_hash.hex() not in result.why


class TestUpgrade:
    """What lies there was written by the release before, which has another form of records."""

    async def test_a_key_that_was_under_way_is_found_and_settled(self, store: Asked, medium: Medium) -> None:
        claim = claim_of()
        await store.claim(claim)
        await medium.damage(claim.attempt.key_hash, as_before(claim))
        assert await store.claim(claim_of(claim.attempt.key_hash)) == Found(claim, State.IN_PROGRESS)
        assert await store.settle(completed(claim_of(claim.attempt.key_hash))) == Foreign(claim)
        assert await store.settle(completed(claim)) == Done()
        assert await store.read(claim.attempt.key_hash) == Found(completed(claim), State.COMPLETED)

    async def test_one_whose_attempt_comes_back_is_its_own_and_can_be_released(
        self, store: Asked, medium: Medium
    ) -> None:
        claim = claim_of()
        await store.claim(claim)
        await medium.damage(claim.attempt.key_hash, as_before(claim))
        assert await store.claim(claim) == Granted()
        assert await store.release(claim) == Done()
        assert await store.read(claim.attempt.key_hash) == Absent()

    async def test_an_operator_rules_over_it_once_its_lease_is_over(self, store: Asked, medium: Medium) -> None:
        claim = claim_of(lease=1500)
        said = ruling(claim)
        await store.claim(claim)
        await medium.damage(claim.attempt.key_hash, as_before(claim))
        assert await store.overrule(claim.attempt, said) == Foreign(claim)

        async def done() -> bool:
            return await store.overrule(claim.attempt, said) == Done()

        await eventually(done, within=5.0)
        assert await store.read(claim.attempt.key_hash) == Found(said, State.COMPLETED)


def as_before(claim: Record) -> bytes:
    """A claim in version 1."""
    key_hash, token, first_used, lease, retention, credential, url, _ = claim.attempt
    form = struct.Struct(">Bc16s16sQQQ16sH")
    return form.pack(1, b"i", token, key_hash, first_used, lease, retention, credential, len(url)) + url


@dataclass
class Calls:
    """How often each callback was called, and with what."""

    results: dict[int, list[object]] = field(default_factory=dict)

    def new(self) -> Callable[[object], None]:
        results: list[object] = []
        self.results[len(self.results)] = results
        return results.append

    @property
    def counts(self) -> set[int]:
        return {len(results) for results in self.results.values()}


def all_of(store: Asked, calls: Calls, rounds: int = 1) -> None:
    """Each operation *rounds* times, all at once."""
    for _ in range(rounds):
        claim = claim_of()
        store.store.claim(claim, calls.new())
        store.store.settle(completed(claim), calls.new())
        store.store.release(claim, calls.new())
        store.store.read(claim.attempt.key_hash, calls.new())


class TestCallbacks:
    async def test_each_operation_calls_back_exactly_once_and_never_from_within(self, store: Asked) -> None:
        calls = Calls()
        all_of(store, calls, rounds=100)
        assert calls.counts == {0}
        await eventually(lambda: 0 not in calls.counts)
        await store.store.ping()
        assert calls.counts == {1}
        assert not [result for (result,) in calls.results.values() if isinstance(result, Unavailable)]

    async def test_operations_on_a_key_are_done_in_the_order_in_which_they_were_given(self, store: Asked) -> None:
        calls = Calls()
        all_of(store, calls)
        await eventually(lambda: 0 not in calls.counts)
        (claimed,), (settled,), (released,), (there,) = calls.results.values()
        assert (claimed, settled) == (Granted(), Done())
        assert isinstance(there, Found)
        assert released == Foreign(there.record)

    async def test_a_callback_that_raises_is_logged_and_harms_nobody_else(
        self, store: Asked, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(result: object) -> None:
            raise RuntimeError("a defect of the listener")

        claim = claim_of()
        calls = Calls()
        store.store.claim(claim, fail)
        all_of(store, calls)
        store.store.read(claim.attempt.key_hash, fail)
        await eventually(lambda: 0 not in calls.counts)
        assert await store.read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS)
        defects = [entry for entry in caplog.records if entry.exc_info and "listener" in str(entry.exc_info[1])]
        assert len(defects) == 2

    async def test_closing_answers_what_is_under_way_and_refuses_what_comes_after(self, store: Asked) -> None:
        calls, late = Calls(), Calls()
        all_of(store, calls, rounds=10)
        await store.store.close()
        assert calls.counts == {1}
        all_of(store, late)
        assert late.counts == {0}
        await eventually(lambda: 0 not in late.counts)
        assert late.counts == {1}
        assert all(isinstance(result, Unavailable) for (result,) in late.results.values())
        with pytest.raises(StoreUnavailable):
            await store.store.ping()


class TestOperators:
    async def test_a_store_says_where_it_is_and_what_it_does_not_protect_against(self, store: Asked) -> None:
        await store.store.ping()
        assert "://" in store.store.place
        assert all(isinstance(finding, str) and finding for finding in await store.store.findings())
