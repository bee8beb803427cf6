"""Whose key is it: parts that are joined so that no two clients meet, and compared so that no client is split."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.key import Hasher
from proxy.core.scope import NO_SCOPE, folded, joined

parts = st.lists(st.none() | st.binary(max_size=12) | st.sampled_from([b"", b"-", b"+1:a", b"1:a"]), max_size=4)


@given(parts, parts)
def test_two_scopes_are_one_only_if_all_their_parts_are(one: list[bytes | None], other: list[bytes | None]) -> None:
    assert (joined(one) == joined(other)) == (one == other)


@given(parts, parts)
def test_none_is_the_beginning_of_another_of_as_many_parts(one: list[bytes | None], other: list[bytes | None]) -> None:
    """The key is hashed behind it: where the scope ends must be plain."""
    if len(one) == len(other) and one != other:
        assert not joined(one).startswith(joined(other))


def test_an_absent_part_is_not_an_empty_one() -> None:
    assert joined([None]) != joined([b""])
    assert joined([None, b"a"]) != joined([b"a", None])


def test_one_for_all_is_the_absence_of_parts() -> None:
    assert joined([]) == NO_SCOPE


@given(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), st.tuples(st.binary(max_size=8), st.binary(max_size=8)))
def test_a_key_of_one_scope_is_never_a_key_of_another(one: tuple[bytes, bytes], other: tuple[bytes, bytes]) -> None:
    hasher = Hasher(b"secret")
    names = {hasher.key(key, joined([scope])) for scope, key in (one, other)}
    assert len(names) == len({one, other})
    assert names.isdisjoint({hasher.key(key) for _, key in (one, other)})


def test_a_path_that_differs_in_the_case_of_its_ascii_letters_is_one_client() -> None:
    assert folded("AcMe-1") == folded("acme-1") == b"acme-1"
    assert folded("caf\xc9") != folded("caf\xe9")
