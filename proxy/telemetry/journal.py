"""What is told of each request, once: numbers for the metrics, a line for the log. Keys show by their hash only."""

from collections.abc import Callable, Sequence

import structlog

from proxy.core.record import Attempt
from proxy.telemetry.access import AccessLog
from proxy.telemetry.metrics import Metrics


class Journal:
    """*access*: where each request has its line, if anywhere; what went wrong has one in any case. *mask*: a path as it
    may be told, since the path of a question for a key has the key in it."""

    def __init__(self, metrics: Metrics, access: AccessLog | None, mask: Callable[[bytes], bytes]) -> None:
        self._metrics = metrics
        self._log = structlog.get_logger("proxy")
        self._access = access
        self.lines = access is not None
        self._mask = mask
        self._spool_full = False
        self._spool_trouble = ""
        self.claimed = metrics.store["claim"].observe
        self.settled = metrics.store["settle"].observe
        self.released = metrics.store["release"].observe
        self.read = metrics.store["read"].observe
        self.responded = metrics.upstream.observe
        """Seconds that it took, each."""

    def count(self, outcome: str) -> None:
        """A request has its answer."""
        self._metrics.outcomes[outcome] += 1

    def request(self, method: bytes, path: bytes, status: int, outcome: str, seconds: float, key_hash: bytes) -> None:
        """The line of a request. *path*: without query, which may carry secrets; *key_hash*: empty without a key."""
        if self._access is not None:
            self._access.write(
                method=method.decode("ascii"),
                path=self._mask(path).decode("latin-1"),
                status=status,
                outcome=outcome,
                ms=round(seconds * 1000, 2),
                key=key_hash.hex(),
            )

    def unusable(self, fault: str) -> None:
        """What came could not be served: malformed, over a limit, too slow, or one connection too many."""
        self._metrics.outcomes["refused"] += 1
        self._log.info("unusable request", fault=fault)

    def store_failure(self, operation: str, why: str, key_hash: bytes) -> None:
        """The store gave no usable answer."""
        self._metrics.store_failures[operation] += 1
        self._log.warning("store unavailable", operation=operation, why=why, key=key_hash.hex())

    def unknown(self, attempt: Attempt, why: str) -> None:
        """The request may have been executed, and nobody here knows."""
        url = attempt.url.partition(b"?")[0].decode("latin-1")
        self._log.warning("outcome unknown", why=why, key=attempt.key_hash.hex(), url=url)

    def not_sent(self, why: str, key_hash: bytes) -> None:
        """The upstream could not be reached."""
        self._log.warning("upstream not reached", why=why, key=key_hash.hex())

    def unproven(self, why: str, key_hash: bytes) -> None:
        """The upstream did not say whether a record may be shown."""
        self._log.warning("probe without an answer", why=why, key=key_hash.hex())

    def failed(self, path: bytes, why: str) -> None:
        """A request without a key had no usable answer."""
        self._log.warning("upstream failed", why=why, path=self._mask(path).decode("latin-1"))

    def late(self, attempt: Attempt, *, spooled: bool) -> None:
        """An answer is given before the store has it. *spooled*: it is on the disk meanwhile."""
        self._log.warning("response given before the store has it", key=attempt.key_hash.hex(), spooled=spooled)

    def overtaken(self, attempt: Attempt, owner: Attempt) -> None:
        """A release found the key in other hands: it was free already, which is all that a release is for."""
        self._log.info("release found the key taken again", key=attempt.key_hash.hex(), owner=owner.token.hex()[:8])

    def incident(self, attempt: Attempt, owner: Attempt) -> None:
        """A settlement met a record that it may not touch: somebody else owns the key."""
        self._log.error(
            "settlement met the record of another attempt",
            key=attempt.key_hash.hex(),
            token=attempt.token.hex()[:8],
            owner=owner.token.hex()[:8],
        )

    def outlived(self, attempt: Attempt) -> None:
        """A settlement that lay in memory only is of no use to anyone any more."""
        self._log.error("settlement given up, its key has expired", key=attempt.key_hash.hex())

    # -- the spool ----------------------------------------------------------------------------------------------

    def spool_failure(self, why: str, key_hash: bytes) -> None:
        """A settlement that the store has not taken could not be spooled: it lies in memory only."""
        self._metrics.spool_failures += 1
        self._log.error("settlement not spooled", why=why, key=key_hash.hex())

    def spool_size(self, *, full: bool, size: int) -> None:
        """How full it is: told when that changes."""
        if full and not self._spool_full:
            self._log.error("the spool is full: no new keys are taken until the store is back", bytes=size)
        elif self._spool_full and not full:
            self._log.info("the spool has room again", bytes=size)
        self._spool_full = full

    def spool_usable(self, trouble: str) -> None:
        """Whether it can be used (nothing), or why not: told when that changes."""
        if trouble and trouble != self._spool_trouble:
            self._log.error("the spool cannot be used", why=trouble)
        elif self._spool_trouble and not trouble:
            self._log.info("the spool can be used again")
        self._spool_trouble = trouble

    def spool_unreadable(self, numbers: Sequence[int]) -> None:
        """Entries that cannot be decoded; they stay until they expire."""
        self._log.error("entries of the spool cannot be read", numbers=list(numbers))

    def spool_expired(self, key_hash: bytes) -> None:
        """A settlement was not delivered within the retention of its key."""
        self._log.error("settlement expired in the spool", key=key_hash.hex())

    def delivered(self, count: int) -> None:
        """The store has taken what waited in the spool."""
        self._log.info("settlements delivered from the spool", count=count)
