"""config/example.toml: every setting, in the words and with the defaults of the model."""

import re
from pathlib import Path

from config.load import load
from config.settings import every_setting

EXAMPLE = Path(__file__).parents[3] / "config" / "example.toml"
URL = {"upstream.url": "http://127.0.0.1:8081"}
SETTING = re.compile(r"#?([a-z_]+) = .+")


def shown() -> dict[str, str]:
    """Dotted name of each setting in the file, and the comment above it."""
    found: dict[str, str] = {}
    section, comment = "", ""
    for line in EXAMPLE.read_text("utf-8").splitlines():
        if line.startswith("["):
            section, comment = line.strip("[]") + ".", ""
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
    text, count = re.subn(r"(?m)^#(?=[a-z_]+ = )", "", EXAMPLE.read_text("utf-8"))
    everything.write_text(text, "utf-8")
    assert load(everything, {}) == load(None, URL)
    assert count == len(list(every_setting())) - len(URL)


def test_the_example_has_every_setting_in_order_with_its_reason() -> None:
    expected = {name: " ".join((field.description or "").split()) for name, field in every_setting()}
    assert shown() == expected
    assert list(shown()) == list(expected)
