"""What a claim makes of a reply, and when it does not trust it."""

from time import monotonic
from typing import TYPE_CHECKING, cast

import pytest

from proxy.core.lifecycle import State
from proxy.core.record import Attempt, Record
from proxy.store.base import ClaimResult, Found, Granted, Unavailable
from proxy.store.codec import encode
from proxy.store.marker import FORGOTTEN, Marker
from proxy.store.redis.connection import Command, Reply
from proxy.store.redis.operations import Claim, Confirm, Context
from tests.support.stores import claim_of, completed

if TYPE_CHECKING:
    from proxy.store.redis.topology import Topology


class Asking:
    """One claim, and all that came of it."""

    def __init__(self, *, left: float = 1.0, waits: bool = False, copies: int = 1) -> None:
        self.record = claim_of()
        self.results: list[ClaimResult] = []
        self.withdrawn: list[Attempt] = []
        self.sent: list[Command] = []
        context = Context(cast("Topology", self), self.withdrawn.append, b"p:", waits, Marker(b""))
        self.claim = Claim(context, self.record, self.results.append, monotonic() + left)
        self.claim.copies = copies

        self.marker = context.marker

    def insist(self, command: Command) -> None:
        self.sent.append(command)


def own(asking: Asking) -> bytes:
    return encode(asking.record)


def test_a_claim_that_met_nothing_is_granted() -> None:
    asking = Asking()
    asking.claim.replied(None)
    assert (asking.results, asking.withdrawn) == ([Granted()], [])


def test_a_claim_that_met_its_own_token_is_granted() -> None:
    asking = Asking(copies=2)
    asking.claim.replied(own(asking))
    assert (asking.results, asking.withdrawn) == ([Granted()], [])


@pytest.mark.parametrize("meets_own", [False, True])
def test_a_grant_that_is_found_after_the_deadline_is_none_and_is_withdrawn(meets_own: bool) -> None:
    """The process was stopped, and finds the reply before its own clock has ticked: the lease may be over as well."""
    asking = Asking(left=-0.001)
    asking.claim.replied(own(asking) if meets_own else None)
    assert asking.results == [Unavailable("granted when the deadline was over")]
    assert asking.withdrawn == [asking.record.attempt]


def test_a_store_that_has_forgotten_grants_nothing() -> None:
    asking = Asking()
    asking.marker.begin(b"m", there := asking.marker.new())
    asking.marker.seen(b"m", there)
    assert asking.marker.forgotten is None
    asking.marker.seen(b"m", None)
    asking.claim.replied(None)
    assert (asking.results, asking.withdrawn) == ([Unavailable(FORGOTTEN)], [asking.record.attempt])


class TestThatMustLast:
    def test_a_grant_that_may_be_forgotten_is_none_and_is_withdrawn(self) -> None:
        asking = Asking(waits=True)
        asking.claim.forgettable(None, "0 of 1")
        assert (asking.results, asking.withdrawn) == ([Unavailable("0 of 1")], [asking.record.attempt])

    def test_who_is_met_is_found_whether_it_lasts_or_not(self) -> None:
        asking, other = Asking(waits=True), completed(claim_of())
        other = Record(other.attempt._replace(key_hash=asking.record.attempt.key_hash), State.COMPLETED, other.response)
        asking.claim.forgettable(encode(other), "0 of 1")
        assert (asking.results, asking.withdrawn) == ([Found(other, State.COMPLETED)], [])

    @pytest.mark.parametrize(
        ("reply", "forgettable", "result"),
        [
            (1, False, Granted()),
            (1, True, Unavailable("0 of 1")),
            (0, False, Unavailable("the claim was gone when it was confirmed")),
            (0, True, Unavailable("the claim was gone when it was confirmed")),
        ],
    )
    def test_its_own_token_is_trusted_once_it_was_written_anew(
        self, reply: Reply, forgettable: bool, result: ClaimResult
    ) -> None:
        asking = Asking(waits=True, copies=2)
        asking.claim.replied(own(asking))
        (confirm,) = asking.sent
        assert isinstance(confirm, Confirm)
        assert confirm.lasts
        assert asking.results == []
        if forgettable:
            confirm.forgettable(reply, "0 of 1")
        else:
            confirm.replied(reply)
        assert asking.results == [result]
        assert asking.withdrawn == ([] if result == Granted() else [asking.record.attempt])

    def test_a_confirmation_that_got_no_answer_grants_nothing(self) -> None:
        asking = Asking(waits=True, copies=2)
        asking.claim.replied(own(asking))
        asking.sent[0].failed("silent")
        assert (asking.results, asking.withdrawn) == ([Unavailable("silent")], [asking.record.attempt])
