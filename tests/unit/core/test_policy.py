"""What is this request? Passed, guarded, answered from the records, or refused."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.key import KeyRule
from proxy.core.path import Pattern
from proxy.core.policy import Decision, Guard, Pass, PathTemplate, Policy, Refuse, Retrieve, Rule
from proxy.core.refusal import Refusal
from proxy.core.treatment import Treatment
from tests.unit.core.samples import TREATMENT

KEY = b"bf6cce22-4c12-454f-ac05-ca20c8683735"
RULE = KeyRule(16, 36, "A-Za-z0-9-")
POLICY = Policy(RULE, ["POST"], ["/responses/{key}", "/{version}/{client}/responses/{key}/"], TREATMENT)
INVALID = Refuse(Refusal.KEY_INVALID)

keys = st.text(string.ascii_letters + string.digits + "-", min_size=16, max_size=36).map(str.encode)


class TestGuardedMethod:
    def test_a_post_with_a_key_is_guarded(self) -> None:
        assert POLICY.decide(b"POST", b"/v2.01/acme/payouts/bankwire/", [KEY]) == Guard(KEY, TREATMENT)

    def test_a_post_without_a_key_passes_as_before(self) -> None:
        assert POLICY.decide(b"POST", b"/v2.01/acme/payouts/bankwire/", []) == Pass()

    @pytest.mark.parametrize("values", [[b""], [b"short"], [KEY, KEY], [KEY[:16] + b"," + KEY[:16]], [b"\xff" * 20]])
    def test_a_post_with_a_bad_key_is_refused_never_passed_without_protection(self, values: list[bytes]) -> None:
        assert POLICY.decide(b"POST", b"/v2.01/acme/payouts/bankwire/", values) == INVALID

    def test_a_post_to_the_path_of_the_responses_is_a_post_like_any_other(self) -> None:
        assert POLICY.decide(b"POST", b"/responses/" + KEY, []) == Pass()
        assert POLICY.decide(b"POST", b"/responses/" + KEY, [b"a" * 16]) == Guard(b"a" * 16, TREATMENT)

    def test_which_methods_are_guarded_is_configured(self) -> None:
        policy = Policy(RULE, ["PUT", "PATCH"], ["/responses/{key}"], TREATMENT)
        assert policy.decide(b"PUT", b"/", [KEY]) == Guard(KEY, TREATMENT)
        assert policy.decide(b"PATCH", b"/", [KEY]) == Guard(KEY, TREATMENT)
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
        case Guard(key, treatment):
            assert treatment is TREATMENT
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
        ("template", "path", "filled"),
        [
            ("/responses/{key}", b"/v2.01/acme/payouts", "/responses/k/"),
            ("/responses/{key}/", b"/", "/responses/k/"),
            ("/responses/{key}/shown", b"/", "/responses/k/shown/"),
            ("/{version}/{client}/responses/{key}", b"/v2.01/acme/payouts", "/v2.01/acme/responses/k/"),
            ("/{version}/{client}/responses/{key}", b"//v2.01///acme", "/v2.01/acme/responses/k/"),
            ("/{version}/{client}/responses/{key}", b"/v2.01/acme/", "/v2.01/acme/responses/k/"),
            ("/{version}/{client}/responses/{key}", b"/v2.01", None),
            ("/{version}/{client}/responses/{key}", b"/v2.01/", None),
            ("/{version}/{client}/responses/{key}", b"/", None),
            ("/{version}/{client}/responses/{key}", b"*", None),
            ("/v2.01/{client}/responses/{key}", b"/v2.01/acme/payouts", "/v2.01/acme/responses/k/"),
            ("/v2.01/{client}/responses/{key}", b"/V3.0/acme/payouts", None),
            ("/responses/{key}/{client}", b"/payouts/acme", None),  # another request: nothing says what {client} is
            ("/a{b}/{key}", b"/", "/a{b}/k/"),
        ],
    )
    def test_the_path_of_a_key_is_made_from_the_beginning_of_the_path_of_its_request(
        self, template: str, path: bytes, filled: str | None
    ) -> None:
        assert PathTemplate(template).fill("k", path) == filled

    @pytest.mark.parametrize("path", [b"/a%20b%C3%A9;c=1/x", b"/other/../a%20b%c3%a9", b"/./a b\xc3\xa9//"])
    def test_a_capture_is_written_anew_as_a_scope_sees_it(self, path: bytes) -> None:
        """Who follows the link is shown the record of the same scope."""
        filled = PathTemplate("/{client}/responses/{key}").fill("k", path)
        assert filled == "/a%20b%C3%A9/responses/k/"

    @given(keys, st.sampled_from([b"/v/c", b"/v/c/", b"//v//c/payouts/bankwire"]))
    def test_the_path_that_it_makes_it_also_matches(self, key: bytes, request: bytes) -> None:
        for form in ("/a//responses/{key}", "/{version}/{client}/responses/{key}"):
            template = PathTemplate(form)
            path = template.fill(key.decode(), request)
            assert path is not None
            assert template.key(path.encode("latin-1")) == key

    def test_a_path_of_nothing_but_slashes_costs_no_time(self) -> None:
        """Quadratic time on 8 KiB would be seen, cubic would end the test at its timeout."""
        template = PathTemplate("/{a}/{b}/{c}/{key}")
        for path in (b"/" * 8192 + b"\n", b"/a" * 4096 + b"\n", b"/a/b/c/k" + b"/" * 8192 + b"x"):
            assert template.key(path) is None
            template.fill("k", path)


def test_the_first_template_that_matches_says_what_the_key_is() -> None:
    policy = Policy(RULE, [], ["/{key}/status", "/status/{key}"], TREATMENT)
    decisions: list[Decision] = [policy.decide(b"GET", path, []) for path in (b"/%b/status" % KEY, b"/status/%b" % KEY)]
    assert decisions == [Retrieve(KEY), Retrieve(KEY)]


class TestLogged:
    """A path is not logged with what may be a key, valid or not."""

    @pytest.mark.parametrize(
        ("path", "masked"),
        [
            (b"/responses/%b" % KEY, b"/responses/{key}"),
            (b"/v2.01/acme/responses//%b/" % KEY, b"/v2.01/acme/responses//{key}/"),
            (b"/responses/no%20key", b"/responses/{key}"),
            (b"/payouts/%b" % KEY, b"/payouts/%b" % KEY),
        ],
    )
    def test_whatever_stands_where_a_key_would(self, path: bytes, masked: bytes) -> None:
        assert POLICY.mask(path) == masked


USUAL = TREATMENT
STRICT = TREATMENT._replace(requires_key=True)
REPLAYED = TREATMENT._replace(replays=True)


def rule(path: str, treatment: Treatment | None, *methods: str) -> Rule:
    return Rule(Pattern(path), frozenset(method.encode() for method in methods or ("POST",)), treatment)


def ruled(*rules: Rule) -> Policy:
    return Policy(RULE, ["POST"], ["/responses/{key}"], USUAL, rules)


class TestRules:
    def test_the_first_that_matches_counts(self) -> None:
        policy = ruled(rule("/a/b", REPLAYED), rule("/a/**", STRICT), rule("/a/c", REPLAYED))
        assert policy.decide(b"POST", b"/a/b", [KEY]) == Guard(KEY, REPLAYED)
        assert policy.decide(b"POST", b"/a/c", [KEY]) == Guard(KEY, STRICT)
        assert policy.decide(b"POST", b"/a", [KEY]) == Guard(KEY, STRICT)
        assert [policy.rule(b"POST", path) for path in ("/a/b", "/a/c", "/a", "/b")] == [0, 1, 1, None]

    def test_where_none_matches_all_is_as_usual(self) -> None:
        policy = ruled(rule("/a", None), rule("/b/{_}", STRICT))
        for path in (b"/", b"/ab", b"/b", b"/b/", b"/b/c/d", b"/x/a"):
            assert policy.decide(b"POST", path, [KEY]) == Guard(KEY, USUAL)
            assert policy.decide(b"POST", path, []) == Pass()

    @pytest.mark.parametrize("values", [[], [KEY], [b"bad"], [KEY, KEY]])
    def test_what_is_not_protected_passes_with_whatever_key_it_has(self, values: list[bytes]) -> None:
        policy = ruled(rule("/{_}/oauth/token", None))
        assert policy.decide(b"POST", b"/v2.01/oauth/token", values) == Pass()
        assert policy.decide(b"POST", b"/v2.01/oauth/token", values, misnamed=True) == Pass()

    def test_a_key_that_is_required_is_missing_where_there_is_none(self) -> None:
        policy = ruled(rule("/pay", STRICT))
        assert policy.decide(b"POST", b"/pay", []) == Refuse(Refusal.KEY_MISSING)
        assert policy.decide(b"POST", b"/pay", [b"bad"]) == INVALID
        assert policy.decide(b"POST", b"/pay", [KEY]) == Guard(KEY, STRICT)
        assert policy.decide(b"GET", b"/pay", []) == Pass()

    def test_who_wrote_the_field_with_underscores_is_told_so_and_not_that_it_is_missing(self) -> None:
        policy = ruled(rule("/pay", STRICT))
        for path in (b"/pay", b"/other"):
            assert policy.decide(b"POST", path, [], misnamed=True) == INVALID
            assert policy.decide(b"POST", path, [KEY], misnamed=True) == INVALID

    def test_a_rule_guards_methods_that_are_not_guarded_elsewhere_on_its_paths_alone(self) -> None:
        policy = ruled(rule("/pay/**", STRICT, "PUT", "DELETE"))
        assert policy.decide(b"PUT", b"/pay/1", [KEY]) == Guard(KEY, STRICT)
        assert policy.decide(b"DELETE", b"/pay/1", []) == Refuse(Refusal.KEY_MISSING)
        assert policy.decide(b"PUT", b"/other", [KEY]) == Pass()
        assert policy.decide(b"PUT", b"/other", [b"bad"]) == Pass()
        assert policy.decide(b"POST", b"/pay/1", [KEY]) == Guard(KEY, USUAL)
        assert policy.decide(b"PATCH", b"/pay/1", [KEY]) == Pass()

    def test_one_rule_for_one_method_and_another_for_another(self) -> None:
        policy = ruled(rule("/pay", None, "PUT"), rule("/pay", REPLAYED, "POST"))
        assert policy.decide(b"PUT", b"/pay", [KEY]) == Pass()
        assert policy.decide(b"POST", b"/pay", [KEY]) == Guard(KEY, REPLAYED)

    @pytest.mark.parametrize(
        "path",
        [
            b"/v1/pay/cards",
            b"/v1/pay/cards/",
            b"//v1///pay/cards",
            b"/V1/Pay/CARDS",
            b"/v1/%70ay/cards",
            b"/v1/p%61y%2Fcards",
            b"/v1/./pay/x/../cards",
            b"/v1/pay/x/%2e%2e/cards",
            b"/v1/pay/x/..;v=1/cards",
            b"/v1/pay;v=1/cards;jsessionid=1",
            b"/../v1/pay/cards",
            b"/%76%31/pay%2f%2fcards",
        ],
    )
    def test_a_client_cannot_choose_its_rule_by_the_way_it_writes_the_path(self, path: bytes) -> None:
        """RFC 3986 section 6.2.2: to the backend they may all be one."""
        assert ruled(rule("/v1/pay/cards", STRICT)).decide(b"POST", path, []) == Refuse(Refusal.KEY_MISSING)
        unprotected = ruled(rule("/v1/pay/cards", None), rule("/v1/pay/**", STRICT))
        assert unprotected.decide(b"POST", path, []) == Pass()

    @pytest.mark.parametrize("path", [b"/free/../pay", b"/free/%2e%2e/pay", b"/free/..;/pay", b"/free%2f..%2fpay"])
    def test_what_only_looks_like_an_unprotected_path_stays_protected(self, path: bytes) -> None:
        policy = ruled(rule("/free/**", None))
        assert policy.decide(b"POST", path, [KEY]) == Guard(KEY, USUAL)

    def test_a_record_is_shown_whatever_the_rules_say_of_its_path(self) -> None:
        policy = ruled(rule("/responses/**", None), rule("/**", STRICT))
        assert policy.decide(b"GET", b"/responses/" + KEY, []) == Retrieve(KEY)
        assert policy.decide(b"HEAD", b"/responses/" + KEY, []) == Retrieve(KEY)
