"""Where a key set comes from, as bytes: a file, or a URL. What goes wrong is told without anything secret."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from proxy.bearer.jwks import Failed
from proxy.tls import BadFile, Pem, client_context

if TYPE_CHECKING:
    import aiohttp

DOCUMENT_LIMIT = 256 * 1024
"""Bytes of a key set."""
_TOO_LARGE = f"is larger than {DOCUMENT_LIMIT} bytes"
_FIELDS = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}


class File(NamedTuple):
    """A file on this machine."""

    path: Path

    @property
    def name(self) -> str:
        """For people."""
        return str(self.path)

    async def fetch(self) -> bytes | Failed:
        """All of it."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> bytes | Failed:
        if self.path.exists() and not self.path.is_file():  # a pipe would hold the thread for ever
            return Failed("is no file")
        try:
            with self.path.open("rb") as file:
                document = file.read(DOCUMENT_LIMIT + 1)
        except OSError as error:
            return Failed(f"cannot be read: {error.strerror}")
        return Failed(_TOO_LARGE) if len(document) > DOCUMENT_LIMIT else document


class Url(NamedTuple):
    """What a server answers to a GET; its certificate is verified by *ca*, or by the system's authorities.

    By aiohttp, since a fetch must end at its deadline wherever it hangs: a blocking client, which counts the time
    between two bytes, can be held on to for days, and the process at its end with it."""

    url: str
    ca: Pem | None

    @property
    def name(self) -> str:
        """For people: without user, password and query, which may be secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    async def fetch(self) -> bytes | Failed:
        """The body of a 200. Redirects are not followed: whoever can give one would choose the keys."""
        import aiohttp  # noqa: PLC0415  # a tenth of a second at each start of a command, and few ever fetch

        try:
            context = await asyncio.to_thread(client_context, self.ca, None, None)  # anew: the file may have changed
            async with (
                aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.get(self.url, ssl=context, allow_redirects=False, headers=_FIELDS) as response,
            ):
                if response.status != 200:
                    return Failed(f"answers {response.status}")
                return await _whole(response.content)
        except BadFile as error:
            return Failed(f"cannot be asked: {error}")
        except aiohttp.ClientConnectorError as error:
            return Failed(f"cannot be reached: {error.os_error}")
        except (aiohttp.ClientError, OSError) as error:
            return Failed(f"cannot be fetched: {type(error).__name__}")


async def _whole(content: "aiohttp.StreamReader") -> bytes | Failed:
    try:
        await content.readexactly(DOCUMENT_LIMIT + 1)
    except asyncio.IncompleteReadError as all_there_is:
        return all_there_is.partial
    return Failed(_TOO_LARGE)


def source(place: str, ca: Pem | None) -> File | Url:
    """A path, or an http(s) URL; raise ValueError for any other URL."""
    scheme, separator, _ = place.partition("://")
    if not separator:
        return File(Path(place))
    parts = urlsplit(place)
    if scheme.lower() not in ("http", "https") or not parts.hostname or parts.port == 0:  # which raises, too
        raise ValueError("a key set comes from a path, or from an http(s) URL")
    return Url(place, ca)
