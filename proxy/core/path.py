"""Paths as rules and scopes see them: one reading of a path, and templates that are matched on it.

The target that is forwarded stays raw. But `/pay`, `//pay`, `/x/../pay`, `/%70ay` and `/PAY;v=1` may all be the same
to the backend, and a client must not choose its rule, or its tenant, by the way it writes them.
"""

import re
from urllib.parse import unquote_to_bytes

_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def normalised(path: bytes) -> str:
    """One reading of *path* (raw, without query), as latin-1 text of its bytes: `/a/b`, the root is `/`. Case is kept.

    Backends differ: some decode before they split, some after, some drop no parameters. We take one reading, in which
    what a backend may take for a slash or for dots is one:

    1. percent-decoded, once: `%2F` is a slash and parts segments, `%2e%2e` is `..`, `%3B` is `;`. Of a double
       encoding one layer stays: `%252F` is the text `%2F` within a segment. What is no escape (`%zz`) stays.
    2. split at the slashes; a backslash is none.
    3. parameters (RFC 3986 section 3.3) dropped: a segment ends before its first `;`, so `..;x` is `..`.
    4. empty segments and `.` dropped, `..` resolved (RFC 3986 section 5.2.4): above the root stays the root. Empty
       ones go first: `/a//../b` is `/b`.
    """
    segments: list[str] = []
    for segment in unquote_to_bytes(path).decode("latin-1").split("/"):
        name = segment.partition(";")[0]
        if name == "..":
            del segments[-1:]
        elif name not in ("", "."):
            segments.append(name)
    return "/" + "/".join(segments)


def template_problem(template: str) -> str | None:
    """What is wrong with a template for a `Pattern`, to be said after its name: "must …"; None: nothing is.

    A segment that no normalised path can have is wrong as well: a rule that never matches protects nothing.
    """
    segments = template.split("/")
    unbraced = [_CAPTURE.fullmatch(segment) is None and ("{" in segment or "}" in segment) for segment in segments]
    plain = segments[:-1] if segments[-1] == "**" else segments
    names = [name for name in _CAPTURE.findall(template) if name != "_"]
    problems = (
        (not template.startswith("/"), "must begin with a slash"),
        (not template.isascii(), "must be ASCII"),
        ("?" in template or "#" in template, "must be a path alone, without ? and #"),
        ("%" in template or ";" in template, "must be written decoded, without % and ;"),
        ("." in segments or ".." in segments, "must not have . or .. for a segment"),
        (
            any("*" in segment for segment in plain),
            "must have * only in ** as its last segment; {_} is any one segment",
        ),
        (any(unbraced), "must have braces only around a whole segment, as /{client}/, with an identifier for its name"),
        (len(set(names)) < len(names), "must not have a name twice; {_} is any segment without a name"),
    )
    return next((problem for wrong, problem in problems if wrong), None)


class Pattern:
    """A template of paths: `{name}` is any one segment, a final `**` any rest, or none. Matched on a normalised path,
    without regard to the case of ASCII letters, in time linear in its length.

    *prefix*: the template is the beginning of a path, whatever follows. ValueError: the template has a problem.
    """

    names: tuple[str, ...]
    """The captures that count, in order: `{_}` matches and does not."""

    def __init__(self, template: str, *, prefix: bool = False) -> None:
        problem = template_problem(template)
        if problem is not None:
            raise ValueError(f"the path template {template!r} {problem}")
        segments = [segment for segment in template.split("/") if segment]
        if segments[-1:] == ["**"]:
            segments.pop()
            prefix = True
        self.names = tuple(name for name in _CAPTURE.findall(template) if name != "_")
        # No two ways to match: a segment has no slash, and what comes after it begins with one or is the end.
        rest = "(?:/.*)?" if prefix else "" if segments else "/"
        expression = "".join("/" + self._segment(segment) for segment in segments) + rest
        self._match = re.compile(expression, re.IGNORECASE | re.DOTALL).fullmatch

    @staticmethod
    def _segment(segment: str) -> str:
        if _CAPTURE.fullmatch(segment):
            return "[^/]+" if segment == "{_}" else "([^/]+)"
        return re.escape(segment)

    def match(self, path: str) -> tuple[str, ...] | None:
        """The values of *names* in *path*, in the case in which they came; None: it does not match."""
        found = self._match(path)
        return found.groups() if found else None
