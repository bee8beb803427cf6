"""`python -m tests.chaos [--seconds N] [--seed S] [--store STORE] [--mode MODE]`; its exit status says
whether all held."""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

import click
import uvloop

from tests.chaos.modes import MODES
from tests.chaos.report import report
from tests.chaos.run import Plan, chaos
from tests.chaos.stands import REPLICATED, STANDS


def main() -> int:
    """0: they held."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=240.0, help="of faults, over all runs; quiet comes on top")
    parser.add_argument("--seed", type=int, help="of an earlier run; a new one by default")
    parser.add_argument("--store", choices=STANDS, action="append", help="all by default")
    parser.add_argument("--durability", help="of the Redis stores; replicas:1 by default where there are any")
    parser.add_argument("--mode", choices=MODES, action="append", help="how taken keys are treated; all by default")
    parser.add_argument("--proxies", type=int, default=3)
    parser.add_argument("--clients", type=int, default=16)
    given = parser.parse_args()
    runs = [(store, way) for store in given.store or STANDS for way in given.mode or MODES]
    seed = secrets.randbits(32) if given.seed is None else given.seed
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    click.echo(f"seed {seed}; logs are in {directory}")
    clean = True
    for store, way in runs:
        durability = "memory" if store == "sqlite" else given.durability
        plan = Plan(
            store,
            seed,
            given.seconds / len(runs),
            durability or ("replicas:1" if store in REPLICATED else "memory"),
            given.proxies,
            given.clients,
            way,
        )
        own = directory / f"{store}-{way}"
        own.mkdir()
        outcome = uvloop.run(chaos(plan, own))
        clean = clean and outcome.clean
        for line in report(outcome):
            click.echo(line)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
