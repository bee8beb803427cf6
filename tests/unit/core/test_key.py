"""What is a key, and under what name its record lies."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.key import HASH_SIZE, NO_CREDENTIAL, Hasher, KeyRule

DEFAULT = KeyRule(16, 36, "A-Za-z0-9-")
CHARACTERS = string.ascii_letters + string.digits + "-"
UUID = b"bf6cce22-4c12-454f-ac05-ca20c8683735"

keys = st.text(CHARACTERS, min_size=16, max_size=36).map(str.encode)


@given(keys)
def test_a_key_of_the_default_rule_is_taken_as_it_is(key: bytes) -> None:
    assert DEFAULT.read([key]) == key


@given(keys)
def test_a_key_in_double_quotes_is_taken_without_them(key: bytes) -> None:
    assert DEFAULT.read([b'"%b"' % key]) == key


def test_case_is_kept_for_keys_are_case_sensitive() -> None:
    assert DEFAULT.read([b"AbCdEfGhIjKlMnOp"]) == b"AbCdEfGhIjKlMnOp"
    assert Hasher(b"").key(b"AbCdEfGhIjKlMnOp") != Hasher(b"").key(b"abcdefghijklmnop")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([], id="no field"),
        pytest.param([b""], id="empty"),
        pytest.param([b'""'], id="empty string"),
        pytest.param([b'"'], id="a quote alone"),
        pytest.param([b"a" * 15], id="15 characters"),
        pytest.param([b"a" * 37], id="37 characters"),
        pytest.param([b'"%b"' % (b"a" * 15)], id="15 characters in quotes: the quotes do not count"),
        pytest.param([b'"%b"' % (b"a" * 37)], id="37 characters in quotes"),
        pytest.param([UUID, UUID], id="repeated, though equal"),
        pytest.param([UUID, b""], id="repeated, one empty"),
        pytest.param([b"a" * 16 + b"," + b"b" * 16], id="comma-joined"),
        pytest.param([b"a" * 16 + b", " + b"b" * 16], id="comma-joined with a blank"),
        pytest.param([b'"%b","%b"' % (b"a" * 15, b"b" * 15)], id="comma-joined strings, quoted outside"),
        pytest.param([b'"' + UUID], id="only opened"),
        pytest.param([UUID + b'"'], id="only closed"),
        pytest.param([b'""' + UUID + b'""'], id="quoted twice"),
        pytest.param([b'"%b";a=1' % UUID], id="a string with parameters (RFC 9651 section 3.1.2)"),
        pytest.param([b"'%b'" % UUID[:30]], id="single quotes"),
        pytest.param([b"a" * 8 + b" " + b"a" * 8], id="a blank inside"),
        pytest.param([b"a" * 16 + b"\n"], id="line feed at the end"),
        pytest.param([b"a" * 16 + b"\r\nX: y"], id="a field smuggled in"),
        pytest.param([b"a" * 16 + b"\0"], id="NUL"),
        pytest.param([b"a" * 16 + b"_"], id="underscore"),
        pytest.param([b"a" * 16 + b"/.."], id="path"),
        pytest.param(["é".encode() * 16], id="UTF-8 letters"),
        pytest.param([b"\xe9" * 16], id="Latin-1 letters"),
        pytest.param(["\u0661".encode() * 10], id="digits that are not ASCII"),
    ],
)
def test_what_is_no_single_valid_key_is_none(values: list[bytes]) -> None:
    assert DEFAULT.read(values) is None


@given(st.binary(max_size=60) | st.text(CHARACTERS + '",;_ ', max_size=60).map(str.encode))
def test_any_value_is_a_key_by_its_length_and_its_characters_alone(value: bytes) -> None:
    bare = value[1:-1] if len(value) > 1 and value.startswith(b'"') and value.endswith(b'"') else value
    valid = 16 <= len(bare) <= 36 and set(bare) <= set(CHARACTERS.encode())
    assert DEFAULT.read([value]) == (bare if valid else None)


def test_length_and_characters_are_configurable() -> None:
    rule = KeyRule(1, 3, "a-c_")
    assert [rule.read([value]) for value in (b"a", b"a_c", b"", b"abca", b"d", b"A", b"a-c")] == [
        b"a",
        b"a_c",
        None,
        None,
        None,
        None,
        None,
    ]


class TestHashes:
    """A new release must find the records of the old one: another hash would make a second payment of each key."""

    def test_the_name_of_a_key_is_the_same_in_every_release(self) -> None:
        assert Hasher(b"").key(UUID).hex() == "dc33195400393bae0dcbfa1363b6aa28"
        assert Hasher(b"secret").key(UUID).hex() == "5ab7458ca408541f10d48088ae9c1902"

    def test_the_name_of_a_key_in_a_scope_is_the_same_in_every_release(self) -> None:
        assert Hasher(b"secret").key(UUID, b"+4:acme").hex() == "cb5523a8a48355d280de9a07a156d95f"

    def test_no_scope_is_as_if_there_were_none(self) -> None:
        assert Hasher(b"secret").key(UUID, b"") == Hasher(b"secret").key(UUID)

    def test_a_key_that_looks_like_a_scope_and_a_key_is_another(self) -> None:
        """The key rule may allow it."""
        assert Hasher(b"").key(UUID, b"+4:acme") != Hasher(b"").key(b"+4:acme" + UUID)

    def test_the_proof_of_a_credential_is_the_same_in_every_release(self) -> None:
        proof = Hasher(b"secret").credential(b"authorization", b"Bearer abc")
        assert proof.hex() == "927e54173d788b85b502d970ab4a6ed0"

    @given(st.binary(max_size=64), st.binary(max_size=80), st.binary(max_size=80))
    def test_a_hasher_that_has_hashed_much_still_gives_the_same(self, secret: bytes, key: bytes, other: bytes) -> None:
        hasher = Hasher(secret)
        first = hasher.key(key), hasher.credential(b"x-api-key", key)
        hasher.key(other)
        hasher.credential(b"x-api-key", other)
        assert (hasher.key(key), hasher.credential(b"x-api-key", key)) == first
        assert (Hasher(secret).key(key), Hasher(secret).credential(b"x-api-key", key)) == first
        assert [len(digest) for digest in first] == [HASH_SIZE, HASH_SIZE]

    def test_another_secret_makes_another_name_and_another_proof(self) -> None:
        one, other = Hasher(b"one"), Hasher(b"other")
        assert one.key(UUID) != other.key(UUID)
        assert one.credential(b"authorization", b"x") != other.credential(b"authorization", b"x")

    def test_a_key_and_a_credential_of_the_same_bytes_do_not_meet(self) -> None:
        hasher = Hasher(b"")
        assert hasher.key(b"x-api-key\0" + UUID) != hasher.credential(b"x-api-key", UUID)

    def test_the_same_secret_in_another_field_is_another_credential(self) -> None:
        hasher = Hasher(b"")
        assert hasher.credential(b"authorization", b"x") != hasher.credential(b"x-api-key", b"x")
        assert hasher.credential(b"ab", b"c") != hasher.credential(b"a", b"bc")

    def test_no_credential_is_the_credential_of_nobody(self) -> None:
        assert len(NO_CREDENTIAL) == HASH_SIZE
        assert Hasher(b"").credential(b"authorization", b"") != NO_CREDENTIAL

    def test_a_secret_of_64_bytes_is_taken_and_a_longer_one_refused(self) -> None:
        assert len(Hasher(bytes(64)).key(UUID)) == HASH_SIZE
        with pytest.raises(ValueError, match="64"):
            Hasher(bytes(65))

    def test_the_fingerprint_is_of_the_secret_and_of_each_way_of_finding_a_key(self) -> None:
        ours = Hasher(b"secret").fingerprint("idempotency-key", "path")
        assert ours.hex() == Hasher(b"secret").fingerprint("idempotency-key", "path").hex()
        others = [
            Hasher(b"other").fingerprint("idempotency-key", "path"),
            Hasher(b"secret").fingerprint("x-key", "path"),
            Hasher(b"secret").fingerprint("idempotency-key"),
            Hasher(b"secret").fingerprint("idempotency-keypath"),
            Hasher(b"secret").key(b"idempotency-key\0path\0"),
        ]
        assert len({ours, *others}) == 6
