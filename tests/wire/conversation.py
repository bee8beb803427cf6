"""A client that reads whatever it is given, and takes silence for an answer."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from tests.support.raw import Incomplete, Malformed, take
from tests.wire.client import Client

QUIET = 0.25
"""Seconds without a byte after which a server is taken to wait for more."""


class Read(NamedTuple):
    """What a client was given on its connection."""

    statuses: list[int]
    ended: bool
    garbled: bool
    """The last of it is no response with a head."""


class Conversation:
    """What comes back on a connection."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._received = b""

    async def replies(self, heads: Sequence[bool]) -> Read:
        """So many final responses, or fewer where the connection ends or nothing more comes. *heads*: for each,
        whether it answers a HEAD."""
        statuses: list[int] = []
        while len(statuses) < len(heads):
            try:
                reply, self._received = take(self._received, head=heads[len(statuses)], ended=self._client.ended)
            except Malformed:
                while not self._client.ended and await self._more():
                    pass
                return Read(statuses, self._client.ended, garbled=True)
            except Incomplete:
                if self._client.ended or not await self._more():
                    break
            else:
                statuses += [reply.status] if reply.status >= 200 else []
        return Read(statuses, self._client.ended, garbled=self._client.ended and bool(self._received))

    async def _more(self) -> bool:
        """Whether anything came: bytes, or the end."""
        try:
            async with asyncio.timeout(QUIET):
                self._received += await self._client.read()
        except TimeoutError:
            return False
        return True
