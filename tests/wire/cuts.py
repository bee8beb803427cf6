"""Where a row is cut in two."""

_RUN = 24
_MOST = 60


def every(data: bytes) -> list[int]:
    """Every position; of a long run of the same byte only those near its ends, and a few between: the others differ in
    nothing but a count."""
    return [cut for cut in range(1, len(data)) if not _within_run(data, cut) or cut % 997 == 0]


def telling(data: bytes) -> list[int]:
    """A sample: around line ends and colons, where parsers change their state, and the last byte; of very many some."""
    cuts = [cut for cut in every(data) if data[cut - 1 : cut + 1].strip(b"\r\n:") != data[cut - 1 : cut + 1]]
    return sorted({1, *cuts[:: 1 + len(cuts) // _MOST], len(data) - 1} & set(range(1, len(data))))


def _within_run(data: bytes, cut: int) -> bool:
    start, end = cut - _RUN, cut + _RUN
    return start >= 0 and end <= len(data) and len(set(data[start:end])) == 1
