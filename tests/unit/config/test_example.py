"""config/example.toml: every setting, in the words and with the defaults of the model."""

import re
from collections.abc import Callable
from pathlib import Path

from config.load import load
from config.settings import Settings, every_setting

EXAMPLE = Path(__file__).parents[3] / "config" / "example.toml"
URL = {"upstream.url": "http://127.0.0.1:8081"}
SETTING = re.compile(r"#?([a-z_]+) = .+")


def shown() -> dict[str, str]:
    """Dotted name of each setting in the file, and the comment above it."""
    found: dict[str, str] = {}
    section, comment = "", ""
    for line in EXAMPLE.read_text("utf-8").splitlines():
        if line.lstrip("#").startswith("["):
            section, comment = line.strip("#[]") + ".", ""
        elif setting := SETTING.fullmatch(line):
            found[section + setting[1]] = comment.strip()
            comment = ""
        elif line.startswith("# "):
            comment += line[1:]
        else:
            comment = ""
    return found


def test_the_example_as_it_is_sets_the_upstream_and_nothing_else() -> None:
    assert load(EXAMPLE, {}) == load(None, URL)


def test_the_example_with_everything_set_is_what_the_defaults_are(tmp_path: Path) -> None:
    everything = tmp_path / "everything.toml"
    text, count = re.subn(r"(?m)^#(?=[a-z_]+ = |\[)", "", EXAMPLE.read_text("utf-8"))
    everything.write_text(text, "utf-8")
    settings = load(everything, {})
    (rule,) = settings.rules
    assert settings.model_copy(update={"rules": ()}) == load(None, URL)
    assert count == len(list(every_setting())) - len(URL) + len(["[[rules]]"])
    for name, value in rule:
        assert value == GENERAL[name](settings), name


GENERAL: dict[str, Callable[[Settings], object]] = {
    "path": lambda _: "/payments/**",
    "methods": lambda settings: settings.idempotency.methods,
    "protect": lambda _: True,
    "require_key": lambda _: False,
    "retention": lambda settings: settings.idempotency.retention,
    "on_reuse": lambda settings: settings.idempotency.on_reuse,
    "on_concurrent": lambda settings: settings.idempotency.on_concurrent,
    "on_mismatch": lambda settings: settings.idempotency.on_mismatch,
    "release_statuses": lambda settings: settings.idempotency.release_statuses,
    "body": lambda settings: settings.limits.body,
    "record": lambda settings: settings.record.max_body,
}
"""What a rule changes nothing with."""


def test_the_example_has_every_setting_in_order_with_its_reason() -> None:
    expected = {name: " ".join((field.description or "").split()) for name, field in every_setting()}
    assert shown() == expected
    assert list(shown()) == list(expected)
