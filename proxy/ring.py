"""The ring of keys that records are encrypted with, from the settings or from a file that is read again on SIGHUP; and
the vault that has it."""

import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from config.settings import Settings
from config.values import ring_key
from proxy.store.keyring import KeyRing
from proxy.store.vault import Vault
from proxy.tls import BadFile

LARGEST_READ = 16 * 1024 * 1024
"""Bytes of a recorded body that can be read in any case."""
HEADS = 256 * 1024
"""Bytes that a record may have beside its body: URL, reason and fields."""
_SETTING = "record.encryption_keys_file"


def vault(settings: Settings) -> Vault:
    """How records are kept, and with what they are opened; raise BadFile. A limit that was lowered does not hold for
    what was recorded before: what is read may be larger than what is written."""
    bodies = [settings.record.max_body, *(rule.record or 0 for rule in settings.rules), LARGEST_READ]
    own = settings.record
    compress, limit = own.compression == "zstd", max(bodies) + HEADS
    return Vault(compress=compress, ring=ring(settings), limit=limit, strict=own.require_encryption)


def ring(settings: Settings) -> KeyRing | None:
    """None: nothing is encrypted. Raise BadFile."""
    own = settings.record
    if own.encryption_keys_file:
        return KeyRing(_read(own.encryption_keys_file))
    keys = dict(ring_key(key.get_secret_value()) for key in own.encryption_keys)
    return KeyRing(keys) if keys else None


def readable_by_others(settings: Settings) -> str | None:
    """What is to be said of a file of keys that more people may read than need to."""
    path = settings.record.encryption_keys_file
    with suppress(OSError):  # why it cannot be read is said by who reads it
        if path and (mode := stat.S_IMODE(Path(path).stat().st_mode)) & (stat.S_IRWXO | stat.S_IWGRP):
            return f"{_SETTING} = {path!r} has the permissions {mode:04o}: others may read it; 0600 is enough (or 0640)"
    return None


def _read(path: str) -> dict[int, bytes]:
    keys: dict[int, bytes] = {}
    for place, line in _lines(path):
        try:
            number, key = ring_key(line)
        except ValueError as error:
            raise _bad(path, f"line {place} {error}") from None
        if number in keys:
            raise _bad(path, f"line {place} has the id {number} again: a new key gets a new id")
        keys[number] = key
    if not keys:
        raise _bad(path, "there is no key in it: a key a line, as ID:KEY")
    return keys


def _lines(path: str) -> Iterator[tuple[int, str]]:
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise _bad(path, error.strerror or "it cannot be read") from None
    except UnicodeDecodeError:
        raise _bad(path, "it is not UTF-8") from None
    for place, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield place, line


def _bad(path: str, why: str) -> BadFile:
    return BadFile(f"{_SETTING} = {path!r}: {why}")
