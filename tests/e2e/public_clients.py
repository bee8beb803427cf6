"""The clients that people use, each behind one small face; and an origin that has all that they can do."""

import asyncio
import gzip
import hashlib
import http.client
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from io import BytesIO
from typing import NamedTuple, Protocol, Self

import aiohttp
import httpx
import requests
from aiohttp import web

TIMEOUT = 10.0
"""Seconds for whatever a client waits for."""
Body = bytes | Iterable[bytes] | None
"""What is iterable is uploaded in chunks."""


class Answer(NamedTuple):
    """As the client shows it: decoded. *url*: the one that answered, behind all redirects."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    url: str

    def all(self, name: str) -> list[str]:
        """The values of every field of that name."""
        return [value for own, value in self.fields if own.lower() == name.lower()]


class Client(Protocol):
    """A session: it keeps its connections and, but for `http.client`, its cookies."""

    def __init__(self, host: str, port: int) -> None: ...

    def call(self, method: str, path: str, headers: Mapping[str, str], body: Body, *, follow: bool) -> Answer:
        """One request."""

    def stream(self, path: str) -> Iterator[bytes]:
        """The pieces of an answer, as they come."""

    def close(self) -> None:
        """All its connections."""


class Stdlib:
    """`http.client`: it neither follows, nor decodes, nor keeps a cookie."""

    def __init__(self, host: str, port: int) -> None:
        self._base = f"http://{host}:{port}"
        self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)

    def call(self, method: str, path: str, headers: Mapping[str, str], body: Body, *, follow: bool) -> Answer:
        self._connection.request(method, path, body, headers, encode_chunked=not isinstance(body, bytes | None))
        response = self._connection.getresponse()
        content = response.read()
        match response.headers["Content-Encoding"]:
            case "gzip":
                content = gzip.decompress(content)
            case "deflate":
                content = zlib.decompress(content)
        location = response.headers["Location"]
        if follow and location is not None:
            at = httpx.URL(self._base).join(location)
            other = Stdlib(at.host, at.port or 80)
            try:
                return other.call("GET", at.raw_path.decode(), {}, None, follow=False)
            finally:
                other.close()
        return Answer(response.status, response.headers.items(), content, self._base + path)

    def stream(self, path: str) -> Iterator[bytes]:
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        while piece := response.read1():
            yield piece

    def close(self) -> None:
        self._connection.close()


class Requests:
    """`requests`, and urllib3 under it."""

    def __init__(self, host: str, port: int) -> None:
        self._base = f"http://{host}:{port}"
        self._session = requests.Session()
        self._session.trust_env = False

    def call(self, method: str, path: str, headers: Mapping[str, str], body: Body, *, follow: bool) -> Answer:
        response = self._session.request(
            method, self._base + path, headers=dict(headers), data=body, timeout=TIMEOUT, allow_redirects=follow
        )
        fields = list(response.raw.headers.items())
        return Answer(response.status_code, fields, response.content, response.url)

    def stream(self, path: str) -> Iterator[bytes]:
        with self._session.get(self._base + path, stream=True, timeout=TIMEOUT) as response:
            yield from response.iter_content(None)

    def close(self) -> None:
        self._session.close()


class Httpx:
    """`httpx`, and h11 under it."""

    def __init__(self, host: str, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://{host}:{port}", timeout=TIMEOUT, trust_env=False)

    def call(self, method: str, path: str, headers: Mapping[str, str], body: Body, *, follow: bool) -> Answer:
        response = self._client.request(method, path, headers=headers, content=body, follow_redirects=follow)
        return Answer(response.status_code, response.headers.multi_items(), response.content, str(response.url))

    def stream(self, path: str) -> Iterator[bytes]:
        with self._client.stream("GET", path) as response:
            yield from response.iter_bytes()

    def close(self) -> None:
        self._client.close()


class Aiohttp:
    """`aiohttp`, on a loop of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._base = f"http://{host}:{port}"
        self._runner = asyncio.Runner()
        self._session = self._runner.run(self._open())

    async def _open(self) -> aiohttp.ClientSession:
        jar = aiohttp.CookieJar(unsafe=True)  # unsafe: cookies of an IP address
        return aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(TIMEOUT))

    def call(self, method: str, path: str, headers: Mapping[str, str], body: Body, *, follow: bool) -> Answer:
        return self._runner.run(self._call(method, path, headers, body, follow=follow))

    async def _call(self, method: str, path: str, headers: Mapping[str, str], body: Body, *, follow: bool) -> Answer:
        data = BytesIO(body or b"") if isinstance(body, bytes | None) else _in_threads(body)
        async with self._session.request(
            method, self._base + path, headers=headers, data=data, allow_redirects=follow
        ) as response:
            return Answer(response.status, list(response.headers.items()), await response.read(), str(response.url))

    def stream(self, path: str) -> Iterator[bytes]:
        response = self._runner.run(self._begun(path))
        while piece := self._runner.run(response.content.readany()):
            yield piece
        response.close()

    async def _begun(self, path: str) -> aiohttp.ClientResponse:
        return await self._session.get(self._base + path)

    def close(self) -> None:
        self._runner.run(self._session.close())
        self._runner.close()


async def _in_threads(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Each piece may take its time."""
    iterator = iter(pieces)
    while (piece := await asyncio.to_thread(next, iterator, None)) is not None:
        yield piece


class Origin:
    """An API that uses what HTTP has. `go`: set by the test for whatever streams."""

    def __init__(self) -> None:
        self.port = 0
        self.payouts = 0
        self.received = 0
        self.go = asyncio.Event()
        app = web.Application(client_max_size=2**30)
        app.add_routes(
            [
                web.get("/json", self.json),
                web.get("/moved", self.moved),
                web.get("/moved/{host}", self.moved),
                web.get("/cookies", self.cookies),
                web.get("/empty", self.empty),
                web.get("/tagged", self.tagged),
                web.get("/large", self.large),
                web.get("/events", self.events),
                web.post("/digest", self.digest),
                web.post("/payouts/", self.payout),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def json(self, request: web.Request) -> web.Response:
        """Compressed, where the client can read it."""
        response = web.json_response({"Host": request.host, "Filler": "x" * 5000})
        response.enable_compression()
        return response

    async def moved(self, request: web.Request) -> web.Response:
        """To a path; or to a URL, of the host that it was called by."""
        base = f"http://{request.host}" if "host" in request.match_info else ""
        return web.Response(status=302, headers={"Location": f"{base}/json"})

    async def cookies(self, request: web.Request) -> web.Response:
        """What it was sent; and two more to keep."""
        response = web.json_response(dict(request.cookies))
        response.set_cookie("first", "1", path="/")
        response.set_cookie("second", "2", path="/", httponly=True)
        return response

    async def empty(self, _request: web.Request) -> web.Response:
        """No content."""
        return web.Response(status=204)

    async def tagged(self, request: web.Request) -> web.Response:
        """Not again to who has it."""
        known = request.headers.get("If-None-Match") == '"v1"'
        return web.Response(status=304 if known else 200, body=None if known else b"paid", headers={"ETag": '"v1"'})

    async def large(self, request: web.Request) -> web.StreamResponse:
        """So many bytes, with their length or in chunks."""
        size, piece = int(request.query["size"]), bytes(range(256)) * 256
        response = web.StreamResponse()
        if "chunked" not in request.query:
            response.content_length = size
        await response.prepare(request)
        for done in range(0, 0 if request.method == "HEAD" else size, len(piece)):
            await response.write(piece[: size - done])
        return response

    async def events(self, request: web.Request) -> web.StreamResponse:
        """One event; another when it may."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await self.go.wait()
        await response.write(b"data: second\n\n")
        return response

    async def digest(self, request: web.Request) -> web.Response:
        """What came, and how."""
        seen, self.received = hashlib.sha256(), 0
        async for piece in request.content.iter_any():
            seen.update(piece)
            self.received += len(piece)
        framing = request.headers.get("Transfer-Encoding") or request.headers.get("Content-Length")
        return web.json_response({"sha256": seen.hexdigest(), "size": self.received, "framing": framing})

    async def payout(self, request: web.Request) -> web.Response:
        """Pays, each time that it is asked."""
        self.payouts += 1
        return web.json_response({"Id": str(self.payouts), "Asked": await request.json()}, status=201)
