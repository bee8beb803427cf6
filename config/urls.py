"""Where to listen, what to front, where to keep: addresses and URLs."""

import re
from ipaddress import IPv6Address, ip_address
from typing import Annotated, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, PlainValidator

from config.values import file

_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_HOST = re.compile(_NAME)
_HOST_FIELD = re.compile(rf"(?:{_NAME}|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")
_ADDRESS = re.compile(rf"(?:\[([^\[\]]+)\]|({_NAME})):([0-9]{{1,5}})")
_LAST_PORT = 65535
_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNIX = "unix:"
_SEVERAL = re.compile(r"rediss?\+(?:sentinel|cluster)://")
_SENTINEL_ENTRY = ("sentinel_username=", "sentinel_password=")
_HOSTS = re.compile(r"(?:(?:[^:,\[\]]+|\[[^\[\]]*\])(?::[0-9]*)?(?:,(?!$)|$))+")
_LONGEST_PATH = 107  # bytes: sun_path of unix(7), and its NUL


class Address(NamedTuple):
    """Where to listen. Port 0 is any free port. *path*: of a unix socket, in the place of host and port."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}" if self.path else f"{_bracketed(self.host)}:{self.port}"


class Origin(NamedTuple):
    """Scheme, host and port of a server (RFC 9110 §4.3.1). *path*: of the unix socket by which it is reached."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def authority(self) -> str:
        """The value of its Host field: a port that is the scheme's own is left out."""
        host = _bracketed(self.host)
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}" if self.path else f"{self.scheme}://{self.authority}"


def address(value: object) -> Address:
    """The Address of `HOST:PORT` or `[IPv6]:PORT`; raise ValueError."""
    if isinstance(value, Address):
        return value
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[3]) > _LAST_PORT or (found[1] is not None and not _is_ipv6(found[1])):
        raise ValueError("must be HOST:PORT, as 127.0.0.1:8080, 0.0.0.0:8080 (every interface) or [::1]:8080")
    return Address(found[1] or found[2], int(found[3]))


def listen_address(value: object) -> Address:
    """The same, or that of a unix socket, `unix:PATH`; raise ValueError."""
    path = _socket_path(value)
    return address(value) if path is None else Address("", 0, path)


def origin(value: object) -> Origin:
    """The Origin of an http or https URL, or of `unix:PATH`: plain HTTP, to `localhost`; raise ValueError."""
    if isinstance(value, Origin):
        return value
    path = _socket_path(value)
    if path is not None:
        return Origin("http", "localhost", _DEFAULT_PORTS["http"], path)
    url = _split(value)
    if url.scheme not in _DEFAULT_PORTS:
        raise ValueError("must be a URL that begins with http:// or https://, or unix:PATH")
    if url.username is not None:
        raise ValueError("must not carry a user or a password: the clients' requests carry their own")
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError("must end after host and port: paths are forwarded as they come")
    host, port = _host_and_port(url)
    return Origin(url.scheme, host, port or _DEFAULT_PORTS[url.scheme])


def store_url(value: object) -> str:
    """A URL that names a store; raise ValueError."""
    if isinstance(value, str) and _SEVERAL.match(value):
        _check_several(value)
        return value
    url = _split(value)
    match url.scheme:
        case "memory":
            if value != "memory://":
                raise ValueError("must be memory:// and nothing more")
        case "sqlite":
            _check_sqlite(url)
        case "redis" | "rediss":
            _check_redis(url)
        case _:
            raise ValueError(
                "must be sqlite:relative.db, sqlite:///absolute/path, redis://HOST:PORT/DB,"
                " redis+sentinel://HOST:PORT,HOST:PORT/SERVICE, redis+cluster://HOST:PORT,HOST:PORT (rediss… with TLS)"
                " or memory://"
            )
    return str(value)


def jwks_location(value: str) -> str:
    """Where public keys are: the path of a file, an https URL, or an http URL on this machine; empty: nowhere; raise
    ValueError. Who can change keys on their way can sign as anybody."""
    if "://" not in value:
        return file(value)
    url = _split(value)
    host, _ = _host_and_port(url) if url.scheme in _DEFAULT_PORTS else ("", None)
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(host)):
        raise ValueError("must be the path of a file, or begin with https:// (http:// only to this machine's loopback)")
    if url.username is not None or url.fragment:
        raise ValueError("must be without a user, a password and #: public keys are for everyone")
    return value


def masked(url: str) -> str:
    """*url* without all that may be a password: what stands before an @, a port that is no number (the host was
    forgotten: redis://:secret), and the query."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    _userinfo, at, place = rest.rpartition("@")
    place, question, _query = place.partition("?")
    if separator:
        authority, slash, path = place.partition("/")
        if _HOSTS.fullmatch(authority) is None:
            authority = re.sub(r":(?![0-9]*$)[^\]]*$", ":***", authority)
        place = authority + slash + path
    return scheme + separator + ("***@" if at else "") + place + ("?***" if question else "")


def server_name(value: str) -> str:
    """A name that a certificate can be for, a host's or an address; empty: none; raise ValueError."""
    if value and _HOST.fullmatch(value) is None and not _is_ipv6(value):
        raise ValueError("must be the name of a host, without port, as api.example.com")
    return value


def upstream_host(value: str) -> str:
    """`upstream`, `preserve` or the value of a Host field (RFC 9110 §7.2); raise ValueError."""
    if _HOST_FIELD.fullmatch(value) is None:
        raise ValueError("must be upstream, preserve or a host, as api.example.com or api.example.com:8443")
    return value


def _check_sqlite(url: SplitResult) -> None:
    if url.netloc or url.query or url.fragment:
        raise ValueError("must be sqlite:relative.db (no slash) or sqlite:///absolute/path (three), without ? and #")
    if not url.path or url.path.endswith("/"):
        raise ValueError("must name a file: sqlite:relative.db or sqlite:///absolute/path")
    if url.path == ":memory:":
        raise ValueError("must name a file; the store in memory is memory://")


def _check_redis(url: SplitResult) -> None:
    _host_and_port(url)
    parameters = [name for name, _ in parse_qsl(url.query, keep_blank_values=True)]
    tls_only = url.scheme == "rediss" and all(name.startswith("ssl_") for name in parameters)
    if url.fragment or (url.query and not tls_only):
        raise ValueError(
            "must be redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], with special characters of a password percent-encoded;"
            " only rediss:// takes parameters, and only ssl_…"
        )
    if re.fullmatch(r"(?:/[0-9]{0,4})?", url.path) is None:
        raise ValueError("must end with the number of a database, as redis://HOST:6379/0, or without one")


def _check_several(value: str) -> None:
    """Sentinels, or nodes of a cluster: as for one server, each of them, but for what the path means."""
    scheme, _, rest = value.partition("://")
    base, _, kind = scheme.partition("+")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    entry, at, hosts = authority.rpartition("@")
    path, question, query = rest.removeprefix(authority).partition("?")
    if kind == "sentinel":
        service, _, database = path.removeprefix("/").partition("/")
        if not service or re.search("[#@]", service):
            raise ValueError(
                f"must name the service that the sentinels watch, as {scheme}://HOST:PORT,HOST:PORT/SERVICE"
            )
        path = f"/{database}"
        query = "&".join(each for each in query.split("&") if not each.startswith(_SENTINEL_ENTRY))
        question = "?" if query else ""
    elif path not in ("", "/", "/0"):
        raise ValueError(f"must end behind the hosts, as {scheme}://HOST:PORT,HOST:PORT: a cluster has no databases")
    for host in hosts.split(","):
        _check_redis(_split(f"{base}://{entry}{at}{host}{path}{question}{query}"))


def _socket_path(value: object) -> str | None:
    """The PATH of `unix:PATH`; None where it is something else; raise ValueError."""
    if not isinstance(value, str) or not value.startswith(_UNIX):
        return None
    path = value.removeprefix(_UNIX)
    if not path or path.startswith("//") or not path.isprintable():
        raise ValueError("must be unix:/absolute/path (one slash) or unix:relative/path")
    if len(path.encode()) > _LONGEST_PATH:
        raise ValueError(f"must have a path of at most {_LONGEST_PATH} bytes: a socket's name has room for no more")
    return path


def _split(value: object) -> SplitResult:
    """The parts of a URL. Python's reader would drop tabs and line ends."""
    if not isinstance(value, str) or re.search(r"[\x00-\x20\x7f]", value):
        raise ValueError("must be a URL, without blanks")
    try:
        return urlsplit(value)
    except ValueError:
        raise ValueError("must be a URL; an IPv6 address stands in brackets, as http://[::1]:8080") from None


def _host_and_port(url: SplitResult) -> tuple[str, int | None]:
    try:
        port = url.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"must have a number from 1 to {_LAST_PORT} as its port")
    host = url.hostname or ""
    if _HOST.fullmatch(host) is None and not _is_ipv6(host):
        raise ValueError(f"must name a host, as {url.scheme}://HOST:PORT")
    return host, port


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


TcpAddress = Annotated[Address, PlainValidator(address), PlainSerializer(str)]
ListenAddress = Annotated[Address, PlainValidator(listen_address), PlainSerializer(str)]
UpstreamUrl = Annotated[Origin, PlainValidator(origin), PlainSerializer(str)]
UpstreamHost = Annotated[str, AfterValidator(upstream_host)]
ServerName = Annotated[str, AfterValidator(server_name)]
StoreUrl = Annotated[str, BeforeValidator(store_url)]
JwksLocation = Annotated[str, AfterValidator(jwks_location)]
