"""What is fuzzed. Each target takes a script (see `script.py`), and raises where it shows a defect."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.fuzz.chunked import chunked
from tests.fuzz.requests import requests
from tests.fuzz.responses import responses

TARGETS: dict[str, Callable[[bytes], Awaitable[None]]] = {
    "requests": requests,
    "responses": responses,
    "chunked": chunked,
}
CORPUS = Path(__file__).parent / "corpus"
"""A folder a target: scripts that lead to places where random bytes do not."""
