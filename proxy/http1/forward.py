"""What a gateway changes in a message as it passes: hop-by-hop fields go (RFC 9110 §7.6.1), and the request says
through whom it came. Everything else stays as it is: order, case, repeats."""

from collections.abc import Collection
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple

from proxy.http1.date import date_field
from proxy.http1.fields import lookalikes, without, without_named
from proxy.http1.message import CHUNKED, RequestHead, ResponseHead, valid_host
from proxy.tokens import Tokens

HOP_BY_HOP = frozenset(b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split())
_OURS = HOP_BY_HOP | frozenset(b"host expect x-forwarded-for x-forwarded-proto x-forwarded-host".split())
"""What the proxy says itself, or (Expect) has done itself."""
_REPLACED = _OURS.union(*(lookalikes(name) for name in (*_OURS, b"content-length")))
_LENGTH = frozenset((b"content-length",))
_NEVER_DROPPED = frozenset((b"content-length", b"host", b"x-request-id"))
"""Whatever Connection says of them: without its length a message has another end, and an id that a client gave is not
replaced."""

_NO_FIELDS = HOP_BY_HOP | {b"close"}
"""What Connection mostly says, and what is not to be looked for any more."""
_KEPT_IN_ANSWERS = _NO_FIELDS | _NEVER_DROPPED | {b"date"}  # RFC 9110 §6.6.1


class Peer(NamedTuple):
    """Who is at the other end of a client's connection."""

    address: str
    trusted: bool
    """Its X-Forwarded-* are true."""
    scheme: bytes = b"http"
    """By which it came."""
    certificate: bytes = b""
    """What stands for the certificate that it has shown; empty: none."""


class Forwarding:
    """How requests are addressed to the upstream. *host*: what its Host says, None: what the client's said. *kept*:
    lower-case names of fields that a Connection field cannot remove."""

    def __init__(
        self,
        tokens: Tokens,
        host: bytes | None,
        via: str,
        trusted: Collection[IPv4Network | IPv6Network],
        kept: Collection[bytes],
    ) -> None:
        self._tokens = tokens
        self._host = host
        self._trusted = trusted
        self._via = [b"\r\nVia: 1.%d %b\r\n" % (minor, via.encode("ascii")) for minor in (0, 1)]
        self._kept = _NO_FIELDS | _NEVER_DROPPED | frozenset(kept)

    def peer(self, address: str) -> Peer:
        """The peer at *address* (empty: a unix socket)."""
        if not address:
            return Peer(address, trusted=False)
        ip = ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip  # ::ffff:192.0.2.1, on a socket for both families
        return Peer(address, any(ip in network for network in self._trusted))

    def request(self, head: RequestHead, peer: Peer, length: int, hop: bytes = b"") -> bytes:
        """The head as the upstream is sent it. *length*: bytes of the body that follows, or CHUNKED. *hop*: a block of
        fields for this hop alone."""
        block = without(head.block, _REPLACED)
        if head.connection and (named := head.connection - self._kept):
            block = without_named(block, named)
        framing = hop
        if length == CHUNKED:
            framing += b"\r\nTransfer-Encoding: chunked"
        elif head.length == CHUNKED:
            framing += b"\r\nContent-Length: %d" % length
        if b"x-request-id" not in head.found:
            framing += b"\r\nX-Request-Id: " + self._tokens.take().hex().encode("ascii")
        return b"".join(
            (
                head.method,
                b" ",
                head.target,
                b" HTTP/1.1\r\nHost: ",
                self._host or head.host,
                block,
                framing,
                self._via[head.minor],
                _forwarded_trusted(head, peer) if peer.trusted else _forwarded(peer.address, peer.scheme, head.host),
            )
        )

    def url(self, head: RequestHead, peer: Peer) -> bytes:
        """The URL as the client called it."""
        scheme, host = _called(head, peer) if peer.trusted else (peer.scheme, head.host)
        return b"%b://%b%b" % (scheme, host, head.target)


def _called(head: RequestHead, peer: Peer) -> tuple[bytes, bytes]:
    """Scheme and host that the client called, in the words of a trusted peer where it has any."""
    schemes = [scheme for scheme in head.values(b"x-forwarded-proto") if scheme.lower() in (b"http", b"https")]
    hosts = [host for host in head.values(b"x-forwarded-host") if valid_host(host)]
    return (schemes or [peer.scheme])[-1].lower(), (hosts or [head.host])[-1]


def _forwarded_trusted(head: RequestHead, peer: Peer) -> bytes:
    """What a trusted peer says is true, and added to."""
    before = head.values(b"x-forwarded-for")
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n\r\n" % (
        b", ".join([*before, peer.address.encode("ascii") or b"unknown"]),
        *_called(head, peer),
    )


@lru_cache(maxsize=256)
def _forwarded(address: str, scheme: bytes, host: bytes) -> bytes:
    """What anybody else says is replaced."""
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n\r\n" % (
        address.encode("ascii") or b"unknown",
        scheme,
        host,
    )


def end_to_end(head: ResponseHead, gives_way: bytes = b"") -> bytes:
    """The field lines of a response that are meant for the client, and Date where the upstream has no clock (RFC 9110
    §6.6.1). *gives_way*: the lower-case name of one more field that is left out."""
    block = _without_hop(head, _staying(gives_way))
    if head.status == 204:
        block = without(block, _LENGTH)  # RFC 9110 §8.6: it has no place there
    lines = block + b"\r\n"
    return lines[2:] if b"date" in head.found else lines[2:] + date_field()


def hints(head: ResponseHead) -> bytes:
    """The field lines of an informational response that are meant for the client."""
    return (_without_hop(head, HOP_BY_HOP) + b"\r\n")[2:]


def framed(head: ResponseHead, method: bytes, length: int, gives_way: bytes = b"") -> bytes:
    """The same for a response whose body is known whole, *length* bytes of it: with Content-Length, where there is a
    place for it (RFC 9110 §8.6)."""
    fields = end_to_end(head, gives_way)
    if b"content-length" in head.found or method == b"HEAD" or head.status in (204, 304):
        return fields
    return fields + b"Content-Length: %d\r\n" % length


@lru_cache(maxsize=8)
def _staying(gives_way: bytes) -> frozenset[bytes]:
    return HOP_BY_HOP | {gives_way}


def _without_hop(head: ResponseHead, names: frozenset[bytes]) -> bytes:
    block = without(head.block, names)
    if head.connection and (named := head.connection - _KEPT_IN_ANSWERS):
        block = without_named(block, named)
    return block
