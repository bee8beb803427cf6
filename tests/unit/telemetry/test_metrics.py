"""Numbers that add up, over requests and over workers."""

from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry.metrics import BOUNDS, Exposition, Metrics
from proxy.telemetry.shared import bury, collect, write


def samples(*metrics: Metrics) -> dict[tuple[str, str], float]:
    """(name, label's value) → value, as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(Exposition(lambda: [one.snapshot() for one in metrics]))
    families = text_string_to_metric_families(generate_latest(registry).decode("utf-8"))
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def test_before_any_request_all_series_are_there_and_zero() -> None:
    read = samples(Metrics())
    assert read[("idempotency_proxy_requests_total", "unknown")] == 0
    assert read[("idempotency_proxy_store_seconds_count", "claim")] == 0
    assert read[("idempotency_proxy_unsettled", "")] == 0
    assert set(read.values()) == {0}


def test_a_histogram_has_each_second_in_its_bucket_and_all_above() -> None:
    metrics = Metrics()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, 1000.0):
        metrics.upstream.observe(seconds)
    read = samples(metrics)
    name = "idempotency_proxy_upstream_seconds"
    assert read[(f"{name}_bucket", str(BOUNDS[0]))] == 2
    assert read[(f"{name}_bucket", str(BOUNDS[1]))] == 3
    assert read[(f"{name}_bucket", str(BOUNDS[-1]))] == 3
    assert read[(f"{name}_bucket", "+Inf")] == read[(f"{name}_count", "")] == 4
    assert read[(f"{name}_sum", "")] == 1000.0 + BOUNDS[0] * 2.01


def test_what_is_noted_down_is_folded_at_a_tick_and_counted_once() -> None:
    metrics = Metrics()
    metrics.store["claim"].observe(0.5)
    metrics.overdue()
    metrics.overdue()
    assert samples(metrics)[("idempotency_proxy_store_seconds_count", "claim")] == 1


def test_workers_are_added_up() -> None:
    one, other = Metrics(), Metrics()
    one.outcomes["completed"] = 2
    other.outcomes["completed"] = 3
    other.gauges = lambda: {"unsettled": 4, "connections": 1}
    read = samples(one, other)
    assert read[("idempotency_proxy_requests_total", "completed")] == 5
    assert read[("idempotency_proxy_unsettled", "")] == 4


def test_what_a_dead_worker_counted_stays_and_what_it_had_open_is_gone(tmp_path: Path) -> None:
    worker = Metrics()
    worker.outcomes["completed"] = 7
    worker.gauges = lambda: {"unsettled": 2.0, "connections": 3.0}
    write(worker.snapshot(), tmp_path, "123")
    assert collect(tmp_path)[0]["gauges"]["unsettled"] == 2
    bury(tmp_path, "123")
    bury(tmp_path, "never there")
    (left,) = collect(tmp_path)
    assert left["outcomes"]["completed"] == 7
    assert left["gauges"] == {}
