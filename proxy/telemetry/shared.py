"""The metrics of several workers: each leaves its snapshot in a file, and who is asked adds them up."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import orjson

from proxy.telemetry.metrics import Snapshot

PUBLISH_EVERY = 1.0
"""Seconds between two snapshots of a worker."""


async def publish(snapshot: Callable[[], Snapshot], directory: Path, name: str) -> None:
    """Leave a snapshot in *directory* again and again, until cancelled; once more then."""
    try:
        while True:
            write(snapshot(), directory, name)
            await asyncio.sleep(PUBLISH_EVERY)
    finally:
        write(snapshot(), directory, name)


def collect(directory: Path) -> list[Snapshot]:
    """What the workers have left."""
    return [orjson.loads(path.read_bytes()) for path in sorted(directory.glob("*.json"))]


def bury(directory: Path, name: str) -> None:
    """A worker is dead: what it has counted stays counted, what it had open is not open any more."""
    path = directory / f"{name}.json"
    if path.exists():
        write({**orjson.loads(path.read_bytes()), "gauges": {}}, directory, name)


def write(snapshot: Snapshot, directory: Path, name: str) -> None:
    """Leave one snapshot: a reader sees the old one or the new one, whole."""
    unfinished = directory / f"{name}.unfinished"
    unfinished.write_bytes(orjson.dumps(snapshot))
    unfinished.replace(directory / f"{name}.json")
