"""Random tokens, by the page: asking the kernel for each costs more than parsing its request."""

import os

TOKEN_SIZE = 16
"""Bytes: the size of a UUID."""
_PAGE = 256 * TOKEN_SIZE


class Tokens:
    """A source of tokens that nobody can guess. Not shared between processes: each makes its own."""

    def __init__(self) -> None:
        self._page = b""
        self._used = 0

    def take(self) -> bytes:
        """One that was never taken before."""
        start = self._used
        if start == len(self._page):
            self._page, start = os.urandom(_PAGE), 0
        self._used = start + TOKEN_SIZE
        return self._page[start : self._used]
