"""Unix sockets, on the side of the clients and on that of the API."""

import asyncio
import errno
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.load import load
from proxy.process import listen, unlisten
from tests.integration.conftest import StartProxy
from tests.support.origin import Origin, respond
from tests.support.proxy import HOST, PATH, Connection, new_key, post, refused, request, responses
from tests.support.tls import Authority

LARGE = bytes(range(256)) * 8 * 1024  # 2 MiB


class UnixOrigin(Origin):
    """The same, on a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__(respond(200, body=b"paid"))
        self.path = path

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()

        def peer() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), self._accept, loop=loop)

        self._server = await loop.create_unix_server(peer, str(self.path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "proxy.sock"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[UnixOrigin]:
    origin = UnixOrigin(tmp_path / "api.sock")
    async with origin:
        yield origin


# -- the clients ------------------------------------------------------------------------------------------------


async def test_clients_by_a_socket_pay_once_and_are_unknown_by_address(
    origin: Origin, start_proxy: StartProxy, path: Path
) -> None:
    origin.behave(respond(200, body=b"paid"))
    proxy = await start_proxy(listen=f"unix:{path}")
    key = new_key()
    async with Connection(0, path=str(path)) as client:
        client.send(post(key))
        assert (await client.reply()).body == b"paid"
        client.send(post(key))
        refused(await client.reply(), 409, "idempotent_creation_conflict")
        client.send(request(b"GET", responses(key)))
        assert json.loads((await client.reply()).body)["RequestURL"] == f"http://{HOST.decode()}{PATH.decode()}"
        (seen,) = origin.requests
        assert seen.all(b"X-Forwarded-For") == [b"unknown"]
        client.half_close()  # and what was asked before is answered
    async with Connection(0, path=str(path)) as client:
        client.send(request(b"GET", b"/"))
        client.half_close()
        assert (await client.reply()).status == 200
    await proxy.stop()


async def test_tls_by_a_socket(origin: Origin, start_proxy: StartProxy, tmp_path: Path, path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("proxy")
    await start_proxy(listen=f"unix:{path}", **{"tls.certificate": certificate, "tls.key": key})
    async with Connection(0, path=str(path), tls=authority.client()) as client:
        client.send(post(new_key()))
        assert (await client.reply()).status == 200
    (seen,) = origin.requests
    assert (seen.all(b"X-Forwarded-Proto"), seen.all(b"X-Forwarded-For")) == ([b"https"], [b"unknown"])


# -- the file ---------------------------------------------------------------------------------------------------


@contextmanager
def listening(path: Path, **flags: str) -> Iterator[socket.socket]:
    """What `serve` begins with."""
    sock = listen(load(None, {"upstream.url": "http://api", "listen": f"unix:{path}", **flags}))
    with sock:
        yield sock


@pytest.mark.parametrize(("flags", "mode"), [({}, 0o660), ({"listen_mode": "0600"}, 0o600)])
def test_its_file_lets_in_whom_the_mode_says(path: Path, flags: dict[str, str], mode: int) -> None:
    before = os.umask(0o022)
    try:
        with listening(path, **flags) as sock:
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert os.umask(0o022) == 0o022  # as it was
            unlisten(sock)
            assert not path.exists()
    finally:
        os.umask(before)


def test_the_file_of_a_process_that_died_is_replaced(path: Path) -> None:
    with listening(path):
        pass  # and nobody takes it away
    assert path.is_socket()
    with listening(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_the_file_of_a_process_that_listens_is_left_to_it(path: Path) -> None:
    with listening(path) as first:
        with pytest.raises(OSError, match=f"{path}: another process listens there") as refusal, listening(path):
            pass
        assert refusal.value.errno == errno.EADDRINUSE
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            first.accept()[0].close()


def test_what_is_no_socket_is_not_removed(path: Path) -> None:
    path.write_text("the annual report")
    with pytest.raises(OSError, match="there is a file, and it is no socket"), listening(path):
        pass
    assert path.read_text() == "the annual report"


def test_a_directory_that_is_not_there_is_named(path: Path) -> None:
    missing = path.parent / "nowhere" / "proxy.sock"
    with pytest.raises(OSError, match=f"{missing}: No such file or directory"), listening(missing):
        pass


# -- the API ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "seen"), [("upstream", b"localhost"), ("preserve", HOST), ("api.test:81", b"api.test:81")]
)
async def test_an_api_on_a_socket_is_called_localhost_unless_another_name_is_set(
    start_proxy: StartProxy, api: UnixOrigin, host: str, seen: bytes
) -> None:
    proxy = await start_proxy(**{"upstream.url": f"unix:{api.path}", "upstream.host": host})
    key = new_key()
    assert (await proxy.post(key)).body == b"paid"
    assert (await proxy.post(new_key(), body=LARGE)).body == b"paid"
    assert [recorded.all(b"Host") for recorded in api.requests] == [[seen], [seen]]
    assert api.requests[1].body == LARGE
    assert api.connections == 1
    assert (await proxy.record(key))["StatusCode"] == "200"


async def test_an_api_whose_socket_is_not_there_is_unreachable_and_the_key_is_free(
    start_proxy: StartProxy, api: UnixOrigin
) -> None:
    proxy = await start_proxy(**{"upstream.url": f"unix:{api.path}"})
    await api.stop()
    key = new_key()
    refused(await proxy.post(key), 502, "upstream_unreachable")  # nobody listens
    api.path.unlink()
    refused(await proxy.post(key), 502, "upstream_unreachable")  # nor is there a file
    await api.start()
    assert (await proxy.post(key)).status == 200
    await api.stop()


def test_of_many_that_start_at_once_on_one_path_one_listens(path: Path) -> None:
    settings = load(None, {"listen": f"unix:{path}", "upstream.url": "http://api"})

    def start(_number: int) -> socket.socket | int | None:
        try:
            return listen(settings)
        except OSError as error:
            return error.errno

    for _ in range(20):
        with ThreadPoolExecutor(8) as crowd:
            ends = list(crowd.map(start, range(8)))
        listening = [end for end in ends if isinstance(end, socket.socket)]
        assert [end for end in ends if not isinstance(end, socket.socket)] == [errno.EADDRINUSE] * 7
        with listening[0]:
            unlisten(listening[0])
