"""Where keys come from: what is slow, too large, elsewhere, or not to be trusted gives none, and is told."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from proxy.bearer import keys as module
from proxy.bearer.jwks import Failed
from proxy.bearer.keys import Keys
from proxy.bearer.source import DOCUMENT_LIMIT, source
from proxy.tls import Pem
from tests.support.tls import Authority
from tests.unit.bearer.conftest import Opened
from tests.unit.bearer.issuer import Issuer, Signer, key_set


def padded(size: int) -> bytes:
    return key_set(Signer()).ljust(size)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda: web.Response(status=500, body=key_set(Signer())), "answers 500"),
        (lambda: web.Response(status=404), "answers 404"),
        (lambda: web.Response(status=204), "answers 204"),
        (lambda: web.Response(status=301, headers={"Location": "/jwks"}), "answers 301"),
        (lambda: web.Response(status=302, headers={"Location": "http://127.0.0.2/jwks"}), "answers 302"),
        (lambda: web.Response(body=b""), "is no JSON"),
        (lambda: web.Response(body=b"<html>"), "is no JSON"),
        (lambda: web.Response(body=b'{"keys": []}'), "has no keys"),
        (lambda: web.Response(body=padded(DOCUMENT_LIMIT + 1)), f"is larger than {DOCUMENT_LIMIT} bytes"),
    ],
)
async def test_an_answer_that_is_no_key_set_is_told(
    opened: Opened, issuer: Issuer, answer: Callable[[], web.Response], why: str
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return answer()

    issuer.handler = handler
    keys = await opened()
    assert keys.trouble == f"the key set {issuer.url} {why}"
    assert issuer.asked == 1


async def test_a_set_of_just_the_limit_is_taken(opened: Opened, issuer: Issuer) -> None:
    issuer.document = padded(DOCUMENT_LIMIT)
    assert (await opened()).trouble is None


async def test_a_set_without_an_end_is_not_read_to_it(opened: Opened, issuer: Issuer) -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 64 * DOCUMENT_LIMIT:
            await response.write(b" " * 65536)
            sent += 65536
        return response

    issuer.handler = handler
    keys = await opened()
    assert keys.trouble == f"the key set {issuer.url} is larger than {DOCUMENT_LIMIT} bytes"
    assert sent < 64 * DOCUMENT_LIMIT


async def test_a_compressed_set_was_not_asked_for(opened: Opened, issuer: Issuer) -> None:
    """A megabyte of nothing is a kilobyte then."""

    async def handler(_: web.Request) -> web.Response:
        response = web.Response(body=padded(10_000))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    issuer.handler = handler
    assert (await opened()).trouble == f"the key set {issuer.url} is no JSON"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n"
SLOW = {
    "accepts": (b"", b""),
    "half a head": (HEAD, b""),
    "a head that goes on": (HEAD + b"X: ", b"x"),
    "half a body": (HEAD + b"\r\n{", b""),
    "a body that goes on": (HEAD + b"\r\n{", b" "),
}


@pytest.mark.parametrize(("begin", "drip"), SLOW.values(), ids=SLOW)
async def test_an_issuer_that_does_not_come_to_an_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, begin: bytes, drip: bytes
) -> None:
    """A byte now and then must not hold the fetch, nor the end of the process."""
    monkeypatch.setattr(module, "FETCH_DEADLINE", 0.3)
    async with _listening(begin, drip) as port:
        keys = Keys(f"http://127.0.0.1:{port}/jwks")
        started = time.monotonic()
        await keys.open()
        assert 0.3 <= time.monotonic() - started < 2
        assert keys.trouble == f"the key set http://127.0.0.1:{port}/jwks has not answered within 0.3 s"
        await keys.close()


async def test_closing_does_not_wait_for_a_fetch(issuer: Issuer) -> None:
    """The deadline is five seconds; a stop has no time for that."""
    keys = Keys(issuer.url, refresh=0.01)
    await keys.open()
    arrived = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    issuer.handler = handler
    await arrived.wait()
    async with asyncio.timeout(1):
        await keys.close()


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{", b""])
async def test_what_is_no_http_is_told(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        fetched = await source(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", None).fetch()
    assert isinstance(fetched, Failed)
    assert fetched.why.startswith("cannot be fetched: ")


async def test_an_issuer_is_trusted_by_its_certificate(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    context = authority.server(authority.issue("issuer"))
    async with Issuer(key_set(Signer()), context) as issuer:

        async def trouble(place: str, ca: Pem | None) -> str | None:
            keys = Keys(place, ca=ca)
            await keys.reload()
            return keys.trouble

        ours = Pem("scope.ca", authority.path)
        assert await trouble(issuer.url, ours) is None
        for ca in (None, Pem("scope.ca", stranger.path)):
            told = await trouble(issuer.url, ca)
            assert told is not None
            assert "CERTIFICATE_VERIFY_FAILED" in told
        other_name = await trouble(issuer.url.replace("localhost", "127.0.0.1"), ours)
        assert other_name is not None
        assert "127.0.0.1" in other_name
        assert "mismatch" in other_name
        missing = await trouble(issuer.url, Pem("scope.ca", str(tmp_path / "nowhere.pem")))
        assert missing is not None
        assert missing.endswith("nowhere.pem': cannot be read: No such file or directory")
        assert issuer.asked == 1


async def test_a_password_in_the_url_is_used_and_never_told(
    issuer: Issuer, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=403)

    issuer.handler = handler
    place = issuer.url.replace("localhost", "user:s3cret@localhost") + "?token=s3cret"
    keys = await opened(place)
    assert seen == ["Basic dXNlcjpzM2NyZXQ="]
    assert keys.trouble == f"the key set {issuer.url} answers 403"
    await issuer.stop()
    await keys.reload()
    assert keys.trouble.startswith(f"the key set {issuer.url} cannot be reached")
    assert "s3cret" not in keys.trouble + caplog.text


async def test_a_file_that_is_none_or_too_large_is_told(tmp_path: Path) -> None:
    path, pipe = tmp_path / "jwks.json", tmp_path / "pipe"
    os.mkfifo(pipe)
    path.write_bytes(padded(DOCUMENT_LIMIT))
    assert await source(str(path), None).fetch() == path.read_bytes()
    path.write_bytes(padded(DOCUMENT_LIMIT + 1))
    assert await source(str(path), None).fetch() == Failed(f"is larger than {DOCUMENT_LIMIT} bytes")
    for none in (pipe, tmp_path):
        assert await source(str(none), None).fetch() == Failed("is no file")


@pytest.mark.parametrize(
    "place", ["ftp://localhost/jwks", "file:///etc/passwd", "http://", "https:///jwks", "http://localhost:99999/"]
)
def test_another_place_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match=r"path|[Pp]ort"):
        Keys(place)


@asynccontextmanager
async def _listening(begin: bytes, drip: bytes) -> AsyncIterator[int]:
    """Accepts, sends *begin*, and then *drip* every 50 ms, until the client is gone."""
    served: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(begin)
        while not reader.at_eof():
            writer.write(drip)
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.05)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*(task for task in served if task))
    assert served
