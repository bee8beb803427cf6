"""The story of one guarded request, event by event.

    received ─▶ ended ─▶ claimed ─▶ connected ─▶ responded, content ─▶ completed ─▶ settled
                claim    granted     send         collect              judge        give

Each method is one thing that can happen; it does its little and returns. There is no task, no future and no await: so
there is no point at which a cancellation could lose a response or leak a claim. From the claim on, the exchange goes
its way to the end without its client.
"""

from enum import Enum, auto
from typing import assert_never

from proxy.collected import Collected, Ending
from proxy.core.answer import expires, recorded
from proxy.core.lifecycle import Event, State, advance
from proxy.core.record import Attempt, Record, Response
from proxy.core.refusal import Refusal
from proxy.core.settlement import Lost, NotSent, Outcome, Responded, judge
from proxy.credential import credential
from proxy.deadlines import NEVER
from proxy.faults import REFUSALS
from proxy.http1.client import UpstreamConnection
from proxy.http1.forward import Peer, end_to_end
from proxy.http1.message import Fault, RequestHead, ResponseHead
from proxy.http1.server import ServerConnection
from proxy.parts import Parts
from proxy.reply import Reply
from proxy.settling import Operation, Settling
from proxy.store.base import ClaimResult, Found, Granted, Unavailable

CONFLICTS = {
    State.COMPLETED: Refusal.CONFLICT_COMPLETED,
    State.IN_PROGRESS: Refusal.CONFLICT_IN_PROGRESS,
    State.UNKNOWN: Refusal.CONFLICT_UNKNOWN,
}


class _Phase(Enum):
    RECEIVING = auto()
    CLAIMING = auto()
    CONNECTING = auto()
    SENT = auto()
    SETTLING = auto()
    STREAMING = auto()  # recorded as truncated; the rest of the response runs through


class Exchange:
    """Is the receiver of the request, the borrower of a connection, and the listener to the response."""

    __slots__ = (
        "_answer", "_attempt", "_client", "_client_gone", "_head", "_key", "_outcome", "_parts", "_peer", "_phase",
        "_reply", "_request", "_request_length", "_since", "_upstream", "deadline",
    )  # fmt: skip

    def __init__(self, parts: Parts, head: RequestHead, key: bytes, client: ServerConnection, peer: Peer) -> None:
        self.deadline = NEVER
        self._parts = parts
        self._head = head
        self._key = key
        self._client = client
        self._peer = peer
        self._reply = Reply(parts, head, client)
        self._client_gone = False
        self._phase = _Phase.RECEIVING
        self._request: list[bytes] = []
        self._request_length = 0
        self._since = 0.0
        """Loop time of the claim; from SENT on, of the first byte."""
        self._attempt: Attempt
        self._upstream: UpstreamConnection | None = None
        self._answer: Collected | None = None
        self._outcome: Outcome

    # -- the request comes in -----------------------------------------------------------------------------------

    def started(self) -> None:
        """Is it too large already by what it says of itself? Then nothing is claimed."""
        if self._head.length > self._parts.terms.max_body:
            self._reply.refuse(Refusal.TOO_LARGE)
        elif self._head.length:
            self._client.body_within(self._parts.terms.body_timeout)
            self._client.wants_body()

    def received(self, data: bytes) -> None:
        """A piece of the body."""
        self._request_length += len(data)
        if self._request_length > self._parts.terms.max_body:
            self._reply.refuse(Refusal.TOO_LARGE)
        else:
            self._request.append(data)

    def broken(self, fault: Fault | None) -> None:
        """The body will not become whole: nothing was claimed."""
        if fault is not None:
            self._reply.refuse(REFUSALS[fault])

    def ended(self) -> None:
        """The request is whole: may it go?"""
        parts, terms = self._parts, self._parts.terms
        self._phase = _Phase.CLAIMING
        self._attempt = Attempt(
            key_hash=parts.hasher.key(self._key),
            token=parts.tokens.take(),
            first_used=int(parts.wall() * 1000),
            lease=int(terms.lease * 1000),
            retention=int(terms.retention * 1000),
            credential=credential(parts.hasher, terms.credential_headers, self._head),
            url=parts.forwarding.url(self._head, self._peer),
        )
        self._reply.key_hash = self._attempt.key_hash
        self._since = parts.deadlines.now()
        parts.unsettled.add(self)
        parts.store.claim(Record(self._attempt, State.IN_PROGRESS, None), self._claimed)

    def gone(self) -> None:
        """The client is gone. The backend's answer is recorded all the same."""
        self._client_gone = True
        if self._phase is _Phase.STREAMING:
            self._stream()

    # -- the claim ----------------------------------------------------------------------------------------------

    def _claimed(self, result: ClaimResult) -> None:
        parts = self._parts
        parts.journal.store("claim", parts.deadlines.now() - self._since)
        match result:
            case Granted():
                self._connect()
            case Found(record, state):
                parts.unsettled.discard(self)
                answer = parts.answers.about(CONFLICTS[state], record.attempt, state, self._key, int(parts.wall()))
                self._reply.give(answer, "conflict")
            case Unavailable(why):
                parts.journal.store_failure("claim", why, self._attempt.key_hash)
                parts.unsettled.discard(self)
                self._reply.refuse(Refusal.STORE_UNAVAILABLE)
            case _:
                assert_never(result)

    # -- sending ------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._phase = _Phase.CONNECTING
        self.deadline = self._parts.deadlines.now() + self._parts.terms.connection_timeout
        self._parts.deadlines.add(self)
        self._borrow()

    def _borrow(self) -> None:
        if not self._parts.pool.borrow(self):
            self._conclude(NotSent(Refusal.OVERLOADED, "too many requests wait for a connection"))

    def connected(self, connection: UpstreamConnection) -> None:
        """Here is a connection. Behind `send` begins the land where nobody may send again."""
        now = self._parts.deadlines.now()
        if now >= self._since + self._parts.terms.lease:
            self._parts.pool.give_back(connection)
            self._conclude(NotSent(Refusal.OVERLOADED, "the lease was over before the request could be sent"))
            return
        head = self._parts.forwarding.request(self._head, self._peer, self._request_length)
        self._phase, self._upstream = _Phase.SENT, connection
        if not connection.send(b"".join((head, *self._request)), self._head.method, self):
            self._phase, self._upstream = _Phase.CONNECTING, None
            self._borrow()
            return
        self._since = now
        self.deadline = now + self._parts.terms.upstream_timeout
        self._request.clear()

    def not_connected(self, why: str) -> None:
        """There is no connection to be had."""
        self._conclude(NotSent(Refusal.UNREACHABLE, why))

    # -- the response -------------------------------------------------------------------------------------------

    def informed(self, head: ResponseHead) -> None:
        """Early hints."""
        self._client.inform(end_to_end(head))

    def responded(self, head: ResponseHead) -> None:
        """The backend has answered: from here on, its answer is not lost."""
        self._parts.journal.upstream(self._parts.deadlines.now() - self._since)
        self._answer = Collected(head)

    def content(self, data: bytes) -> None:
        """A piece of its body."""
        answer, upstream = self._answer, self._upstream
        assert answer is not None and upstream is not None  # noqa: S101, PT018 - the wire's order
        if self._phase is _Phase.STREAMING:
            self._client.send(data)
            self._extend()
            return
        answer.add(data)
        if self._phase is _Phase.SENT and answer.length > self._parts.terms.max_record:
            upstream.pause_reading()
            self._conclude(Responded(answer.response(int(self._parts.wall()))))

    def caught_up(self) -> None:
        """What there is, goes."""
        if self._phase is _Phase.STREAMING:
            self._client.flush()

    def completed(self) -> None:
        """The response is whole."""
        self._end_of_answer(Ending.WHOLE, "")

    def failed(self, why: str) -> None:
        """No usable head came, or the body broke off."""
        self._end_of_answer(Ending.BROKEN, why)

    def _end_of_answer(self, ending: Ending, why: str) -> None:
        self._upstream = None
        answer = self._answer
        if answer is not None:
            answer.ending = ending
        if self._phase is _Phase.SENT:
            self._conclude(Lost(why) if answer is None else Responded(answer.response(int(self._parts.wall()))))
        elif self._phase is _Phase.STREAMING:
            self._stream()

    def upload_paused(self) -> None:
        """The request was written whole: there is nothing to hold back."""

    def upload_resumed(self) -> None:
        """See `upload_paused`."""

    def overdue(self) -> None:
        """What should have happened by now has not."""
        self.deadline = NEVER
        terms = self._parts.terms
        if self._phase is _Phase.CONNECTING:
            self._parts.pool.forget(self)
            self._conclude(NotSent(Refusal.OVERLOADED, f"no connection within {terms.connection_timeout:g} s"))
        elif self._upstream is not None:
            self._upstream.abort()
            self._end_of_answer(Ending.BROKEN, f"no whole answer within {terms.upstream_timeout:g} s")

    # -- the end ------------------------------------------------------------------------------------------------

    def _conclude(self, outcome: Outcome) -> None:
        """What does that mean? Write it down, then say it."""
        parts, attempt = self._parts, self._attempt
        self._phase, self._outcome, self.deadline = _Phase.SETTLING, outcome, NEVER
        parts.deadlines.discard(self)
        event = judge(outcome, parts.terms.release_statuses)
        response = None
        match outcome:
            case Responded(response):
                pass
            case NotSent(_, why):
                parts.journal.not_sent(why, attempt.key_hash)
            case Lost(why):
                parts.journal.unknown(attempt, why)
                now = int(parts.wall())
                response = recorded(parts.answers.unknown(attempt, self._key, now), now)
            case _:
                assert_never(outcome)
        operation = Operation.RELEASE if event is Event.RELEASE else Operation.SETTLE
        record = Record(attempt, advance(State.IN_PROGRESS, event), response)
        Settling(parts, operation, record, self._settled)
        parts.unsettled.discard(self)

    def _settled(self) -> None:
        """The store has it: the client may have it."""
        match self._outcome:
            case Responded(response):
                self._give(response)
            case NotSent(refusal):
                self._reply.refuse(refusal, "released")
            case Lost():
                answer = self._parts.answers.unknown(self._attempt, self._key, int(self._parts.wall()))
                self._reply.give(answer, "unknown")
            case _:
                assert_never(self._outcome)

    def _give(self, response: Response) -> None:
        """The backend's answer, as it came."""
        answer = self._answer
        assert answer is not None  # noqa: S101 - Responded is made from it
        released = response.status in self._parts.terms.release_statuses
        fields = answer.fields if released else [*answer.fields, expires(self._attempt)]
        self._reply.tell(response.status, "released" if released else "completed")
        if not response.truncated:
            self._client.answer(response.status, response.reason, fields, response.body)
            return
        self._client.begin(response.status, response.reason, fields, answer.declared)
        for piece in answer.pieces:
            self._client.send(piece)
        answer.pieces.clear()
        self._phase = _Phase.STREAMING
        self._stream()

    def _stream(self) -> None:
        """The rest of a response that was too large to be recorded, or has broken off."""
        answer, upstream = self._answer, self._upstream
        assert answer is not None  # noqa: S101 - see _give
        if upstream is not None and self._client_gone:
            upstream.abort()
        elif upstream is not None:
            self._parts.deadlines.add(self)
            self._extend()
            self._client.flush()
            upstream.resume_reading()
            return
        elif answer.ending is Ending.WHOLE:
            self._client.end()
        else:
            self._client.abort()
        self._parts.deadlines.discard(self)

    def _extend(self) -> None:
        self.deadline = self._parts.deadlines.now() + self._parts.terms.upstream_timeout

    def answer_paused(self) -> None:
        """The client is slow; how slow it may be, its connection knows."""
        if self._phase is _Phase.STREAMING and self._upstream is not None:
            self.deadline = NEVER
            self._upstream.pause_reading()

    def answer_resumed(self) -> None:
        """It reads on."""
        if self._phase is _Phase.STREAMING and self._upstream is not None:
            self._extend()
            self._upstream.resume_reading()
