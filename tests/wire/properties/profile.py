"""How much is tried: little and always the same in `make test`; FUZZ_EXAMPLES=N tries N for each property, other ones
each time."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

_EXAMPLES = os.environ.get("FUZZ_EXAMPLES")


as_long_as_it_takes = pytest.mark.timeout(0 if _EXAMPLES else 60)


def tried(examples: int, *, shrinking: bool = True) -> settings:
    """*examples*: how many, where nothing else is said. *shrinking*: what fails is made smaller, which takes many runs
    more."""
    return settings(
        max_examples=int(_EXAMPLES or examples),
        derandomize=_EXAMPLES is None,
        database=None,
        deadline=None,
        phases=[phase for phase in Phase if shrinking or phase not in (Phase.shrink, Phase.explain)],
        suppress_health_check=list(HealthCheck),
    )
