"""Which promise falls with which rule: what docs/guarantees.md says of them is proved here."""

from typing import NamedTuple

from tests.model.checker import Explored, explore
from tests.model.rules import EVERY_RULE, Fault, Promise, Rule


class Case(NamedTuple):
    """Without *rule*, among *faults*, *promise* is broken; it takes *attempts*. *behind*: a rule that stands before it,
    and has to fall first."""

    rule: Rule
    promise: Promise
    faults: tuple[Fault, ...] = ()
    attempts: int = 2
    behind: Rule | None = None

    def explore(self) -> Explored:
        """Look for the end that it speaks of, and for no other."""
        return explore(
            EVERY_RULE - {self.rule, self.behind}, frozenset(self.faults), frozenset({self.promise}), self.attempts
        )


CASES = (
    Case(Rule.TOKEN, Promise.ONCE, attempts=3),
    Case(Rule.TOKEN, Promise.FREE),
    Case(Rule.NO_TAKEOVER, Promise.ONCE),
    Case(Rule.NO_RELEASE_ON_TIMEOUT, Promise.ONCE),
    Case(Rule.NEVER_RESENT, Promise.ONCE),
    Case(Rule.WINDOW, Promise.ONCE),
    Case(Rule.ROOM, Promise.ONCE),
    Case(Rule.OPERATOR_AGE, Promise.ONCE),
    Case(Rule.OPERATOR_LEASE, Promise.ONCE),
    Case(Rule.OPERATOR_LOOK, Promise.ONCE),
    Case(Rule.DURABILITY, Promise.ONCE, (Fault.FAILOVER,)),
    Case(Rule.DURABILITY, Promise.KEPT, (Fault.FAILOVER,)),
    Case(Rule.OWN_WRITE, Promise.ONCE, (Fault.FAILOVER,)),
    Case(Rule.OWN_WRITE, Promise.KEPT, (Fault.FAILOVER,)),
    Case(Rule.OWN_WRITE, Promise.FREE, (Fault.FAILOVER,)),
    Case(Rule.REWRITE, Promise.KEPT, (Fault.FORGOTTEN,)),
    Case(Rule.INCIDENT, Promise.KEPT, (Fault.FORGOTTEN,)),
    Case(Rule.SPOOL, Promise.KEPT, (Fault.CRASH,)),
    Case(Rule.RULING, Promise.SAME),
    Case(Rule.MONOTONE, Promise.FINAL, (Fault.CRASH,)),
    Case(Rule.MONOTONE, Promise.FINAL, behind=Rule.RULING),
    Case(Rule.WITHDRAW, Promise.FREE),
    Case(Rule.ORDERED, Promise.FREE),
    Case(Rule.LASTING, Promise.FREE, (Fault.FAILOVER,)),
    Case(Rule.ECHO, Promise.OWNER, (Fault.STRAY,)),
)
