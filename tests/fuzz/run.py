"""One target under atheris, in a process of its own: `python -m tests.fuzz.run TARGET FOLDER SECONDS`.

A finding does not end the run: each kind of it is written to FOLDER/findings once, with its traceback.
"""

import asyncio
import hashlib
import sys
import time
import traceback
from pathlib import Path

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # only there for `make fuzz`
import click

with atheris.instrument_imports(include=["proxy.http1"]):
    from tests.fuzz.targets import CORPUS, TARGETS

LONGEST = 4096
"""Bytes of a script."""
HANG = 10
"""Seconds that no script may take."""
DICTIONARY = Path(__file__).parent / "dictionary.txt"


class Findings:
    """What went wrong: the first script of each kind, by the place that raised."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kinds: set[str] = set()

    def add(self, error: Exception, script: bytes) -> None:
        """Write it down, if it is new."""
        places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
        logged = str(error) if "Traceback" in str(error) else ""  # the place is in what was logged
        lines = [line for line in logged.splitlines() if line.strip().startswith("File ")]
        kind = hashlib.sha256(repr((type(error), places[-1], lines[-1:])).encode()).hexdigest()[:12]
        if kind in self._kinds:
            return
        self._kinds.add(kind)
        (self._folder / kind).write_bytes(script)
        (self._folder / f"{kind}.txt").write_text("".join(traceback.format_exception(error)))
        click.echo(f"FOUND {self._folder / kind}: {error!r:.500}")


def main(name: str, folder: Path, seconds: int) -> None:
    """Does not return: libFuzzer ends the process."""
    target, loop = TARGETS[name], asyncio.new_event_loop()
    findings = Findings(folder / "findings")
    runs, began = 0, time.monotonic()

    def one(script: bytes) -> None:
        nonlocal runs
        runs += 1
        if runs % 1000 == 0:
            (folder / "runs").write_text(f"{runs} {time.monotonic() - began:.0f}")
        try:
            loop.run_until_complete(target(script))
        except Exception as error:  # a finding
            findings.add(error, script)

    flags = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={HANG}", f"-dict={DICTIONARY}"]
    quiet = ["-verbosity=0", f"-artifact_prefix={folder / 'findings'}/"]
    atheris.Setup([sys.argv[0], *flags, *quiet, str(folder / "corpus"), str(CORPUS / name)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
