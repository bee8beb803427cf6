"""What Prometheus scrapes. Counted in plain numbers, and made into metrics when somebody asks: on the path of a request
a library's counter and three of its histograms would be a tenth of all work."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets, in seconds."""
OUTCOMES = (
    *("passed", "completed", "released", "unknown", "conflict", "replayed", "retrieved", "not_found", "refused"),
    "failed",
)
"""
passed     forwarded without a key, answered by the backend
completed  first request with its key, answered by the backend and recorded
released   first request with its key, never sent or turned away: the key is free
unknown    first request with its key, and what became of it is not known
conflict   the key is taken
replayed   the key is taken, and its recorded response was given once more
retrieved  a record was shown
not_found  there was no record to show
refused    the request was not served: malformed, too large, too slow, overloaded, store unavailable, draining
failed     forwarded without a key, and the backend gave no usable answer
"""
OPERATIONS = ("claim", "settle", "release", "read")
GAUGES = {
    "unsettled": "Guarded requests in flight: claimed, and neither settled in the store nor spooled yet",
    "connections": "Open connections from clients",
    "tunnels": "Open WebSockets: two connections that have become one",
    "spooled": "Settlements that wait on the disk for the store",
    "spool_bytes": "Bytes in the spool, incidents included",
    "incidents": "Settlements that met the record of another attempt, kept for an operator",
}
"""Name of each, and what it counts. What is on the disk is told by the one process that delivers it."""

Snapshot = dict[str, dict[str, float]]
"""Name of a metric → label → value; of a histogram, the counts of its buckets under their numbers, and `sum`."""


class Timings:
    """A histogram of seconds. What is observed is only noted down, and counted by the thousand."""

    __slots__ = ("_counts", "_noted", "_total", "observe")

    def __init__(self) -> None:
        self._noted: list[float] = []
        self.observe = self._noted.append
        """One more."""
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0.0

    def fold(self) -> None:
        """Count what was noted down. To be called now and then: the note grows until it is."""
        for seconds in self._noted:
            self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._total += sum(self._noted)
        self._noted.clear()

    def snapshot(self) -> dict[str, float]:
        """See Snapshot."""
        self.fold()
        return {**{str(bucket): count for bucket, count in enumerate(self._counts)}, "sum": self._total}


class Metrics:
    """The metrics of one process. Is one of the things that wait on its deadlines, to fold its timings."""

    def __init__(self) -> None:
        self.deadline = 0.0
        """Always passed: at every tick."""
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.store_failures = dict.fromkeys(OPERATIONS, 0)
        self.spool_failures = 0
        self.upstream = Timings()
        self.store = {operation: Timings() for operation in OPERATIONS}
        self.gauges: Callable[[], dict[str, float]] = dict
        """What is open now, by the labels in `GAUGES`."""

    def overdue(self) -> None:
        """Fold all timings."""
        self.upstream.fold()
        for timings in self.store.values():
            timings.fold()

    def snapshot(self) -> Snapshot:
        """All of them, as they are now."""
        return {
            "outcomes": dict(self.outcomes),
            "store_failures": dict(self.store_failures),
            "spool": {"failures": self.spool_failures},
            "upstream": self.upstream.snapshot(),
            **{f"store_{operation}": timings.snapshot() for operation, timings in self.store.items()},
            "gauges": self.gauges(),
        }


def _sum(snapshots: Iterable[Snapshot]) -> Snapshot:
    total: Snapshot = {}
    for snapshot in snapshots:
        for name, values in snapshot.items():
            sums = total.setdefault(name, {})
            for label, value in values.items():
                sums[label] = sums.get(label, 0) + value
    return total


def _buckets(values: dict[str, float]) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets and sum, as the exposition format has them."""
    buckets, seen = [], 0.0
    for number, bound in enumerate([*map(str, BOUNDS), "+Inf"]):
        seen += values.get(str(number), 0)
        buckets.append((bound, seen))
    return buckets, values.get("sum", 0.0)


class Exposition(Collector):
    """For a prometheus_client registry: the sum over the processes whose snapshots it is given."""

    def __init__(self, snapshots: Callable[[], Iterable[Snapshot]]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        total = _sum([Metrics().snapshot(), *self._snapshots()])
        requests = CounterMetricFamily("idempotency_proxy_requests", "Requests by outcome", labels=["outcome"])
        for outcome, count in total["outcomes"].items():
            requests.add_metric([outcome], count)
        yield requests
        failures = CounterMetricFamily(
            "idempotency_proxy_store_failures",
            "Store operations without a usable answer within the deadline",
            labels=["operation"],
        )
        for operation, count in total["store_failures"].items():
            failures.add_metric([operation], count)
        yield failures
        buckets, seconds = _buckets(total["upstream"])
        yield HistogramMetricFamily(
            "idempotency_proxy_upstream_seconds",
            "From the first byte of a request sent to the upstream to the head of its response",
            buckets=buckets,
            sum_value=seconds,
        )
        store = HistogramMetricFamily(
            "idempotency_proxy_store_seconds", "Time of a store operation", labels=["operation"]
        )
        for operation in OPERATIONS:
            buckets, seconds = _buckets(total[f"store_{operation}"])
            store.add_metric([operation], buckets, seconds)
        yield store
        yield CounterMetricFamily(
            "idempotency_proxy_spool_failures",
            "Settlements that neither the store nor the spool has taken in time: they lay in memory only",
            value=total["spool"]["failures"],
        )
        for name, help_text in GAUGES.items():
            yield GaugeMetricFamily(f"idempotency_proxy_{name}", help_text, value=total["gauges"].get(name, 0))
