"""The dictionaries in a store: each under its id, so that any worker can read any record, whoever has learnt it."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import assert_never

from proxy.store.base import Absent, Kept, KeptResult, Store, Unavailable
from proxy.store.compression import Compressor, Unusable
from proxy.store.keyring import Unopenable
from proxy.store.vault import Vault, in_clear

LARGEST = 64 * 1024
"""Bytes of a dictionary that is read: four times what is learnt."""

Result = Compressor | Unopenable | Unavailable
logger = logging.getLogger(__name__)
Waiter = Callable[[Result], None]


def name_of(id: bytes) -> bytes:  # noqa: A002  # it is called so everywhere
    """Under which it is kept."""
    return b"dictionary:" + id.hex().encode()


class Library:
    """Looks into *store* for dictionaries that *vault* does not know yet. Needs a running loop."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[bytes, list[Waiter]] = {}

    def find(self, id: bytes, done: Waiter) -> None:  # noqa: A002  # as above
        """Ask for it, once for all who want it at a time. *done* is called within the store's deadline, never from
        within: Unopenable where it is not there, or is of no use to us; else the vault knows it by then."""
        if id in self._waiting:
            self._waiting[id].append(done)
        else:
            self._store.kept(name_of(id), partial(self._answered, id))
            self._waiting[id] = [done]

    def _answered(self, id: bytes, result: KeptResult) -> None:  # noqa: A002  # as above
        found: Result
        try:
            found = self._read(id, result)
        except Exception as error:  # no memory for it just now, say: who waits is told, and others may ask again
            logger.warning("dictionary %s cannot be read", id.hex(), exc_info=True)
            found = Unavailable(f"it cannot be read: {type(error).__name__}")
        for done in self._waiting.pop(id):
            self._loop.call_soon(done, found)

    def _read(self, id: bytes, result: KeptResult) -> Result:  # noqa: A002  # as above
        match result:
            case Absent():
                return Unopenable("which the store does not have")
            case Unavailable():
                return result
            case Kept(value) if len(value) > LARGEST:
                return Unopenable(f"in whose place lie {len(value)} bytes, more than any of ours has")
            case Kept(value):
                try:
                    compressor = Compressor(self._vault.open_dictionary(value, id))
                except (Unopenable, Unusable) as error:
                    return Unopenable(f"which cannot be read: {error}")
                if compressor.id != id:
                    return Unopenable("in whose place another lies")
                compressor.in_clear = in_clear(value)
                self._vault.learn(compressor)
                return compressor
            case _:
                assert_never(result)
