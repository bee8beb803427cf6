"""The story of `GET /responses/<key>/`: shows the response that was given under a key, to who made the request."""

import re
from functools import partial
from typing import assert_never

from proxy.core.answer import Answer, Asked
from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.core.refusal import Refusal
from proxy.deadlines import NEVER
from proxy.faults import REFUSALS
from proxy.http1.connection import ServerConnection
from proxy.http1.forward import Peer
from proxy.http1.message import Fault, RequestHead
from proxy.identity import Identity
from proxy.parts import Parts
from proxy.probe import Granted, PassedOn, Proof, Unproven
from proxy.reply import Reply
from proxy.store.base import Absent, Found, ReadResult, Unavailable

_WAIT = re.compile(rb"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE)


class Retrieval:
    """One question for a key. With `Prefer: wait=N` (RFC 7240 §4.3) a key in progress is waited for."""

    contends = False
    """See `waiting.Waiter`."""

    def __init__(self, parts: Parts, head: RequestHead, key: bytes, client: ServerConnection, peer: Peer) -> None:
        self.deadline = NEVER
        self._parts = parts
        self._peer = peer
        self._asked = Asked(key, head.path)
        self._reply = Reply(parts, head, client)
        self._identity: Identity
        self._until = parts.deadlines.now() + min(_wait(head), parts.terms.wait_max)
        self._since = 0.0
        self._in_progress: Found
        """What is waited for."""
        self._gone = False

    def whole(self, _body: bytes) -> None:
        """See `http1.server.Receiver`, as for all that follow. A GET's body means nothing (RFC 9110 §9.3.1)."""
        self.ended()

    def started(self) -> None:
        """The body is awaited, so that the connection can be kept."""
        self._reply.client.body_within(self._parts.terms.body_timeout)

    def received(self, data: bytes) -> None:
        """Nothing."""

    def ended(self) -> None:
        """Whose key is it?"""
        self._parts.identifier.identify(self._reply.head, self._peer, self._identified)

    def _identified(self, identity: Identity | Refusal) -> None:
        """May it see anything? Who may not, is not told whether there is something."""
        parts = self._parts
        if isinstance(identity, Refusal):
            self._refuse(identity, "refused")
            return
        self._identity = identity
        self._reply.key_hash = parts.hasher.key(self._asked.key, identity.scope)
        if parts.prober is None:
            self._look()
        else:
            parts.prober.ask(self._reply.head, self._peer, self._proved)

    def _proved(self, proof: Proof | None) -> None:
        match proof:
            case Granted():
                self._look()
            case PassedOn(response):
                self._reply.pass_on(response, "refused")
            case Unproven(why):
                self._parts.journal.unproven(why, self._reply.key_hash)
                self._refuse(Refusal.PROOF_UNAVAILABLE, "refused")
            case None:
                self._refuse(Refusal.KEY_NOT_FOUND, "not_found")
            case _:
                assert_never(proof)

    def _look(self) -> None:
        self._since = self._parts.deadlines.now()
        self._parts.store.read(self._reply.key_hash, self._read)

    def _read(self, result: ReadResult) -> None:
        self._parts.journal.read(self._parts.deadlines.now() - self._since)
        self.settled(result)

    def settled(self, result: ReadResult) -> None:
        """What there is to see. See `waiting.Waiter`, too."""
        parts = self._parts
        match result:
            case Unavailable(why):
                parts.journal.store_failure("read", why, self._reply.key_hash)
                self._refuse(Refusal.STORE_UNAVAILABLE, "refused")
            case Absent():
                self._refuse(Refusal.KEY_NOT_FOUND, "not_found")
            case Found(record, _) if not self._may_see(record):
                self._refuse(Refusal.KEY_NOT_FOUND, "not_found")
            case Found(record, State.IN_PROGRESS):
                self._in_progress = result
                self._wait_or_say_so()
            case Found(record, state):
                parts.store.opened(record, partial(self._show, state))
            case _:
                assert_never(result)

    def _show(self, state: State, result: Record | Unavailable) -> None:
        """It is who made the request. Who may not see the record has its answer already, and nothing was opened."""
        parts = self._parts
        match result:
            case Unavailable(why):
                parts.journal.store_failure("read", why, self._reply.key_hash)
                self._refuse(Refusal.STORE_UNAVAILABLE, "refused")
            case Record():
                self._give(parts.answers.show(result, state, self._asked, parts.terms.view_limit), "retrieved")
            case _:
                assert_never(result)

    def freed(self) -> None:
        """It never contends."""

    def _wait_or_say_so(self) -> None:
        """As it was asked to; the answer is the same where too many wait already."""
        parts = self._parts
        waits = not self._gone and parts.deadlines.now() < self._until
        if waits and parts.waiting.wait(self._reply.key_hash, self):
            self.deadline = self._until
            parts.deadlines.add(self)
        else:
            attempt, now = self._in_progress.record.attempt, int(parts.wall())
            answer = parts.answers.about(Refusal.STILL_IN_PROGRESS, attempt, State.IN_PROGRESS, self._asked, now)
            self._give(answer, "retrieved")

    def _may_see(self, record: Record) -> bool:
        return not self._parts.terms.prove or self._identity.proves(record.attempt)

    def overdue(self) -> None:
        """It has waited long enough."""
        self._parts.waiting.leave(self._reply.key_hash, self)
        self._wait_or_say_so()

    def broken(self, fault: Fault | None) -> None:
        """Its body is malformed."""
        if fault is not None:
            self._refuse(REFUSALS[fault], "refused")

    def gone(self) -> None:
        """Nobody waits."""
        self._gone = True
        self._parts.waiting.leave(self._reply.key_hash, self)
        self._parts.deadlines.discard(self)

    def answer_paused(self) -> None:
        """The whole answer is given at once; how slowly it is taken, the connection knows."""

    def answer_resumed(self) -> None:
        """See `answer_paused`."""

    def _refuse(self, refusal: Refusal, outcome: str) -> None:
        self._parts.deadlines.discard(self)
        self._reply.refuse(refusal, outcome)

    def _give(self, answer: Answer, outcome: str) -> None:
        self._parts.deadlines.discard(self)
        self._reply.give(answer, outcome)


def _wait(head: RequestHead) -> int:
    """Seconds that the client would wait."""
    wished = _WAIT.search(b",".join(head.values(b"prefer")))
    return int(wished[1]) if wished else 0
