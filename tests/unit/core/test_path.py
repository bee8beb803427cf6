"""One reading of a path, and the templates that are matched on it."""

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.core.path import Pattern, normalised, template_problem

# Text that is rich in what paths are confused by.
texts = st.lists(
    st.sampled_from([*"ab/.;%\\ \xe9", "..", "/../", "%2F", "%2e", "%252e", "%3b", "%zz", "//", "\0"]), max_size=12
).map("".join)
paths = texts.map(lambda text: text.encode("latin-1")) | st.binary(max_size=30)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(b"/a/b", id="as it is"),
        pytest.param(b"a/b", id="no slash in front"),
        pytest.param(b"/a/b/", id="a slash at the end"),
        pytest.param(b"//a///b//", id="repeated slashes"),
        pytest.param(b"/a/./b/.", id="dots"),
        pytest.param(b"/a/x/../b", id="two dots"),
        pytest.param(b"/a/x/y/../../b", id="two dots, twice"),
        pytest.param(b"/a/b/x/..", id="two dots at the end"),
        pytest.param(b"/../../a/b", id="above the root is the root"),
        pytest.param(b"/x//../a/b", id="an empty segment is none to two dots"),
        pytest.param(b"/%61/%62", id="percent-encoded letters"),
        pytest.param(b"/a%2Fb", id="an encoded slash parts"),
        pytest.param(b"/a/x/%2e%2E/b", id="encoded dots"),
        pytest.param(b"/a/x%2f..%2fb", id="encoded slashes around dots"),
        pytest.param(b"/a/b;v=1", id="a parameter"),
        pytest.param(b"/a;x=1;y=2/b;", id="parameters of several segments"),
        pytest.param(b"/%61/b%3Bv=1", id="a parameter behind an encoded semicolon"),
        pytest.param(b"/a/;v=1/b", id="a segment of parameters alone"),
        pytest.param(b"/a/x/..;v=1/b", id="two dots with a parameter"),
        pytest.param(b"/a/.;v=1/b", id="a dot with a parameter"),
    ],
)
def test_every_way_of_writing_a_path_is_one_path(path: bytes) -> None:
    assert normalised(path) == "/a/b"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param(b"", "/", id="nothing"),
        pytest.param(b"/", "/", id="the root"),
        pytest.param(b"//", "/", id="the root, twice"),
        pytest.param(b"/..", "/", id="above the root"),
        pytest.param(b"/a/..", "/", id="back to the root"),
        pytest.param(b"/A/b", "/A/b", id="case is kept"),
        pytest.param(b"/a%252Fb", "/a%2Fb", id="a double encoding is decoded once"),
        pytest.param(b"/a/%252e%252e/b", "/a/%2e%2e/b", id="dots in a double encoding are none"),
        pytest.param(b"/100%/%zz%4", "/100%/%zz%4", id="what is no escape stays"),
        pytest.param(b"/a\\..\\b", "/a\\..\\b", id="a backslash is no slash"),
        pytest.param(b"/a%5cb", "/a\\b", id="nor is an encoded one"),
        pytest.param(b"/.../.a/..b", "/.../.a/..b", id="three dots, and names with dots"),
        pytest.param(b"/a+b%20c", "/a+b c", id="a plus is no blank"),
        pytest.param(b"/%00a", "/\0a", id="NUL"),
        pytest.param("/caf\xe9".encode(), "/caf\xc3\xa9", id="the bytes of UTF-8, one by one"),
        pytest.param(b"/caf%C3%A9", "/caf\xc3\xa9", id="the same, encoded"),
        pytest.param(b"/\xff%fe", "/\xff\xfe", id="bytes that are no UTF-8"),
    ],
)
def test_a_path_is_read_once_and_in_one_order(path: bytes, text: str) -> None:
    assert normalised(path) == text


@given(paths)
@example(b"/%252e%252e/%25")
@example(b"/a%3f%23")
def test_a_normalised_path_that_is_quoted_again_is_the_same(path: bytes) -> None:
    text = normalised(path)
    assert normalised(quote(text.encode("latin-1")).encode()) == text


@given(paths)
def test_a_normalised_path_has_one_leading_slash_and_no_empty_or_dotted_segment(path: bytes) -> None:
    text = normalised(path)
    head, *segments = text.split("/")
    assert head == ""
    assert text == "/" or not {"", ".", ".."} & set(segments)
    assert ";" not in text


@given(paths, st.data())
def test_any_byte_may_be_written_as_an_escape(path: bytes, data: st.DataObject) -> None:
    plain = path.replace(b"%", b"")  # an escape's own percent sign would be a double encoding
    escaped = data.draw(st.lists(st.booleans(), min_size=len(plain), max_size=len(plain)))
    written = b"".join(b"%%%02x" % byte if escape else bytes([byte]) for byte, escape in zip(plain, escaped))
    assert normalised(written) == normalised(plain)


@given(paths, paths)
def test_slashes_dots_and_detours_between_two_paths_are_nothing(one: bytes, other: bytes) -> None:
    plain = normalised(one + b"/" + other)
    for between in (b"//", b"/./", b"/x/../", b"/%2e/", b"/;v=1/", b"%2f"):
        assert normalised(one.rstrip(b"%") + between + other) == normalised(one.rstrip(b"%") + b"/" + other)
    assert plain == normalised(b"//" + one + b"/" + other + b"/")


# Templates.


@pytest.mark.parametrize(
    ("template", "path", "captured"),
    [
        pytest.param("/", b"/", (), id="the root"),
        pytest.param("/", b"/a", None, id="the root is not what lies below"),
        pytest.param("/a/b", b"/a/b/", (), id="a fixed path"),
        pytest.param("/a/b/", b"/a/b", (), id="a slash at the end is none"),
        pytest.param("//a//b", b"/a/b", (), id="nor are repeated ones"),
        pytest.param("/a/b", b"/a", None, id="too short"),
        pytest.param("/a/b", b"/a/b/c", None, id="too long"),
        pytest.param("/a/b", b"/a/bc", None, id="a longer segment"),
        pytest.param("/a.b", b"/axb", None, id="a dot is a dot"),
        pytest.param("/Payments/b", b"/pAYMENTS/%42", (), id="case is ignored"),
        pytest.param("/{_}/{client}/x", b"/V3.0/AcMe/X", ("AcMe",), id="a capture keeps its case"),
        pytest.param("/{b}/{a}", b"/1/2", ("1", "2"), id="captures in order"),
        pytest.param("/{_}/{_}", b"/1/2", (), id="what does not count"),
        pytest.param("/{a}", b"/", None, id="a capture takes a segment"),
        pytest.param("/{a}", b"/1/2", None, id="and only one"),
        pytest.param("/{a}", b"/caf%C3%A9", ("caf\xc3\xa9",), id="bytes that are not ASCII"),
        pytest.param("/{a}", b"/a%0Ab", ("a\nb",), id="a line feed"),
        pytest.param("/{a}", b"/a;v=1", ("a",), id="a parameter is not captured"),
        pytest.param("/{a}/c", b"/x/../acme/c", ("acme",), id="detours are not captured"),
        pytest.param("/**", b"/", (), id="anything: the root"),
        pytest.param("/**", b"/a/b", (), id="anything: a path"),
        pytest.param("/a/**", b"/a", (), id="any rest: none"),
        pytest.param("/a/**", b"/a/b%0A/c", (), id="any rest: two segments, a line feed in them"),
        pytest.param("/a/**", b"/ab", None, id="any rest begins with a slash"),
        pytest.param("/a/**", b"/b/a", None, id="any rest of another path"),
        pytest.param("/{a}/**", b"/1/2/3", ("1",), id="any rest behind a capture"),
    ],
)
def test_a_template_matches_a_whole_normalised_path(
    template: str, path: bytes, captured: tuple[str, ...] | None
) -> None:
    assert Pattern(template).match(normalised(path)) == captured


@pytest.mark.parametrize(
    ("template", "path", "captured"),
    [
        pytest.param("/{_}/{client}/", b"/V3.0/acme/payouts/1", ("acme",), id="a scope"),
        pytest.param("/{_}/{client}/", b"/v2.01/acme", ("acme",), id="nothing follows"),
        pytest.param("/{_}/{client}/", b"/V3.0", None, id="too short"),
        pytest.param("/a", b"/ab/c", None, id="a segment is whole"),
        pytest.param("/", b"/", (), id="the root"),
        pytest.param("/", b"/a", (), id="below the root"),
        pytest.param("/a/**", b"/a/b", (), id="any rest anyway"),
    ],
)
def test_a_prefix_matches_whatever_follows(template: str, path: bytes, captured: tuple[str, ...] | None) -> None:
    assert Pattern(template, prefix=True).match(normalised(path)) == captured


def test_a_pattern_names_the_captures_that_count() -> None:
    assert Pattern("/{_}/{client}/x/{id}/{_}/**").names == ("client", "id")
    assert Pattern("/a").names == ()


def test_letters_that_are_not_ascii_are_not_folded_into_it() -> None:
    for letter in map(chr, range(128, 256)):
        assert Pattern("/ss").match("/" + letter) is None
        assert not any(Pattern("/" + ascii_letter).match("/" + letter) for ascii_letter in "skiaoy")


def reference(template: list[str], path: list[str]) -> list[tuple[str, str]] | None:
    """What a template captures, segment by segment."""
    if template == ["**"]:
        return []
    if not template or not path:
        return None if template or path else []
    here, there = template[0], path[0]
    if not here.startswith("{") and here.lower() != there.lower():
        return None
    rest = reference(template[1:], path[1:])
    captured = [(here, there)] if here.startswith("{") and here != "{_}" else []
    return None if rest is None else captured + rest


segments = st.lists(st.sampled_from(["a", "B", "c"]), max_size=4)
templates = st.tuples(
    st.lists(st.sampled_from(["a", "b", "{_}", "{x}", "{y}"]), max_size=4), st.sampled_from([[], ["**"]])
).map(lambda both: both[0] + both[1])


@given(templates, segments)
def test_a_pattern_takes_a_path_segment_by_segment(template: list[str], path: list[str]) -> None:
    text = "/" + "/".join(template)
    expected = reference(template, path)
    if template_problem(text) is None:
        values = None if expected is None else tuple(value for _, value in expected)
        assert Pattern(text).match("/" + "/".join(path)) == values
    else:
        assert template.count("{x}") > 1 or template.count("{y}") > 1


@pytest.mark.timeout(20)
def test_a_hostile_path_takes_linear_time() -> None:
    pattern = Pattern("/" + "{_}/" * 50 + "x/**")
    for path in (
        b"/a" * 200_000,
        b"/.." * 200_000,
        b"/a/.." * 200_000,
        b"%2f" * 200_000,
        b"%" * 200_000,
        b";" * 200_000,
    ):
        assert pattern.match(normalised(path)) is None


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        pytest.param("", "must begin with a slash", id="empty"),
        pytest.param("a/b", "must begin with a slash", id="no slash"),
        pytest.param("**", "must begin with a slash", id="no slash before **"),
        pytest.param("https://api.example.com/a", "must begin with a slash", id="a URL"),
        pytest.param("/caf\xe9", "must be ASCII", id="not ASCII"),
        pytest.param("/{\xe9}", "must be ASCII", id="a name that is not ASCII"),
        pytest.param("/a?b=1", "must be a path alone", id="a query"),
        pytest.param("/a#b", "must be a path alone", id="a fragment"),
        pytest.param("/a%20b", "must be written decoded", id="an escape"),
        pytest.param("/a;v=1", "must be written decoded", id="a parameter"),
        pytest.param("/a/../b", "must not have . or ..", id="two dots"),
        pytest.param("/a/.", "must not have . or ..", id="a dot"),
        pytest.param("/**/a", "must have * only in **", id="** before the end"),
        pytest.param("/**/", "must have * only in **", id="a slash behind **"),
        pytest.param("/a/*", "must have * only in **", id="one star"),
        pytest.param("/a**", "must have * only in **", id="** within a segment"),
        pytest.param("/**/**", "must have * only in **", id="** twice"),
        pytest.param("/a{b}", "must have braces only around", id="braces within a segment"),
        pytest.param("/{a}{b}", "must have braces only around", id="two captures in a segment"),
        pytest.param("/{a", "must have braces only around", id="only opened"),
        pytest.param("/a}", "must have braces only around", id="only closed"),
        pytest.param("/{a/b}", "must have braces only around", id="a slash in braces"),
        pytest.param("/{}", "must have braces only around", id="no name"),
        pytest.param("/{1a}", "must have braces only around", id="a name that begins with a digit"),
        pytest.param("/{a-b}", "must have braces only around", id="a name with a dash"),
        pytest.param("/{a\n}", "must have braces only around", id="a name with a line feed"),
        pytest.param("/{a}/b/{a}", "must not have a name twice", id="a name twice"),
    ],
)
def test_what_is_wrong_with_a_template_is_said(template: str, problem: str) -> None:
    said = template_problem(template)
    assert said is not None
    assert said.startswith(problem)
    with pytest.raises(ValueError, match="must"):
        Pattern(template)


@pytest.mark.parametrize(
    "template",
    ["/", "//", "/a", "/a/", "/{_}/{_}/{client}/", "/**", "/a/**", "/{a_1}/{_b}", "/a b", "/...", "/a:b@c~,='"],
)
def test_a_template_without_a_problem(template: str) -> None:
    assert template_problem(template) is None
    Pattern(template)
