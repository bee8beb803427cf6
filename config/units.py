"""Durations and sizes, as people write them: `24h`, `250ms`, `1MiB`."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

KIB, MIB, GIB = 1024, 1024**2, 1024**3
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")
_SECONDS = {
    "": Decimal(1),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_BYTES = {
    "": Decimal(1),
    "B": Decimal(1),
    "kB": Decimal(10**3),
    "MB": Decimal(10**6),
    "GB": Decimal(10**9),
    "KiB": Decimal(KIB),
    "MiB": Decimal(MIB),
    "GiB": Decimal(GIB),
}
_LONGEST = 366 * DAY
_LARGEST = GIB


def seconds(value: object) -> float:
    """The seconds of `250ms`, `1s`, `5m`, `24h`, `7d`, or of a number without unit; raise ValueError."""
    duration = _quantity(value, _SECONDS)
    if duration is None:
        raise ValueError("must be a duration: a number with ms, s, m, h or d, as 250ms or 24h; without a unit, seconds")
    if duration > _LONGEST:
        raise ValueError("must be at most 366d")
    return float(duration)


def size(value: object) -> int:
    """The bytes of `8KiB`, `1MiB`, `10MB`, or of a number without unit; raise ValueError."""
    count = _quantity(value, _BYTES)
    if count is None or count != int(count):
        raise ValueError("must be a size: a number with B, kB, MB, GB, KiB, MiB or GiB, as 1MiB; without a unit, bytes")
    if count > _LARGEST:
        raise ValueError("must be at most 1GiB")
    return int(count)


def written_seconds(duration: float) -> str:
    """As people write it, in the largest unit of which it is a whole number, up to hours: what `seconds` reads."""
    return _written(Decimal(str(duration)), {unit: _SECONDS[unit] for unit in ("h", "m", "s", "ms")})


def written_size(count: int) -> str:
    """Likewise, as `size` reads it."""
    return _written(Decimal(count), {unit: _BYTES[unit] for unit in ("GiB", "MiB", "KiB", "B")})


def _written(value: Decimal, units: Mapping[str, Decimal]) -> str:
    *larger, smallest = units
    unit = next((unit for unit in larger if value and value % units[unit] == 0), smallest)
    return f"{(value / units[unit]).normalize():f}{unit}"


def _quantity(value: object, units: Mapping[str, Decimal]) -> Decimal | None:
    """A number without sign or exponent, and a unit; None where it is something else (true and nan are)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = _QUANTITY.fullmatch(str(value).strip())
    if found is None or found[2] not in units:
        return None
    return Decimal(found[1]) * units[found[2]]


def _some_time(duration: float) -> float:
    if duration < 0.001:
        raise ValueError("must be at least 1ms")
    return duration


DurationOrNone = Annotated[float, BeforeValidator(seconds)]
"""Seconds; 0 is a duration, too."""
Duration = Annotated[DurationOrNone, AfterValidator(_some_time)]
"""Seconds, at least a millisecond: a deadline of 0 would be met by nothing."""
Size = Annotated[int, BeforeValidator(size)]
"""Bytes; 0 allows nothing."""
