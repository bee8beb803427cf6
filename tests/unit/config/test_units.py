"""Durations and sizes, as people write them."""

import pytest

from config.settings import Limits, Responses, Upstream
from config.units import seconds, size, written_seconds, written_size


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("250ms", 0.25),
        ("1s", 1.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("24h", 86400.0),
        ("7d", 604800.0),
        ("366d", 366 * 86400.0),
        ("90", 90.0),
        (" 2 s ", 2.0),
        (3, 3.0),
        (0.5, 0.5),
        (0, 0.0),
    ],
)
def test_a_duration_is_read_as_seconds(written: object, meant: float) -> None:
    assert seconds(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "-1s",
        "1e3",
        "1 hour",
        "1H",
        "1h30m",
        "1,5s",
        "\u0661s",
        "nan",
        "inf",
        float("nan"),
        float("inf"),
        -1,
        True,
        None,
        [1],
    ],
)
def test_what_is_no_duration_is_told_what_one_looks_like(written: object) -> None:
    with pytest.raises(ValueError, match="must be a duration: a number with ms, s, m, h or d"):
        seconds(written)


def test_a_duration_over_a_year_is_refused_before_it_overflows_a_store() -> None:
    with pytest.raises(ValueError, match="at most 366d"):
        seconds("367d")
    with pytest.raises(ValueError, match="at most 366d"):
        seconds("9" * 400)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("512", 512),
        ("512B", 512),
        ("2kB", 2000),
        ("2MB", 2_000_000),
        ("1GB", 1_000_000_000),
        ("8KiB", 8192),
        ("1MiB", 1_048_576),
        ("1.5MiB", 1_572_864),
        ("1 GiB", 1_073_741_824),
        (64, 64),
        (0, 0),
    ],
)
def test_a_size_is_read_as_bytes(written: object, meant: int) -> None:
    assert size(written) == meant
    assert isinstance(size(written), int)


@pytest.mark.parametrize(
    "written", ["", "MiB", "-1", "1mib", "1M", "1Mb", "0.5B", "0.1KiB", 1.5, True, None, float("inf")]
)
def test_what_is_no_size_is_told_what_one_looks_like(written: object) -> None:
    with pytest.raises(ValueError, match="must be a size: a number with B, kB, MB, GB, KiB, MiB or GiB"):
        size(written)


def test_a_size_over_what_memory_is_for_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 1GiB"):
        size("2GiB")


@pytest.mark.parametrize(
    ("duration", "written"),
    [(86400.0, "24h"), (5400.0, "90m"), (61.0, "61s"), (1.5, "1500ms"), (0.0, "0ms"), (366 * 86400.0, "8784h")],
)
def test_a_duration_is_written_in_the_largest_unit_that_fits(duration: float, written: str) -> None:
    assert written_seconds(duration) == written
    assert seconds(written) == duration


@pytest.mark.parametrize(
    ("count", "written"), [(0, "0B"), (1000, "1000B"), (1024, "1KiB"), (1536 * 1024, "1536KiB"), (1024**3, "1GiB")]
)
def test_a_size_is_written_in_the_largest_unit_that_fits(count: int, written: str) -> None:
    assert written_size(count) == written
    assert size(written) == count


def test_a_deadline_is_never_nothing_but_a_wait_may_be() -> None:
    with pytest.raises(ValueError, match="at least 1ms"):
        Upstream.model_validate({"url": "http://api", "timeout": "0s"})
    assert Responses.model_validate({"wait_max": "0s"}).wait_max == 0.0
    assert Limits.model_validate({"trailers": 0}).trailers == 0
