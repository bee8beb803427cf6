"""What holds for all tests: those that are marked `full` run with --full alone, since they take minutes."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """See pytest."""
    parser.addoption("--full", action="store_true", help="run the tests that take minutes, too")


def pytest_configure(config: pytest.Config) -> None:
    """See pytest."""
    config.addinivalue_line("markers", "full: takes minutes; run with --full")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """See pytest."""
    if config.getoption("--full"):
        return
    long = [item for item in items if item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]
