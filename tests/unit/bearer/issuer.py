"""An issuer of tokens: keys that sign, tokens of any shape, and a server that gives the key set."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, NamedTuple

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import AllowedPrivateKeys, get_default_algorithms
from jwt.utils import base64url_encode

from proxy.bearer.keys import Keys
from proxy.bearer.verifier import Verdict, Verifier
from tests.support.raw import eventually

START = 1_800_000_000.0
"""The Unix time at which the stories begin."""
CLAIM = "tenant"
ALL = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


class Clock:
    """Time goes on when the test says so."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@cache
def private(kind: str, number: int = 0) -> AllowedPrivateKeys:
    """A key of that type or curve; another *number*, another key. Made once: an RSA key takes its time."""
    match kind:
        case "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "Ed448":
            return ed448.Ed448PrivateKey.generate()
        case "P-256" | "P-384" | "P-521":
            curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
            return ec.generate_private_key(curves[kind])
        case _:
            return rsa.generate_private_key(65537, int(kind.removeprefix("RSA")))


def parts(header: dict[str, Any], claims: dict[str, Any] | bytes) -> bytes:
    """What is to be signed. *claims* in bytes: as they are."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return base64url_encode(json.dumps(header).encode()) + b"." + base64url_encode(payload)


class Signer(NamedTuple):
    """A key with its name and the algorithm that its tokens are signed by."""

    kid: str | None = "one"
    algorithm: str = "ES256"
    kind: str = "P-256"
    number: int = 0

    @property
    def private(self) -> AllowedPrivateKeys:
        """The key itself."""
        return private(self.kind, self.number)

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """As it is published; a member that is changed to None is left out."""
        public = get_default_algorithms()[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        assert isinstance(public, dict)
        public.pop("key_ops", None)
        found = public | {"kid": self.kid, "use": "sig"} | changes
        return {name: value for name, value in found.items() if value is not None}

    def sign(self, signed: bytes) -> bytes:
        """The token whose first parts are *signed*."""
        return signed + b"." + base64url_encode(get_default_algorithms()[self.algorithm].sign(signed, self.private))

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> bytes:
        """A good one, for an hour; a claim or a field of the header that is changed to None is left out."""
        fields = {"typ": "JWT", "alg": self.algorithm, "kid": self.kid} | (header or {})
        content = {CLAIM: "acme", "iat": START, "exp": START + 3600} | claims
        return self.sign(
            parts(
                {name: value for name, value in fields.items() if value is not None},
                {name: value for name, value in content.items() if value is not None},
            )
        )


def key_set(*members: Signer | dict[str, Any]) -> bytes:
    """The document."""
    keys = [member.jwk() if isinstance(member, Signer) else member for member in members]
    return json.dumps({"keys": keys}).encode()


def verifier(keys: Keys, wall: Clock | None = None, **changes: Any) -> Verifier:
    """With settings that take any good token."""
    settings: dict[str, Any] = {
        "claim": CLAIM,
        "issuer": "",
        "audience": "",
        "algorithms": ALL,
        "leeway": 0.0,
        "wall": wall or Clock(),
    }
    return Verifier(keys, **settings | changes)


def verdict(by: Verifier, token: bytes) -> Verdict:
    """That of a token which needs no fetch."""
    told: list[Verdict] = []
    by.verify(token, told.append)
    assert len(told) == 1
    return told[0]


class Asked:
    """Verdicts, as they come."""

    def __init__(self, by: Verifier) -> None:
        self.told: list[Verdict] = []
        self._by = by

    def ask(self, token: bytes) -> None:
        """Do not wait for the answer."""
        self._by.verify(token, self.told.append)

    async def all(self, count: int = 1) -> list[Verdict]:
        """When there are so many."""
        await eventually(lambda: len(self.told) >= count)
        return self.told


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Issuer:
    """Gives *document*, or what *handler* does, on a port of 127.0.0.1, and counts how often it is asked."""

    def __init__(self, document: bytes = b"", context: ssl.SSLContext | None = None) -> None:
        self.document = document
        self.handler: Handler | None = None
        self.asked = 0
        self._context = context
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> "Issuer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after `stop` on the same port again."""
        app = web.Application()
        app.router.add_get("/jwks", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._context).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Connections to it are refused from now on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        """Of the key set."""
        return f"{'https' if self._context else 'http'}://localhost:{self._port}/jwks"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.handler is not None:
            return await self.handler(request)
        return web.Response(body=self.document, content_type="application/json")


def held(arrived: asyncio.Event, go: asyncio.Event, document: bytes) -> Handler:
    """Says that it was asked, and answers when it may."""

    async def handler(_: web.Request) -> web.Response:
        arrived.set()
        await go.wait()
        return web.Response(body=document)

    return handler
