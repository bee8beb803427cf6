"""What is kept under a key, and what it reads as."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.lifecycle import State
from proxy.core.record import Record, values, without_fields
from proxy.core.ruling import is_ruling, ruling
from tests.unit.core.samples import FIRST_USED, attempt, response

DAY = 24 * 3600


def test_a_key_is_taken_for_a_day_from_its_first_use() -> None:
    assert attempt(first_used=FIRST_USED * 1000, retention=DAY * 1000).expires == FIRST_USED + DAY


@given(st.integers(0, 2**42), st.integers(0, 2**42))
def test_the_second_at_which_a_key_is_free_is_never_told_too_late(first_used: int, retention: int) -> None:
    expires = attempt(first_used=first_used, retention=retention).expires
    assert expires * 1000 <= first_used + retention < (expires + 1) * 1000


@pytest.mark.parametrize(
    ("age", "state"),
    [
        (0, State.IN_PROGRESS),
        (71_999, State.IN_PROGRESS),
        (72_000, State.UNKNOWN),
        (86_400_000, State.UNKNOWN),
    ],
)
def test_an_attempt_that_outlived_its_lease_reads_as_unknown(age: int, state: State) -> None:
    assert Record(attempt(lease=72_000), State.IN_PROGRESS, None).reads_as(age) is state


@pytest.mark.parametrize("state", [State.COMPLETED, State.UNKNOWN])
@given(age=st.integers(0, 2**42))
def test_a_settled_record_reads_as_what_it_is_at_any_age(state: State, age: int) -> None:
    assert Record(attempt(), state, response()).reads_as(age) is state


FIELDS = (
    b"Content-Type: application/json\r\nSet-Cookie: a=1; Path=/\r\nset-cookie:b=2\r\nX-Empty:\r\n"
    b"SET-COOKIE: \t c: d \t\r\nX-Url: https://a:1/b\r\n"
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (b"content-type", [b"application/json"]),
        (b"set-cookie", [b"a=1; Path=/", b"b=2", b"c: d"]),
        (b"x-empty", [b""]),
        (b"x-url", [b"https://a:1/b"]),
        (b"cookie", []),
        (b"content", []),
    ],
)
def test_the_values_of_a_field_come_in_their_order_whatever_its_case(name: bytes, found: list[bytes]) -> None:
    assert values(FIELDS, name) == found


def test_no_fields_have_no_values() -> None:
    assert values(b"", b"content-type") == []


tokens = st.from_regex(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True)
contents = st.from_regex(rb"([!-~\x80-\xff]([\t -~\x80-\xff]*[!-~\x80-\xff])?)?", fullmatch=True)


@given(st.lists(st.tuples(tokens, contents), max_size=20))
def test_each_value_is_found_under_its_name_and_nowhere_else(pairs: list[tuple[bytes, bytes]]) -> None:
    fields = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
    for name, _ in pairs:
        expected = [value for other, value in pairs if other.lower() == name.lower()]
        assert values(fields, name.lower()) == expected


def test_fields_are_left_out_by_their_names_whatever_their_case_and_however_often() -> None:
    left = without_fields(FIELDS, {b"set-cookie", b"x-empty", b"content"})
    assert left == b"Content-Type: application/json\r\nX-Url: https://a:1/b\r\n"
    assert without_fields(FIELDS, ()) == FIELDS
    assert without_fields(b"", {b"set-cookie"}) == b""


@given(st.lists(st.tuples(tokens, contents), max_size=20))
def test_what_is_left_out_is_gone_and_all_else_is_as_it_was(pairs: list[tuple[bytes, bytes]]) -> None:
    names = {name.lower() for name, _ in pairs[::2]}
    fields = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
    left = b"".join(b"%b: %b\r\n" % pair for pair in pairs if pair[0].lower() not in names)
    assert without_fields(fields, names) == left


def test_an_operators_word_is_a_completed_record_that_is_known_as_one() -> None:
    """It is the attempt's in all but the token: whoever knew that one is a stranger now."""
    word = ruling(attempt(fingerprint=b"f" * 16), response(), b"12345678")
    assert is_ruling(word)
    assert (word.state, word.response) == (State.COMPLETED, response())
    assert word.attempt == attempt(fingerprint=b"f" * 16, token=b"operator12345678")
    assert not is_ruling(Record(attempt(), State.COMPLETED, response()))
