"""What Prometheus scrapes. Every child is made once: looking one up by its labels costs three times its increment."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

OUTCOMES = ("passed", "completed", "released", "unknown", "conflict", "retrieved", "not_found", "refused", "failed")
"""
passed     forwarded without a key, answered by the backend
completed  first request with its key, answered by the backend and recorded
released   first request with its key, never sent or turned away: the key is free
unknown    first request with its key, and what became of it is not known
conflict   the key is taken
retrieved  a record was shown
not_found  there was no record to show
refused    the request was not served: malformed, too large, too slow, overloaded, store unavailable, draining
failed     forwarded without a key, and the backend gave no usable answer
"""
STORE_OPERATIONS = ("claim", "settle", "release", "read")


class Metrics:
    """The metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter("idempotency_proxy_requests", "Requests by outcome", ["outcome"], registry=registry)
        self.outcomes = {outcome: requests.labels(outcome) for outcome in OUTCOMES}
        self.upstream_seconds = Histogram(
            "idempotency_proxy_upstream_seconds",
            "From the first byte of a request sent to the upstream to the head of its response",
            buckets=_SECONDS,
            registry=registry,
        )
        store = Histogram(
            "idempotency_proxy_store_seconds",
            "Time of a store operation",
            ["operation"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.store_seconds = {operation: store.labels(operation) for operation in STORE_OPERATIONS}
        failures = Counter(
            "idempotency_proxy_store_failures",
            "Store operations without a usable answer within the deadline",
            ["operation"],
            registry=registry,
        )
        self.store_failures = {operation: failures.labels(operation) for operation in STORE_OPERATIONS}
        self.in_flight = Gauge(
            "idempotency_proxy_in_flight",
            "Guarded requests whose key is not settled yet",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.unsettled = Gauge(
            "idempotency_proxy_unsettled",
            "Responses that were given, and that the store has not taken yet",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.connections = Gauge(
            "idempotency_proxy_connections",
            "Open connections from clients",
            registry=registry,
            multiprocess_mode="livesum",
        )
