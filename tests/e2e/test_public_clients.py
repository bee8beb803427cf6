"""The clients that people use work through the whole proxy as they work without it. Each is a real one, and the proxy a
process."""

import asyncio
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from threading import Thread
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.public_clients import Aiohttp, Answer, Body, Client, Httpx, Origin, Requests, Stdlib
from tests.support.process import ProxyProcess

MB = 1_000_000
PAYOUT = b'{"Amount": 1000}'
JSON = {"Content-Type": "application/json"}


class World:
    """An origin and a proxy in front of it, on a loop in a thread of its own; the clients are in the test's."""

    origin: Origin
    proxy: ProxyProcess
    preserving: ProxyProcess
    """Gives the origin the Host that the client called."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever)
        self._stack = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """On the loop of the origin."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _open(self, directory: Path) -> None:
        self.origin = await self._stack.enter_async_context(Origin())
        settings = {"upstream.url": f"http://127.0.0.1:{self.origin.port}", "store.url": "memory://"}
        for name, host in (("proxy", "upstream"), ("preserving", "preserve")):
            own = directory / name
            own.mkdir()
            proxy = await self._stack.enter_async_context(ProxyProcess(own, {**settings, "upstream.host": host}))
            setattr(self, name, proxy)

    def start(self, directory: Path) -> None:
        """Everything."""
        self._thread.start()
        self.run(self._open(directory))

    def stop(self) -> None:
        """Everything."""
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def reset(self) -> None:
        """As if nothing had been asked yet."""
        self.origin.go = asyncio.Event()
        self.origin.payouts = 0

    async def let_go(self) -> None:
        """What streams may go on."""
        self.origin.go.set()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World()
    world.start(tmp_path_factory.mktemp("clients"))
    yield world
    world.stop()


@pytest.fixture
def world(started: World) -> World:
    started.run(started.reset())
    return started


@pytest.fixture(params=[Stdlib, Requests, Httpx, Aiohttp])
def client(request: pytest.FixtureRequest, world: World) -> Iterator[Client]:
    kind: type[Client] = request.param
    client = kind("127.0.0.1", world.proxy.port)
    yield client
    client.close()


def get(
    client: Client, path: str, headers: Mapping[str, str] = MappingProxyType({}), *, follow: bool = False
) -> Answer:
    return client.call("GET", path, headers, None, follow=follow)


def post(client: Client, path: str, body: Body, headers: dict[str, str]) -> Answer:
    return client.call("POST", path, headers, body, follow=False)


def test_a_client_keeps_its_connection(world: World, client: Client) -> None:
    for _ in range(5):
        assert get(client, "/json").status == 200
        assert post(client, "/payouts/", PAYOUT, JSON).status == 201
        assert client.call("HEAD", "/json", {}, None, follow=False).status == 200
        assert get(client, "/empty").status == 204
        assert get(client, "/responses/short").status == 400  # the proxy's own answer
        assert post(client, "/payouts/", PAYOUT, {**JSON, "Idempotency-Key": "short"}).status == 400
    assert world.run(world.proxy.metrics())["idempotency_proxy_connections"] == 1


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_client_is_given_compressed_bodies_as_they_are(client: Client, coding: str) -> None:
    answer = get(client, "/json", {"Accept-Encoding": coding})
    assert answer.all("Content-Encoding") == [coding]
    assert len(json.loads(answer.body)["Filler"]) == 5000


def test_a_client_keeps_each_of_several_cookies(client: Client) -> None:
    answer = get(client, "/cookies")
    assert [cookie.partition(";")[0] for cookie in answer.all("Set-Cookie")] == ["first=1", "second=2"]
    sent = {"Cookie": "first=1; second=2"} if isinstance(client, Stdlib) else {}
    assert json.loads(get(client, "/cookies", sent).body) == {"first": "1", "second": "2"}


def test_a_client_reads_answers_without_a_body(client: Client) -> None:
    for _ in range(2):  # what were left over of one would be the head of the next
        answer = client.call("HEAD", "/large?size=1000000", {}, None, follow=False)
        assert (answer.status, answer.body, answer.all("Content-Length")) == (200, b"", ["1000000"])
        assert (get(client, "/empty").status, get(client, "/empty").body) == (204, b"")
        answer = get(client, "/tagged")
        assert (answer.status, answer.body, answer.all("ETag")) == (200, b"paid", ['"v1"'])
        answer = get(client, "/tagged", {"If-None-Match": '"v1"'})
        assert (answer.status, answer.body, answer.all("ETag")) == (304, b"", ['"v1"'])


@pytest.mark.parametrize("to", ["", "/host"])
def test_a_client_follows_a_redirect_to_where_the_host_says(world: World, client: Client, to: str) -> None:
    """A redirect to a path leads through the proxy again; one to a URL only where Host is preserved."""
    assert get(client, f"/moved{to}").status == 302
    answer = get(client, f"/moved{to}", follow=True)
    host = f"127.0.0.1:{world.origin.port}"
    assert (answer.status, json.loads(answer.body)["Host"]) == (200, host)
    assert answer.url == f"http://{host if to else f'127.0.0.1:{world.proxy.port}'}/json"
    preserving = type(client)("127.0.0.1", world.preserving.port)
    answer = get(preserving, f"/moved{to}", follow=True)
    preserving.close()
    own = f"127.0.0.1:{world.preserving.port}"
    assert (answer.url, json.loads(answer.body)["Host"]) == (f"http://{own}/json", own)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_downloads_what_is_large(client: Client, framing: str) -> None:
    answer = get(client, f"/large?size={10 * MB}&{framing}")
    assert (answer.status, len(answer.body)) == (200, 10 * MB)
    expected = (bytes(range(256)) * (10 * MB // 256 + 1))[: 10 * MB]
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(expected).digest()


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_uploads_what_is_large(client: Client, framing: str, keyed: bool) -> None:
    pieces = [bytes([number]) * 100_000 for number in range(80)]
    whole = b"".join(pieces)
    headers = {"Idempotency-Key": str(uuid4())} if keyed else {}
    answer = post(client, "/digest", whole if framing == "length" else iter(pieces), headers)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "sha256": hashlib.sha256(whole).hexdigest(),
        "size": len(whole),
        "framing": "chunked" if framing == "chunked" and not keyed else str(len(whole)),  # read whole, it has a length
    }


def test_a_client_is_given_each_event_before_the_next_is_sent(world: World, client: Client) -> None:
    stream = client.stream("/events")
    assert next(stream) == b"data: first\n\n"
    world.run(world.let_go())
    assert b"".join(stream) == b"data: second\n\n"


def test_a_client_uploads_piece_by_piece(world: World, client: Client) -> None:
    async def arrived(size: int) -> None:
        async with asyncio.timeout(5):
            while world.origin.received != size:
                await asyncio.sleep(0.01)

    def pieces() -> Iterator[bytes]:
        for number in range(10):
            yield b"%05d" % number
            world.run(arrived(5 * (number + 1)))

    answer = post(client, "/digest", pieces(), {})
    assert (answer.status, json.loads(answer.body)["size"]) == (200, 50)


def test_a_client_that_repeats_its_payment_has_paid_once_and_can_ask_for_the_answer(
    world: World, client: Client
) -> None:
    headers = {**JSON, "Idempotency-Key": str(uuid4()), "Authorization": "Bearer mine"}
    first = post(client, "/payouts/", PAYOUT, headers)
    assert (first.status, first.all("Idempotency-Expires") != []) == (201, True)
    for body in (PAYOUT, iter([PAYOUT])):
        again = post(client, "/payouts/", body, headers)
        assert (again.status, again.all("Idempotency-State")) == (409, ["completed"])
        assert list(json.loads(again.body)) == ["Message", "Type", "Id", "Date", "errors"]
    path = f"/responses/{headers['Idempotency-Key']}/"
    shown = json.loads(get(client, path, {"Authorization": "Bearer mine"}).body)
    assert (shown["StatusCode"], shown["Resource"]) == ("201", json.loads(first.body))
    assert shown["RequestURL"] == f"http://127.0.0.1:{world.proxy.port}/payouts/"
    assert get(client, path, {"Authorization": "Bearer another"}).status == 404
    assert world.origin.payouts == 1


# -- curl and wrk, where they are -----------------------------------------------------------------------------------


def command(name: str, *arguments: str, data: bytes = b"", within: float = 20) -> str:
    """What a command prints; skip where there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed here")
    done = subprocess.run([path, *arguments], input=data, capture_output=True, timeout=within, check=True)
    return done.stdout.decode("utf-8")


def curl(world: World, path: str, *arguments: str, data: bytes = b"") -> str:
    url = f"http://127.0.0.1:{world.proxy.port}{path}"
    return command("curl", "-q", "--silent", "--show-error", "--max-time", "10", *arguments, url, data=data)


def test_curl_reads_what_the_proxy_gives(world: World, tmp_path: Path) -> None:
    jar = str(tmp_path / "cookies")
    assert "gzip" in curl(world, "/json", "--compressed", "--include", "-H", "Accept-Encoding: gzip")
    assert json.loads(curl(world, "/moved", "--location"))["Host"] == f"127.0.0.1:{world.origin.port}"
    curl(world, "/cookies", "--cookie-jar", jar)
    assert json.loads(curl(world, "/cookies", "--cookie", jar)) == {"first": "1", "second": "2"}
    assert "HTTP/1.1 200" in curl(world, "/large?size=1000000", "--head")
    versions = ["--http1.0", "--http1.1"]
    versions += ["--http2"] if "HTTP2" in command("curl", "--version") else []  # an Upgrade to h2c: it is not taken
    for version in versions:
        assert json.loads(curl(world, "/json", version))["Host"]
    format_ = ["--output", "/dev/null", "--write-out", "%{size_download} %{num_connects} "]
    url = f"http://127.0.0.1:{world.proxy.port}/large?size={MB}"
    assert curl(world, f"/large?size={MB}&chunked", *format_, *format_[:2], url) == f"{MB} 1 {MB} 0 "


def test_curl_pays_once(world: World) -> None:
    key = ["-H", f"Idempotency-Key: {uuid4()}", "-H", "Content-Type: application/json"]
    body = ["--data-binary", PAYOUT.decode()]
    status = ["--output", "/dev/null", "--write-out", "%{http_code}"]
    assert [curl(world, "/payouts/", *key, *body, *status) for _ in range(2)] == ["201", "409"]
    path = f"/responses/{key[1].split()[1]}/"
    assert json.loads(curl(world, path))["Resource"] == {"Id": "1", "Asked": json.loads(PAYOUT)}
    assert world.origin.payouts == 1


@pytest.mark.parametrize("chunked", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["length", "chunked"])
@pytest.mark.parametrize("keyed", [False, True])
def test_curl_waits_for_the_word_to_go_on(world: World, chunked: list[str], keyed: bool) -> None:
    """It asks `Expect: 100-continue` before a body of more than a megabyte, and waits a second for the word."""
    body = b"x" * 3 * MB
    arguments = ["-H", "Expect: 100-continue", "--include", "--data-binary", "@-", *chunked]
    arguments += ["-H", f"Idempotency-Key: {uuid4()}"] if keyed else []
    printed = curl(world, "/digest", *arguments, "--write-out", "\n%{time_total}", data=body)
    assert printed.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert hashlib.sha256(body).hexdigest() in printed


def test_curl_stops_its_upload_where_it_is_refused(world: World) -> None:
    """And prints the 413 of a body of 11 MB, which it was told of before it sent any of it."""
    arguments = ["-H", f"Idempotency-Key: {uuid4()}", "-H", "Expect: 100-continue", "--data-binary", "@-"]
    printed = curl(world, "/digest", *arguments, "--write-out", " %{http_code} %{size_upload}", data=b"x" * 11 * MB)
    assert re.search(r'"Type": ?"request_too_large".* 413 0$', printed)


@pytest.mark.parametrize("path", ["/json", "/large?size=100000"])
def test_wrk_finds_no_error(world: World, path: str) -> None:
    printed = command("wrk", "-t1", "-c16", "-d1s", f"http://127.0.0.1:{world.proxy.port}{path}")
    found = re.search(r"(\d+) requests in", printed)
    assert found is not None, printed
    assert int(found[1]) > 10, printed
    assert "Socket errors" not in printed, printed
    assert "Non-2xx" not in printed, printed
