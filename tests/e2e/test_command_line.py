"""What the commands say, and with which status they end, when something is wrong, and when nothing is."""

import json
import re
import signal
import socket
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import environment, run, spawn
from tests.support.proxy import request
from tests.support.raw import eventually, exchange, parse
from tests.support.valkey import Valkey, free_port

UPSTREAM = {"upstream.url": "http://127.0.0.1:1"}
FREE = {"listen": "127.0.0.1:0", "ops_listen": "127.0.0.1:0", **UPSTREAM}
BAD = {
    "upstraem.url": "http://api",
    "upstream.url": "ftp://api.example.com",
    "idempotency.retention": "10s",
    "store.url": "memory://",
    "store.preffix": "payments:",
    "workers": 2,
}
PROBLEMS = (
    "upstream.url = 'ftp://api.example.com' (by IDEMPOTENCY_PROXY_UPSTREAM__URL): must be a URL that begins with",
    "upstraem__url (by IDEMPOTENCY_PROXY_UPSTRAEM__URL): there is no such setting; is it upstream.url?",
    "store.preffix (by IDEMPOTENCY_PROXY_STORE__PREFFIX): there is no such setting; is it store.prefix?",
    "the retention, 10s, must be longer than the lease, 76s",
    "2 workers cannot share a memory:// store: use sqlite: or redis://, or one worker",
)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Valkey]:
    """A server that asks for a password."""
    with Valkey(tmp_path, password="opensaysme") as server:
        yield server


def cannot_start(directory: Path, settings: dict[str, object]) -> str:
    """Why not: `serve` must end with status 1 and one line that says it."""
    done = run("serve", directory=directory, settings=FREE | settings)
    assert (done.returncode, done.stdout) == (1, ""), done
    line: dict[str, Any] = json.loads(done.stderr)
    assert (line["event"], line["level"]) == ("cannot start", "error")
    reason = line["reason"]
    assert isinstance(reason, str)
    return reason


@pytest.mark.parametrize("command", ["serve", "check"])
def test_all_that_is_wrong_with_the_settings_is_told_at_once(tmp_path: Path, command: str) -> None:
    done = run(command, directory=tmp_path, settings=BAD)
    assert (done.returncode, done.stdout) == (2, "")
    title, *problems = done.stderr.splitlines()
    assert title == "idempotency-proxy: the settings cannot be used:"
    assert len(problems) == len(PROBLEMS)
    for expected in PROBLEMS:
        assert sum(expected in problem for problem in problems) == 1, (expected, problems)
    assert list(tmp_path.iterdir()) == []


def test_an_upstream_is_asked_for_and_a_flag_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    without = run("serve", directory=tmp_path)
    assert (without.returncode, without.stdout) == (2, "")
    assert "upstream.url: is required" in without.stderr
    unknown = run("serve", "--upstraem", "http://api", directory=tmp_path)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "--upstraem" in unknown.stderr
    assert "Traceback" not in without.stderr + unknown.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_is_taken_is_named(tmp_path: Path, taken: int, workers: int) -> None:
    for setting in ("listen", "ops_listen"):
        reason = cannot_start(tmp_path, {setting: f"127.0.0.1:{taken}", "workers": workers})
        assert reason.startswith("cannot listen: ")
        assert "address already in use" in reason.lower()
        assert str(taken) in reason


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path, workers: int) -> None:
    port = free_port()
    reason = cannot_start(tmp_path, {"store.url": f"redis://:hunter2@127.0.0.1:{port}/3", "workers": workers})
    assert reason.startswith(f"redis://:***@127.0.0.1:{port}/3: ")
    assert "refused" in reason


def test_a_wrong_password_is_told_without_it(tmp_path: Path, locked: Valkey) -> None:
    wrong = cannot_start(tmp_path, {"store.url": f"redis://:hunter2@127.0.0.1:{locked.port}/0"})
    assert wrong == f"redis://:***@127.0.0.1:{locked.port}/0: WRONGPASS: wrong user or password"
    none = cannot_start(tmp_path, {"store.url": f"redis://127.0.0.1:{locked.port}/0"})
    assert none == f"redis://127.0.0.1:{locked.port}/0: NOAUTH: a password is needed"


def test_a_file_that_is_no_store_and_a_directory_that_is_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "letter.db").write_text("Dear bank, " * 1000)
    assert "letter.db: not a SQLite file" in cannot_start(tmp_path, {"store.url": "sqlite:letter.db"})
    assert (tmp_path / "letter.db").read_text() == "Dear bank, " * 1000
    assert "the directory is not there" in cannot_start(tmp_path, {"store.url": "sqlite:nowhere/records.db"})


def test_a_check_says_what_it_found(tmp_path: Path, taken: int, locked: Valkey) -> None:
    upstream = f"http://127.0.0.1:{taken}"
    done = run("check", directory=tmp_path, settings={"upstream.url": upstream, "store.url": locked.url})
    assert (done.returncode, done.stderr) == (0, "")
    settings, advice, store, server, *protection, spool, reached = done.stdout.splitlines()
    assert settings == f"settings  ok: 127.0.0.1:8080 in front of {upstream}, lease 76 s"
    assert advice.strip().startswith("a request without Authorization, X-Api-Key is shown, by its key,")
    assert store == f"store     ok: redis://:***@127.0.0.1:{locked.port}/0"
    assert server.strip().startswith("Valkey 9")
    assert any("NOT protected" in line for line in protection)
    nothing = r"0 settlements wait, 0 incidents, 0 of 67108864 bytes"
    assert re.fullmatch(rf"spool     ok: .*/idempotency-spool\.db, {nothing}", spool)
    assert re.fullmatch(rf"upstream  ok: {upstream} connected in \d+ ms", reached)


def test_a_check_tries_everything_and_fails_when_one_thing_fails(tmp_path: Path, taken: int, locked: Valkey) -> None:
    good, bad = f"http://127.0.0.1:{taken}", f"http://127.0.0.1:{free_port()}"
    wrong = f"redis://:hunter2@127.0.0.1:{locked.port}/0"
    statuses = {}
    for upstream, store in ((bad, "sqlite:records.db"), (good, wrong), (bad, wrong)):
        done = run("check", directory=tmp_path, settings={"upstream.url": upstream, "store.url": store})
        assert ("store     FAILED: redis://:***@" in done.stdout) == (store == wrong), done
        assert (f"upstream  FAILED: {bad}: " in done.stdout) == (upstream == bad), done
        assert "hunter2" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        statuses[upstream, store] = done.returncode
    assert set(statuses.values()) == {1}


def test_a_check_of_a_store_whose_certificates_cannot_be_read_says_so(tmp_path: Path, taken: int) -> None:
    """The certificates are read before anything is connected."""
    settings = {
        "upstream.url": f"http://127.0.0.1:{taken}",
        "store.url": "rediss://127.0.0.1:1/0?ssl_ca_certs=/nowhere/ca.pem",
    }
    done = run("check", directory=tmp_path, settings=settings)
    assert (done.returncode, done.stderr) == (1, "")
    (finding,) = [line for line in done.stdout.splitlines() if line.startswith("store ")]
    assert finding.startswith("store     FAILED: ")
    assert "the TLS parameters of the store's URL" in finding
    assert "No such file" in finding
    assert "upstream  ok: " in done.stdout  # and what is behind it is tried as well


def test_the_version_is_told(tmp_path: Path) -> None:
    done = run("--version", directory=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"idempotency-proxy {version('idempotency-proxy')}\n")


async def test_the_sandbox_makes_payments_until_it_is_stopped(tmp_path: Path) -> None:
    output = tmp_path / "output"
    process = spawn("sandbox", "--listen", "127.0.0.1:0", directory=tmp_path, output=output, variables=environment({}))
    try:
        await eventually(lambda: output.read_text().endswith("\n") or process.poll() is not None, 15)
        said = re.fullmatch(r"sandbox: a payments API listens on http://127\.0\.0\.1:(\d+)\n", output.read_text())
        assert said is not None, output.read_text()
        reply = parse(await exchange(int(said[1]), request(b"GET", b"/executions")))
        assert (reply.status, json.loads(reply.body)) == (200, {"total": 0, "keys": {}})
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: process.poll() is not None)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_a_sandbox_whose_port_is_taken_says_so(tmp_path: Path, taken: int) -> None:
    done = run("sandbox", "--listen", f"127.0.0.1:{taken}", directory=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: cannot listen on 127.0.0.1:{taken}: ")
