"""What else a setting may be: each type says what would be right to who wrote something else."""

import base64
import binascii
import json
import re
import warnings
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, SecretStr

T = TypeVar("T")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNGUARDABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"})
GUARDABLE = (
    "POST", "PUT", "PATCH", "DELETE", "ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "MERGE", "MKACTIVITY",
    "MKCALENDAR", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "QUERY", "REBIND", "REPORT", "SEARCH", "UNBIND", "UNLINK",
    "UNLOCK",
)  # fmt: skip
"""The methods that are served, `proxy.http1.message.METHODS`, but for those that change nothing."""
_NEVER_IN_A_KEY = frozenset({*range(0x20), *b',"/', *range(0x7F, 0x100)})
_SECRET_BYTES = 64  # of a blake2b key
_RING_KEY_BYTES, _LARGEST_KEY_ID = 32, 255
_LIKE_A_KEY = re.compile(r"(?:^|\s)(?:[0-9]+:[0-9A-Za-z+/]{16}|[0-9A-Fa-f]{64}(?:\s|$)|[0-9A-Za-z+/]{43}=(?:\s|$))")
"""With its id, whatever is wrong with it; or without."""
_MEANS_SOMETHING_ELSE = frozenset({401, 407, 408, 409, 429})
"""Statuses to which a client does something: it shows a credential, or asks again (RFC 9110 §15.5, RFC 6585 §4)."""
_NEEDED = frozenset({"connection", "content-encoding", "content-length", "content-type", "date", "transfer-encoding"})
_OURS = frozenset({"idempotency-expires", "idempotency-state", "link", "retry-after"})
_SCOPE_PARTS = ("path", "header", "jwt", "credential")


def text(value: str) -> str:
    """A text that can be written down: the environment may hold bytes that are no UTF-8; raise ValueError."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8") from None
    return value


def token(value: str) -> str:
    """A token of RFC 9110 §5.6.2; raise ValueError."""
    if _TOKEN.fullmatch(value) is None:
        raise ValueError("must be a token (RFC 9110 §5.6.2): letters, digits and !#$%&'*+-.^_`|~")
    return value


def code(value: str) -> str:
    """What programs know a refusal by; raise ValueError."""
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value) is None:
        raise ValueError("must be 1 to 64 letters, digits and _.-")
    return value


def method(value: str) -> str:
    """A method that may be guarded; raise ValueError."""
    if token(value) != value.upper():
        raise ValueError("must be in capitals, as methods are on the wire")
    if value in _UNGUARDABLE:
        raise ValueError(f"must be a method that changes something, none of {', '.join(sorted(_UNGUARDABLE))}")
    if value not in GUARDABLE:
        raise ValueError(f"must be a method that is served here, one of {', '.join(GUARDABLE)}")
    return value


def release_status(value: int) -> int:
    """A status that may free a key; raise ValueError."""
    if not 100 <= value <= 599 or 200 <= value <= 299:
        raise ValueError("must be a status from 100 to 599 and none of 2xx: after a success the key stays taken")
    return value


def unknown_key_status(value: int) -> int:
    """A status that says that there is no record, and nothing else; raise ValueError."""
    if not 400 <= value <= 499 or value in _MEANS_SOMETHING_ELSE:
        others = ", ".join(str(status) for status in sorted(_MEANS_SOMETHING_ELSE))
        raise ValueError(f"must be a status from 400 to 499, as 404, 410 or 400, and none of {others}")
    return value


def dropped_field(value: str) -> str:
    """The name of a field that a response can do without; raise ValueError."""
    if value.lower() in _NEEDED:
        raise ValueError(f"must be none of {', '.join(sorted(_NEEDED))}: without it a replay could not be read")
    return value


def marker_field(value: str) -> str:
    """The name of a field that marks a replay, and has no meaning yet; raise ValueError."""
    if value.lower() in _NEEDED | _OURS:
        raise ValueError(f"must be a field that has no other meaning, none of {', '.join(sorted(_NEEDED | _OURS))}")
    return value


def scope_parts(value: object) -> tuple[str, ...]:
    """What makes a scope: "none", a name, or several, always in the same order: ["jwt", "path"] must not make other
    names for records than ["path", "jwt"]; raise ValueError."""
    if value == "none":
        return ()
    if isinstance(value, str) and value.startswith("["):
        value = from_json(value)
    given = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]
    if not all(part in _SCOPE_PARTS for part in given):
        raise ValueError('must be "none", or one or several of "path", "header", "jwt" and "credential"')
    return tuple(part for part in _SCOPE_PARTS if part in nothing_twice(tuple(given)))


def scope_headers(value: object) -> object:
    """The fields that make a scope: a name, or several; empty: none; raise ValueError."""
    if value == "":
        return ()
    return [value] if isinstance(value, str) and not value.startswith("[") else from_json(value)


def told_apart(values: tuple[str, ...]) -> tuple[str, ...]:
    """Names of fields, always in the same order: ["B", "A"] must not make other names for records than ["A", "B"];
    raise ValueError."""
    ordered = sorted(values, key=lambda name: name.lower().replace("_", "-"))
    if len({name.lower().replace("_", "-") for name in ordered}) != len(ordered):
        raise ValueError("must have nothing twice: case, and _ for a dash, tell no fields apart")
    return tuple(ordered)


def key_chars(value: str) -> str:
    """The inside of a character class; raise ValueError. Without brackets, nothing in it can end the class."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # `--` and `&&` will mean something else to re one day, and it warns
            one = re.compile(b"[%s]" % value.encode("ascii"))
    except (re.error, UnicodeEncodeError, FutureWarning):
        one = None
    if one is None or "[" in value or "]" in value:
        raise ValueError("must be the inside of a regular expression's character class, in ASCII, as A-Za-z0-9-")
    if any(one.fullmatch(bytes([char])) for char in _NEVER_IN_A_KEY):
        raise ValueError("must not match a comma, a double quote, a slash, a control character or one beyond ASCII")
    return value


def file(value: str) -> str:
    """The path of a file; empty: none; raise ValueError."""
    if "\0" in text(value):
        raise ValueError("must be the path of a file")
    return value


def mode(value: object) -> int:
    """The permissions of a file, as chmod takes them in octal; raise ValueError."""
    if not isinstance(value, str) or re.fullmatch(r"0?[0-7]{3}", value) is None:
        raise ValueError('must be permissions in octal, as the text "0660"')
    return int(value, 8)


def hash_secret(value: SecretStr) -> SecretStr:
    """A secret that fits; raise ValueError."""
    if len(text(value.get_secret_value()).encode()) > _SECRET_BYTES:
        raise ValueError(f"must be at most {_SECRET_BYTES} bytes")
    return value


def ring_key(value: str) -> tuple[int, bytes]:
    """A key of the ring by its id, as people write it; raise ValueError, which does not say what was written."""
    number, colon, key = value.strip().partition(":")
    if not colon or re.fullmatch(r"[1-9][0-9]{0,2}", number) is None or int(number) > _LARGEST_KEY_ID:
        raise ValueError(f"must be ID:KEY, with an ID from 1 to {_LARGEST_KEY_ID}: what was written is not shown")
    try:
        read = bytes.fromhex(key) if len(key) == 2 * _RING_KEY_BYTES else base64.b64decode(key, validate=True)
    except (ValueError, binascii.Error):
        read = b""
    if len(read) != _RING_KEY_BYTES:
        raise ValueError(
            f"must be ID:KEY, with a key of {_RING_KEY_BYTES} random bytes in base64 or hexadecimal, as `openssl rand"
            " -base64 32` makes them: what was written is not shown"
        )
    return int(number), read


def _ring_key(value: SecretStr) -> SecretStr:
    ring_key(text(value.get_secret_value()))
    return value


def ring_file(value: str) -> str:
    """The path of a file with keys; empty: none; raise ValueError where it is a key itself: as a path it would be shown
    in errors."""
    if _LIKE_A_KEY.search(file(value)):
        raise ValueError(
            "must be the path of a file with keys; keys themselves belong into encryption_keys: what was written is not"
            " shown"
        )
    return value


def _ids_once(values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    ids = [ring_key(value.get_secret_value())[0] for value in values]
    if len(set(ids)) != len(ids):
        raise ValueError("must not have a key's id twice: a new key gets a new id")
    return values


def durability(value: str) -> str:
    """What a write must have reached; raise ValueError."""
    if re.fullmatch(r"memory|fsync|replicas:[1-9][0-9]?", value) is None:
        raise ValueError('must be "memory", "fsync" or "replicas:N", with N from 1 to 99')
    return value


def network(value: object) -> IPv4Network | IPv6Network:
    """The network of a CIDR block; raise ValueError."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("must be a network without host bits, as 10.0.0.0/8, 192.0.2.1/32 or fd00::/8") from None


def _no_bool(value: object) -> object:
    """True is 1 to Python, not to who wrote it."""
    if isinstance(value, bool):
        raise ValueError("must be a whole number")  # noqa: TRY004  # pydantic collects ValueErrors only
    return value


def from_json(value: object) -> object:
    """A list from a place that has text only, the environment, is written in JSON; raise ValueError."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('must be a list; in the environment it is written in JSON, as ["A", "B"]') from None


def nothing_twice(values: tuple[T, ...]) -> tuple[T, ...]:
    """They; raise ValueError."""
    if len(set(values)) != len(values):
        raise ValueError("must have nothing twice")
    return values


Number = Annotated[int, BeforeValidator(_no_bool)]
Count = Annotated[Number, Field(ge=1)]
CountOrNone = Annotated[Number, Field(ge=0)]
List = Annotated[tuple[T, ...], BeforeValidator(from_json), AfterValidator(nothing_twice)]
NonEmptyList = Annotated[List[T], Field(min_length=1)]
Text = Annotated[str, AfterValidator(text)]
Token = Annotated[str, AfterValidator(token)]
Code = Annotated[str, AfterValidator(code)]
Method = Annotated[str, AfterValidator(method)]
ReleaseStatus = Annotated[Number, AfterValidator(release_status)]
KeyChars = Annotated[str, AfterValidator(key_chars)]
File = Annotated[str, AfterValidator(file)]
Mode = Annotated[int, PlainValidator(mode), PlainSerializer(lambda mode: f"{mode:04o}")]
Durability = Annotated[str, AfterValidator(durability)]
HashSecret = Annotated[SecretStr, AfterValidator(hash_secret)]
RingKey = Annotated[SecretStr, AfterValidator(_ring_key)]
RingFile = Annotated[str, AfterValidator(ring_file)]
RingKeys = Annotated[tuple[RingKey, ...], BeforeValidator(from_json), AfterValidator(_ids_once)]
Network = Annotated[IPv4Network | IPv6Network, PlainValidator(network)]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip
"""Signatures by a private key (RFC 7518 §3.1, RFC 8037): with a shared secret, who verifies could sign."""
ScopePart = Literal["path", "header", "jwt", "credential"]
ScopeParts = Annotated[tuple[ScopePart, ...], BeforeValidator(scope_parts), PlainSerializer(lambda it: it or "none")]
ScopeHeaders = Annotated[tuple[Token, ...], BeforeValidator(scope_headers), AfterValidator(told_apart)]
DroppedField = Annotated[Token, AfterValidator(dropped_field)]
MarkerField = Annotated[Token, AfterValidator(marker_field)]
UnknownKeyStatus = Annotated[Number, AfterValidator(unknown_key_status)]
