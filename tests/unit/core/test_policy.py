"""What is this request? Passed, guarded, answered from the records, or refused."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.key import KeyRule
from proxy.core.policy import Decision, Guard, Pass, PathTemplate, Policy, Refuse, Retrieve
from proxy.core.refusal import Refusal

KEY = b"bf6cce22-4c12-454f-ac05-ca20c8683735"
RULE = KeyRule(16, 36, "A-Za-z0-9-")
POLICY = Policy(RULE, ["POST"], ["/responses/{key}", "/{version}/{client}/responses/{key}/"])
INVALID = Refuse(Refusal.KEY_INVALID)

keys = st.text(string.ascii_letters + string.digits + "-", min_size=16, max_size=36).map(str.encode)


class TestGuardedMethod:
    def test_a_post_with_a_key_is_guarded(self) -> None:
        assert POLICY.decide(b"POST", b"/v2.01/acme/payouts/bankwire/", [KEY]) == Guard(KEY)

    def test_a_post_without_a_key_passes_as_before(self) -> None:
        assert POLICY.decide(b"POST", b"/v2.01/acme/payouts/bankwire/", []) == Pass()

    @pytest.mark.parametrize("values", [[b""], [b"short"], [KEY, KEY], [KEY[:16] + b"," + KEY[:16]], [b"\xff" * 20]])
    def test_a_post_with_a_bad_key_is_refused_never_passed_without_protection(self, values: list[bytes]) -> None:
        assert POLICY.decide(b"POST", b"/v2.01/acme/payouts/bankwire/", values) == INVALID

    def test_a_post_to_the_path_of_the_responses_is_a_post_like_any_other(self) -> None:
        assert POLICY.decide(b"POST", b"/responses/" + KEY, []) == Pass()
        assert POLICY.decide(b"POST", b"/responses/" + KEY, [b"a" * 16]) == Guard(b"a" * 16)

    def test_which_methods_are_guarded_is_configured(self) -> None:
        policy = Policy(RULE, ["PUT", "PATCH"], ["/responses/{key}"])
        assert policy.decide(b"PUT", b"/", [KEY]) == Guard(KEY)
        assert policy.decide(b"PATCH", b"/", [KEY]) == Guard(KEY)
        assert policy.decide(b"POST", b"/", [KEY]) == Pass()


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"post", b"QUERY"])
@pytest.mark.parametrize("values", [[], [KEY], [b"bad"], [KEY, KEY]])
def test_on_a_method_that_is_not_guarded_the_key_is_no_business_of_ours(method: bytes, values: list[bytes]) -> None:
    assert POLICY.decide(method, b"/v2.01/acme/payouts/", values) == Pass()


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize(
    "path",
    [
        b"/responses/%b",
        b"/responses/%b/",
        b"/responses//%b",
        b"//responses///%b//",
        b"/v2.01/acme/responses/%b",
        b"/v2.01/acme/responses//%b/",
        b"///v2.01//acme/responses/%b///",
    ],
)
def test_the_response_of_a_key_is_shown_however_many_slashes_a_client_sends(method: bytes, path: bytes) -> None:
    assert POLICY.decide(method, path.replace(b"%b", KEY), []) == Retrieve(KEY)


def test_the_key_field_of_a_retrieval_does_not_matter() -> None:
    assert POLICY.decide(b"GET", b"/responses/" + KEY, [b"another-key-in-the-field"]) == Retrieve(KEY)


@pytest.mark.parametrize("method", [b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"QUERY", b"get"])
def test_other_methods_on_the_path_of_a_response_pass(method: bytes) -> None:
    assert POLICY.decide(method, b"/responses/" + KEY, []) == Pass()


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"*",
        b"/responses",
        b"/responses/",
        b"/responses//",
        b"/v2.01/acme/responses/",
        b"/Responses/" + KEY,
        b"/responses/" + KEY + b"/more",
        b"/x/responses/" + KEY,
        b"/a/b/c/responses/" + KEY,
        b"responses/" + KEY,
        b"/responses" + KEY,
        b"/responses%2F" + KEY,
        b"/responses/" + KEY + b"/\n/",
    ],
)
def test_the_path_without_a_key_and_any_other_path_passes(path: bytes) -> None:
    assert POLICY.decide(b"GET", path, []) == Pass()


@pytest.mark.parametrize(
    "asked",
    [
        b"short",
        b"a" * 37,
        KEY[:20] + b"%2F" + KEY[:5],
        KEY[:20] + b"%00",
        KEY[:20] + b"%0d%0aX:y",
        KEY[:20] + b"%",
        KEY[:20] + b"%zz",
        KEY[:20] + b"%252D",
        KEY[:20] + b"\xe9",
        KEY[:20] + b"%C3%A9",
        KEY[:20] + b";a=b",
        b"%2E%2E%2F" * 3,
        b"..",
    ],
)
def test_a_malformed_key_in_the_path_is_refused(asked: bytes) -> None:
    assert POLICY.decide(b"GET", b"/responses/" + asked, []) == INVALID


@given(keys, st.data())
def test_a_key_is_found_in_any_percent_encoding_between_any_slashes(key: bytes, data: st.DataObject) -> None:
    """RFC 3986 section 2.3: `%2D` and `-` are the same, and so are `%2d` and `%2D`."""
    spelling = st.sampled_from([b"%c", b"%%%02x", b"%%%02X"])
    asked = b"".join(data.draw(spelling) % byte for byte in key)
    slashes = st.integers(1, 4).map(lambda count: b"/" * count)
    for segments in ([b"responses"], [b"v2.01", b"acme", b"responses"]):
        path = b"".join(data.draw(slashes) + segment for segment in [*segments, asked])
        path += data.draw(st.just(b"") | slashes)
        assert POLICY.decide(b"GET", path, []) == Retrieve(key)


@given(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"DELETE"]) | st.binary(max_size=8),
    st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"/responses/" + rest),
    st.lists(st.binary(max_size=40) | keys, max_size=3),
)
def test_any_request_has_a_decision_and_only_valid_keys_get_in(method: bytes, path: bytes, values: list[bytes]) -> None:
    match POLICY.decide(method, path, values):
        case Guard(key):
            assert method == b"POST"
            assert RULE.read([key]) == key
        case Retrieve(key):
            assert method in (b"GET", b"HEAD")
            assert RULE.read([key]) == key
        case Refuse(refusal):
            assert refusal is Refusal.KEY_INVALID
        case Pass():
            assert method != b"POST" or not values


class TestTemplate:
    def test_what_is_no_capture_is_taken_literally(self) -> None:
        template = PathTemplate("/a.b/{not a name}/(x)+/{key}")
        assert template.key(b"/a.b/{not a name}/(x)+/k") == b"k"
        assert template.key(b"/aXb/{not a name}/(x)+/k") is None
        assert template.key(b"/a.b/other/(x)+/k") is None
        assert template.key(b"/a.b/{not a name}/xx/k") is None

    def test_a_capture_takes_one_segment_never_none_and_never_two(self) -> None:
        template = PathTemplate("/{client}/responses/{key}")
        assert template.key(b"/acme/responses/k") == b"k"
        assert template.key(b"/responses/k") is None
        assert template.key(b"/a/b/responses/k") is None

    @pytest.mark.parametrize(
        ("template", "path"),
        [
            ("/responses/{key}", "/responses/k/"),
            ("/responses/{key}/", "/responses/k/"),
            ("/responses/{key}/shown", "/responses/k/shown/"),
            ("/{version}/{client}/responses/{key}", None),
        ],
    )
    def test_the_path_of_a_key_is_made_where_nothing_else_must_be_known(self, template: str, path: str | None) -> None:
        assert PathTemplate(template).fill("k") == path

    @given(keys)
    def test_the_path_that_it_makes_it_also_matches(self, key: bytes) -> None:
        template = PathTemplate("/a//responses/{key}")
        path = template.fill(key.decode())
        assert path is not None
        assert template.key(path.encode()) == key

    def test_a_path_of_nothing_but_slashes_costs_no_time(self) -> None:
        """Quadratic time on 8 KiB would be seen, cubic would end the test at its timeout."""
        template = PathTemplate("/{a}/{b}/{c}/{key}")
        for path in (b"/" * 8192 + b"\n", b"/a" * 4096 + b"\n", b"/a/b/c/k" + b"/" * 8192 + b"x"):
            assert template.key(path) is None


def test_the_first_template_that_matches_says_what_the_key_is() -> None:
    policy = Policy(RULE, [], ["/{key}/status", "/status/{key}"])
    decisions: list[Decision] = [policy.decide(b"GET", path, []) for path in (b"/%b/status" % KEY, b"/status/%b" % KEY)]
    assert decisions == [Retrieve(KEY), Retrieve(KEY)]
