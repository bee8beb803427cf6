"""Where settings come from, which of them counts, and how all that is wrong is told at once."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from config.load import BadSettings, load
from config.settings import Settings
from config.urls import Origin

API = {"upstream.url": "http://api"}


def toml(directory: Path, text: str) -> Path:
    file = directory / "proxy.toml"
    file.write_text(text, "utf-8")
    return file


def problems(config_file: Path | None, flags: Mapping[str, object]) -> list[str]:
    with pytest.raises(BadSettings) as bad:
        load(config_file, flags)
    head, *lines = str(bad.value).split("\n  ")
    assert head == "the settings cannot be used:"
    return lines


def test_defaults_then_file_then_environment_then_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timeouts(settings: Settings) -> tuple[float, float, float, float]:
        it = settings.upstream
        return it.idle_timeout, it.pool_timeout, it.connect_timeout, it.timeout

    assert timeouts(load(None, API)) == (4, 5, 5, 60)
    file = toml(
        tmp_path, '[upstream]\nurl = "http://file"\npool_timeout = "11s"\nconnect_timeout = "12s"\ntimeout = "13s"'
    )
    assert timeouts(load(file, {})) == (4, 11, 12, 13)
    monkeypatch.setenv("IDEMPOTENCY_PROXY_UPSTREAM__CONNECT_TIMEOUT", "22s")
    monkeypatch.setenv("IDEMPOTENCY_PROXY_UPSTREAM__TIMEOUT", "23s")
    assert timeouts(load(file, {})) == (4, 11, 22, 23)
    settings = load(file, {"upstream.timeout": "33s", "upstream.idle_timeout": None})
    assert timeouts(settings) == (4, 11, 22, 33)
    assert settings.upstream.url == Origin("http", "file", 80)


def test_the_environment_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDEMPOTENCY_PROXY_UPSTREAM__URL", "http://api:8081")
    monkeypatch.setenv("IDEMPOTENCY_PROXY_LISTEN", "0.0.0.0:8080")
    monkeypatch.setenv("IDEMPOTENCY_PROXY_WORKERS", "2")
    monkeypatch.setenv("IDEMPOTENCY_PROXY_IDEMPOTENCY__METHODS", '["POST", "PUT"]')
    monkeypatch.setenv("IDEMPOTENCY_PROXY_IDEMPOTENCY__RELEASE_STATUSES", "[401]")
    monkeypatch.setenv("IDEMPOTENCY_PROXY_LOG__REQUESTS", "false")
    settings = load(None, {})
    assert str(settings.upstream.url) == "http://api:8081"
    assert str(settings.listen) == "0.0.0.0:8080"
    assert settings.workers == 2
    assert settings.idempotency.methods == ("POST", "PUT")
    assert settings.idempotency.release_statuses == (401,)
    assert settings.log.requests is False


def test_a_missing_upstream_is_told_with_the_ways_to_set_it() -> None:
    (line,) = problems(None, {})
    assert line == ("upstream.url: is required: set it by a flag, by IDEMPOTENCY_PROXY_UPSTREAM__URL or in the file")


def test_everything_that_is_wrong_is_told_at_once_wherever_it_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toml(
        tmp_path,
        'workers = 2\n[idempotency]\nkey_min = 40\nretention = "10s"\nmethods = ["PUT", "GET"]\n'
        '[limits]\nhed = 3\nhead = "300B"\n[spools]\npath = "x"\n',
    )
    monkeypatch.setenv("IDEMPOTENCY_PROXY_RESPONSES__PATHS", "/responses/{key}")
    monkeypatch.setenv("IDEMPOTENCY_PROXY_RESPONSES__PATH", "/responses/{key}")
    monkeypatch.setenv("IDEMPOTENCY_PROXY_UPSTREAM_URL", "http://api")
    lines = problems(file, {"store.url": "memory://", "listen": "nowhere"})
    assert [line.partition(": ")[0] for line in lines] == [
        "listen = 'nowhere' (by a flag)",
        "upstream.url",
        f"idempotency.methods = 'GET' (in {file})",
        "responses.paths = '/responses/{key}' (by IDEMPOTENCY_PROXY_RESPONSES__PATHS)",
        "responses.path (by IDEMPOTENCY_PROXY_RESPONSES__PATH)",
        f"limits.hed (in {file})",
        f"spools (in {file})",
        "upstream_url (by IDEMPOTENCY_PROXY_UPSTREAM_URL)",
        "idempotency.retention, store.deadline, upstream.pool_timeout, upstream.connect_timeout, upstream.timeout,"
        " idempotency.lease_margin",
        "store.url, workers",
        "idempotency.key_min, idempotency.key_max",
        "limits.head, limits.request_line",
    ]
    assert lines[5].endswith("there is no such setting; is it limits.head?")
    assert lines[7].endswith("there is no such setting; is it upstream.url?")


def test_what_is_wrong_by_itself_is_not_held_against_others() -> None:
    (line,) = problems(None, {**API, "idempotency.retention": "10s", "upstream.timeout": "soon"})
    assert line.startswith("upstream.timeout = 'soon'")


def test_a_missing_file_is_a_problem_among_others_and_nothing_that_it_may_set_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "nowhere.toml"
    assert problems(file, {"workers": "0", "idempotency.retention": "1s"}) == [
        f"{file}: the file cannot be read: No such file or directory",
        "workers = '0' (by a flag): must be at least 1",
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[upstream\nurl = 1", "the file is not TOML: Expected ']' at the end of a table declaration (at line 1"),
        (b"workers = 1\nworkers = 2\n", "the file is not TOML: Cannot overwrite a value (at line 2"),
        (b'[upstream]\nurl = "\xff"', "the file is not UTF-8"),
    ],
)
def test_a_file_that_is_no_toml_is_told_where(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    (line,) = problems(file, {})
    assert line.startswith(f"{file}: {why}")


def test_a_value_in_the_place_of_a_section_is_told_though_others_set_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toml(tmp_path, 'store = "redis://:hush@store"\n')
    monkeypatch.setenv("IDEMPOTENCY_PROXY_STORE__PREFIX", "x")
    assert problems(file, API) == ["store: is a section: its settings are set one by one"]


def test_a_section_is_told_of_its_typing_errors_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDEMPOTENCY_PROXY_STROE__URL", "redis://store")
    monkeypatch.setenv("idempotency_proxy_nonsense", "1")
    assert sorted(problems(None, API)) == [
        "nonsense (by IDEMPOTENCY_PROXY_NONSENSE): there is no such setting",
        "stroe__url (by IDEMPOTENCY_PROXY_STROE__URL): there is no such setting; is it store.url?",
    ]


def test_an_empty_variable_is_not_taken_for_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDEMPOTENCY_PROXY_STORE__URL", "")
    (line,) = problems(None, API)
    assert line.startswith("store.url = '' (by IDEMPOTENCY_PROXY_STORE__URL): must be sqlite:")


def test_what_kubernetes_sets_beside_a_service_of_our_name_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8080",
        "SERVICE_PORT_HTTP": "8080",
        "PORT": "tcp://10.0.0.1:8080",
        "PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "PORT_8080_TCP_PROTO": "tcp",
        "PORT_8080_TCP_PORT": "8080",
        "PORT_8080_TCP_ADDR": "10.0.0.1",
        "OPS_SERVICE_HOST": "10.0.0.2",
        "OPS_PORT": "tcp://10.0.0.2:9090",
    }.items():
        monkeypatch.setenv(f"IDEMPOTENCY_PROXY_{name}", value)
    assert load(None, API) == load(None, API | {"workers": 1})
    monkeypatch.setenv("IDEMPOTENCY_PROXY_PORT", "8080")
    assert problems(None, API) == ["port (by IDEMPOTENCY_PROXY_PORT): there is no such setting"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STORE__HASH_SECRET", "hush" * 17),
        ("STORE__HASH_SECRET__X", "hush"),
        ("STORE__HASH_SECERT", "hush"),
        ("HASH_SECRET", "hush"),
        ("STORE", '{"hash_secret": "hush"}'),
        ("STORE__URL", "redis://user:hush@store/x"),
        ("STORE__URL", "redis://user:hu@hush/x@store:x"),
        ("STORE__URL", "redis://:hush"),
        ("STORE__URL", "redis://store?password=hush"),
        ("STORE__URL", "mysql://user:hush@store"),
        ("UPSTREAM__URL", "http://user:hush@api"),
        ("UPSTREAM__HOST", "http://user:hush@api"),
        ("LISTEN", "http://user:hush@api"),
    ],
)
def test_no_secret_and_no_password_is_ever_told(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(f"IDEMPOTENCY_PROXY_{variable}", value)
    (line,) = problems(None, {} if variable == "UPSTREAM__URL" else API)
    assert "hush" not in line


def test_a_good_secret_is_not_shown_by_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDEMPOTENCY_PROXY_STORE__HASH_SECRET", "hush")
    settings = load(None, API)
    assert settings.store.hash_secret.get_secret_value() == "hush"
    assert "hush" not in repr(settings)
    assert "hush" not in settings.model_dump_json()


def test_a_long_value_is_cut_and_control_characters_are_escaped() -> None:
    (line,) = problems(None, {**API, "log.level": "\x1b[31m" + "x" * 5000})
    assert "\x1b" not in line
    assert len(line) < 250
