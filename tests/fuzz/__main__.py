"""`python -m tests.fuzz [--seconds N] [TARGET ...]`: each target for so long, one after another; the exit status says
whether something was found."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tests.fuzz.targets import TARGETS


def fuzz(target: str, folder: Path, seconds: int) -> bool:
    """Whether nothing was found. *folder*: empty; findings are left there."""
    findings = folder / "findings"
    for part in (findings, folder / "corpus"):
        part.mkdir(parents=True)
    arguments = [sys.executable, "-m", "tests.fuzz.run", target, str(folder), str(seconds)]
    status = subprocess.run(arguments, check=False).returncode
    found = sorted(path.name for path in findings.iterdir() if path.suffix != ".txt")
    runs, passed = (folder / "runs").read_text().split() if (folder / "runs").exists() else ("0", "0")
    click.echo(f"{target}: {runs} inputs in {passed} s, exit status {status}, {len(found)} findings")
    for name in found:
        click.echo(f"  {findings / name}")
    return status == 0 and not found and runs != "0"


def main() -> int:
    """0: nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default")
    arguments = parser.parse_args()
    targets = arguments.targets or list(TARGETS)
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    click.echo(f"findings and new inputs: {folder}")
    clean = [fuzz(target, folder / target, arguments.seconds) for target in targets]
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
