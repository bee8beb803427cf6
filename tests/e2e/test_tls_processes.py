"""TLS and unix sockets as people run them: SIGHUP to one process and to several, files that cannot be used at the
start, sockets that a killed proxy left behind."""

import asyncio
import errno
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.origin import Origin, respond
from tests.support.process import ProxyProcess, StartProxy, environment, run, spawn, starter
from tests.support.proxy import Connection, new_key, post, request
from tests.support.raw import eventually
from tests.support.tls import Authority, Pair, call

NEW_CONNECTIONS = 8
"""So many that each of two workers has some: the kernel gives them to whoever is awake."""


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin(respond(200, body=b"paid")) as origin:
        yield origin


@pytest.fixture
async def start_proxy(origin: Origin, tmp_path: Path) -> AsyncIterator[StartProxy]:
    """See `starter`."""
    async with starter(tmp_path, origin.port) as start:
        yield start


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.issue("proxy")


@pytest.fixture
def tls(tmp_path: Path, pair: Pair) -> dict[str, str]:
    """The settings of a listener, and a store that workers can share."""
    return {
        "tls.certificate": pair.certificate,
        "tls.key": pair.key,
        "store.url": f"sqlite:///{tmp_path / 'records.db'}",
    }


def content(path: str) -> str:
    return Path(path).read_text()


def write(path: str, text: str) -> None:
    Path(path).write_text(text)


def hears_sighup(pid: int) -> bool:
    """Whether the process *pid* has a handler of its own (proc(5): SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGHUP - 1) & 1)


def told(proxy: ProxyProcess, times: int) -> bool:
    return len(proxy.said("no certificates to reload")) >= times


async def ready(proxy: ProxyProcess) -> bool:
    """Ready for traffic, and each of its processes for signals: a worker that is starting reads the files anyway."""
    ready = (await proxy.ops("/readyz")).status == 200 and all(map(hears_sighup, [proxy.pid, *proxy.workers]))
    (started,) = proxy.said("started")
    return ready and len(proxy.workers) == (started["workers"] if started["workers"] > 1 else 0)


async def shown(proxy: ProxyProcess, authority: Authority) -> set[bytes | None]:
    """The certificates that new connections are shown."""
    found: set[bytes | None] = set()
    for _ in range(NEW_CONNECTIONS):
        async with Connection(proxy.port, tls=authority.client()) as client:
            found.add(client.tls.getpeercert(binary_form=True))
    return found


@pytest.mark.parametrize("workers", [1, 2])
async def test_sighup_brings_the_new_certificate_and_disturbs_nobody(
    start_proxy: StartProxy, authority: Authority, pair: Pair, tls: dict[str, str], workers: int
) -> None:
    proxy = await start_proxy(tls, workers=workers)
    await eventually(lambda: ready(proxy), 15)
    old = ssl.PEM_cert_to_DER_cert(content(pair.certificate))
    async with Connection(proxy.port, tls=authority.client()) as kept:
        assert await shown(proxy, authority) == {old}
        authority.issue("proxy")
        new = ssl.PEM_cert_to_DER_cert(content(pair.certificate))
        proxy.send(signal.SIGHUP)
        await eventually(lambda: len(proxy.said("certificates reloaded")) == workers)
        assert await shown(proxy, authority) == {new}

        write(pair.key, "no PEM any more")
        proxy.send(signal.SIGHUP)
        await eventually(lambda: len(proxy.said("certificates not reloaded")) == workers)
        why = {(line["level"], line["reason"]) for line in proxy.said("certificates not reloaded")}
        assert why == {("error", f"tls.key = {pair.key!r}: no PEM file with a private key")}
        assert await shown(proxy, authority) == {new}

        kept.send(post(new_key()))
        assert (await kept.reply()).body == b"paid"
        assert kept.tls.getpeercert(binary_form=True) == old
    assert proxy.said("started")[0]["listen"] == f"https://127.0.0.1:{proxy.port}"
    assert await proxy.stop() == 0
    assert [line for line in proxy.log if line["level"] == "error" and "reloaded" not in line["event"]] == []


@pytest.mark.parametrize("workers", [1, 2])
async def test_sighup_harms_nobody_where_there_is_nothing_to_reload(
    start_proxy: StartProxy, tls: dict[str, str], workers: int
) -> None:
    """Also as a terminal sends it that is closed: to the whole group."""
    proxy = await start_proxy({"store.url": tls["store.url"]}, workers=workers)
    await eventually(lambda: ready(proxy), 15)
    for times, group in ((1, False), (2, True)):
        proxy.send(signal.SIGHUP, group=group)
        await eventually(partial(told, proxy, times * workers))
    assert (await proxy.post(new_key())).body == b"paid"
    assert proxy.said("worker died") == []
    assert await proxy.stop() == 0


async def test_a_worker_that_is_starting_does_not_die_of_sighup_and_has_the_new_certificate(
    start_proxy: StartProxy, authority: Authority, pair: Pair, tls: dict[str, str]
) -> None:
    proxy = await start_proxy(tls, workers=2)
    await eventually(lambda: ready(proxy), 15)
    before = set(proxy.workers)
    os.kill(min(before), signal.SIGKILL)
    authority.issue("proxy")

    async def replaced() -> bool:
        proxy.send(signal.SIGHUP, group=True)
        return len(proxy.workers) == 2 and bool(set(proxy.workers) - before) and await ready(proxy)

    await eventually(replaced, 15)
    proxy.send(signal.SIGHUP)
    new = ssl.PEM_cert_to_DER_cert(content(pair.certificate))

    async def renewed() -> bool:
        return await shown(proxy, authority) == {new}

    await eventually(renewed)
    assert [line["exit"] for line in proxy.said("worker died")] == [-signal.SIGKILL], proxy.text
    assert await proxy.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_used_is_told_at_the_start_and_by_check(
    tmp_path: Path, pair: Pair, tls: dict[str, str], workers: int
) -> None:
    settings = {"upstream.url": "https://127.0.0.1:1", "listen": "127.0.0.1:0", "ops_listen": "127.0.0.1:0", **tls}
    write(pair.key, "nonsense")
    why = f"tls.key = {pair.key!r}: no PEM file with a private key"
    done = run("serve", directory=tmp_path, settings={**settings, "workers": workers})
    assert (done.returncode, done.stdout) == (1, "")
    line = json.loads(done.stderr)
    assert (line["event"], line["reason"]) == ("cannot start", why)

    settings["upstream.ca"] = str(tmp_path / "nowhere.pem")
    checked = run("check", directory=tmp_path, settings=settings)
    assert (checked.returncode, checked.stderr) == (1, "")
    assert f"tls       FAILED: {why}\n" in checked.stdout
    missing = f"upstream.ca = {settings['upstream.ca']!r}: cannot be read: No such file or directory"
    assert f"upstream  FAILED: {missing}\n" in checked.stdout
    assert "store     ok: " in checked.stdout


def test_a_check_says_what_clients_must_show(tmp_path: Path, authority: Authority, tls: dict[str, str]) -> None:
    settings = {
        **tls,
        "upstream.url": "unix:api.sock",
        "listen": "unix:proxy.sock",
        "tls.client_ca": authority.path,
        "tls.client_certificates": "required",
        "tls.min_version": "1.3",
    }
    done = run("check", directory=tmp_path, settings=settings)
    assert done.stdout.startswith("settings  ok: unix:proxy.sock in front of unix:api.sock, lease 76 s\n")
    assert "tls       ok: TLS 1.3 and newer, client certificates: required\n" in done.stdout
    assert "upstream  FAILED: unix:api.sock: " in done.stdout


# -- unix sockets -----------------------------------------------------------------------------------------------


@contextmanager
def serving(
    directory: Path, path: Path, settings: Mapping[str, object], name: str = "first"
) -> Iterator[subprocess.Popen[bytes]]:
    """`serve` on the unix socket *path*; what is left of it in the end is killed."""
    own = {"listen": f"unix:{path}", "ops_listen": "127.0.0.1:0"}
    variables = environment({**own, **settings})
    process = spawn("serve", directory=directory, output=directory / f"{name}.log", variables=variables)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def pays(path: Path) -> bool:
    """The socket is there before the workers are: a client waits for them."""
    try:
        async with Connection(0, 15, path=str(path)) as client:
            client.send(post(new_key()))
            return (await client.reply()).body == b"paid"
    except (FileNotFoundError, ConnectionError):
        return False


def abandoned(path: Path) -> bool:
    """Whether nobody listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == errno.ECONNREFUSED


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_socket_is_shared_by_workers_taken_away_at_the_stop_and_replaced_after_a_kill(
    origin: Origin, tmp_path: Path, workers: int
) -> None:
    path = tmp_path / "proxy.sock"
    settings = {
        "workers": workers,
        "upstream.url": f"http://127.0.0.1:{origin.port}",
        "store.url": f"sqlite:///{tmp_path / 'records.db'}",
    }
    with serving(tmp_path, path, settings) as killed:
        await eventually(lambda: pays(path), 15)
        os.killpg(killed.pid, signal.SIGKILL)
        await asyncio.to_thread(killed.wait)
        await eventually(lambda: abandoned(path))  # its workers have died as well
    assert path.is_socket()
    with serving(tmp_path, path, settings) as first:
        await eventually(lambda: pays(path), 15)
        with serving(tmp_path, path, settings, "second") as second:
            assert await asyncio.to_thread(second.wait, 15) == 1
        line = json.loads((tmp_path / "second.log").read_text())
        assert (line["event"], line["reason"]) == (
            "cannot start",
            f"cannot listen: [Errno 98] {path}: another process listens there",
        )
        assert await pays(path)
        first.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(first.wait, 15) == 0
    assert not path.exists()


async def test_a_call_through_tls_in_processes(
    start_proxy: StartProxy, authority: Authority, tls: dict[str, str], origin: Origin
) -> None:
    proxy = await start_proxy(tls, workers=2)
    await eventually(lambda: ready(proxy), 15)
    replies = [await call(proxy.port, request(b"GET", b"/"), authority.client()) for _ in range(NEW_CONNECTIONS)]
    assert {reply.body for reply in replies} == {b"paid"}
    assert {value for seen in origin.requests for value in seen.all(b"X-Forwarded-Proto")} == {b"https"}
