"""The presets: settings like any other, below what the operator sets."""

import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from config.conflicts import conflicts
from config.load import BadSettings, load
from config.settings import Rule, Settings
from proxy.core.dialect import DIALECTS
from proxy.core.key import KeyRule
from proxy.core.path import Pattern, normalised

API = {"upstream.url": "http://api"}
PRESETS = ("mangopay", "stripe", "ietf")
UUID = b"8e03978e-40d5-43dd-bc93-6894a57f9324"


def told(preset: str) -> dict[str, Any]:
    return tomllib.loads(files("config").joinpath("presets", f"{preset}.toml").read_text("utf-8"))


def lines(sections: Mapping[str, Any]) -> Iterator[tuple[str, str, object]]:
    """Section, name and value of each setting."""
    for section, settings in sections.items():
        assert isinstance(settings, dict), "every setting of a preset lies in a section"
        for name, value in settings.items():
            yield section, name, value


def value_of(settings: Settings, section: str, name: str) -> object:
    return getattr(getattr(settings, section), {"from": "of"}.get(name, name))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_taken_as_it_is_and_sets_nothing_that_is_so_by_default(preset: str) -> None:
    own = told(preset)
    own.pop("rules", None)
    settings, default = load(None, API | {"preset": preset}), load(None, API)
    assert settings.preset == preset
    assert list(conflicts(settings)) == []
    assert len(list(lines(own))) > 3
    for section, name, _ in lines(own):
        assert value_of(settings, section, name) != value_of(default, section, name), f"{section}.{name}"
    said = {(section, {"from": "of"}.get(name, name)) for section, name, _ in lines(own)}
    for section in ("idempotency", "scope", "responses"):
        for name, value in getattr(settings, section):
            if (section, name) not in said:
                assert value == getattr(getattr(default, section), name)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_says_why_in_a_comment_before_each_group(preset: str) -> None:
    text = files("config").joinpath("presets", f"{preset}.toml").read_text("utf-8")
    assert f"--preset {preset}" in text.partition("\n\n")[0]
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    for block in blocks:
        assert any(line.startswith("# ") for line in block), block


def test_the_presets_that_there_are_have_a_file_each() -> None:
    found = files("config").joinpath("presets").iterdir()
    assert {entry.name for entry in found} == {f"{preset}.toml" for preset in PRESETS}


def test_default_then_preset_then_file_then_environment_then_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mine(settings: Settings) -> tuple[str, int, int, str]:
        own = settings.idempotency
        return own.on_reuse, own.key_min, own.key_max, own.dialect

    file = tmp_path / "proxy.toml"
    file.write_text('[upstream]\nurl = "http://api"\n[idempotency]\nkey_min = 20\nkey_max = 100\n', "utf-8")
    assert mine(load(file, {})) == ("conflict", 20, 100, "mangopay")
    assert mine(load(file, {"preset": "stripe"})) == ("replay", 20, 100, "stripe")
    monkeypatch.setenv("IDEMPOTENCY_PROXY_IDEMPOTENCY__KEY_MAX", "200")
    assert mine(load(file, {"preset": "stripe"})) == ("replay", 20, 200, "stripe")
    assert mine(load(file, {"preset": "stripe", "idempotency.dialect": "problem"})) == ("replay", 20, 200, "problem")


def test_a_preset_is_named_in_the_file_or_the_environment_or_by_a_flag_and_the_last_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text('preset = "stripe"\n', "utf-8")
    assert load(file, API).scope.of == ("header", "credential")
    monkeypatch.setenv("IDEMPOTENCY_PROXY_PRESET", "mangopay")
    assert load(file, API).scope.of == ("path",)
    assert load(file, API | {"preset": "ietf"}).scope.of == ()
    assert load(file, API | {"preset": "none"}) == load(None, API | {"preset": "none"})


def test_a_preset_that_there_is_not_is_told_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("paypal", "../example", "", "stripe.toml"):
        monkeypatch.setenv("IDEMPOTENCY_PROXY_PRESET", name)
        with pytest.raises(BadSettings) as bad:
            load(None, API)
        assert str(bad.value).endswith(
            f"preset = {name!r} (by IDEMPOTENCY_PROXY_PRESET): must be 'none', 'mangopay', 'stripe' or 'ietf'"
        )


def test_a_problem_with_a_value_of_a_preset_names_the_preset_as_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours are right; what is said of one that is not must not blame the operator's file."""
    presets = tmp_path / "presets"
    presets.mkdir()
    (presets / "ietf.toml").write_text('[idempotency]\non_reuse = "repeat"\n[[rules]]\nprotect = 3\n', "utf-8")
    monkeypatch.setattr("config.load.files", lambda _package: tmp_path)
    with pytest.raises(BadSettings) as bad:
        load(None, API | {"preset": "ietf"})
    assert str(bad.value).split("\n  ")[1:] == [
        "idempotency.on_reuse = 'repeat' (in the preset ietf): must be 'conflict' or 'replay'",
        "rules[1].path (in the preset ietf): is required",
        "rules[1].protect = 3 (in the preset ietf): must be true or false",
    ]


def test_mangopay_a_client_is_one_scope_in_each_version_and_its_token_is_no_payment() -> None:
    settings = load(None, API | {"preset": "mangopay"})
    scope = Pattern(settings.scope.path, prefix=True)
    posted, asked = (normalised(path) for path in (b"/V3.0/acme/transfers", b"/v2.01/acme/responses//" + UUID))
    assert scope.match(posted) == scope.match(asked) == ("acme",)
    assert settings.rules == tuple(Rule(path=path, protect=False) for path in ("/{_}/oauth/token", "/oauth/token"))
    for path in (b"/oauth/token", b"/v2.01/oauth/token", b"/V3.0//OAuth/token/", b"/v2.01/x/../%6fauth/token;x=1"):
        assert any(Pattern(rule.path).match(normalised(path)) is not None for rule in settings.rules), path
    assert settings.responses.authorize == "probe"
    assert settings.responses.unknown_key_status == 400
    assert KeyRule(16, 36, settings.idempotency.key_chars).read([UUID]) == UUID


@pytest.mark.parametrize("preset", ["stripe", "ietf"])
def test_a_key_may_be_any_printable_text_that_is_no_list_and_fits_into_a_path(preset: str) -> None:
    own = load(None, API | {"preset": preset}).idempotency
    rule = KeyRule(own.key_min, own.key_max, own.key_chars)
    taken = {chr(char) for char in range(256) if rule.read([bytes([char]) * own.key_min])}
    assert {chr(char) for char in range(0x21, 0x7F)} - taken == set(',"/\\[]')
    assert taken <= {chr(char) for char in range(0x21, 0x7F)}
    assert rule.read([b'"%b"' % UUID]) == UUID
    assert rule.read([b"k" * 255]) == b"k" * 255
    assert rule.read([b"k" * 256]) is None


def test_stripe_and_ietf_replay_and_tell_another_request_from_the_same_each_in_its_dialect() -> None:
    for preset, dialect, scope in (("stripe", "stripe", ("header", "credential")), ("ietf", "problem", ())):
        settings = load(None, API | {"preset": preset})
        own = settings.idempotency
        assert (own.on_reuse, own.on_concurrent, own.on_mismatch) == ("replay", "conflict", "reject")
        assert own.dialect == dialect
        assert dialect in DIALECTS
        assert settings.scope.of == scope
