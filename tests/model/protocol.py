"""What can happen next. Every step is one that a proxy, the store, the backend, the operator or a fault can take."""

from collections.abc import Iterator
from functools import cache

from proxy.core.lifecycle import Event, State
from tests.model.rules import Fault, Rule
from tests.model.store import OPERATOR, Command, Record, Result, Store
from tests.model.world import Attempt, Phase, Reply, Wire, World

NAMES = ("first", "second", "third")
WISHED = {Event.CLAIM: Result.GRANTED, Event.RELEASE: Result.DONE, Event.COMPLETE: Result.DONE, Event.LOSE: Result.DONE}
"""What each command would like to hear: the worst that a stray reply can say."""
RULINGS = (Event.OPERATOR_COMPLETE, Event.OPERATOR_RELEASE)
SENDING = (Phase.CLAIMING, Phase.GRANTED, Phase.SENT)
"""Phases in which the request may still go, or be on its way."""
OLD_MOST = 2
"""Commands that are remembered of connections that were given up; more are lost, as any may be."""

Moves = Iterator[tuple[str, Attempt]]
Steps = Iterator[tuple[int | None, str, World]]
"""Who takes it, what it is, and what the world is then."""


class Protocol:
    """The protocol with these rules, among these faults."""

    def __init__(self, rules: frozenset[Rule], faults: frozenset[Fault]) -> None:
        self._rules = rules
        self._faults = faults
        self.store = Store(rules)
        self._phases = {
            Phase.IDLE: self._idle,
            Phase.CLAIMING: self._claiming,
            Phase.GRANTED: self._granted,
            Phase.SENT: self._sent,
            Phase.SETTLING: self._settling,
        }
        self._own_moves = cache(lambda who, attempt: tuple(self._moves(who, attempt)))  # few attempts, many worlds

    def steps(self, world: World) -> Steps:
        """Everything that can happen in *world*. After the retention nothing is promised, and nothing is looked at."""
        if world.retention_over:
            return
        for who, attempt in enumerate(world.attempts):
            if attempt.phase is Phase.IDLE and who and world.attempts[who - 1].phase is Phase.IDLE:
                continue  # a retry comes after the one before
            for what, moved in self._own_moves(who, attempt):
                yield who, what, world.put(who, moved)
            if attempt.phase not in (Phase.IDLE, Phase.OVER) and self._may_be_killed(world, attempt):
                yield who, "killed", world.put(who, self._crash(attempt))
            yield from self._lease(world, who, attempt)
            yield from self._apply(world, who, attempt)
        yield from self._operator(world)
        yield from self._clock(world)
        yield from self._store_faults(world)

    # -- one attempt ----------------------------------------------------------------------------------------------

    def _moves(self, who: int, attempt: Attempt) -> Moves:
        if attempt.phase in self._phases:
            yield from self._phases[attempt.phase](who, attempt)
        yield from self._backend(attempt)
        yield from self._connection(attempt)

    def _idle(self, who: int, attempt: Attempt) -> Moves:
        yield "claims", attempt._replace(phase=Phase.CLAIMING, commands=(Command(Event.CLAIM, who, who),))

    def _claiming(self, who: int, attempt: Attempt) -> Moves:
        if _silent(attempt) and self._may_go_on(attempt):
            yield "claims again", attempt._replace(commands=(Command(Event.CLAIM, who, who),))
        left = attempt._replace(phase=Phase.OVER, owned=False, outcome=Event.RELEASE, answered=True, replies=())
        if Rule.WITHDRAW in self._rules:
            release = Command(Event.RELEASE, who, who)
            left = left._replace(phase=Phase.SETTLING, commands=(*attempt.commands, release))
        yield "gives up, 503", left

    def _granted(self, who: int, attempt: Attempt) -> Moves:
        if self._may_go_on(attempt):
            yield "sends", attempt._replace(phase=Phase.SENT, owned=False, backend=Wire.REQUEST)
        yield "cannot send", self._settle(who, attempt, Event.RELEASE)

    def _sent(self, who: int, attempt: Attempt) -> Moves:
        if attempt.backend is Wire.ANSWER:
            yield "gets the answer", self._settle(who, attempt, Event.COMPLETE)
        if attempt.backend is Wire.TURNED_AWAY:
            yield "is turned away", self._settle(who, attempt, Event.RELEASE)
        lost = Event.LOSE if Rule.NO_RELEASE_ON_TIMEOUT in self._rules else Event.RELEASE
        yield "gets no answer", self._settle(who, attempt, lost)
        if Rule.NEVER_RESENT not in self._rules and attempt.executed < 2 and attempt.backend is not Wire.REQUEST:
            yield "sends again", attempt._replace(backend=Wire.REQUEST)

    def _settle(self, who: int, attempt: Attempt, outcome: Event) -> Attempt:
        commands = (*attempt.commands, Command(outcome, who, who))
        settling = attempt._replace(phase=Phase.SETTLING, owned=False, outcome=outcome, commands=commands)
        return settling if outcome is Event.LOSE else _deaf(settling)

    def _settling(self, who: int, attempt: Attempt) -> Moves:
        if _silent(attempt) and attempt.outcome is not None:
            yield f"tries to {attempt.outcome} again", attempt._replace(commands=(Command(attempt.outcome, who, who),))
        if attempt.outcome is Event.LOSE and attempt.backend is Wire.ANSWER:
            after_all = self._settle(who, attempt, Event.COMPLETE)
            yield "gets the answer after all", after_all._replace(answered=False, spooled=False)
        if not attempt.answered and Fault.CRASH in self._faults:  # the bounded wait is over; else it comes to the same
            spooled = Rule.SPOOL in self._rules
            yield "spools, answers" if spooled else "answers", attempt._replace(answered=True, spooled=spooled)

    def _may_go_on(self, attempt: Attempt) -> bool:
        return not attempt.lease_over or Rule.WINDOW not in self._rules

    def _backend(self, attempt: Attempt) -> Moves:
        if attempt.backend is Wire.REQUEST:
            unsettled = attempt.phase is Phase.SETTLING and attempt.outcome is Event.LOSE and not attempt.crashed
            waiting = attempt.phase is Phase.SENT or unsettled
            answer, no = (Wire.ANSWER, Wire.TURNED_AWAY) if waiting else (Wire.NOTHING, Wire.NOTHING)
            yield "is executed", attempt._replace(backend=answer, executed=attempt.executed + 1)
            yield "is not treated", attempt._replace(backend=no)

    def _lease(self, world: World, who: int, attempt: Attempt) -> Steps:
        """Its lease runs out, and with it, where there was room, the request. It is seen by who may still send, and in
        a record that still waits for its outcome."""
        record = world.record
        seen = record is not None and record.owner == who and world.open()
        if not attempt.lease_over and (seen or attempt.phase in SENDING):
            dead = attempt.backend is Wire.REQUEST and Rule.ROOM in self._rules
            backend = Wire.NOTHING if dead else attempt.backend
            yield who, "lease is over", world.put(who, attempt._replace(lease_over=True, backend=backend))

    # -- its connection to the store ------------------------------------------------------------------------------

    def _connection(self, attempt: Attempt) -> Moves:
        if not _silent(attempt):
            yield "loses its connection", self._drop(attempt)
        if attempt.replies and attempt.replies[0].acknowledged:
            reply = attempt.replies[0]
            yield f"hears {reply.result}", self._hear(attempt._replace(replies=attempt.replies[1:]), reply)
        if Fault.STRAY in self._faults and attempt.commands:
            event = attempt.commands[0].event
            heard = (
                self._drop(attempt) if Rule.ECHO in self._rules else self._hear(attempt, Reply(event, WISHED[event]))
            )
            yield "hears a reply of another's", heard

    def _drop(self, attempt: Attempt) -> Attempt:
        """What lies in the old connection is known dead before anything new is said, or may be applied later."""
        old = attempt.old if Rule.ORDERED in self._rules else (*attempt.old, *attempt.commands)[:OLD_MOST]
        return attempt._replace(commands=(), replies=(), old=old)

    def _hear(self, attempt: Attempt, reply: Reply) -> Attempt:
        if not _waits_for(attempt, reply):
            return attempt
        if reply.result is Result.GRANTED:
            return attempt._replace(phase=Phase.GRANTED)
        met_another = reply.result is Result.FOREIGN and reply.event is Event.COMPLETE
        kept = met_another and Rule.INCIDENT in self._rules
        return _deaf(attempt)._replace(phase=Phase.OVER, answered=True, spooled=False, owned=False, kept=kept)

    def _may_be_killed(self, world: World, attempt: Attempt) -> bool:
        if Fault.CRASH not in self._faults or attempt.crashed:
            return False
        return Fault.CRASHES in self._faults or not any(other.crashed for other in world.attempts)

    def _crash(self, attempt: Attempt) -> Attempt:
        """The kernel has what was written; nobody kills the connections of the dead. What is spooled is delivered."""
        old = (*attempt.old, *attempt.commands)[:OLD_MOST]
        dead = _deaf(attempt)._replace(crashed=True, owned=False, old=old, commands=(), replies=())
        if attempt.spooled:
            return dead
        return dead._replace(phase=Phase.OVER, outcome=attempt.outcome if attempt.answered else None)

    # -- the store ------------------------------------------------------------------------------------------------

    def _apply(self, world: World, who: int, attempt: Attempt) -> Steps:
        if attempt.old:
            command, rest = attempt.old[0], attempt.old[1:]
            after, _ = self._write(world.put(who, attempt._replace(old=rest)), command)
            yield who, f"{command.event} is applied late", after
        if attempt.commands:
            command = attempt.commands[0]
            after, reply = self._write(world, command)
            attempt = after.attempts[who]
            heard = (reply,) if _waits_for(attempt, reply) else ()
            moved = attempt._replace(commands=attempt.commands[1:], replies=(*attempt.replies, *heard))
            yield who, f"{command.event} is applied: {reply.result}", after.put(who, moved)

    def _write(self, world: World, command: Command) -> tuple[World, Reply]:
        before = world.record
        record, result = self.store.apply(
            before,
            command,
            lease_over=world.lease_over(),
        )
        changed = before is not None and before.state is State.COMPLETED and record != before
        world = world._replace(record=record, changed=world.changed or changed)
        if result is Result.GRANTED and world.attempts[command.by].phase is Phase.CLAIMING:
            world = world.put(command.by, world.attempts[command.by]._replace(owned=True))
        waits = self._waits(result, wrote=record != before) and record != world.replica
        if Rule.LASTING not in self._rules and command.event is Event.RELEASE:
            waits = waits and not _withdraws(world.attempts[command.by])
        return world, Reply(command.event, result, acknowledged=not waits)

    def _waits(self, result: Result, *, wrote: bool) -> bool:
        """Is the reply held until the replica has what it tells of? WAIT looks at its connection's last write only: who
        has written nothing there is acknowledged at once. A refused settle or release waits as well: what it was
        refused for may be undone. Who is refused a claim owns nothing either way."""
        return self._durable() and result is not Result.FOUND and (wrote or Rule.OWN_WRITE in self._rules)

    def _durable(self) -> bool:
        return Fault.FAILOVER in self._faults and Rule.DURABILITY in self._rules

    # -- the others -----------------------------------------------------------------------------------------------

    def _operator(self, world: World) -> Steps:
        """An honest one: he looks at the record, then at the backend, and acts. His command is late, and may be applied
        more than once; he sees it through. He never releases what was executed."""
        record = world.record
        if world.acting is not None:
            after, _ = self._write(world, world.acting)
            yield None, f"{world.acting.event} is applied", after
            theirs = record is not None and record.owner == world.acting.token
            if not (theirs and world.open()) and (record == world.replica or not self._durable()):
                yield None, "the operator is done", world._replace(acting=None)
        elif record is not None and self._looks(world, record):
            executed = any(attempt.executed for attempt in world.attempts)
            for event in RULINGS[:1] if executed else RULINGS:
                command = Command(event, record.owner, OPERATOR)
                yield None, f"{event}: the operator has looked and decides", world._replace(acting=command)

    def _looks(self, world: World, record: Record) -> bool:
        judged = Rule.OPERATOR_AGE in self._rules and Rule.OPERATOR_LOOK in self._rules
        return self.store.may_rule(record, lease_over=world.lease_over(), by_the_store=judged)

    def _clock(self, world: World) -> Steps:
        """The retention outlives every lease."""
        if world.record is not None and all(
            attempt.lease_over or attempt.phase not in SENDING for attempt in world.attempts
        ):
            self.store.expire(world.record)
            yield None, "the retention is over", World(retention_over=True)

    def _store_faults(self, world: World) -> Steps:
        if Fault.FORGOTTEN in self._faults and world.record is not None and world.record.state is State.IN_PROGRESS:
            yield None, "the store forgets the record", world._replace(record=None, replica=None)
        if Fault.FAILOVER in self._faults and world.replica != world.record:
            attempts = tuple(_acknowledged(attempt) for attempt in world.attempts)
            yield None, "the replica catches up", world._replace(attempts=attempts, replica=world.record)
            attempts = tuple(attempt._replace(commands=(), replies=(), old=()) for attempt in world.attempts)
            yield None, "failover", world._replace(attempts=attempts, record=world.replica)


def _silent(attempt: Attempt) -> bool:
    """Nothing is on its connection."""
    return not (attempt.commands or attempt.replies)


def _withdraws(attempt: Attempt) -> bool:
    """It has been answered before it releases, and nothing of it is in the spool."""
    return attempt.answered and not attempt.spooled


def _deaf(attempt: Attempt) -> Attempt:
    """The backend's answer is nobody's any more; the request may still be on its way."""
    return attempt if attempt.backend is Wire.REQUEST else attempt._replace(backend=Wire.NOTHING)


def _waits_for(attempt: Attempt, reply: Reply) -> bool:
    if attempt.phase is Phase.CLAIMING:
        return reply.event is Event.CLAIM
    return attempt.phase is Phase.SETTLING and reply.event is attempt.outcome


def _acknowledged(attempt: Attempt) -> Attempt:
    return attempt._replace(replies=tuple(reply._replace(acknowledged=True) for reply in attempt.replies))
