"""The Lua scripts: a few lines each, run by the server between all other commands."""

import hashlib
from importlib import resources
from typing import NamedTuple


class Script(NamedTuple):
    """A script, and the name by which a server that has it runs it."""

    text: bytes
    sha: bytes


def _script(name: str) -> Script:
    text = resources.files(__package__).joinpath(name).read_bytes()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


SETTLE = _script("settle.lua")
RELEASE = _script("release.lua")
CONFIRM = _script("confirm.lua")
OVERRULE = _script("overrule.lua")
KEEP = _script("keep.lua")
