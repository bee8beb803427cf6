"""Blocks of field lines: looked into and cut, and otherwise left as they came."""

from proxy.http1.fields import Watched, pairs, trimmed, values, without

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
