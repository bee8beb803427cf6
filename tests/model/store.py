"""The store: what a command does to the record. Whatever the rules allow goes through the table of the code."""

from enum import StrEnum
from typing import NamedTuple

from proxy.core import lifecycle
from proxy.core.lifecycle import Event, State
from tests.model.rules import Rule

OPERATOR = -1
"""Whose answer and whose command it is, where it is not an attempt's."""
NOBODY = -2


class Record(NamedTuple):
    """*owner*: the attempt whose token it carries. *answer*: who gave the answer in it."""

    state: State
    owner: int
    answer: int = NOBODY


class Command(NamedTuple):
    """*token*: whose record it is about. *by*: who sends it."""

    event: Event
    token: int
    by: int


class Result(StrEnum):
    """The store's answer, as in `proxy.store.base`."""

    GRANTED = "granted"
    FOUND = "found"
    DONE = "done"
    FOREIGN = "foreign"


Applied = tuple[Record | None, Result]


class Store:
    """*taken*: the transitions of the table that were gone through."""

    def __init__(self, rules: frozenset[Rule]) -> None:
        self._rules = rules
        self.taken: set[tuple[State, Event]] = set()

    def apply(self, record: Record | None, command: Command, *, lease_over: bool) -> Applied:
        """The record after *command*, and the reply. *lease_over*: of the record's owner."""
        if command.by == OPERATOR:
            return self._act(record, command, lease_over=lease_over)
        match command.event:
            case Event.CLAIM:
                return self._claim(record, command, lease_over=lease_over)
            case Event.RELEASE:
                return self._release(record, command)
            case _:
                return self._settle(record, command)

    def expire(self, record: Record) -> None:
        """The retention is over: nothing is left."""
        assert self._advance(record.state, Event.EXPIRE) is State.ABSENT

    def _claim(self, record: Record | None, command: Command, *, lease_over: bool) -> Applied:
        if record and record.owner == command.token and record.state is State.IN_PROGRESS and Rule.TOKEN in self._rules:
            return record, Result.GRANTED  # an earlier copy of this claim; without a name in it, nobody could tell
        state = State.ABSENT if record is None else reads_as(record, lease_over=lease_over)
        takes_over = state is State.UNKNOWN and Rule.NO_TAKEOVER not in self._rules
        if takes_over or self._allowed(state, Event.CLAIM):
            return Record(State.IN_PROGRESS, command.token), Result.GRANTED
        return record, Result.FOUND

    def _settle(self, record: Record | None, command: Command) -> Applied:
        after = State.COMPLETED if command.event is Event.COMPLETE else State.UNKNOWN
        settled = Record(after, command.token, command.by if after is State.COMPLETED else NOBODY)
        if record is None:  # not in the table: the store may have lost the claim
            return settled if Rule.REWRITE in self._rules else None, Result.DONE
        if not self._own(record, command):
            return record, Result.FOREIGN
        if self._allowed(record.state, command.event) or Rule.MONOTONE not in self._rules:
            return settled, Result.DONE
        return record, Result.DONE  # by the same, or by a better one

    def _release(self, record: Record | None, command: Command) -> Applied:
        if record is None:
            return None, Result.DONE
        allowed = self._allowed(record.state, command.event) or Rule.MONOTONE not in self._rules
        return (None, Result.DONE) if allowed and self._own(record, command) else (record, Result.FOREIGN)

    def _act(self, record: Record | None, command: Command, *, lease_over: bool) -> Applied:
        """An operator's. It is judged here, in one step with the change."""
        if record is None or not self._own(record, command):
            return record, Result.FOREIGN
        if not self.may_rule(record, lease_over=lease_over, by_the_store=Rule.OPERATOR_AGE in self._rules):
            return record, Result.FOREIGN
        if self._advance(State.UNKNOWN, command.event) is State.ABSENT:
            return None, Result.DONE
        token = OPERATOR if Rule.RULING in self._rules else record.owner
        return Record(State.COMPLETED, token, OPERATOR), Result.DONE

    def may_rule(self, record: Record, *, lease_over: bool, by_the_store: bool) -> bool:
        """May an operator rule over it? Only what is past its lease: before that, even of a record that *says* unknown
        the request may still be on its way to the backend. By another clock, anything might look so."""
        if record.state is State.COMPLETED:
            return False
        if Rule.OPERATOR_LEASE in self._rules:
            return lease_over or not by_the_store
        return reads_as(record, lease_over=lease_over) is State.UNKNOWN or not by_the_store

    def _own(self, record: Record, command: Command) -> bool:
        return record.owner == command.token or Rule.TOKEN not in self._rules

    def _allowed(self, state: State, event: Event) -> bool:
        """Does the table have the row? Then it is gone through."""
        if (state, event) in lifecycle.TRANSITIONS:
            self._advance(state, event)
            return True
        return False

    def _advance(self, state: State, event: Event) -> State:
        self.taken.add((state, event))
        return lifecycle.advance(state, event)


def reads_as(record: Record, *, lease_over: bool) -> State:
    """See `proxy.core.record.Record.reads_as`."""
    return State.UNKNOWN if record.state is State.IN_PROGRESS and lease_over else record.state
