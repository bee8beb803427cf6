"""The fuzzer's corpus, replayed without the fuzzer: what once was found stays found."""

import pytest

from tests.fuzz.targets import CORPUS, TARGETS

SCRIPTS = [(path.parent.name, path.name) for path in sorted(CORPUS.glob("*/*"))]


@pytest.mark.parametrize(("target", "name"), SCRIPTS)
async def test_a_script_of_the_corpus_shows_no_defect(target: str, name: str) -> None:
    await TARGETS[target]((CORPUS / target / name).read_bytes())


def test_each_target_has_a_corpus_and_it_stays_small() -> None:
    assert {target for target, _ in SCRIPTS} == set(TARGETS)
    assert sum((CORPUS / target / name).stat().st_size for target, name in SCRIPTS) < 100 * 1024
