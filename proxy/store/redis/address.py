"""Where a server is and how it is entered, as a URL says it. The URL is read by redis-py, so it means the same here."""

import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url

from proxy.store.base import StoreRefused

_FORM = (
    "redis://[user:password@]host[:port][/database], rediss:// likewise with TLS, or unix:///path?db=0;"
    " special characters in a password are percent-encoded"
)
_TLS = {
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_ca_data",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_ciphers",
    "ssl_keyfile",
    "ssl_min_version",
    "ssl_password",
}
_CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class Address(NamedTuple):
    """One server."""

    place: str
    """For people: the URL without password and parameters."""
    host: str
    port: int
    path: str | None
    """Of a Unix socket; then host and port mean nothing."""
    tls: ssl.SSLContext | None
    username: str | None
    password: str | None
    database: int


def parse(url: str) -> Address:
    """Read *url*, and the certificates that it names; raise StoreRefused. No message carries any part of a password:
    one that is not percent-encoded can land anywhere in a misread URL."""
    try:
        options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
        split = urlsplit(url)
        host, port = options.get("host", "localhost"), options.get("port", 6379)
    except ValueError:
        raise StoreRefused(f"the store's URL cannot be read; it must be {_FORM}") from None
    kind = options.get("connection_class")
    path = options.get("path") if kind is UnixDomainSocketConnection else None
    if path is None and split.path.strip("/") and not split.path.strip("/").isdecimal():
        raise StoreRefused(f"what follows the host in the store's URL must be a database number; it must be {_FORM}")
    known = {"db"} | (_TLS if kind is SSLConnection else set())
    if split.fragment or not known.issuperset(parse_qs(split.query, keep_blank_values=True)):
        raise StoreRefused(f"the store's URL may have these parameters and no others: {', '.join(sorted(known))}")
    return Address(
        place=f"unix://{path}" if path else _place(split.scheme, host, port, options),
        host=host,
        port=port,
        path=path,
        tls=_tls(options) if kind is SSLConnection else None,
        username=options.get("username"),
        password=options.get("password"),
        database=options.get("db", 0),
    )


def _place(scheme: str, host: str, port: int, options: Mapping[str, Any]) -> str:
    user = options.get("username", "")
    entry = f"{user}:***@" if "password" in options else f"{user}@" if user else ""
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{entry}{host}:{port}/{options.get('db', 0)}"


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    """The context that redis-py would make of the same parameters."""
    try:
        context = ssl.create_default_context(
            cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path"), cadata=options.get("ssl_ca_data")
        )
        verify = _CERT_REQS[options.get("ssl_cert_reqs", "required")]
        context.check_hostname = verify is not ssl.CERT_NONE and options.get("ssl_check_hostname", True)
        context.verify_mode = verify
        if "ssl_certfile" in options:
            context.load_cert_chain(
                options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password", _no_password)
            )
        if "ssl_min_version" in options:
            context.minimum_version = ssl.TLSVersion(options["ssl_min_version"])
        if "ssl_ciphers" in options:
            context.set_ciphers(options["ssl_ciphers"])
    except KeyError:
        raise StoreRefused("ssl_cert_reqs in the store's URL must be none, optional or required") from None
    except (OSError, ValueError) as error:
        raise StoreRefused(f"the TLS parameters of the store's URL: {error}") from None
    return context


def _no_password() -> str:
    """Instead of OpenSSL's prompt on the terminal, which would wait for ever."""
    return ""
