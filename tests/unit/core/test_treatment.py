"""How a guarded request is treated."""

import pytest

from tests.unit.core.samples import TREATMENT


@pytest.mark.parametrize(
    ("replays", "rejects", "compares"),
    [(False, False, False), (True, False, True), (False, True, True), (True, True, True)],
)
def test_what_was_asked_for_is_looked_at_only_where_it_matters(replays: bool, rejects: bool, compares: bool) -> None:
    """It costs a hash of the whole body."""
    assert TREATMENT._replace(replays=replays, rejects=rejects).compares is compares
    assert TREATMENT._replace(replays=replays, rejects=rejects, waits=True).compares is compares


def test_by_default_a_later_request_is_a_conflict_and_a_key_is_no_must() -> None:
    assert TREATMENT[-4:] == (False, False, False, False)
