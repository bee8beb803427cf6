"""What one proxy knows of its store's marker, and when it trusts the store no more."""

import logging

import pytest

from proxy.store.base import StoreRefused
from proxy.store.marker import FORGOTTEN, Marker

OURS, OTHERS = bytes(16), bytes(15) + b"\1"
NAME = b"marker"


def begun() -> tuple[Marker, bytes]:
    marker = Marker(OURS)
    there = marker.new()
    marker.begin(NAME, there)
    return marker, there


def test_a_marker_of_proxies_that_make_the_same_keys_is_taken() -> None:
    Marker(OURS).begin(NAME, Marker(OURS).new())


def test_a_marker_of_proxies_that_make_other_keys_is_refused() -> None:
    with pytest.raises(StoreRefused, match="one key would become two"):
        Marker(OURS).begin(NAME, Marker(OTHERS).new())


@pytest.mark.parametrize("there", [b"", b"2 00", b"1", b"a record"])
def test_what_is_no_marker_of_this_release_is_refused(there: bytes) -> None:
    with pytest.raises(StoreRefused):
        Marker(OURS).begin(NAME, there)


def test_a_marker_that_is_there_is_no_news() -> None:
    marker, there = begun()
    marker.seen(NAME, there)
    marker.seen(b"one that was never looked at", None)
    assert marker.forgotten is None


@pytest.mark.parametrize("there", [None, Marker(OURS).new(), b""], ids=["gone", "written anew by another", "damaged"])
def test_a_store_that_lost_its_marker_has_forgotten_and_the_log_says_so_once(
    there: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    marker, before = begun()
    marker.seen(NAME, there)
    marker.seen(NAME, there)
    marker.seen(NAME, before)
    assert marker.forgotten == FORGOTTEN, "until the proxy is started anew"
    assert [(record.levelno, record.message) for record in caplog.records] == [(logging.ERROR, FORGOTTEN)]
