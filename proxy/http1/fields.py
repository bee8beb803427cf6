"""Field lines, kept as the bytes that they are: most of them only pass through.

A block of field lines has CRLF *before* each line, as it follows a start line. It has gone through llhttp, so that no
line is folded, no bare CR or LF and no blank before a colon is in it: each name stands right behind a CRLF, and ends
with its colon.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

import httptools

Field = tuple[bytes, bytes]

_MOST_DASHES = 4
_LINE = re.compile(rb"\r\n([^:\r]+):[^\r]*")
_SLOPPY = re.compile(rb"(\r\n[^:\r]+:)([^\r]*)")


class _Validator:
    """Listens to nothing: llhttp checks all the same, and calls cost."""

    __slots__ = ()


_VALIDATOR = _Validator()


def valid(parser_type: type, head: bytes) -> bool:
    """Whether llhttp takes *head*: a start line, field lines and the empty line."""
    try:
        parser_type(_VALIDATOR).feed_data(head)
    except httptools.HttpParserUpgrade:
        return True  # the head is read; what follows it is not this parser's business
    except (httptools.HttpParserError, httptools.HttpParserCallbackError):
        return False
    return True


def trimmed(block: bytes) -> bytes:
    """The block without blanks behind its values (RFC 9110 §5.5), and with one before them where there are several."""
    if block.find(b" \r") < 0 and block.find(b"\t") < 0 and block.find(b":  ") < 0 and block[-1:] != b" ":
        return block
    return _SLOPPY.sub(lambda line: line[1] + b" " + line[2].strip(b" \t"), block)


class Watched:
    """The names of fields (lower case) that somebody looks at."""

    def __init__(self, names: Iterable[bytes]) -> None:
        self.names = frozenset(names)
        self._find = re.compile(rb"\r\n(%b):[ \t]*([^\r]*)" % _alternatives(self.names), re.IGNORECASE).findall

    def find_lower(self, block: bytes) -> tuple[dict[bytes, bytes], bool]:
        """The same, for values in which case has no meaning, and all in lower case: it costs less."""
        fields = self._find(block.lower())
        found = dict(fields)
        return found, len(found) != len(fields)

    def find(self, block: bytes) -> tuple[dict[bytes, bytes], bool]:
        """Lower-case name → value (of a repeated field the last), and whether any is repeated."""
        fields = self._find(block)
        found = {name.lower(): value for name, value in fields}
        return found, len(found) != len(fields)


def values(block: bytes, name: bytes) -> list[bytes]:
    """The values of all fields *name* (lower case), in their order."""
    return [value for found, value in pairs(block) if found.lower() == name]


def pairs(block: bytes) -> list[Field]:
    """All fields, as they came."""
    lines = [line.partition(b":") for line in block[2:].split(b"\r\n")] if block else []
    return [(name, value.strip(b" \t")) for name, _, value in lines]


def lookalikes(name: bytes) -> frozenset[bytes]:
    """The names, with _ for some of its dashes, that backends after CGI's fashion (RFC 3875 §4.1.18: WSGI, PHP) cannot
    tell from *name*. Of a name with many dashes, only that with all of them replaced."""
    first, *rest = name.split(b"-")
    if len(rest) > _MOST_DASHES:
        return frozenset((name.replace(b"-", b"_"),))
    names = [first]
    for part in rest:
        names = [start + dash + part for start in names for dash in (b"-", b"_")]
    return frozenset(names) - {name}


def without(block: bytes, names: frozenset[bytes]) -> bytes:
    """The block without the fields *names* (lower case)."""
    return _remover(names)(b"", block)


def without_named(block: bytes, names: frozenset[bytes]) -> bytes:
    """The same for names that a peer chose: a pattern of each set of those would be the peer's to make."""
    return _LINE.sub(lambda line: b"" if line[1].lower() in names else line[0], block)


@lru_cache(maxsize=32)
def _remover(names: frozenset[bytes]) -> Callable[[bytes, bytes], bytes]:
    return re.compile(rb"\r\n(?:%b):[^\r]*" % _alternatives(names), re.IGNORECASE).sub


def _alternatives(names: Iterable[bytes]) -> bytes:
    return b"|".join(re.escape(name) for name in sorted(names))
