"""Whose request it is."""

import base64
import binascii
import hashlib
import secrets
import time
from collections import OrderedDict

from aiohttp import web

from proxy.sandbox.input import LONGEST_TEXT, Json

KEPT = 10_000
"""How many bearers are remembered; the oldest are dropped."""


class Denied(Exception):
    """Not without other credentials."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


class Bearers:
    """The bearers that were issued, by their hashes: how long one looks for a bearer tells nothing of the others."""

    def __init__(self) -> None:
        self._issued: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def issue(self, client: str, lifetime: int) -> Json:
        """A new one, as RFC 6749 §5.1 writes it; it lives for *lifetime* seconds."""
        token = secrets.token_hex(32)
        self._issued[_hash(token)] = (client, time.monotonic() + lifetime)
        if len(self._issued) > KEPT:
            self._issued.popitem(last=False)
        return {"access_token": token, "token_type": "Bearer", "expires_in": lifetime}

    def client(self, token: str) -> str | None:
        """Whom it was issued to; None where it was not, or is too old."""
        client, until = self._issued.get(_hash(token), (None, 0.0))
        return client if time.monotonic() < until else None


def bearer(request: web.Request) -> str:
    """The token of RFC 6750 §2.1; empty where there is none."""
    return _credentials(request, "bearer")


def basic_user(request: web.Request) -> str:
    """The user of RFC 7617, who must have a password; raise Denied."""
    try:
        user, _, password = base64.b64decode(_credentials(request, "basic"), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        user = password = ""
    if not user or not password or len(user) > LONGEST_TEXT:
        raise Denied(401, "unauthorized", "A client's Id and API key are wanted, as user and password of Basic")
    return user


def static_key(request: web.Request, *, required: bool) -> str:
    """Whose bearer never changes: the hash of it. Raise Denied where it is *required* and there is none."""
    token = bearer(request)
    if required and not token:
        raise Denied(401, "unauthorized", "An API key is wanted, as a bearer")
    return _hash(token).hex()


def _credentials(request: web.Request, scheme: str) -> str:
    own, _, credentials = request.headers.get("Authorization", "").partition(" ")
    return credentials.strip() if own.lower() == scheme else ""


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
