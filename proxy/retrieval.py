"""The story of `GET /responses/<key>/`: shows the response that was given under a key, to who made the request."""

import re
from hmac import compare_digest
from typing import assert_never

from proxy.core.answer import Answer
from proxy.core.lifecycle import State
from proxy.core.record import Record
from proxy.core.refusal import Refusal
from proxy.credential import credential
from proxy.deadlines import NEVER
from proxy.faults import REFUSALS
from proxy.http1.connection import ServerConnection
from proxy.http1.forward import Peer
from proxy.http1.message import Fault, RequestHead
from proxy.parts import Parts
from proxy.reply import Reply
from proxy.store.base import Absent, Found, ReadResult, Unavailable

POLL_FIRST, POLL_MOST = 0.1, 1.0
"""Seconds between two looks at a key in progress, doubled each time."""
_WAIT = re.compile(rb"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE)


class Retrieval:
    """One question for a key. With `Prefer: wait=N` (RFC 7240 §4.3) a key in progress is waited for."""

    def __init__(self, parts: Parts, head: RequestHead, key: bytes, client: ServerConnection, peer: Peer) -> None:
        self.deadline = NEVER
        self._parts = parts
        self._key = key
        self._reply = Reply(parts, head, client)
        self._reply.key_hash = parts.hasher.key(key)
        self._credential = credential(parts.hasher, parts.terms.credential_headers, head, peer.certificate)
        self._until = parts.deadlines.now() + min(_wait(head), parts.terms.wait_max)
        self._pause = POLL_FIRST
        self._asked = 0.0
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
        """Look."""
        self._parts.deadlines.add(self)
        self._look()

    def _look(self) -> None:
        self._asked = self._parts.deadlines.now()
        self._parts.store.read(self._reply.key_hash, self._found)

    def _found(self, result: ReadResult) -> None:
        parts = self._parts
        now = parts.deadlines.now()
        parts.journal.read(now - self._asked)
        match result:
            case Unavailable(why):
                parts.journal.store_failure("read", why, self._reply.key_hash)
                self._refuse(Refusal.STORE_UNAVAILABLE, "refused")
            case Absent():
                self._refuse(Refusal.KEY_NOT_FOUND, "not_found")
            case Found(record, _) if not self._may_see(record):
                self._refuse(Refusal.KEY_NOT_FOUND, "not_found")
            case Found(record, State.IN_PROGRESS) if now < self._until and not self._gone:
                self.deadline = min(now + self._pause, self._until)
                self._pause = min(self._pause * 2, POLL_MOST)
            case Found(record, State.IN_PROGRESS):
                answer = parts.answers.about(
                    Refusal.STILL_IN_PROGRESS, record.attempt, State.IN_PROGRESS, self._key, int(parts.wall())
                )
                self._give(answer, "retrieved")
            case Found(record, state):
                self._give(parts.answers.show(record, state, self._key, parts.terms.view_limit), "retrieved")
            case _:
                assert_never(result)

    def _may_see(self, record: Record) -> bool:
        return not self._parts.terms.prove or compare_digest(record.attempt.credential, self._credential)

    def overdue(self) -> None:
        """Time for the next look."""
        self.deadline = NEVER
        self._look()

    def broken(self, fault: Fault | None) -> None:
        """Its body is malformed."""
        if fault is not None:
            self._refuse(REFUSALS[fault], "refused")

    def gone(self) -> None:
        """Nobody waits."""
        self._gone = True
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
