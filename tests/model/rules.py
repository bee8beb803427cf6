"""What can be taken out of the protocol, what can go wrong around it, and what it promises."""

from enum import StrEnum


class Rule(StrEnum):
    """A rule of the protocol. The value says it in a line."""

    TOKEN = "settle, release and a repeated claim work only for the token that owns the record"
    NO_TAKEOVER = "nobody takes over a key that reads unknown"
    NO_RELEASE_ON_TIMEOUT = "a request that may have been sent never frees its key"
    NEVER_RESENT = "a guarded request is never sent again"
    REWRITE = "a settle that finds no record writes it"
    MONOTONE = "the state is compared as well as the token: completed is final"
    WINDOW = "nothing is sent once the attempt's own lease is over"
    ROOM = "what is left of the lease when the request is sent covers the whole exchange"
    INCIDENT = "an answer that meets another token's record is kept for the operator"
    RULING = "an operator's ruling has a token of its own"
    WITHDRAW = "who leaves without the key releases it"
    ORDERED = "nothing is said on a new connection before the old one is known dead"
    OPERATOR_AGE = "an operator's act judges the record's age inside the script, by the store's clock"
    OPERATOR_LEASE = "an operator waits for the end of the lease, even where the record says unknown"
    OPERATOR_LOOK = "an operator looks at the backend only after the lease is over"
    ECHO = "no reply of a batch is used before its ECHO matches"
    DURABILITY = "no write counts before the replica, or the disk, has it"
    OWN_WRITE = "a command that had to be repeated writes anew before it waits for the replica"
    LASTING = "a withdrawal waits for the replica, too"
    SPOOL = "an answer that the store has not taken is on the disk before it is given"


class Fault(StrEnum):
    """What can go wrong, beyond what always can: everything may be late or lost, every command repeated, every
    connection break, every lease run out, and an operator may act on what reads unknown."""

    CRASH = "a proxy is killed"
    CRASHES = "and so is the other"
    STRAY = "a reply comes that belongs to another command"
    FAILOVER = "the store goes on from its replica, or from its disk"
    FORGOTTEN = "the store loses a record in progress"


class Promise(StrEnum):
    """What holds. The value is what has happened where it does not."""

    ONCE = "executed twice"
    KEPT = "an answer is lost"
    SAME = "the answer on record is not the one that was given"
    FREE = "a key is blocked by an attempt that told its client that it is free, or never sent"
    WITHDRAWN = "a key is blocked by an attempt that was told that it is free, and whose proxy was killed after that"
    OWNER = "granted to who does not own the key"
    ENDS = "what is under way can never come to an end"
    FINAL = "a completed record was changed"


EVERY_RULE = frozenset(Rule)
NOT_PROMISED = {Fault.CRASH: Promise.WITHDRAWN, Fault.FORGOTTEN: Promise.ONCE}
"""What nobody can keep where this happens, or where this protocol does not."""


def promised(faults: frozenset[Fault]) -> frozenset[Promise]:
    """What holds among *faults*, with every rule."""
    return frozenset(Promise) - {NOT_PROMISED[fault] for fault in faults if fault in NOT_PROMISED}
