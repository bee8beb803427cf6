"""A short run, for each kind of store that starts at once; and that a seed is a schedule."""

from itertools import islice
from pathlib import Path

import pytest

from tests.chaos.ledger import Given, Said
from tests.chaos.proxies import SETTINGS
from tests.chaos.report import report
from tests.chaos.run import Outcome, Plan, chaos
from tests.chaos.schedule import KILL, PROXY_KINDS, PROXY_PAUSE, events

SEED = 20261124


@pytest.mark.timeout(180)
@pytest.mark.parametrize("store", ["sqlite", pytest.param("redis", marks=pytest.mark.full)])  # the next test has it
async def test_amid_faults_nothing_is_executed_twice_and_no_response_is_lost(store: str, tmp_path: Path) -> None:
    await all_holds(store, tmp_path)


@pytest.mark.timeout(180)
async def test_nor_where_records_are_compressed_and_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "record.compression", "zstd")
    monkeypatch.setitem(SETTINGS, "record.encryption_keys", f'["1:{"ab" * 32}"]')
    await all_holds("redis", tmp_path)


@pytest.mark.timeout(180)
async def test_nor_where_requests_wait_for_one_another_and_are_given_replays(tmp_path: Path) -> None:
    outcome = await all_holds("sqlite", tmp_path, 2.5, "replay")
    answers = [told.answer for answers in outcome.ledger.told.values() for told in answers]
    assert any(isinstance(answer, Given) and answer.replayed for answer in answers)
    assert any(isinstance(answer, Said) and answer.status == 422 for answer in answers)
    assert len({key.name for key in outcome.final}) < len(outcome.final)


async def all_holds(store: str, directory: Path, seconds: float = 10.0, way: str = "conflict") -> Outcome:
    outcome = await chaos(Plan(store, SEED, seconds, way=way), directory)
    assert outcome.clean, "\n".join(report(outcome))
    assert any(each.kind == KILL for each in outcome.happened)
    assert {type(answer).__name__ for answer in outcome.final.values()} <= {"Shown", "Said"}
    assert len(outcome.ledger.executions) > 10 * seconds
    return outcome


def test_a_seed_is_a_schedule() -> None:
    def first(seed: int, track: str) -> list[object]:
        return list(islice(events(seed, track, PROXY_KINDS, PROXY_PAUSE), 200))

    assert first(1, "proxy 0") == first(1, "proxy 0")
    assert first(1, "proxy 0") != first(1, "proxy 1")
    assert first(1, "proxy 0") != first(2, "proxy 0")
