"""The JSON view of a recorded response: what `GET /responses/<key>/` shows."""

import json
import re
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping

from proxy.core.record import Response, values

_JSON_TYPE = re.compile(rb"(?:(?:application|text)/json|[^/;\s]+/[^;\s]+\+json)\s*(?:;|$)", re.IGNORECASE)
"""RFC 8259 §11; RFC 6839 §3.1 for the suffix, which says so of any type."""
_CHARSET = re.compile(rb';\s*charset\s*=\s*"?([^\s;"]+)', re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f]")
_CHARSETS = {
    b"utf-8": "utf-8",
    b"utf8": "utf-8",
    b"us-ascii": "ascii",
    b"iso-8859-1": "latin-1",
    b"latin1": "latin-1",
    b"iso-8859-15": "iso-8859-15",
    b"windows-1252": "cp1252",
    b"utf-16": "utf-16",
}
"""Names that an upstream may give, and ours for them. A table, since Python's registry also knows codecs that are no
charsets, zip among them."""
_MAX_CODINGS = 4
"""Each may cost a pass over as many bytes as the cap allows, and a head has room for thousands."""


class _Undecodable(Exception):
    """A content coding is unknown or corrupt, or they are too many, or the content is over the cap."""


def view(response: Response, url: bytes, date: bytes, cap: int) -> bytes:
    """The record as a JSON object. *date* stands in where the response had no Date; *cap*: see `Answers.show`.

    The response's JSON is spliced in as it was given, so that every digit of its numbers is kept.
    """
    head: dict[str, object] = {
        "StatusCode": str(response.status),
        "ContentLength": str(response.length),
        "ContentType": _text(_first(response, b"content-type")),
        "Date": _text(_first(response, b"date") or date),
        "RequestURL": _text(url),
    }
    if response.truncated:
        head["Truncated"] = True
    return json.dumps(head)[:-1].encode("ascii") + b', "Resource": ' + _resource(response, cap) + b"}"


def _first(response: Response, name: bytes) -> bytes:
    """The first value of a field, or nothing."""
    return next(iter(values(response.fields, name)), b"")


def _text(value: bytes) -> str:
    """Field values and URLs: RFC 9110 §5.5 leaves bytes over 0x7F opaque."""
    return value.decode("latin-1")


def _resource(response: Response, cap: int) -> bytes:
    """The JSON text of `Resource`."""
    if response.truncated or not response.body:
        return b"null"
    content_type = _first(response, b"content-type")
    try:
        content = _decoded(response, cap)
    except _Undecodable:
        return _base64(response.body)
    if not content:
        return b"null"
    if _JSON_TYPE.match(content_type) and _is_json(content):
        return content.strip()
    named = _CHARSET.search(content_type)
    charset = _CHARSETS.get(named[1].lower()) if named else "utf-8"
    try:
        text = content.decode(charset) if charset else ""
    except UnicodeDecodeError:
        return _base64(content)
    if not text or _CONTROL.search(text):
        return _base64(content)
    return json.dumps({"Text": text}).encode("ascii")


def _base64(content: bytes) -> bytes:
    return json.dumps({"Base64": b64encode(content).decode("ascii")}).encode("ascii")


def _is_json(content: bytes) -> bool:
    """Whether it is one JSON value (RFC 8259: UTF-8, no NaN). Numbers are never made, they may have any size."""
    try:
        json.loads(content.decode("utf-8"), parse_float=str, parse_int=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _decoded(response: Response, cap: int) -> bytes:
    """The body without its content codings (RFC 9110 §8.4), for this view alone."""
    content = response.body
    listed = b",".join(values(response.fields, b"content-encoding")).lower().split(b",")
    codings = [coding.strip() for coding in listed if coding.strip()]
    if len(codings) > _MAX_CODINGS:
        raise _Undecodable
    for coding in reversed(codings):
        content = _DECODERS.get(coding, _unknown)(content, cap)
    return content


def _inflate(window: int) -> Callable[[bytes, int], bytes]:
    def decode(content: bytes, cap: int) -> bytes:
        inflater = zlib.decompressobj(window)
        try:
            decoded = inflater.decompress(content, cap + 1)
        except zlib.error:
            raise _Undecodable from None
        if len(decoded) > cap or not inflater.eof or inflater.unused_data:
            raise _Undecodable
        return decoded

    return decode


def _identity(content: bytes, _cap: int) -> bytes:
    return content


def _unknown(_content: bytes, _cap: int) -> bytes:
    raise _Undecodable


_DECODERS: Mapping[bytes, Callable[[bytes, int], bytes]] = {
    b"identity": _identity,
    b"gzip": _inflate(16 + zlib.MAX_WBITS),
    b"x-gzip": _inflate(16 + zlib.MAX_WBITS),
    b"deflate": _inflate(zlib.MAX_WBITS),
}
