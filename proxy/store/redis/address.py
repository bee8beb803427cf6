"""Where the servers are and how they are entered, as a URL says it. The URL of one server is read by redis-py, so it
means the same here; those of Sentinel and Cluster are cut into one such URL a host."""

import re
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url

from proxy.store.base import StoreRefused

_FORM = (
    "redis://[user:password@]host[:port][/database], rediss:// likewise with TLS, unix:///path?db=0,"
    " redis+sentinel://[user:password@]host[:port],…/service[/database] or redis+cluster://[user:password@]host[:port],…;"
    " special characters in a password are percent-encoded"
)
_SEVERAL = re.compile(r"(rediss?)\+(sentinel|cluster)://(?:([^/?#]*)@)?([^/?#@]*)([^?#]*)(?:\?([^#]*))?")
"""Scheme, kind, entry, hosts, path, query."""
_PORTS = {"sentinel": 26379, "cluster": 6379}
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

    def at(self, host: str, port: int) -> "Address":
        """Another server that is entered in the same way."""
        scheme = "rediss" if self.tls else "redis"
        place = f"{scheme}://{self.entry}{_shown(host, port)}/{self.database}"
        return self._replace(place=place, host=host, port=port, path=None)

    @property
    def entry(self) -> str:
        """What people are shown of user and password."""
        return _entry(self.username or "", known=self.password is not None)


class Sentinels(NamedTuple):
    """Servers that know which server is the primary."""

    place: str
    """For people: the URL without passwords and parameters."""
    service: str
    """The name by which they know it."""
    sentinels: tuple[Address, ...]
    primary: Address
    """How the primary is entered; where it is, they know."""


class Seeds(NamedTuple):
    """Some servers of a cluster, which know all others."""

    place: str
    """For people: the URL without password and parameters."""
    nodes: tuple[Address, ...]


def read(url: str) -> Address | Sentinels | Seeds:
    """Read *url* of whichever kind, as `parse` does; raise StoreRefused.

    User and password are those of the servers that keep the records. Sentinels have their own, or none: the parameters
    `sentinel_username` and `sentinel_password`. So no server is told a password that is not its own.
    """
    if not url.partition("://")[0].endswith(("+sentinel", "+cluster")):
        return parse(url)
    found = _SEVERAL.fullmatch(url)
    if found is None or "" in found[4].split(","):
        raise StoreRefused(f"the store's URL cannot be read; it must be {_FORM}")
    base, kind, entry, hosts, path, query = (part or "" for part in found.groups())
    entry += "@" if entry else ""
    addresses = [host if ":" in host.rpartition("]")[2] else f"{host}:{_PORTS[kind]}" for host in hosts.split(",")]
    if kind == "sentinel":
        return _sentinels(base, entry, addresses, path, query)
    if path not in ("", "/", "/0"):
        raise StoreRefused(f"a cluster has no database but 0; the store's URL must be {_FORM}")
    nodes = tuple(parse(f"{base}://{entry}{address}?{query}") for address in addresses)
    return Seeds(_place_of(f"{base}+cluster", nodes[0].entry, nodes), nodes)


def _sentinels(base: str, entry: str, addresses: list[str], path: str, query: str) -> Sentinels:
    service, _, database = path.removeprefix("/").partition("/")
    if not service or "@" in service:  # a password that is not percent-encoded
        raise StoreRefused(f"the store's URL must name the service that the sentinels watch; it must be {_FORM}")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    username, password = parameters.pop("sentinel_username", None), parameters.pop("sentinel_password", None)
    query = urlencode(parameters)
    primary = parse(f"{base}://{entry}localhost/{database}?{query}")
    sentinels = tuple(
        parse(f"{base}://{address}?{query}")._replace(username=username, password=password) for address in addresses
    )
    place = _place_of(f"{base}+sentinel", primary.entry, sentinels)
    return Sentinels(f"{place}/{service}/{primary.database}", unquote(service), sentinels, primary)


def _place_of(scheme: str, entry: str, addresses: tuple[Address, ...]) -> str:
    return f"{scheme}://{entry}{','.join(_shown(address.host, address.port) for address in addresses)}"


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
    entry = _entry(options.get("username", ""), known="password" in options)
    return f"{scheme}://{entry}{_shown(host, port)}/{options.get('db', 0)}"


def _entry(user: str, *, known: bool) -> str:
    return f"{user}:***@" if known else f"{user}@" if user else ""


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
