"""Certificates for tests, and an origin and a client that use them."""

import asyncio
import socket
import ssl
import warnings
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import trustme

from tests.support.origin import Behaviour, Origin
from tests.support.proxy import Connection
from tests.support.raw import Reply


class Pair(NamedTuple):
    """The files of a certificate and its key."""

    certificate: str
    key: str


class Authority:
    """Issues certificates; its files lie in *directory*, and begin with *name*."""

    def __init__(self, directory: Path, name: str) -> None:
        self.ca = trustme.CA()
        self.path = str(directory / f"{name}.pem")
        self.ca.cert_pem.write_to_path(self.path)
        self._directory = directory
        self._name = name

    def issue(self, name: str, host: str = "localhost", expires: datetime | None = None) -> Pair:
        """A certificate for *host*, in files whose names end with *name*; written over those that there are."""
        issued = self.ca.issue_cert(host, not_after=expires)
        pair = Pair(*(str(self._directory / f"{self._name}-{name}.{kind}.pem") for kind in ("certificate", "key")))
        Path(pair.certificate).write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(pair.key)
        return pair

    def give_way(self, other: "Authority") -> None:
        """From now on this one's file has the certificate of *other*."""
        Path(self.path).write_bytes(Path(other.path).read_bytes())

    def server(self, pair: Pair) -> ssl.SSLContext:
        """For an origin that shows *pair*."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        return context

    def client(self, pair: Pair | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """For a client that trusts this authority, shows *pair*, and speaks nothing but *version*."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.path)
        if pair is not None:
            context.load_cert_chain(*pair)
        if version is not None:
            speak(context, version)
        return context


def speak(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    """Nothing but *version*."""
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # OpenSSL speaks no TLS 1.1 otherwise
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # nor does Python like it
        context.minimum_version = context.maximum_version = version


class TlsOrigin(Origin):
    """The same, behind TLS."""

    def __init__(self, context: ssl.SSLContext, behaviour: Behaviour | None = None) -> None:
        super().__init__(behaviour)
        self._context = context

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()

        def peer() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), self._accept, loop=loop)

        self._server = await loop.create_server(peer, "127.0.0.1", self.port, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]


async def call(port: int, data: bytes, context: ssl.SSLContext) -> Reply:
    """Send one request over a TLS connection of its own; return its response."""
    async with Connection(port, tls=context) as connection:
        connection.send(data)
        return await connection.reply()


async def blocking(
    port: int, data: bytes, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[bytes, ssl.SSLSession | None, bool]:
    """Send *data* by the means of Python's ssl alone, which can resume a *session*; return what one read brings, the
    session, and whether it was resumed. Raise OSError where the connection ends without an answer."""

    def ask() -> tuple[bytes, ssl.SSLSession | None, bool]:
        sock = socket.create_connection(("127.0.0.1", port), timeout=5)
        with context.wrap_socket(sock, server_hostname="localhost", session=session) as client:
            client.sendall(data)
            answer = client.recv(65536)
            if not answer:
                raise ConnectionResetError
            return answer, client.session, bool(client.session_reused)

    return await asyncio.to_thread(ask)
