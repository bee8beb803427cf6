"""Commands that end by themselves, each in a process that is forked from one in which all of them are imported: that
takes half a second of CPU less than an interpreter of its own."""

import multiprocessing
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from proxy.__main__ import NAME, cli

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["pytest", __name__, "proxy.check", "proxy.incidents", "proxy.operator", "proxy.store.redis.store"]
)
_turn = threading.Lock()
"""`multiprocessing` looks after its processes whenever it starts one; two threads may not do so at once."""


def forked(
    arguments: Sequence[str], *, directory: Path, variables: Mapping[str, str], within: float
) -> subprocess.CompletedProcess[str]:
    """The command's end; raise TimeoutError where it has not come *within* so many seconds."""
    with tempfile.TemporaryDirectory() as place, _turn:
        outputs = [Path(place, name) for name in ("stdout", "stderr")]
        process = _CONTEXT.Process(target=_run, args=(arguments, directory, dict(variables), outputs))
        process.start()
        process.join(within)
        code = process.exitcode
        process.kill()
        process.join()
        if code is None:
            raise TimeoutError(f"{' '.join(arguments)} has not ended within {within} s")
        return subprocess.CompletedProcess(arguments, code, *(output.read_text() for output in outputs))


def _run(arguments: Sequence[str], directory: Path, variables: dict[str, str], outputs: list[Path]) -> None:
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(variables)
    for number, path in enumerate(outputs, 1):
        with path.open("wb") as output:
            os.dup2(output.fileno(), number)
    cli(list(arguments), prog_name=NAME)
