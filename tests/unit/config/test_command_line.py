"""The command line, up to the point at which a command's own work begins."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from config.settings import Settings
from proxy.__main__ import NAME, cli


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name=NAME)


@pytest.fixture(params=[("serve", "proxy.serve"), ("check", "proxy.check")], ids=["serve", "check"])
def command(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[Settings]]:
    """A command's name, and what its work was called with; the work ends with status 7."""
    name, place = request.param
    seen: list[Settings] = []

    def work(settings: Settings) -> int:
        seen.append(settings)
        return 7

    module = ModuleType(place)
    setattr(module, name, work)
    monkeypatch.setitem(sys.modules, place, module)
    return name, seen


def test_the_flags_set_what_they_say_and_the_status_is_that_of_the_work(
    command: tuple[str, list[Settings]], tmp_path: Path
) -> None:
    name, seen = command
    file = tmp_path / "proxy.toml"
    file.write_text("workers = 3\n[log]\nrequests = false\n[idempotency]\nkey_min = 8\n", "utf-8")
    flags = ["--upstream", "https://api", "--listen", "[::1]:80", "--ops-listen", "127.0.0.1:0", "--workers", "2"]
    result = run(name, *flags, "--store", "sqlite:x.db", "--config", str(file), "--log-requests")
    assert (result.exit_code, result.output) == (7, "")
    (settings,) = seen
    assert str(settings.upstream.url) == "https://api"
    assert str(settings.listen) == "[::1]:80"
    assert str(settings.ops_listen) == "127.0.0.1:0"
    assert settings.store.url == "sqlite:x.db"
    assert settings.workers == 2
    assert settings.log.requests is True
    assert settings.idempotency.key_min == 8


def test_a_preset_is_named_by_a_flag_or_in_the_environment(
    command: tuple[str, list[Settings]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, seen = command
    monkeypatch.setenv("IDEMPOTENCY_PROXY_PRESET", "stripe")
    for flags in ((), ("--preset", "mangopay")):
        assert run(name, "--upstream", "http://api", *flags).exit_code == 7
    assert [settings.idempotency.dialect for settings in seen] == ["stripe", "mangopay"]
    assert [settings.preset for settings in seen] == ["stripe", "mangopay"]


@pytest.mark.parametrize("words", [("serve",), ("check",), ("incidents",), ("key", "show", "k" * 16)])
def test_a_preset_that_there_is_not_ends_each_command_with_status_2(words: tuple[str, ...]) -> None:
    result = run(*words, "--upstream", "http://api", "--preset", "paypal")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "preset = 'paypal' (by a flag): must be 'none', 'mangopay', 'stripe' or 'ietf'" in result.stderr


def test_a_flag_that_is_not_given_leaves_the_file_as_it_is(command: tuple[str, list[Settings]], tmp_path: Path) -> None:
    name, seen = command
    file = tmp_path / "proxy.toml"
    file.write_text('[upstream]\nurl = "http://api"\n[log]\nrequests = false\n', "utf-8")
    assert run(name, "--config", str(file)).exit_code == 7
    assert seen[0].log.requests is False


def test_bad_settings_end_with_status_2_and_one_message_on_stderr(command: tuple[str, list[Settings]]) -> None:
    name, seen = command
    result = run(name, "--workers", "many", "--store", "redis://:hush@store:x", "--config", "nowhere.toml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "idempotency-proxy: the settings cannot be used:\n"
        "  nowhere.toml: the file cannot be read: No such file or directory\n"
        "  workers = 'many' (by a flag): must be a whole number\n"
        "  store.url = 'redis://***@store:***' (by a flag): must have a number from 1 to 65535 as its port\n"
    )
    assert seen == []


def test_the_command_as_a_process_ends_without_a_traceback() -> None:
    command = [sys.executable, "-m", "proxy", "serve", "--listen", "x"]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=root)
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()] == ["idempotency-proxy:", "", ""]
    assert "Traceback" not in done.stderr


def test_the_version_is_that_of_the_installed_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "idempotency_proxy-9.8.7.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: idempotency-proxy\nVersion: 9.8.7\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert run("--version").output == "idempotency-proxy 9.8.7\n"


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, int], None]], None]:
    def put(work: Callable[[str, int], None]) -> None:
        module = ModuleType("proxy.sandbox")
        vars(module)["run"] = work
        monkeypatch.setitem(sys.modules, "proxy.sandbox", module)

    return put


def test_the_sandbox_listens_where_it_is_told(sandbox: Callable[[Callable[[str, int], None]], None]) -> None:
    seen: list[tuple[str, int]] = []
    sandbox(lambda host, port: seen.append((host, port)))
    assert run("sandbox").exit_code == 0
    assert run("sandbox", "--listen", "[::1]:9000").exit_code == 0
    assert seen == [("127.0.0.1", 8081), ("::1", 9000)]
    bad = run("sandbox", "--listen", "9000")
    assert bad.exit_code == 2
    assert "must be HOST:PORT" in bad.stderr


def test_a_sandbox_that_cannot_listen_says_so(sandbox: Callable[[Callable[[str, int], None]], None]) -> None:
    def taken(host: str, port: int) -> None:
        raise OSError(98, "Address already in use")

    sandbox(taken)
    result = run("sandbox", "--listen", "127.0.0.1:9000")
    assert result.exit_code == 1
    assert result.stderr == "Error: cannot listen on 127.0.0.1:9000: Address already in use\n"
