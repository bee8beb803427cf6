"""Random tokens: of the size of a UUID, and none is ever taken twice."""

from proxy.tokens import TOKEN_SIZE, Tokens

PAGE = 256
"""Tokens that are fetched from the kernel at once: the tests go over its end."""


def test_a_token_has_the_size_of_a_uuid() -> None:
    tokens = Tokens()
    assert {len(tokens.take()) for _ in range(2 * PAGE + 1)} == {TOKEN_SIZE} == {16}


def test_no_token_is_taken_twice_not_even_over_the_end_of_a_page() -> None:
    tokens = Tokens()
    taken = [tokens.take() for _ in range(4 * PAGE + 1)]
    assert len(set(taken)) == len(taken)


def test_tokens_share_no_bytes_of_the_page() -> None:
    """A step that is smaller than a token would give tokens whose halves are known from the one before."""
    tokens = Tokens()
    taken = [tokens.take() for _ in range(2 * PAGE)]
    words = [token[i : i + 8] for token in taken for i in (0, 8)]
    assert len(set(words)) == len(words)


def test_two_sources_never_give_the_same() -> None:
    one, other = Tokens(), Tokens()
    assert not {one.take() for _ in range(PAGE)} & {other.take() for _ in range(PAGE)}


def test_every_bit_of_a_token_is_random() -> None:
    """Each of the 128 bits is set in about half of 2048 tokens; ten standard deviations do not happen."""
    tokens = Tokens()
    numbers = [int.from_bytes(tokens.take(), "big") for _ in range(2048)]
    for bit in range(8 * TOKEN_SIZE):
        assert abs(sum(number >> bit & 1 for number in numbers) - 1024) < 10 * 22.7
