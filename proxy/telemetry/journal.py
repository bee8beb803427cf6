"""What is told of each request, once: numbers for the metrics, a line for the log. Keys show by their hash only."""

from collections.abc import Callable

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

    def malformed(self, fault: str) -> None:
        """What came was no request that could be served."""
        self._metrics.outcomes["refused"] += 1
        self._log.info("malformed request", fault=fault)

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

    def failed(self, path: bytes, why: str) -> None:
        """A request without a key had no usable answer."""
        self._log.warning("upstream failed", why=why, path=self._mask(path).decode("latin-1"))

    def late(self, attempt: Attempt) -> None:
        """A response is given before the store has it."""
        self._log.warning("response given before the store has it", key=attempt.key_hash.hex())

    def incident(self, attempt: Attempt, owner: Attempt) -> None:
        """A settlement met a record that it may not touch: somebody else owns the key."""
        self._log.error(
            "settlement met the record of another attempt",
            key=attempt.key_hash.hex(),
            token=attempt.token.hex()[:8],
            owner=owner.token.hex()[:8],
        )
