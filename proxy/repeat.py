"""The story of a request whose key another request owns: it is refused, waits, or is given the recorded response."""

from typing import Protocol, assert_never

from proxy.core.answer import Asked, replayed
from proxy.core.lifecycle import State
from proxy.core.record import NO_FINGERPRINT, Record, Response
from proxy.core.refusal import Refusal
from proxy.core.reuse import CONFLICTS, Conflict, Replay, Wait, judge_reuse
from proxy.core.treatment import Treatment
from proxy.deadlines import NEVER
from proxy.http1.forward import Peer
from proxy.http1.message import Fault
from proxy.identity import Identity
from proxy.parts import Parts
from proxy.probe import Granted, PassedOn, Proof, Unproven
from proxy.reply import Reply
from proxy.store.base import Absent, Found, ReadResult, Unavailable

WHO_ARE_YOU = frozenset({401, 403, 429})
"""What a backend says of who asks, and not of what was asked for. Any other 4xx, as the answer to a POST, would be
taken for that of a payment which was refused, and this one may have been made."""


class Contender(Protocol):
    """The request that tried to take the key, and may try again."""

    def again(self) -> None:
        """The key has become free while it waited: it was never sent."""

    def over(self) -> None:
        """It will not try again."""


class Repeat:
    """Hears of the client in the place of *contender*, until that tries again."""

    contends = True
    """See `waiting.Waiter`."""

    def __init__(
        self, parts: Parts, reply: Reply, peer: Peer, key: bytes, treatment: Treatment, contender: Contender
    ) -> None:
        self.deadline = NEVER
        self._parts = parts
        self._reply = reply
        self._peer = peer
        self._asked = Asked(key, reply.head.path)
        self._treatment = treatment
        self._contender = contender
        self._until = NEVER
        self._gone = False
        self._granted = False
        """The upstream lets it see the record; and any other of its scope."""
        self._identity: Identity
        self._fingerprint: bytes
        self._found: Found

    def met(self, found: Found, identity: Identity, fingerprint: bytes, *, gone: bool) -> None:
        """The key is taken, by *found*. *gone*: nobody waits for an answer."""
        self._identity, self._fingerprint, self._gone = identity, fingerprint, gone
        self._reply.key_hash = found.record.attempt.key_hash
        self._reply.client.hand_over(self)
        self._judge(found)

    def _judge(self, found: Found) -> None:
        self._found = found
        prober = self._parts.prober
        if prober is not None and self._tells_requests_apart(found):
            prober.ask(self._reply.head, self._peer, self._answered)
        else:
            self._act(proven=self._proven(found.record))

    def _act(self, *, proven: bool) -> None:
        record, state = self._found.record, self._found.state
        match judge_reuse(record.attempt, state, self._treatment, self._fingerprint, proven=proven):
            case Conflict(refusal):
                self._refuse(refusal)
            case Wait():
                self._wait()
            case Replay():
                self._parts.store.opened(record, self._opened)
            case verdict:
                assert_never(verdict)

    def _proven(self, record: Record) -> bool:
        """By what the request itself carries; the upstream has the last word, where it is asked."""
        return not self._parts.terms.prove or self._identity.proves(record.attempt)

    def _tells_requests_apart(self, found: Found) -> bool:
        """Whether what it is told could depend on what it asks for: that is for those who may see the record. The
        upstream is asked then whatever this one asks for, or its being asked would tell."""
        attempt, treatment = found.record.attempt, self._treatment
        compared = treatment.rejects or (treatment.replays and found.state is State.COMPLETED)
        return compared and attempt.fingerprint != NO_FINGERPRINT and not self._granted and self._proven(found.record)

    # -- waiting ------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        parts = self._parts
        self._until = min(self._until, parts.deadlines.now() + parts.terms.repeat_wait_max)
        if self._gone:
            self._contender.over()
            return
        if parts.deadlines.now() < self._until and parts.waiting.wait(self._reply.key_hash, self):
            self.deadline = self._until
            parts.deadlines.add(self)
        else:
            self._refuse(Refusal.CONFLICT_IN_PROGRESS)

    def settled(self, result: ReadResult) -> None:
        """See `waiting.Waiter`."""
        if self._gone:
            return  # in the very turn in which it ended
        self._rest()
        match result:
            case Found():
                self._judge(result)
            case Absent():  # released elsewhere; or the store has lost it, and its request is at the backend
                self._refuse(Refusal.CONFLICT_IN_PROGRESS)
            case Unavailable(why):
                self._parts.journal.store_failure("read", why, self._reply.key_hash)
                self._refuse(Refusal.CONFLICT_IN_PROGRESS)
            case _:
                assert_never(result)

    def freed(self) -> None:
        """See `waiting.Waiter`."""
        self._rest()
        self._contender.again()

    def overdue(self) -> None:
        """It has waited long enough."""
        self._parts.waiting.leave(self._reply.key_hash, self)
        self._rest()
        self._refuse(Refusal.CONFLICT_IN_PROGRESS)

    def _rest(self) -> None:
        self.deadline = NEVER
        self._parts.deadlines.discard(self)

    # -- the answer ---------------------------------------------------------------------------------------------

    def _answered(self, proof: Proof | None) -> None:
        """The upstream has said whether it may see the record."""
        state = self._found.state
        match proof:
            case Granted():
                self._granted = True
                self._act(proven=True)
            case PassedOn(response) if response.status in WHO_ARE_YOU:
                self._contender.over()
                fields = response.fields + self._parts.answers.known(self._found.record.attempt, state, self._asked)
                self._reply.pass_on(response._replace(fields=fields), "conflict")
            case Unproven(why):
                self._parts.journal.unproven(why, self._reply.key_hash)
                self._refuse(Refusal.PROOF_UNAVAILABLE)
            case PassedOn() | None:
                self._refuse(CONFLICTS[state])
            case _:
                assert_never(proof)

    def _opened(self, result: Record | Unavailable) -> None:
        """What there is to replay. The key is completed, whoever can read by what."""
        match result:
            case Unavailable(why):
                self._parts.journal.store_failure("read", why, self._reply.key_hash)
                self._refuse(Refusal.CONFLICT_COMPLETED)
            case Record(response=Response(truncated=False) as response):
                self._replay(response)
            case Record():
                self._refuse(Refusal.CONFLICT_COMPLETED)
            case _:
                assert_never(result)

    def _replay(self, response: Response) -> None:
        self._contender.over()
        fields = replayed(self._found.record.attempt, response, self._parts.terms.replay_header)
        self._reply.pass_on(response._replace(fields=fields), "replayed")

    def _refuse(self, refusal: Refusal) -> None:
        self._contender.over()
        now = int(self._parts.wall())
        record, state = self._found.record, self._found.state
        self._reply.give(self._parts.answers.about(refusal, record.attempt, state, self._asked, now), "conflict")

    # -- the client ---------------------------------------------------------------------------------------------

    def gone(self) -> None:
        """Nobody waits."""
        self._gone = True
        self._contender.over()
        self._parts.waiting.leave(self._reply.key_hash, self)
        self._rest()

    def whole(self, _body: bytes) -> None:
        """The request is here already; as for all that follow."""

    def started(self) -> None:
        """See `whole`."""

    def received(self, data: bytes) -> None:
        """See `whole`."""

    def ended(self) -> None:
        """See `whole`."""

    def broken(self, fault: Fault | None) -> None:
        """See `whole`."""

    def answer_paused(self) -> None:
        """The whole answer is given at once; how slowly it is taken, the connection knows."""

    def answer_resumed(self) -> None:
        """See `answer_paused`."""
