"""Blocks of field lines: looked into and cut, and otherwise left as they came."""

import time

from proxy.http1.fields import Watched, pairs, trimmed, values, without
from proxy.http1.message import Limits, RequestHead, read_request

BLOCK = b"\r\nHost: a\r\nX-One: 1\r\nx-one:2\r\nEmpty:\r\nConnection: close"


def test_all_values_of_a_repeated_field_are_found_whatever_its_case() -> None:
    assert values(BLOCK, b"x-one") == [b"1", b"2"]
    assert values(BLOCK, b"empty") == [b""]
    assert values(BLOCK, b"x-on") == []
    assert pairs(b"") == []


def test_a_watched_field_is_found_and_a_repeated_one_is_noticed() -> None:
    found, repeated = Watched([b"host", b"empty"]).find(BLOCK)
    assert (found, repeated) == ({b"host": b"a", b"empty": b""}, False)
    found, repeated = Watched([b"x-one"]).find(BLOCK)
    assert (found, repeated) == ({b"x-one": b"2"}, True)


def test_a_watched_name_is_a_name_and_no_pattern() -> None:
    found, _ = Watched([b"x.one", b"x*"]).find(BLOCK)
    assert found == {}


def test_a_field_is_taken_out_and_all_others_stay_byte_for_byte() -> None:
    left = without(BLOCK, frozenset((b"x-one", b"connection")))
    assert left == b"\r\nHost: a\r\nEmpty:"
    assert without(BLOCK, frozenset((b"one", b"hos"))) == BLOCK


def test_blanks_around_values_go_and_nothing_else() -> None:
    assert trimmed(b"\r\nA:   b  c \t\r\nD: e") == b"\r\nA: b  c\r\nD: e"
    assert trimmed(b"\r\nA:\tb\r\nD:e ") == b"\r\nA: b\r\nD: e"
    assert trimmed(BLOCK) is BLOCK


def test_a_line_of_very_many_blanks_costs_no_more_than_any_other() -> None:
    blanks = b" " * 30_000

    def cost() -> float:
        began = time.process_time()
        head = read_request(b"GET / HTTP/1.1\r\nHost: a\r\nA: \tx%by \t\r\nB:  c\r\n\r\n" % blanks, Limits())
        seconds = time.process_time() - began
        assert isinstance(head, RequestHead)
        assert head.block == b"\r\nHost: a\r\nA: x%by\r\nB: c" % blanks
        return seconds

    assert min(cost() for _ in range(3)) < 0.1  # seconds; it was 1.5, and it is some microseconds


def test_a_value_of_blanks_alone_is_empty() -> None:
    assert pairs(trimmed(b"\r\nA:%b\r\nB: \t \r\nC: d" % (b" " * 30_000))) == [(b"A", b""), (b"B", b""), (b"C", b"d")]
