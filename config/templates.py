"""Templates of paths: what a rule is for, what makes a scope, where records are shown, what is asked before."""

import re
from typing import Annotated

from pydantic import AfterValidator

from proxy.core.path import Pattern, template_problem

ANY_REST = "**"
_SENT = re.compile(r"[A-Za-z0-9._~!$&'()+,=:@/{}-]*")
"""Of the characters of a path (RFC 3986 §3.3: pchar and /) those that a template may have, and its braces."""


def path_pattern(value: str) -> str:
    """A template of paths, as `/payments/{id}` or `/payments/**`; raise ValueError."""
    problem = template_problem(value)
    if problem is not None:
        raise ValueError(problem)
    return value


def path_prefix(value: str) -> str:
    """The beginning of paths, with what tells one client's from another's; empty: none; raise ValueError."""
    if value and not Pattern(_without_rest(value), prefix=True).names:
        raise ValueError("must have a capture that counts, as {client} in /{_}/{client}/: {_} does not")
    return value


def path_template(value: str) -> str:
    """A path with captures that is filled in, and sent as it is then; empty: none; raise ValueError."""
    if value and "{_}" in _without_rest(value):
        raise ValueError("must name its captures, as /v2.01/{client}/clients: nothing is known to fill in for {_}")
    if _SENT.fullmatch(value) is None:
        raise ValueError("must have nothing but captures, slashes, letters, digits and -._~!$&'()+,=:@ (RFC 3986 §3.3)")
    return value


def response_path(value: str) -> str:
    """A template as `/{version}/{client}/responses/{key}`; raise ValueError."""
    if re.fullmatch(r"/[!-~]*", value) is None or "?" in value or "#" in value:
        raise ValueError("must begin with a slash and be a path, in ASCII, without blanks, ? and #")
    segments = [segment for segment in value.split("/") if "{" in segment or "}" in segment]
    names = [segment[1:-1] for segment in segments]
    if segments != [f"{{{name}}}" for name in names] or not all(name.isidentifier() for name in names):
        raise ValueError("must have each capture as a segment of its own, as /{client}/responses/{key}")
    if names.count("key") != 1 or len(set(names)) != len(names):
        raise ValueError("must have {key} exactly once, and another name for each other capture")
    return value


def _without_rest(value: str) -> str:
    if path_pattern(value).endswith(ANY_REST):
        raise ValueError(f"must not end with {ANY_REST}")
    return value


PathPattern = Annotated[str, AfterValidator(path_pattern)]
PathPrefix = Annotated[str, AfterValidator(path_prefix)]
PathTemplate = Annotated[str, AfterValidator(path_template)]
ResponsePath = Annotated[str, AfterValidator(response_path)]
