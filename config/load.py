"""Default ← preset ← TOML file ← environment ← flags. What is wrong is told at once, all of it, whoever set it."""

import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from config.conflicts import conflicts
from config.problems import PREFIX, RULES, Setting, describe, setting_of, variable_of
from config.settings import Settings
from config.values import from_json

Sections = dict[str, Any]

_STAND_IN = "http://not.given"
_STAND_IN_PATH = "/not/given"
_PRESETS = set(get_args(Settings.model_fields["preset"].annotation)) - {"none"}
_KUBERNETES = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_(TCP|UDP|SCTP)\w*)=.*|(\w+_)?PORT=(tcp|udp|sctp)://.*", re.DOTALL
)
"""What Kubernetes puts into the environment of the pods beside a Service named idempotency-proxy or
idempotency-proxy-ops: variables with our prefix that nobody set."""


class BadSettings(Exception):
    """The settings cannot be used. The message has a line for each problem: name, value (no secret, no password), where
    it was set, and what would be right."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n  ".join(["the settings cannot be used:", *problems]))


class Layer(NamedTuple):
    """What is set in one place. *place* says where that is, for one setting."""

    place: Callable[[Setting], str]
    sections: Sections

    def has(self, setting: Setting) -> bool:
        """Whether *setting* is set here."""
        value: object = self.sections
        for name in setting:
            if not isinstance(value, dict) or name not in value:
                return False
            value = value[name]
        return True


class _Variables(Settings, BaseSettings):
    """The settings as environment variables. Lists stay text here, so that a bad one is a problem among others."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", enable_decoding=False)


class _Unreadable(Exception):
    """The file is not there, or no TOML."""


def load(config_file: Path | None, flags: Mapping[str, Any]) -> Settings:
    """The settings of *config_file*, the environment and *flags* (dotted name → value; None: not given), over those of
    the preset that they name; raise BadSettings."""
    layers = [_environment(), _command_line(flags)]
    unread = []
    if config_file is not None:
        try:
            layers.insert(0, Layer(lambda _: f"in {config_file}", _read(config_file)))
        except _Unreadable as error:
            unread.append(f"{config_file}: {error}")
    settings, problems = _check([*_preset(layers), *layers], complete=not unread)
    if unread or problems:
        raise BadSettings(unread + problems)
    return settings


def preset(name: str) -> Sections:
    """What the preset *name* says; that of "none" is nothing."""
    if name not in _PRESETS:
        return {}
    return tomllib.loads(files("config").joinpath("presets", f"{name}.toml").read_text("utf-8"))


def _preset(layers: Sequence[Layer]) -> Iterator[Layer]:
    """What the preset that they name says, if there is one of that name."""
    name = _merged(layers).get("preset")
    if isinstance(name, str) and name in _PRESETS:
        yield Layer(lambda _: f"in the preset {name}", preset(name))


def _read(config_file: Path) -> Sections:
    try:
        return tomllib.loads(config_file.read_text("utf-8"))
    except OSError as error:
        raise _Unreadable(f"the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _Unreadable("the file is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise _Unreadable(f"the file is not TOML: {error}") from None


def _environment() -> Layer:
    """What pydantic-settings finds, and the variables with our prefix for which there is no setting."""
    sections = EnvSettingsSource(_Variables)()
    for variable, value in os.environ.items():
        if variable.upper().startswith(PREFIX):
            name = variable[len(PREFIX) :]
            known = name.lower().partition("__")[0] in Settings.model_fields
            if not known and not _KUBERNETES.fullmatch(f"{name}={value}"):
                sections[name.lower()] = value
    return Layer(lambda setting: f"by {variable_of(setting)}", sections)


def _command_line(flags: Mapping[str, Any]) -> Layer:
    sections: Sections = {}
    for name, value in flags.items():
        if value is not None:
            section, dot, setting = name.rpartition(".")
            (sections.setdefault(section, {}) if dot else sections)[setting] = value
    return Layer(lambda _: "by a flag", sections)


def _check(layers: Sequence[Layer], *, complete: bool) -> tuple[Settings, list[str]]:
    """The settings as far as they are right, and what is wrong with them. Where a setting is wrong, its default stands
    in, so that the others can still be held against each other. Not *complete*: an unread file may set what is missing.
    """
    given = _merged(layers)
    errors = [error for error in _errors(given) if complete or not _is_missing(error)]
    problems = [describe(error, _place(error, layers)) for error in errors]
    wrong = {setting_of(error) for error in errors}
    settings = Settings.model_validate(_without(wrong, given))
    if complete:
        unsure = {".".join(setting) for setting in wrong}
        problems += [f"{', '.join(names)}: {why}" for names, why in conflicts(settings) if unsure.isdisjoint(names)]
    return settings, problems


def _merged(layers: Iterable[Layer]) -> Sections:
    """Later layers over earlier ones, setting by setting; the rules are one. What stands where a section should, stays,
    to be found."""
    merged: Sections = {"upstream": {}}  # so that it is upstream.url that is missing, not the section
    for layer in layers:
        for name, value in layer.sections.items():
            below = merged.get(name, {})
            if name == RULES:
                merged[name] = _rules(value)
            elif not isinstance(value, dict):
                merged[name] = value
            elif isinstance(below, dict):
                merged[name] = below | value
    return merged


def _rules(value: object) -> object:
    """The environment has them in JSON. What is none stays, to be found."""
    try:
        return from_json(value)
    except ValueError:
        return value


def _errors(given: Sections) -> list[ErrorDetails]:
    try:
        Settings.model_validate(given)
    except ValidationError as error:
        return error.errors(include_url=False)
    return []


def _place(error: ErrorDetails, layers: Sequence[Layer]) -> str | None:
    """Where it was set: the last layer counts. Not for a section: one layer may have spoilt it, another set it well."""
    setting = (RULES,) if error["loc"][0] == RULES else setting_of(error)
    if error["type"] == "model_type" and setting != (RULES,):
        return None
    return next((layer.place(setting) for layer in reversed(layers) if layer.has(setting)), None)


def _without(wrong: Collection[Setting], given: Sections) -> Sections:
    """What is right of *given*, and a stand-in for what has no default."""
    right: Sections = {"upstream": {}}
    for name, value in given.items():
        if (name,) in wrong:
            continue
        if name == RULES:
            right[name] = [_right_rule(number, rule, wrong) for number, rule in enumerate(value, 1)]
        elif isinstance(value, dict):
            right[name] = {key: item for key, item in value.items() if (name, key) not in wrong}
        else:
            right[name] = value
    right["upstream"].setdefault("url", _STAND_IN)
    return right


def _right_rule(number: int, rule: object, wrong: Collection[Setting]) -> Sections:
    own = f"{RULES}[{number}]"
    given = rule if isinstance(rule, dict) else {}
    return {"path": _STAND_IN_PATH} | {key: item for key, item in given.items() if (own, key) not in wrong}


def _is_missing(error: ErrorDetails) -> bool:
    """Whether it is a setting that is required, and that a file may have."""
    return error["type"] == "missing" and error["loc"][0] != RULES
