"""The container files, held against the settings, the command line and real servers: no Docker engine is needed."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import redis.asyncio
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prometheus_client import CollectorRegistry

from config.load import load
from config.problems import PREFIX
from config.settings import Settings
from config.units import seconds
from config.urls import origin
from proxy.__main__ import NAME, cli
from proxy.core.lifecycle import State
from proxy.ops.server import OpsServer
from proxy.store.base import Found, Granted
from tests.support.stores import RedisMedium, claim_of
from tests.support.valkey import Valkey

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


class Dockerfile:
    """The instructions of the last stage, which is the image; `copied`: what all stages take from the project."""

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        pairs = [line.split(maxsplit=1) for line in "\n".join(lines).replace("\\\n", "").splitlines()]
        starts = [number for number, (name, _) in enumerate(pairs) if name == "FROM"]
        self._image = pairs[starts[-1] :]
        copies = [value for name, value in pairs if name == "COPY" and not value.startswith("--from")]
        self.copied = [source for value in copies for source in value.split()[:-1]]

    def all(self, name: str) -> list[str]:
        return [value for own, value in self._image if own == name]

    def only(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    @property
    def environment(self) -> dict[str, str]:
        return dict(word.split("=", 1) for value in self.all("ENV") for word in value.split())

    @property
    def settings(self) -> dict[str, str]:
        return {name: value for name, value in self.environment.items() if name.startswith(PREFIX)}

    @property
    def healthcheck(self) -> list[str]:
        command = json.loads(self.only("HEALTHCHECK").partition(" CMD ")[2])
        return [str(word) for word in command]


DOCKERFILE = Dockerfile((ROOT / "Dockerfile").read_text())


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)


def settings_of(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load(None, {})


def compose_environment() -> dict[str, str]:
    """What the proxy of docker-compose.yml has: the image's variables, its own over them, where nobody sets others."""
    own = SERVICES["proxy"]["environment"]
    defaults = {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in own.items()}
    return DOCKERFILE.settings | defaults


def parameters(command: list[str]) -> dict[str, Any]:
    """What the command line makes of *command*; raise click.UsageError where it does not know it."""
    name, *arguments = command
    return cli.commands[name].make_context(name, arguments).params


@pytest.mark.parametrize(
    "check",
    [
        ("hadolint", "Dockerfile"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"),
    ],
    ids=["hadolint", "compose-spec"],
)
def test_the_checkers_of_the_formats_find_nothing(check: tuple[str, ...]) -> None:
    ran = subprocess.run([BIN / check[0], *check[1:]], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout


def test_the_image_starts_with_settings_that_it_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(DOCKERFILE.settings | {f"{PREFIX}UPSTREAM__URL": "https://api.example.com"}, monkeypatch)

    exposed = {int(port) for port in DOCKERFILE.only("EXPOSE").split()}
    assert exposed == {settings.listen.port, settings.ops_listen.port}
    assert {settings.listen.host, settings.ops_listen.host} == {"0.0.0.0"}  # loopback is out of reach from outside
    assert Path(settings.store.url.removeprefix("sqlite://")).is_relative_to(DOCKERFILE.only("VOLUME"))


def test_the_image_runs_the_proxy_as_process_1_and_not_as_root() -> None:
    assert json.loads(DOCKERFILE.only("ENTRYPOINT")) == [NAME]
    assert NAME in PROJECT["project"]["scripts"]
    assert parameters(json.loads(DOCKERFILE.only("CMD")))
    assert DOCKERFILE.only("STOPSIGNAL") == "SIGTERM"
    user, _, group = DOCKERFILE.only("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"-o {user} -g {group} {DOCKERFILE.only('VOLUME')}" in " ".join(DOCKERFILE.all("RUN"))


async def test_the_image_is_healthy_while_the_ops_port_answers_whatever_proxies_are_set() -> None:
    async def ready() -> None:
        return None

    async def check(address: str) -> int:
        words = [sys.executable if word == "python" else word for word in DOCKERFILE.healthcheck]
        dead_end = {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
        process = await asyncio.create_subprocess_exec(
            *words, env=dead_end | {f"{PREFIX}OPS_LISTEN": address}, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(10):
            return await process.wait()

    ops = OpsServer("0.0.0.0", 0, CollectorRegistry(), ready)
    address = await ops.start()
    try:
        assert await check(address) == 0
    finally:
        await ops.stop()
    assert await check(address) != 0


def test_the_build_is_given_what_it_copies_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = {path for rule in rules if rule.startswith("!") for path in ROOT.glob(rule[1:])}
    copied = {ROOT / source for source in DOCKERFILE.copied}
    assert copied <= kept
    assert all(path.exists() for path in copied)
    assert {path.relative_to(ROOT).parts[0] for path in kept} == {path.relative_to(ROOT).parts[0] for path in copied}


def test_the_proxy_of_the_composition_meets_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(compose_environment(), monkeypatch)

    sandbox = parameters(SERVICES["sandbox"]["command"])
    assert settings.upstream.url == origin(f"http://sandbox:{sandbox['listen'].port}")
    assert f":{sandbox['listen'].port}/" in SERVICES["sandbox"]["healthcheck"]["test"][-1]
    assert settings.store.url == "redis://valkey:6379/0"
    assert set(SERVICES["proxy"]["networks"]) & set(SERVICES["valkey"]["networks"]) == {"store"}
    assert COMPOSE["networks"]["store"]["internal"]


def test_a_stop_of_the_composition_is_more_patient_than_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(compose_environment(), monkeypatch)
    assert seconds(SERVICES["proxy"]["stop_grace_period"]) >= settings.limits.drain_timeout + 5


def test_only_loopback_is_published_and_the_ports_are_those_that_are_listened_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_of(compose_environment(), monkeypatch)
    published = {name: [port.split(":") for port in service.get("ports", [])] for name, service in SERVICES.items()}

    assert {host for ports in published.values() for host, _, _ in ports} == {"127.0.0.1"}
    outside = [port for ports in published.values() for _, port, _ in ports]
    assert len(set(outside)) == len(outside)
    assert {int(inside) for _, _, inside in published["proxy"]} == {settings.listen.port, settings.ops_listen.port}
    assert published["valkey"] == []  # it has no password


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined_and_says_whether_it_is_healthy(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert "privileged" not in service
    assert "cap_add" not in service
    assert service.get("healthcheck", {}).get("test") or service["image"] == SERVICES["proxy"]["image"]
    for needed, how in service.get("depends_on", {}).items():
        assert needed in SERVICES
        assert how == {"condition": "service_healthy"}


def test_the_volumes_of_the_composition_are_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith(".") else source in COMPOSE["volumes"]


def test_prometheus_reads_the_ops_port_of_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(compose_environment(), monkeypatch)
    ((source, place, mode),) = (
        volume.split(":") for volume in SERVICES["prometheus"]["volumes"] if volume.startswith("./")
    )
    assert mode == "ro"
    assert f"--config.file={place}" in SERVICES["prometheus"]["command"]

    scrape = yaml.safe_load((ROOT / source).read_text())
    (job,) = scrape["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"proxy:{settings.ops_listen.port}"]}]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert seconds(scrape["global"]["scrape_timeout"]) <= seconds(scrape["global"]["scrape_interval"])


async def test_a_claim_on_the_valkey_of_the_composition_is_there_after_a_power_cut(tmp_path: Path) -> None:
    words = shlex.split(SERVICES["valkey"]["command"])
    assert words[0] == "valkey-server"
    settings = dict(zip((name.removeprefix("--") for name in words[1::2]), words[2::2], strict=True))
    assert settings["appendfsync"] == "always"
    assert settings["maxmemory-policy"] == "noeviction"

    claim = claim_of()
    with Valkey(tmp_path, settings=settings) as valkey:
        medium = RedisMedium(valkey.url, redis.asyncio.Redis.from_url(valkey.url))
        assert isinstance(await (await medium.store()).claim(claim), Granted)
        valkey.restart()
        assert await (await medium.store()).read(claim.attempt.key_hash) == Found(claim, State.IN_PROGRESS)
        await medium.close()


def pins(lock: str) -> Iterator[tuple[Requirement, int]]:
    """The requirements of a lock, each with the number of its hashes."""
    text = (ROOT / "requirements" / lock).read_text()
    for entry in re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "").splitlines():
        requirement, *hashes = entry.split(" --hash=sha256:")
        yield Requirement(requirement.strip()), len(hashes)


LOCKS = {
    "build.lock": PROJECT["build-system"]["requires"],
    "run.lock": PROJECT["project"]["dependencies"],
    "dev.lock": PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"],
}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_a_version_and_hashes_for_all_that_the_project_asks_for(lock: str) -> None:
    locked = {}
    for requirement, hashes in pins(lock):
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert hashes > 0
        locked[canonicalize_name(requirement.name)] = pin.version
    for asked in map(Requirement, LOCKS[lock]):
        assert asked.specifier.contains(locked[canonicalize_name(asked.name)]), "run `make lock`"


def test_what_is_tested_is_what_runs_in_the_image() -> None:
    tested = {str(requirement) for requirement, _ in pins("dev.lock")}
    assert {str(requirement) for requirement, _ in pins("run.lock")} <= tested


def test_a_command_that_the_command_line_does_not_know_would_be_found() -> None:
    with pytest.raises(click.UsageError):
        parameters(["sandbox", "--port", "8081"])
