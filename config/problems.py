"""A problem with a setting, in our words: its name, value and place, and what would be right. No secret is in them."""

import re
from difflib import get_close_matches

from pydantic_core import ErrorDetails

from config.settings import Settings, every_setting
from config.urls import masked

PREFIX = "IDEMPOTENCY_PROXY_"
"""What the names of our environment variables begin with."""

Setting = tuple[str, ...]
"""A setting's name in parts: ("upstream", "url"). Rules are counted from 1: ("rules[2]", "path")."""
RULES = "rules"

_SECRETS = {("store", "hash_secret"), ("record", "encryption_keys"), ("record", "encryption_keys_file")}
_LONGEST_SHOWN = 100
_NOT_A_VALUE = {"extra_forbidden", "missing", "model_type"}
_WORDS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "extra_forbidden": "there is no such setting",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "missing": "is required",
    "model_type": "is a section: its settings are set one by one",
    "rule_type": 'must be a table, as {{path = "/payments/**", require_key = true}}',
    "string_type": "must be a text",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
    "value_error": "{error}",
}
"""What pydantic finds, in our words."""


def setting_of(error: ErrorDetails) -> Setting:
    """The setting in which it is, without the place in a list."""
    names = [part for part in error["loc"] if isinstance(part, str)]
    match error["loc"]:
        case (str(name), int(place), *_) if name == RULES:
            names[0] = f"{RULES}[{place + 1}]"
    return tuple(names)


def variable_of(setting: Setting) -> str:
    """The environment variable that sets it."""
    return PREFIX + "__".join(setting).upper()


def describe(error: ErrorDetails, place: str | None) -> str:
    """One line. *place* is where the value was set, if it was."""
    setting, kind = setting_of(error), error["type"]
    text = ".".join(setting)
    if kind not in _NOT_A_VALUE and setting not in _SECRETS and isinstance(error["input"], str | int | float):
        text += f" = {_shown(error['input'])}"
    if place is not None:
        text += f" ({place})"
    if kind == "model_type" and setting[0] != error["loc"][0]:
        kind = "rule_type"
    words = _WORDS[kind].format_map(error.get("ctx", {})) if kind in _WORDS else error["msg"]
    return f"{text}: {words}{_advice(setting, kind)}"


def _shown(value: str | float) -> str:
    text = repr(masked(value) if isinstance(value, str) else value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def _advice(setting: Setting, kind: str) -> str:
    if kind == "missing" and setting[0] in Settings.model_fields:
        return f": set it by a flag, by {variable_of(setting)} or in the file"
    if kind == "extra_forbidden":
        name = re.sub(r"\[[0-9]+\]", "", ".".join(setting)).replace("__", ".")
        near = get_close_matches(name, [known for known, _ in every_setting()], n=1, cutoff=0.75)
        return f"; is it {near[0]}?" if near else ""
    if setting == (RULES,) and kind == "tuple_type":
        return f" of tables, each below [[{RULES}]]"
    return ""
