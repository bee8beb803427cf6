"""The same request tried again has the same fingerprint, though its boundary is a new one; any other has another."""

import tracemalloc

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from proxy.core import fingerprint
from proxy.core.fingerprint import Fingerprints
from proxy.core.record import NO_FINGERPRINT

FINGERPRINTS = Fingerprints(b"a secret")
FILE = (
    b'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n'
)
FIELD = b'Content-Disposition: form-data; name="amount"\r\n\r\n1200'
LIMIT = 10 << 20
BOUNDARY_CHARS = "0123456789abcxyzABCXYZ'()+_,-./:=?"


def made(content_type: bytes, body: bytes) -> bytes:
    return FINGERPRINTS.make(b"POST", b"/files", content_type, body)


def raw(body: bytes) -> bytes:
    """The fingerprint of a body that is compared by its bytes."""
    return made(b"", body)


def form(boundary: bytes, *parts: bytes, before: bytes = b"", after: bytes = b"\r\n") -> bytes:
    """A multipart body; each of *parts* has its head and its content."""
    delimited = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    return b"%b%b--%b--%b" % (before, delimited, boundary, after)


def sent(boundary: bytes, *parts: bytes, before: bytes = b"", after: bytes = b"\r\n") -> bytes:
    """The fingerprint of a form with this boundary."""
    declared = b'multipart/form-data; boundary="%b"' % boundary
    return made(declared, form(boundary, *parts, before=before, after=after))


def within(boundary: bytes, *parts: bytes, declared: bytes | None = None, kind: bytes = b"mixed") -> bytes:
    """A part that is a multipart itself."""
    head = b"Content-Type: multipart/%b; boundary=%b" % (kind, boundary if declared is None else declared)
    return b"%b\r\nX-Other: a\r\n\r\n%b" % (head, form(boundary, *parts, after=b""))


# Any body.


def test_the_same_request_has_the_same_fingerprint_and_16_bytes_of_it() -> None:
    again = Fingerprints(b"a secret")
    first = FINGERPRINTS.make(b"POST", b"/pay?a=1", b"application/json", b"{}")
    assert again.make(b"POST", b"/pay?a=1", b"application/json", b"{}") == first
    assert len(first) == len(NO_FINGERPRINT) == 16


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((b"PUT", b"/pay?a=1", b"{}"), id="method"),
        pytest.param((b"post", b"/pay?a=1", b"{}"), id="methods are case-sensitive"),
        pytest.param((b"POST", b"/pay?a=2", b"{}"), id="query"),
        pytest.param((b"POST", b"//pay?a=1", b"{}"), id="the target counts as it is written"),
        pytest.param((b"POST", b"/pay?a=1", b"{ }"), id="body"),
        pytest.param((b"POST", b"/pay?a=1", b""), id="no body"),
        pytest.param((b"POST", b"/pay?a=1{}", b""), id="body moved into the target"),
        pytest.param((b"POST/", b"pay?a=1", b"{}"), id="target moved into the method"),
        pytest.param((b"POST", b"/pay?a=1R", b"{}"), id="a target that ends like the mark behind it"),
    ],
)
def test_another_method_target_or_body_has_another(other: tuple[bytes, bytes, bytes]) -> None:
    method, target, body = other
    first = FINGERPRINTS.make(b"POST", b"/pay?a=1", b"", b"{}")
    assert FINGERPRINTS.make(method, target, b"", body) != first


def test_another_secret_makes_another() -> None:
    assert Fingerprints(b"b").make(b"POST", b"/", b"", b"") != Fingerprints(b"a").make(b"POST", b"/", b"", b"")


def test_the_content_type_of_a_plain_body_does_not_count() -> None:
    assert made(b"application/json", b"{}") == made(b"application/json; charset=utf-8", b"{}") == made(b"", b"{}")


payloads = st.tuples(st.binary(max_size=6), st.binary(max_size=6), st.binary(max_size=6))


@given(payloads, payloads)
@example((b"ab", b"c", b""), (b"a", b"bc", b""))
@example((b"", b"ab", b"c"), (b"", b"a", b"bc"))
def test_two_payloads_share_a_fingerprint_only_if_they_are_the_same(
    one: tuple[bytes, bytes, bytes], other: tuple[bytes, bytes, bytes]
) -> None:
    prints = [FINGERPRINTS.make(method, target, b"", body) for method, target, body in (one, other)]
    assert (prints[0] == prints[1]) == (one == other)
    assert NO_FINGERPRINT not in prints


# Multipart.

boundaries = st.from_regex(rf"\A[{BOUNDARY_CHARS} ]{{0,69}}[{BOUNDARY_CHARS}]\Z").map(str.encode)
parts = st.binary(max_size=20) | st.sampled_from([FIELD, FILE, b"", b"\r\n", b"--", b"\r\n--", b"-"])


@given(boundaries, boundaries, st.lists(parts, max_size=4), parts)
@example(b"a", b"b" * 70, [FIELD, FILE], b"")
@example(b"-", b"--", [FIELD], b"")
def test_a_new_boundary_for_the_same_parts_makes_no_other_payload(
    old: bytes, new: bytes, content: list[bytes], epilogue: bytes
) -> None:
    everything = b"\r\n".join([*content, b"", epilogue])
    assume(b"--" + old not in everything and b"--" + new not in everything)  # no client takes such a boundary
    assert sent(old, *content, after=b"\r\n" + epilogue) == sent(new, *content, after=b"\r\n" + epilogue)


@given(st.lists(parts, max_size=4), st.lists(parts, max_size=4))
@example([b"a", b"b"], [b"ab"])
@example([b"a", b"b"], [b"b", b"a"])
@example([], [b""])
@example([b"a\r\n--x"], [b"a"])
@example([b"aP\r\nb", b"c"], [b"a", b"bP\r\nc"])  # the encoding has a P before each part
def test_other_parts_make_another_payload_whatever_the_boundary(one: list[bytes], other: list[bytes]) -> None:
    assert (sent(b"one-boundary", *one) == sent(b"another-one", *other)) == (one == other)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"multipart/form-data; boundary=x-y", id="a token"),
        pytest.param(b'multipart/form-data; boundary="x-y"', id="quoted"),
        pytest.param(b"Multipart/Form-Data; Boundary=x-y", id="names in any case"),
        pytest.param(b"multipart/form-data;boundary=x-y", id="no blank"),
        pytest.param(b"multipart/form-data \t;\t boundary=x-y \t", id="blanks (RFC 9110 section 5.6.6)"),
        pytest.param(b"multipart/form-data;; boundary=x-y; ;", id="empty parameters"),
    ],
)
def test_a_boundary_is_found_in_every_way_of_writing_it(value: bytes) -> None:
    assert made(value, form(b"x-y", FIELD, FILE)) == sent(b"other", FIELD, FILE)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b'multipart/mixed; charset=utf-8; t="a\\"; boundary=z"; boundary=%b; q=1', id="quoted"),
        pytest.param(b'multipart/related; boundary=%b; type="text/xml"; start="<a>"', id="start"),
        pytest.param(b"multipart/related; start=a;; boundary=%b ;", id="empty ones"),
    ],
)
def test_a_boundary_is_found_and_may_be_new_beside_other_parameters(value: bytes) -> None:
    old, new = (made(value % boundary, form(boundary, FIELD, FILE)) for boundary in (b"old", b"new"))
    assert old == new != raw(form(b"new", FIELD, FILE))


@pytest.mark.parametrize(
    "boundary",
    [
        pytest.param(b"a" * 70, id="70 characters"),
        pytest.param(b"==(a:b)/c?,d'e", id="what wants quotes, without them"),
        pytest.param(b"----WebKitFormBoundary7MA4YWxkTrZu0gW", id="a browser's"),
    ],
)
def test_a_boundary_may_be_any_that_clients_make(boundary: bytes) -> None:
    assert made(b"multipart/form-data; boundary=" + boundary, form(boundary, FIELD)) == sent(b"other", FIELD)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"multipart/form-data", id="no boundary"),
        pytest.param(b"multipart/form-data; boundary=", id="an empty one"),
        pytest.param(b'multipart/form-data; boundary=""', id="an empty one, quoted"),
        pytest.param(b"multipart/form-data; boundary=x; boundary=x", id="two, though equal"),
        pytest.param(b"multipart/form-data; boundary=y; BOUNDARY=x", id="two that differ"),
        pytest.param(b"multipart/form-data; boundary=x, text/plain", id="two content types, joined"),
        pytest.param(b"multipart/mixed; a=b,multipart/form-data; boundary=x", id="two content types, joined closely"),
        pytest.param(b"multipart/form-data; a=b\0; boundary=x", id="NUL"),
        pytest.param(b"multipart/form-data; boundary=x garbage", id="garbage behind it"),
        pytest.param(b"multipart/form-data boundary=x", id="no semicolon"),
        pytest.param(b"multipart/form-data; boundary =x", id="a blank before ="),
        pytest.param(b"multipart/form-data; boundary*=us-ascii''x", id="an extended parameter (RFC 8187)"),
        pytest.param(b'multipart/form-data; boundary="x', id="quotes that do not end"),
        pytest.param(b'multipart/form-data; boundary="\\x"', id="a quoted pair: no boundary has a backslash"),
        pytest.param(b"multipart/; boundary=x", id="no subtype"),
        pytest.param(b"multipart/form-data; boundary=y", id="another boundary than the body's"),
        pytest.param(b"application/json; boundary=x", id="no multipart"),
        pytest.param(b"multipart", id="half a type"),
    ],
)
def test_without_one_clear_boundary_a_body_is_compared_by_its_bytes(value: bytes) -> None:
    body = form(b"x", FIELD)
    assert made(value, body) == raw(body)


def test_a_boundary_over_70_characters_is_none() -> None:
    for boundary in (b"a" * 71, b"a" * 200):
        body = form(boundary, FIELD)
        for value in (boundary, b'"%b"' % boundary):
            assert made(b"multipart/form-data; boundary=" + value, body) == raw(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"a": 1}', id="no multipart at all"),
        pytest.param(b"--x\r\n\r\na\r\n", id="no closing delimiter"),
        pytest.param(b"--x\r\n\r\na", id="broken off"),
        pytest.param(b"--x\r\n\r\na\r\n--x-", id="broken off within the closing delimiter"),
        pytest.param(b"--x\r\n\r\na\r\n--x--garbage", id="garbage behind the closing delimiter"),
        pytest.param(b"--x\r\n\r\na\r\n--x--\r", id="half a line's end behind it"),
        pytest.param(b"--x\r\n\r\na\r\n--x--\r\n--x--", id="closed twice"),
        pytest.param(b"--x\r\n\r\na\r\n--x--\r\n--x\r\n\r\nb\r\n--x--", id="a part behind the closing delimiter"),
        pytest.param(b"--x \r\n\r\na\r\n--x--", id="padding behind a delimiter"),
        pytest.param(b"--xy\r\n\r\na\r\n--xy--", id="another boundary that begins like it"),
        pytest.param(b"--x\r\n--x--", id="two delimiters that share a line's end"),
        pytest.param(b"--x\n\na\n--x--\n", id="line feeds alone"),
        pytest.param(b"--x\r\n\r\na\n--x\n\nb\r\n--x--", id="what is a delimiter to who takes line feeds"),
        pytest.param(b"--x\r\n\r\na --x b\r\n--x--", id="dashes and boundary within a line"),
        pytest.param(b"preamble--x\r\n\r\na\r\n--x--", id="a delimiter that begins no line"),
    ],
)
def test_what_is_not_strictly_a_multipart_is_compared_by_its_bytes(body: bytes) -> None:
    assert made(b"multipart/form-data; boundary=x", body) == raw(body)


def test_preamble_and_epilogue_count_and_so_do_their_line_ends() -> None:
    befores, afters = (b"", b"\r\n", b"a\r\n"), (b"", b"\r\n", b"\r\na", b"\r\na\r\n")
    ways = [(before, after) for before in befores for after in afters]
    old = [sent(b"old", FIELD, before=before, after=after) for before, after in ways]
    assert len(set(old)) == len(ways)
    assert [sent(b"new", FIELD, before=before, after=after) for before, after in ways] == old


def test_the_type_of_a_multipart_counts_in_any_case() -> None:
    body = form(b"x", FIELD)
    mixed = made(b"multipart/mixed; boundary=x", body)
    assert made(b"multipart/MIXED; boundary=x", body) == mixed
    assert made(b"multipart/form-data; boundary=x", body) != mixed


def test_all_other_parameters_of_a_multipart_count() -> None:
    """`start` says which part is meant (RFC 2387 section 3.2): with another, the same parts are another order."""
    body = form(b"x", b"Content-ID: <a>\r\n\r\n1", b"Content-ID: <b>\r\n\r\n9000")
    ways = [
        b"; boundary=x",
        b'; boundary=x; start="<a>"',
        b'; boundary=x; start="<b>"',
        b'; start="<b>"; boundary=x',
        b'; start="<b>"; boundary=x; type="text/xml"',
        b'; start="<b>"; type="text/xml"; boundary=x',
        b'; boundary=x; start="<b>"; type="text/xml"',
        b'; boundary=x; start="<b>; "',
    ]
    assert len({made(b"multipart/related" + way, body) for way in ways}) == len(ways)
    assert made(b"multipart/related" + ways[1], body) not in {raw(body), made(b"multipart/mixed" + ways[1], body)}


def test_a_multipart_and_a_plain_body_of_the_same_bytes_do_not_meet() -> None:
    body = form(b"x", FIELD)
    assert made(b"multipart/form-data; boundary=x", body) != raw(body)


def test_a_plain_body_cannot_be_written_like_the_encoding_of_a_multipart() -> None:
    """The encoding, taken from the module, sent as a body: with and without the mark that a plain one gets."""
    encoded = fingerprint._multipart(b"multipart/form-data; boundary=x", form(b"x", FIELD))
    assert encoded is not None
    written = b"".join(encoded)
    assert sent(b"x", FIELD) not in {raw(written), raw(written[1:]), raw(b"R" + written)}


# Multipart within multipart.


def test_the_boundary_of_a_nested_multipart_may_be_new_as_well() -> None:
    assert sent(b"a", FIELD, within(b"b", FILE, FILE)) == sent(b"c", FIELD, within(b"d", FILE, FILE))
    assert sent(b"a", within(b"b", FILE, declared=b'"b"')) == sent(b"a", within(b"d", FILE, declared=b"d"))
    folded = [within(inner, FILE).replace(b" boundary", b"\r\n\tboundary") for inner in (b"b", b"d")]
    assert sent(b"a", folded[0]) == sent(b"a", folded[1])


def test_all_else_of_a_nested_multipart_counts() -> None:
    first = sent(b"a", within(b"b", FILE))
    others = [
        sent(b"a", within(b"b", FIELD)),
        sent(b"a", within(b"b", FILE, FILE)),
        sent(b"a", within(b"b", FILE, kind=b"related")),
        sent(b"a", within(b"b", FILE).replace(b"X-Other: a", b"X-Other: b")),
        sent(b"a", within(b"b", FILE).replace(b"X-Other: a\r\n", b"")),
        sent(b"a", within(b"b", FILE).replace(b"boundary=b", b"boundary=b; q=1")),
        sent(b"a", within(b"b", FILE) + b"\r\n"),
    ]
    assert len({first, *others}) == 1 + len(others)


def test_a_part_cannot_be_written_like_a_nested_multipart_without_being_one() -> None:
    """The same bytes, once as a multipart and once, with a type that only looks like it, as a part."""
    nested = within(b"b", FILE)
    assert sent(b"a", nested) != sent(b"a", nested.replace(b"multipart/mixed", b"multipart\\mixed"))
    assert sent(b"a", FIELD, FILE) != sent(b"a", within(b"b", FIELD, FILE))
    assert sent(b"a", within(b"b", FIELD), FILE) != sent(b"a", within(b"b", FIELD, FILE))


def levels(*boundaries: bytes) -> bytes:
    """A part with as many multiparts in one another."""
    part = FIELD
    for boundary in reversed(boundaries):
        part = within(boundary, part)
    return part


def test_two_levels_within_the_outermost_are_looked_into_and_a_third_counts_by_its_bytes() -> None:
    assert sent(b"a", levels(b"b", b"c")) == sent(b"a", levels(b"x", b"y"))
    assert sent(b"a", levels(b"b", b"c", b"d")) == sent(b"a", levels(b"x", b"y", b"d"))
    assert sent(b"a", levels(b"b", b"c", b"d")) != sent(b"a", levels(b"b", b"c", b"y"))


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"Content-Type: multipart/mixed", id="no boundary"),
        pytest.param(b"Content-Type: multipart/mixed; boundary=%b; boundary=%b", id="two boundaries"),
        pytest.param(b"Content-Type: a/b\r\nContent-Type: multipart/mixed; boundary=%b", id="two types"),
        pytest.param(
            b"Content-Type: text/plain; charset=us-ascii_\r\nContent-Type: multipart/mixed; boundary=%b",
            id="two types of one length",
        ),
        pytest.param(b"Content-Type: multipart/mixed; boundary=%b garbage", id="garbage behind the boundary"),
        pytest.param(b"Content-Type : multipart/mixed; boundary=%b", id="a blank before the colon"),
        pytest.param(b"X-Content-Type: multipart/mixed; boundary=%b", id="another field"),
        pytest.param(b"X: a\nContent-Type: multipart/mixed; boundary=%b", id="a line feed alone before it"),
        pytest.param(b'Content-Type: multipart/mixed; q="\r\nX: y"; boundary=%b', id="quotes across two fields"),
        pytest.param(b"Content-Type: multipart/mixed; boundary=%b\r\nX: " + b"a" * 4096, id="a very long head"),
        pytest.param(b"Content-Disposition: form-data\r\n\r\nContent-Type: multipart/mixed; boundary=%b", id="no head"),
    ],
)
def test_a_part_that_is_not_clearly_a_multipart_counts_by_its_bytes(head: bytes) -> None:
    old, new = ((head + b"\r\n\r\n").replace(b"%b", inner) + form(inner, FIELD) for inner in (b"old", b"new"))
    assert sent(b"a", old) == sent(b"b", old)
    assert sent(b"a", old) != sent(b"a", new)


def test_a_part_that_says_multipart_and_is_none_counts_by_its_bytes() -> None:
    old, new = (b"Content-Type: multipart/mixed; boundary=%b\r\n\r\nno parts" % inner for inner in (b"old", b"new"))
    assert sent(b"a", old) == sent(b"b", old)
    assert sent(b"a", old) != sent(b"a", new)


# Hostile bodies.


def test_a_body_with_more_parts_than_any_backend_takes_is_compared_by_its_bytes() -> None:
    assert sent(b"a", *[b""] * 1024) == sent(b"b", *[b""] * 1024)
    assert sent(b"a", *[b""] * 1025) == raw(form(b"a", *[b""] * 1025))


def filled(pattern: bytes) -> bytes:
    return (pattern * (LIMIT // len(pattern) + 1))[:LIMIT]


def heads(value: bytes) -> bytes:
    """As many parts, each with as long a head, as are looked at."""
    head = (b"Content-Type: multipart/mixed" + value * 4096)[:4000]
    return form(b"x", *[b"%b\r\n\r\n%b" % (head, b"a" * 6000)] * 1000)


@pytest.mark.parametrize(
    ("boundary", "body"),
    [
        pytest.param(b"x", filled(b"\r\n--"), id="nothing but beginnings of delimiters"),
        pytest.param(b"x", filled(b"\r\n--x"), id="nothing but delimiters"),
        pytest.param(b"x", filled(b"\r\n--x\r\n"), id="nothing but empty parts"),
        pytest.param(b"x", filled(b"--x"), id="nothing but boundaries"),
        pytest.param(b"-" * 69 + b"x", filled(b"-"), id="a boundary that is missed at its end everywhere"),
        pytest.param(b"x" + b"-" * 69, filled(b"-"), id="a boundary that is missed at its beginning everywhere"),
        pytest.param(b"-" * 70, filled(b"-"), id="a boundary that overlaps itself"),
        pytest.param(b"x", heads(b";a=b"), id="parameters"),
        pytest.param(b"x", heads(b'; a="\\"'), id="quotes that never end"),
        pytest.param(b"x", heads(b"\r\n "), id="folds"),
        pytest.param(b"x", heads(b"\r\nContent-Type:"), id="fields"),
    ],
)
@pytest.mark.timeout(20)
def test_a_hostile_body_of_10_mib_takes_at_most_three_times_its_memory(boundary: bytes, body: bytes) -> None:
    """And 20 to 150 ms, where a harmless one takes 11: what is not linear runs into the timeout."""
    declared = b"multipart/form-data; boundary=" + boundary
    tracemalloc.start()
    try:
        made(declared, body)
        assert tracemalloc.get_traced_memory()[1] < 3 * LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("value", [b";a=b", b';a="', b"\r\n ", b";", b"; boundary=", b'; a="\\"', b"a", b'"', b" "])
def test_a_hostile_content_type_takes_linear_time(value: bytes) -> None:
    body = form(b"x", FIELD)
    declared = b"multipart/form-data" + value * (1_000_000 // len(value)) + b"\0; boundary=x"
    assert made(declared, body) == raw(body)
