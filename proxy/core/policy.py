"""What is this request? Pass it, guard it, answer it from the records, or refuse it."""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.core.key import KeyRule
from proxy.core.refusal import Refusal


class Pass(NamedTuple):
    """No business of ours: through to the backend, as before."""


class Guard(NamedTuple):
    """Forward at most once under this key."""

    key: bytes


class Retrieve(NamedTuple):
    """Show the response that was given under this key."""

    key: bytes


class Refuse(NamedTuple):
    """Nothing claimed, nothing forwarded."""

    refusal: Refusal


Decision = Pass | Guard | Retrieve | Refuse
PASS = Pass()
KEY_INVALID = Refuse(Refusal.KEY_INVALID)


class PathTemplate:
    """A path with captures, `/{version}/{client}/responses/{key}`: each takes one segment. Repeated slashes, and one
    at the end, match too: the official Python SDK of Mangopay sends `responses//KEY`."""

    def __init__(self, template: str) -> None:
        self._template = template
        segments = [self._segment(part) for part in template.split("/") if part]
        self._match = re.compile("/+" + "/+".join(segments) + "/*").fullmatch

    @staticmethod
    def _segment(part: str) -> str:
        name = part[1:-1]
        if part.startswith("{") and part.endswith("}") and name.isidentifier():
            return f"(?P<{name}>[^/]+)"
        return re.escape(part)

    def key(self, path: bytes) -> bytes | None:
        """The percent-decoded capture `{key}` where *path* (raw, without query) matches."""
        found = self._match(path.decode("latin-1"))
        return unquote_to_bytes(found["key"]) if found else None

    def mask(self, path: bytes) -> bytes | None:
        """*path* with its key hidden, where it matches; None: it does not. For the log."""
        found = self._match(path.decode("latin-1"))
        return path[: found.start("key")] + b"{key}" + path[found.end("key") :] if found else None

    def fill(self, key: str) -> str | None:
        """The path of *key* (percent-encoded already), or None where the template has other captures."""
        path = self._template.rstrip("/").replace("{key}", key) + "/"
        return None if "{" in path else path


class Policy:
    """The rules of one configuration."""

    def __init__(self, key_rule: KeyRule, methods: Collection[str], response_paths: Sequence[str]) -> None:
        self._key_rule = key_rule
        self._guarded = frozenset(method.encode("ascii") for method in methods)
        self._templates = [PathTemplate(path) for path in response_paths]

    def mask(self, path: bytes) -> bytes:
        """*path* as it may be logged: whatever stands where a key would, valid or not, and whatever the method."""
        return next((masked for template in self._templates if (masked := template.mask(path))), path)

    def decide(self, method: bytes, path: bytes, keys: Sequence[bytes], *, misnamed: bool = False) -> Decision:
        """*path* is raw and without query; *keys* are the values of all key fields. *misnamed*: there is a field
        `Idempotency_Key`; who wrote it believes to be guarded. On a method that is not guarded the key field is no
        business of ours."""
        if method in self._guarded:
            if not keys and not misnamed:
                return PASS
            key = None if misnamed else self._key_rule.read(keys)
            return KEY_INVALID if key is None else Guard(key)
        if method in (b"GET", b"HEAD"):
            for template in self._templates:
                asked = template.key(path)
                if asked is not None:
                    key = self._key_rule.read([asked])
                    return KEY_INVALID if key is None else Retrieve(key)
        return PASS
