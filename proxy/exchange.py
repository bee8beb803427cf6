"""The story of one guarded request, event by event.

    whole ─▶ identified ─▶ claimed ─▶ connected ─▶ answered ─▶ recorded
             claim         granted     send         judge       give

Each method is one thing that can happen; it does its little and returns. There is no task, no future and no await: so
there is no point at which a cancellation could lose a response or leak a claim. From the claim on, the exchange goes
its way to the end without its client.
"""

import asyncio
from enum import Enum, auto
from typing import assert_never

from proxy.collected import Collected, Ending, recorded_whole
from proxy.core.answer import Answer, Asked, expires, recorded
from proxy.core.lifecycle import Event, State, advance
from proxy.core.policy import Guard
from proxy.core.record import NO_FINGERPRINT, Attempt, Record, Response, without_fields
from proxy.core.refusal import Refusal
from proxy.core.settlement import Lost, NotSent, Outcome, Responded, judge
from proxy.deadlines import NEVER
from proxy.faults import REFUSALS
from proxy.http1.client import UpstreamConnection
from proxy.http1.connection import ServerConnection
from proxy.http1.forward import Peer, hints
from proxy.http1.message import Fault, RequestHead, ResponseHead
from proxy.identity import Identity
from proxy.overflow import Overflow
from proxy.parts import Parts
from proxy.repeat import Repeat
from proxy.reply import Reply
from proxy.settling import Settling, submit
from proxy.store.base import ClaimResult, Done, Foreign, Found, Granted, ReadResult, SettleResult, Unavailable

PIECE = 64
"""Bytes that a piece of a body takes beside its own."""
AFTER = {event: advance(State.IN_PROGRESS, event) for event in (Event.COMPLETE, Event.LOSE, Event.RELEASE)}


class _Phase(Enum):
    RECEIVING = auto()
    CLAIMING = auto()
    CONNECTING = auto()
    SENT = auto()
    SETTLING = auto()
    OVER = auto()


_RECEIVING, _CLAIMING, _CONNECTING, _SENT, _SETTLING, _OVER = _Phase  # looked up once, for speed


class Exchange:
    """Is the receiver of the request, the borrower of a connection, and the listener to the response."""

    __slots__ = (
        "_attempt", "_client", "_client_gone", "_collected", "_fingerprint", "_held", "_identity", "_key", "_outcome",
        "_parts", "_peer", "_phase", "_record", "_repeat", "_reply", "_request", "_request_length", "_settling",
        "_since", "_treatment", "_unknown", "_upstream", "deadline",
    )  # fmt: skip

    def __init__(self, parts: Parts, head: RequestHead, guard: Guard, client: ServerConnection, peer: Peer) -> None:
        self.deadline = NEVER
        self._parts = parts
        self._key, self._treatment = guard
        self._client = client
        self._peer = peer
        self._reply = Reply(parts, head, client)
        self._client_gone = False
        self._phase: _Phase = _RECEIVING
        self._request: list[bytes] = []
        self._request_length = 0
        self._held = 0
        self._since = self._reply.began
        """When the last thing was asked for, of the store or the upstream."""
        self._identity: Identity
        self._fingerprint = NO_FINGERPRINT
        self._repeat: Repeat | None = None
        """Where another request has the key."""
        self._attempt: Attempt
        self._upstream: UpstreamConnection | None = None
        self._collected: Collected | None = None
        self._outcome: Outcome
        self._record: Record
        self._unknown: Answer
        """The 504, where that is the outcome: made once, so that what is recorded is what is given, to the second."""
        self._settling: Settling | None = None
        """Where the store has not taken the record at once."""

    # -- the request comes in -----------------------------------------------------------------------------------

    def whole(self, body: bytes) -> None:
        """All at once."""
        self.received(body)
        if self._phase is _RECEIVING:
            self.ended()

    def started(self) -> None:
        """Is it too large already by what it says of itself? Then nothing is claimed."""
        if self._reply.head.length > self._treatment.max_body:
            self._reply.refuse(Refusal.TOO_LARGE)
        else:
            self._client.body_within(self._parts.terms.body_timeout)
            self._client.wants_body()

    def received(self, data: bytes) -> None:
        """A piece of the body."""
        room = len(data) + PIECE
        if self._request_length + len(data) > self._treatment.max_body:
            self._turn_away(Refusal.TOO_LARGE)
        elif not self._parts.bodies.take(room):
            self._turn_away(Refusal.OVERLOADED)
        else:
            self._held += room
            self._request_length += len(data)
            self._request.append(data)

    def _turn_away(self, refusal: Refusal) -> None:
        """In the middle of the body: nothing was claimed."""
        self._phase = _OVER
        self._let_go()
        self._reply.refuse(refusal)

    def _let_go(self) -> None:
        """The body is not needed any more."""
        self._request.clear()
        self._parts.bodies.give_back(self._held)
        self._held = 0

    def broken(self, fault: Fault | None) -> None:
        """The body will not become whole: nothing was claimed."""
        self._let_go()
        if fault is not None:
            self._reply.refuse(REFUSALS[fault])

    def ended(self) -> None:
        """The request is whole: whose is it?"""
        self._phase = _CLAIMING
        head = self._reply.head
        if self._treatment.compares:
            self._request = [b"".join(self._request)]
            self._fingerprint = self._made(head, self._request[0])
        self._parts.identifier.identify(head, self._peer, self._identified)

    def _made(self, head: RequestHead, body: bytes) -> bytes:
        """The fingerprint."""
        content_type = b", ".join(head.values(b"content-type"))
        target = b"//%b%b" % (head.host.lower(), head.target) if self._parts.terms.by_host else head.target
        return self._parts.fingerprints.make(head.method, target, content_type, body)

    def _identified(self, identity: Identity | Refusal) -> None:
        """May it go?"""
        if isinstance(identity, Refusal):
            self._turn_away(identity)
        else:
            self._identity = identity
            self._claim()

    def _claim(self) -> None:
        parts, reply, identity = self._parts, self._reply, self._identity
        reply.key_hash = key_hash = parts.hasher.key(self._key, identity.scope)
        if parts.spool is not None and parts.spool.full:
            parts.journal.spool_size(full=True, size=parts.spool.tally.bytes)
            parts.store.read(key_hash, self._looked)
            return
        self._attempt = Attempt(
            key_hash,
            parts.tokens.take(),
            int(parts.wall() * 1000),
            parts.terms.lease_ms,
            self._treatment.retention,
            identity.proof,
            parts.forwarding.url(reply.head, self._peer),
            self._fingerprint,
        )
        self._since = parts.deadlines.now()
        parts.unsettled.add(self)
        parts.store.claim(Record(self._attempt, State.IN_PROGRESS, None), self._claimed)

    def gone(self) -> None:
        """The client is gone. The backend's answer is recorded all the same."""
        self._client_gone = True

    def _looked(self, result: ReadResult) -> None:
        """No key is taken now; who has used one is told of it all the same."""
        if isinstance(result, Found):
            self._met(result)
        else:
            self._turn_away(Refusal.STORE_UNAVAILABLE)

    def _met(self, found: Found) -> None:
        """Another request has the key. This one's body is needed only if it may try again."""
        if not self._treatment.waits:
            self._let_go()
        if self._repeat is None:
            self._repeat = Repeat(self._parts, self._reply, self._peer, self._key, self._treatment, self)
        self._repeat.met(found, self._identity, self._fingerprint, gone=self._client_gone)

    def again(self) -> None:
        """See `repeat.Contender`."""
        self._client.hand_over(self)
        if self._parts.waiting.draining:  # what begins now may outlast the stop
            self._turn_away(Refusal.DRAINING)
        else:
            self._claim()

    def over(self) -> None:
        """See `repeat.Contender`."""
        self._let_go()

    # -- the claim ----------------------------------------------------------------------------------------------

    def _claimed(self, result: ClaimResult) -> None:
        parts = self._parts
        now = parts.deadlines.now()
        parts.journal.claimed(now - self._since)
        match result:
            case Granted():
                parts.waiting.own(self._attempt.key_hash)
                self._phase = _CONNECTING
                self.deadline = now + parts.terms.connection_timeout
                parts.deadlines.add(self)
                self._borrow()
            case Found():
                parts.unsettled.discard(self)
                self._met(result)
            case Unavailable(why):
                self._let_go()
                parts.unsettled.discard(self)
                parts.journal.store_failure("claim", why, self._attempt.key_hash)
                self._reply.refuse(Refusal.STORE_UNAVAILABLE)
            case _:
                assert_never(result)

    # -- sending ------------------------------------------------------------------------------------------------

    def _borrow(self) -> None:
        if not self._parts.pool.borrow(self):
            self._conclude(NotSent(Refusal.OVERLOADED, "too many requests wait for a connection"))

    def connected(self, connection: UpstreamConnection) -> None:
        """Here is a connection. Behind `send` begins the land where nobody may send again."""
        parts, terms, head = self._parts, self._parts.terms, self._reply.head
        now = parts.deadlines.now()
        slept = parts.wall() * 1000 > self._attempt.first_used + terms.send_within * 1000  # with the machine, maybe
        if slept or now > self._since + terms.send_within:
            # Not from in here: the next is lent it at once, and may be as late, and so on.
            asyncio.get_running_loop().call_soon(parts.pool.give_back, connection)
            self._conclude(NotSent(Refusal.OVERLOADED, "too little of the lease was left to send the request"))
            return
        self._phase, self._upstream = _SENT, connection
        request = parts.forwarding.request(head, self._peer, self._request_length)
        if connection.send(b"".join((request, *self._request)), head.method, self):
            self._since = now
            self.deadline = now + terms.upstream_timeout
            self._request.clear()
        else:
            self._phase, self._upstream = _CONNECTING, None
            self._borrow()

    def not_connected(self, why: str) -> None:
        """There is no connection to be had."""
        self._conclude(NotSent(Refusal.UNREACHABLE, why))

    # -- the response -------------------------------------------------------------------------------------------

    def answered(self, head: ResponseHead, body: bytes) -> None:
        """The backend has answered: from here on, its answer is not lost."""
        self._parts.journal.responded(self._parts.deadlines.now() - self._since)
        self._upstream = None
        if len(body) > self._treatment.max_record:
            self._collected = collected = Collected(head, self._reply.head.method)
            collected.add(body)
            self._conclude(Responded(collected.response(int(self._parts.wall()))))
            collected.ending = Ending.WHOLE
        else:
            method = self._reply.head.method
            self._conclude(Responded(recorded_whole(head, method, body, int(self._parts.wall()))))

    def informed(self, head: ResponseHead) -> None:
        """Early hints."""
        self._client.inform(hints(head))

    def responded(self, head: ResponseHead) -> None:
        """The same, in pieces."""
        self._parts.journal.responded(self._parts.deadlines.now() - self._since)
        self._collected = Collected(head, self._reply.head.method)

    def content(self, data: bytes) -> None:
        """A piece of the answer's body."""
        collected, upstream = self._collected, self._upstream
        if collected is None or upstream is None:
            return
        collected.add(data)
        if self._phase is _SENT and collected.length > self._treatment.max_record:
            upstream.pause_reading()
            self._conclude(Responded(collected.response(int(self._parts.wall()))))

    def caught_up(self) -> None:
        """Nothing is given before it is recorded."""

    def completed(self) -> None:
        """The response is whole."""
        self._answer_ended(Ending.WHOLE, "")

    def failed(self, why: str) -> None:
        """No usable head came, or the body broke off."""
        self._answer_ended(Ending.BROKEN, why)

    def unsent(self, why: str) -> None:
        """The connection was closed before the request was written."""
        self._upstream = None
        self._conclude(NotSent(Refusal.UNREACHABLE, why))

    def _answer_ended(self, ending: Ending, why: str) -> None:
        self._upstream = None
        collected = self._collected
        if collected is not None:
            collected.ending = ending
        if self._phase is _SENT:
            self._conclude(Lost(why) if collected is None else Responded(collected.response(int(self._parts.wall()))))

    def upload_paused(self) -> None:
        """The request was written whole: there is nothing to hold back."""

    def upload_resumed(self) -> None:
        """See `upload_paused`."""

    def overdue(self) -> None:
        """What should have happened by now has not."""
        self.deadline = NEVER
        terms = self._parts.terms
        if self._phase is _CONNECTING:
            self._parts.pool.forget(self)
            self._conclude(NotSent(Refusal.OVERLOADED, f"no connection within {terms.connection_timeout:g} s"))
        elif self._phase is _SETTLING:
            if self._settling is None:  # the store's own deadline may have passed in the same tick, and before
                self._parts.unsettled.discard(self)
                self._settling = Settling(self._parts, self._record, self._give, None)
        elif self._upstream is not None:
            self._upstream.abort()
            self._answer_ended(Ending.BROKEN, f"no whole answer within {terms.upstream_timeout:g} s")

    # -- the end ------------------------------------------------------------------------------------------------

    def _conclude(self, outcome: Outcome) -> None:
        """What does that mean? Write it down; then, or when that takes too long, say it."""
        parts, attempt = self._parts, self._attempt
        self._let_go()
        event = judge(outcome, self._treatment.release_statuses)
        self._phase, self._outcome = _SETTLING, outcome
        response = self._recordable(outcome)
        self._record = Record(attempt, AFTER[event], response)
        self._since = parts.deadlines.now()
        self.deadline = self._since + parts.terms.settle_wait
        submit(parts, self._record, self._recorded)
        match outcome:
            case Responded():
                pass
            case NotSent():
                parts.journal.not_sent(outcome.why, attempt.key_hash)
            case Lost():
                parts.journal.unknown(attempt, outcome.why)
            case _:
                assert_never(outcome)

    def _recordable(self, outcome: Outcome) -> Response | None:
        """What goes into the record."""
        match outcome:
            case Responded():
                response, dropped = outcome.response, self._parts.terms.dropped
                return response._replace(fields=without_fields(response.fields, dropped)) if dropped else response
            case NotSent():
                return None
            case Lost():
                now = int(self._parts.wall())
                self._unknown = self._parts.answers.unknown(self._attempt, self._asked, now)
                return recorded(self._unknown, now)
            case _:
                assert_never(outcome)

    @property
    def _asked(self) -> Asked:
        return Asked(self._key, self._reply.head.path)

    def _recorded(self, result: SettleResult) -> None:
        """The store has answered, perhaps when the client has its answer already."""
        parts = self._parts
        journal = parts.journal
        if isinstance(result, Done):
            seconds = parts.deadlines.now() - self._since
            (journal.released if self._released else journal.settled)(seconds)
        if self._settling is not None:
            self._settling.answered(result)
            return
        parts.unsettled.discard(self)
        match result:
            case Done():
                self._give()
            case Foreign() | Unavailable():
                self.deadline = NEVER
                self._settling = Settling(parts, self._record, self._give, result)
            case _:
                assert_never(result)

    @property
    def _released(self) -> bool:
        """Whether the key is free again."""
        return self._record.state is State.ABSENT

    def _give(self) -> None:
        """Give the client its answer, once."""
        if self._phase is not _SETTLING:
            return
        self._phase, self.deadline = _OVER, NEVER
        self._parts.deadlines.discard(self)
        waiting = self._parts.waiting
        (waiting.released if self._released else waiting.settled)(self._attempt.key_hash)
        match self._outcome:
            case Responded(response):
                self._pass_on(response)
            case NotSent(refusal):
                self._reply.refuse(refusal, "released")
            case Lost():
                self._reply.give(self._unknown, "unknown")
            case _:
                assert_never(self._outcome)

    def _pass_on(self, response: Response) -> None:
        """The backend's answer, as it came."""
        released = self._released
        fields = response.fields if released else response.fields + expires(self._attempt)
        self._reply.tell(response.status, "released" if released else "completed")
        collected = self._collected
        if collected is None or not response.truncated:
            self._client.answer(response.status, response.reason, fields, response.body)
            return
        self._client.begin(response.status, response.reason, fields, framed=collected.declared is not None)
        for piece in collected.pieces:
            self._client.send(piece)
        collected.pieces.clear()
        upstream = self._upstream
        if upstream is None and collected.ending is Ending.WHOLE:
            self._client.end()
        elif upstream is None:
            self._client.abort()
        elif self._client_gone:
            upstream.abort()
        else:
            Overflow(self._parts, self._client, upstream)

    def answer_paused(self) -> None:
        """The answer is given at once; how slowly it may be taken, the connection knows."""

    def answer_resumed(self) -> None:
        """See `answer_paused`."""
