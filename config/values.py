"""What else a setting may be: each type says what would be right to who wrote something else."""

import json
import re
import warnings
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, SecretStr

T = TypeVar("T")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNGUARDABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "CONNECT"})
_NEVER_IN_A_KEY = frozenset({*range(0x20), *b',"/', *range(0x7F, 0x100)})
_SECRET_BYTES = 64  # of a blake2b key


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


def method(value: str) -> str:
    """A method that may be guarded; raise ValueError."""
    if token(value) != value.upper():
        raise ValueError("must be in capitals, as methods are on the wire")
    if value in _UNGUARDABLE:
        raise ValueError(f"must be a method that changes something, none of {', '.join(sorted(_UNGUARDABLE))}")
    return value


def release_status(value: int) -> int:
    """A status that may free a key; raise ValueError."""
    if not 100 <= value <= 599 or 200 <= value <= 299:
        raise ValueError("must be a status from 100 to 599 and none of 2xx: after a success the key stays taken")
    return value


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


def response_path(value: str) -> str:
    """A template as `/{version}/{client}/responses/{key}`; raise ValueError."""
    if re.fullmatch(r"/[!-~]*", value) is None or "?" in value or "#" in value:
        raise ValueError("must begin with a slash and be a path, in ASCII, without blanks, ? and #")
    segments = [segment for segment in value.split("/") if "{" in segment or "}" in segment]
    names = [segment[1:-1] for segment in segments]
    if segments != [f"{{{name}}}" for name in names] or not all(name.isidentifier() for name in names):
        raise ValueError("must have each capture as a segment of its own, as /{client}/responses/{key}")
    if names.count("key") != 1 or len(set(names)) != len(names):
        raise ValueError("must have {key} exactly once, and another name for each other capture")
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


def _from_json(value: object) -> object:
    """A list from a place that has text only, the environment, is written in JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('must be a list; in the environment it is written in JSON, as ["A", "B"]') from None


def _nothing_twice(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) != len(values):
        raise ValueError("must have nothing twice")
    return values


Number = Annotated[int, BeforeValidator(_no_bool)]
Count = Annotated[Number, Field(ge=1)]
CountOrNone = Annotated[Number, Field(ge=0)]
List = Annotated[tuple[T, ...], BeforeValidator(_from_json), AfterValidator(_nothing_twice)]
NonEmptyList = Annotated[List[T], Field(min_length=1)]
Text = Annotated[str, AfterValidator(text)]
Token = Annotated[str, AfterValidator(token)]
Method = Annotated[str, AfterValidator(method)]
ReleaseStatus = Annotated[Number, AfterValidator(release_status)]
KeyChars = Annotated[str, AfterValidator(key_chars)]
ResponsePath = Annotated[str, AfterValidator(response_path)]
File = Annotated[str, AfterValidator(file)]
Mode = Annotated[int, PlainValidator(mode), PlainSerializer(lambda mode: f"{mode:04o}")]
Durability = Annotated[str, AfterValidator(durability)]
HashSecret = Annotated[SecretStr, AfterValidator(hash_secret)]
Network = Annotated[IPv4Network | IPv6Network, PlainValidator(network)]
