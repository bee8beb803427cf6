"""Any block of field lines that llhttp takes: looked into and cut as a naive reader would, line by line."""

import httptools
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.http1.fields import Field, Watched, pairs, trimmed, valid, values, without
from tests.wire.properties.grammar import NAMES, right_requests, right_responses
from tests.wire.properties.profile import as_long_as_it_takes, tried

pytestmark = as_long_as_it_takes

LOWER = sorted({name.lower() for name in NAMES} | {b"host", b"content-length", b"transfer-encoding", b"x-absent"})
NAME_SETS = st.frozensets(st.sampled_from(LOWER), min_size=1)


@st.composite
def taken_blocks(draw: st.DrawFn) -> bytes:
    """As they come, of requests and of responses."""
    asks = draw(st.booleans())
    head = draw(right_requests if asks else right_responses)
    assume(valid(httptools.HttpRequestParser if asks else httptools.HttpResponseParser, head))
    return head[head.index(b"\r\n") : -4]


def naive(block: bytes) -> list[Field]:
    """Line by line (RFC 9112 §5): a name, a colon, blanks, a value, blanks."""
    fields = []
    for line in block.split(b"\r\n")[1:]:
        name, value = line.split(b":", 1)
        fields.append((name, value.strip(b" \t")))
    return fields


@tried(300)
@given(taken_blocks())
def test_trimming_changes_blanks_around_values_and_nothing_else(block: bytes) -> None:
    clean = trimmed(block)
    assert naive(clean) == naive(block)
    for line in clean.split(b"\r\n")[1:]:
        value = line.split(b":", 1)[1]
        assert value in (value.strip(b" \t"), b" " + value.strip(b" \t")), line
    assert trimmed(clean) == clean


@tried(200)
@given(taken_blocks())
def test_pairs_are_the_lines(block: bytes) -> None:
    assert pairs(block) == naive(block)
    assert pairs(trimmed(block)) == naive(block)


@tried(200)
@given(taken_blocks(), st.sampled_from(LOWER))
def test_values_are_those_of_the_lines_of_that_name(block: bytes, name: bytes) -> None:
    assert values(block, name) == [value for own, value in naive(block) if own.lower() == name]


@tried(300)
@given(taken_blocks(), NAME_SETS)
def test_without_leaves_the_other_lines_byte_for_byte(block: bytes, names: frozenset[bytes]) -> None:
    lines = block.split(b"\r\n")[1:]
    kept = [line for line in lines if line.split(b":", 1)[0].lower() not in names]
    assert without(block, names) == b"".join(b"\r\n" + line for line in kept)


@tried(300)
@given(taken_blocks(), NAME_SETS)
def test_a_watched_field_is_found_as_in_the_lines(block: bytes, names: frozenset[bytes]) -> None:
    fields = [(name.lower(), value) for name, value in naive(block) if name.lower() in names]
    repeated = len(fields) != len({name for name, _ in fields})
    watched = Watched(names)
    assert watched.find(trimmed(block)) == (dict(fields), repeated)
    lower = {name: value.lower() for name, value in fields}
    assert watched.find_lower(trimmed(block)) == (lower, repeated)
