"""What the stories of the requests are given: the parts they work with, and the terms they work on."""

from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.budget import Budget
from proxy.core.answer import Answers
from proxy.core.fingerprint import Fingerprints
from proxy.core.key import Hasher
from proxy.deadlines import Deadlines
from proxy.http1.forward import Forwarding
from proxy.http1.pool import Pool
from proxy.http1.tunnel import Tunnel
from proxy.identity import Identifier
from proxy.probe import Prober
from proxy.store.sealing import Sealing
from proxy.store.spool import Spool
from proxy.telemetry.journal import Journal
from proxy.tokens import Tokens
from proxy.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every request. Times in seconds, sizes in bytes."""

    send_within: float
    """Counted from before the claim: sent later, an exchange could outlast its lease, and an operator take its key for
    one whose outcome is not known."""
    lease_ms: int
    upstream_timeout: float
    connection_timeout: float
    """For a place in the pool and for connecting, together."""
    store_deadline: float
    """How long the store may take for one operation."""
    settle_wait: float
    """How long an answer waits for the store to take it; then it is spooled."""
    body_timeout: float
    dropped: frozenset[bytes]
    """Lower-case names of fields of a response that are not recorded."""
    by_host: bool
    """Whether the upstream is told the client's Host: then it is part of what was asked for."""
    prove: bool
    """Whether who asks for a record must show the right to see it."""
    replay_header: str
    repeat_wait_max: float
    """How long a later request waits for the first."""
    wait_max: float
    """How long a question for a record may wait for the first."""
    view_limit: int
    max_tunnels: int
    tunnel_idle: float


@dataclass(frozen=True, slots=True)
class Parts:
    """One set a process. *wall*: Unix time in seconds."""

    terms: Terms
    store: Sealing
    spool: Spool | None
    """Where settlements wait for a store that does not take them; None: it forgets, too, when the process ends."""
    pool: Pool
    forwarding: Forwarding
    answers: Answers
    hasher: Hasher
    fingerprints: Fingerprints
    identifier: Identifier
    prober: Prober | None
    """Asks the upstream who may see a record; None: that is not how it is decided."""
    waiting: Waiting
    deadlines: Deadlines
    journal: Journal
    tokens: Tokens
    wall: Callable[[], float]
    bodies: Budget
    """Bytes of guarded requests' bodies, which are held until the exchange is over."""
    unsettled: set[object] = field(default_factory=set)
    """Guarded exchanges whose key is not settled yet."""
    tunnels: set[Tunnel] = field(default_factory=set)
