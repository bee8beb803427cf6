"""What is this request? Pass it, guard it, answer it from the records, or refuse it."""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from proxy.core.key import KeyRule
from proxy.core.path import Pattern, normalised
from proxy.core.refusal import Refusal
from proxy.core.treatment import Treatment


class Pass(NamedTuple):
    """No business of ours: through to the backend, as before."""


class Guard(NamedTuple):
    """Forward at most once under this key."""

    key: bytes
    treatment: Treatment


class Retrieve(NamedTuple):
    """Show the response that was given under this key."""

    key: bytes


class Refuse(NamedTuple):
    """Nothing claimed, nothing forwarded."""

    refusal: Refusal


Decision = Pass | Guard | Retrieve | Refuse
PASS = Pass()
KEY_INVALID = Refuse(Refusal.KEY_INVALID)
KEY_MISSING = Refuse(Refusal.KEY_MISSING)


class Rule(NamedTuple):
    """What holds for some requests in particular. *treatment*: None: they are not guarded."""

    pattern: Pattern
    methods: frozenset[bytes]
    treatment: Treatment | None


class PathTemplate:
    """A path with captures, `/{version}/{client}/responses/{key}`: each takes one segment. Repeated slashes, and one
    at the end, match too: the official Python SDK of Mangopay sends `responses//KEY`."""

    def __init__(self, template: str) -> None:
        self._parts = [part for part in template.split("/") if part]
        segments = [self._segment(part) for part in self._parts]
        self._match = re.compile("/+" + "/+".join(segments) + "/*").fullmatch
        captures = [place for place, part in enumerate(self._parts) if part[0] == "{" and part != "{key}"]
        leading = segments[: max(captures, default=-1) + 1]
        self._leading = re.compile("".join(f"/+{segment}" for segment in leading) + "(?=/|$)")

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

    def fill(self, key: str, path: bytes) -> str | None:
        """The path of *key* (percent-encoded already), its other captures taken from the beginning of *path* (raw), the
        path of a request with the key, as a scope sees it; None where that has another form."""
        leading = self._leading.match(normalised(path))
        if leading is None:
            return None
        captures = leading.groupdict().items()
        found = {**{name: quote(value.encode("latin-1"), safe="") for name, value in captures}, "key": key}
        names = (part[1:-1] for part in self._parts)
        return "".join(f"/{found.get(name, part)}" for name, part in zip(names, self._parts)) + "/"


class Policy:
    """The rules of one configuration. *usual*: what holds for the guarded *methods* where no rule matches; of *rules*,
    the first that matches counts."""

    def __init__(
        self,
        key_rule: KeyRule,
        methods: Collection[str],
        response_paths: Sequence[str],
        usual: Treatment,
        rules: Sequence[Rule] = (),
    ) -> None:
        self._key_rule = key_rule
        self._usual = {method.encode("ascii"): usual for method in methods}
        self._rules = rules
        self._considered = frozenset(self._usual).union(*(rule.methods for rule in rules))
        self._templates = [PathTemplate(path) for path in response_paths]

    def mask(self, path: bytes) -> bytes:
        """*path* as it may be logged: whatever stands where a key would, valid or not, and whatever the method."""
        return next((masked for template in self._templates if (masked := template.mask(path))), path)

    def decide(self, method: bytes, path: bytes, keys: Sequence[bytes], *, misnamed: bool = False) -> Decision:
        """*path* is raw and without query; *keys* are the values of all key fields. *misnamed*: there is a field
        `Idempotency_Key`; who wrote it believes to be guarded. On a method that is not guarded the key field is no
        business of ours."""
        if method in self._considered:
            treatment = self.treatment(method, path)
            if treatment is None:
                return PASS
            if not keys and not misnamed:
                return KEY_MISSING if treatment.requires_key else PASS
            key = None if misnamed else self._key_rule.read(keys)
            return KEY_INVALID if key is None else Guard(key, treatment)
        if method in (b"GET", b"HEAD"):
            for template in self._templates:
                asked = template.key(path)
                if asked is not None:
                    key = self._key_rule.read([asked])
                    return KEY_INVALID if key is None else Retrieve(key)
        return PASS

    def treatment(self, method: bytes, path: bytes) -> Treatment | None:
        """How a request with a key is treated; None: it is not guarded."""
        if self._rules:
            rule = self.rule(method, normalised(path))
            if rule is not None:
                return self._rules[rule].treatment
        return self._usual.get(method)

    def rule(self, method: bytes, path: str) -> int | None:
        """Which rule matches, counted from 0. *path*: normalised."""
        for number, rule in enumerate(self._rules):
            if method in rule.methods and rule.pattern.match(path) is not None:
                return number
        return None
