"""`check --explain METHOD PATH`, as an operator types it."""

import json

import pytest
from click.testing import CliRunner, Result

from config.problems import PREFIX
from proxy.__main__ import NAME, cli

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
RULES = [
    {"path": "/refunds/**"},
    {"path": "/payments/**", "methods": ["PUT", "DELETE"]},
    {"path": "/payments/{id}", "require_key": True, "retention": "90m", "body": "64KiB", "on_concurrent": "wait"},
    {"path": "/payments/**", "protect": False},
]


def ask(method: str, path: str, *flags: str, rules: object = None) -> Result:
    """Nothing listens at the API, and no store is opened: nothing of it is needed."""
    variables: dict[str, str | None] = {} if rules is None else {f"{PREFIX}RULES": json.dumps(rules)}
    arguments = ["check", "--upstream", "http://127.0.0.1:1", "--store", "redis://127.0.0.1:1", *flags]
    return CliRunner().invoke(cli, [*arguments, "--explain", method, path], prog_name=NAME, env=variables)


def told(method: str, path: str, *flags: str, rules: object = None) -> dict[str, list[str]]:
    """Word → lines."""
    result = ask(method, path, *flags, rules=rules)
    assert (result.exit_code, result.stderr) == (0, "")
    found: dict[str, list[str]] = {}
    word = ""
    for line in result.stdout.splitlines():
        word = line[:12].strip() or word
        found.setdefault(word, []).append(line[12:])
    return found


def test_the_first_rule_that_matches_is_told_and_why_none_before_does() -> None:
    said = told("POST", "/x/..//PAYMENTS/%34%32;v=1/?page=2", rules=RULES)
    assert said["request"] == ["POST /x/..//PAYMENTS/%34%32;v=1/"]
    assert said["path"] == ["/PAYMENTS/42, as rules and scopes see it"]
    assert said["rule"] == [
        'rules[3] applies: path = "/payments/{id}", require_key = true, retention = "90m", on_concurrent = "wait",'
        ' body = "64KiB"',
        "rules[1] does not: its path is /refunds/**",
        "rules[2] does not: it is for DELETE, PUT",
    ]
    assert said["guarded"] == ["with a key in Idempotency-Key: it reaches the API at most once"]
    assert said["no key"] == ["400, not forwarded"]
    assert said["retention"] == ["90m"]
    assert said["concurrent"] == ["waits for the first, at most 30s"]
    assert said["body"] == ["at most 64KiB, else 413"]
    assert said["record"] == ["of a body of at most 1MiB, else it says Truncated"]
    assert said["scope"] == ["one for all"]


def test_where_no_rule_matches_the_general_settings_hold() -> None:
    said = told("POST", "/orders", rules=RULES)
    assert said["rule"][0] == "none applies"
    assert len(said["rule"]) == 1 + len(RULES)
    assert said["no key"] == ["it passes through"]
    assert said["retention"] == ["24h"]
    assert said["reuse"] == said["concurrent"] == said["mismatch"] == ["409"]
    assert said["released by"] == ["401, 429"]


def test_what_a_preset_changes_is_told() -> None:
    said = told("POST", "/v1/charges", "--preset", "stripe")
    assert said["rule"] == ["there are none"]
    assert said["reuse"] == ["the recorded response, to who may see it"]
    assert said["mismatch"] == ["refused as another request"]
    assert said["scope"] == ["the value of Stripe-Account; the value of Stripe-Context; the first of Authorization"]


def test_a_request_that_a_rule_leaves_alone_passes_through_and_the_rule_is_named() -> None:
    said = told("POST", "/payments/a/b", rules=RULES)
    assert said["guarded"] == ["no: rules[4] has protect = false", "it passes through, with a key or without"]
    assert "retention" not in said


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_method_that_is_not_guarded_passes_through(method: str) -> None:
    said = told(method, "/payments/1", rules=RULES)
    assert said["guarded"][0] == f"no: {method} is not guarded, only POST and what rules add"


def test_a_method_that_a_rule_adds_is_guarded_there() -> None:
    assert told("PUT", "/payments/1", rules=RULES)["rule"][0].startswith("rules[2] applies")
    assert told("PUT", "/orders", rules=RULES)["guarded"][0].startswith("no: PUT is not guarded")


def test_one_client_of_mangopay_is_one_scope_where_it_posts_and_where_it_asks() -> None:
    posted = told("POST", "/V3.0/acme/transfers", "--preset", "mangopay")
    asked = told("GET", f"/v2.01/acme/responses//{KEY}", "--preset", "mangopay")
    assert posted["scope"] == asked["scope"] == ["client = acme"]
    assert asked["retrieval"] == [f"shown is the record of the key in /{{version}}/{{client}}/responses/{{key}}, {KEY}"]
    assert asked["to"] == ["whom the API lets see /v2.01/{client}/clients"]
    outside = told("POST", "/ping", "--preset", "mangopay")
    assert outside["scope"] == ["that of all paths that do not begin as /{_}/{client}/"]
    token = told("POST", "/v2.01/oauth/token", "--preset", "mangopay")
    assert token["guarded"][0] == "no: rules[1] has protect = false"
    assert told("POST", "/oauth/token", "--preset", "mangopay")["guarded"][0] == "no: rules[2] has protect = false"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_question_for_a_key_that_is_none_is_told_so(method: str) -> None:
    said = told(method, "/responses/short")
    assert said["retrieval"] == [
        "400: what stands in the place of the key is none: /responses/{key}, short",
    ]


def test_a_scope_of_several_parts_names_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}SCOPE__FROM", '["header", "jwt", "credential"]')
    monkeypatch.setenv(f"{PREFIX}SCOPE__HEADER", "X-Tenant")
    monkeypatch.setenv(f"{PREFIX}JWT__KEYS", "keys.json")
    monkeypatch.setenv(f"{PREFIX}RESPONSES__AUTHORIZE", "jwt")
    assert told("POST", "/payments")["scope"] == [
        "the value of X-Tenant; the claim sub of the verified token; the first of Authorization, X-Api-Key"
    ]
    assert told("GET", f"/responses/{KEY}")["to"] == ["who presents a verified token with the first request's sub"]


def test_where_clients_are_asked_for_certificates_one_counts_as_a_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"CERTIFICATE": "c.pem", "KEY": "k.pem", "CLIENT_CA": "ca.pem", "CLIENT_CERTIFICATES": "optional"}
    for name, value in settings.items():
        monkeypatch.setenv(f"{PREFIX}TLS__{name}", value)
    monkeypatch.setenv(f"{PREFIX}SCOPE__FROM", "credential")
    counts = "the first of Authorization, X-Api-Key, else the client certificate"
    assert told("POST", "/payments")["scope"] == [counts]
    assert told("GET", f"/responses/{KEY}")["to"] == [f"who presents the first request's credential, {counts}"]


@pytest.mark.parametrize(
    ("method", "path", "why"),
    [
        ("POST", "payments", "PATH must begin with a slash"),
        ("POST", "http://api/payments", "PATH must begin with a slash"),
        ("post", "/payments", "METHOD must be in capitals"),
        ("PÖST", "/payments", "METHOD must be in capitals"),
    ],
)
def test_what_is_no_request_is_told_so(method: str, path: str, why: str) -> None:
    result = ask(method, path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr


def test_bad_settings_are_told_before_anything_is_explained() -> None:
    result = ask("POST", "/payments", rules=[{"path": "x"}])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "rules[1].path = 'x' (by IDEMPOTENCY_PROXY_RULES): must begin with a slash" in result.stderr
