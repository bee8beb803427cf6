"""Rules: a list of tables, which a later layer replaces whole, and whose problems are told by number and name."""

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest

from config.conflicts import _covers
from config.load import BadSettings, load
from config.settings import Rule
from proxy.core.path import Pattern

API = {"upstream.url": "http://api"}
RULES = """
[upstream]
url = "http://api"
[[rules]]
path = "/tokens"
protect = false
[[rules]]
path = "/payments/**"
methods = ["POST", "PUT"]
require_key = true
retention = "48h"
"""


def toml(directory: Path, text: str) -> Path:
    file = directory / "proxy.toml"
    file.write_text(text, "utf-8")
    return file


def problems(config_file: Path | None, flags: Mapping[str, object] = API) -> list[str]:
    with pytest.raises(BadSettings) as bad:
        load(config_file, flags)
    return str(bad.value).split("\n  ")[1:]


def test_rules_are_taken_in_their_order_and_what_they_do_not_set_is_left_to_the_general(tmp_path: Path) -> None:
    tokens, payments = load(toml(tmp_path, RULES), {}).rules
    assert tokens == Rule(path="/tokens", protect=False)
    assert payments == Rule(path="/payments/**", methods=("POST", "PUT"), require_key=True, retention=48 * 3600.0)
    assert (payments.on_reuse, payments.release_statuses, payments.body) == (None, None, None)


def test_rules_of_a_later_place_stand_for_all_that_were_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toml(tmp_path, RULES)
    assert [rule.path for rule in load(None, API | {"preset": "mangopay"}).rules] == [
        "/{_}/oauth/token",
        "/oauth/token",
    ]
    assert [rule.path for rule in load(file, {"preset": "mangopay"}).rules] == ["/tokens", "/payments/**"]
    monkeypatch.setenv("IDEMPOTENCY_PROXY_RULES", '[{"path": "/x", "body": "1KiB", "release_statuses": [503]}]')
    assert load(file, {}).rules == (Rule(path="/x", body=1024, release_statuses=(503,)),)
    monkeypatch.setenv("IDEMPOTENCY_PROXY_RULES", "[]")
    assert load(file, {}).rules == ()


def test_each_problem_of_each_rule_is_told_beside_all_others_and_counted_from_one(tmp_path: Path) -> None:
    file = toml(
        tmp_path,
        'workers = 0\n[[rules]]\npath = "/ok"\n[[rules]]\npath = "x"\nretention = "1s"\nmethods = ["GET"]\n'
        '[[rules]]\npth = "/x"\n[[rules]]\npath = "/y"\nretention = "1s"\nbodies = 3\n[limits]\nfields = 0\n',
    )
    assert problems(file) == [
        f"workers = 0 (in {file}): must be at least 1",
        f"rules[2].path = 'x' (in {file}): must begin with a slash",
        f"rules[2].methods = 'GET' (in {file}): must be a method that changes something, none of CONNECT, GET, HEAD,"
        " OPTIONS, TRACE",
        f"rules[3].path (in {file}): is required",
        f"rules[3].pth (in {file}): there is no such setting; is it rules.path?",
        f"rules[4].bodies (in {file}): there is no such setting; is it rules.body?",
        f"limits.fields = 0 (in {file}): must be at least 1",
        *[
            f"rules[{number}].retention, store.deadline, upstream.pool_timeout, upstream.connect_timeout,"
            " upstream.timeout, idempotency.lease_margin: the retention, 1s, must be longer than the lease, 76s (the"
            " sum of the others): a claim must not expire while its request is under way"
            for number in (2, 4)
        ],
    ]


def test_a_rule_without_a_path_stands_in_no_other_rules_way(tmp_path: Path) -> None:
    file = toml(tmp_path, "[[rules]]\nprotect = false\n[[rules]]\nrequire_key = true\n")
    assert [line.partition(" ")[0] for line in problems(file)] == ["rules[1].path", "rules[2].path"]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ('[{"path": "/x"', 'rules = \'[{"path": "/x"\' (by {V}): must be a list; in the environment'),
        ('{"path": "/x"}', "rules (by {V}): must be a list of tables, each below [[rules]]"),
        ('"/x"', "rules = '/x' (by {V}): must be a list; in the environment"),
        ('["/x"]', 'rules[1] (by {V}): must be a table, as {path = "/payments/**", require_key = true}'),
        ("[[]]", 'rules[1] (by {V}): must be a table, as {path = "/payments/**", require_key = true}'),
        ("[{}]", "rules[1].path (by {V}): is required"),
    ],
)
def test_what_is_no_list_of_tables_is_told_so(monkeypatch: pytest.MonkeyPatch, written: str, told: str) -> None:
    monkeypatch.setenv("IDEMPOTENCY_PROXY_RULES", written)
    (line,) = problems(None)
    assert line.replace("IDEMPOTENCY_PROXY_RULES", "{V}").startswith(told)


def test_one_table_in_the_place_of_the_list_is_told_so_though_another_place_has_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toml(tmp_path, '[rules]\npath = "/x"\n')
    assert problems(file) == [f"rules (in {file}): must be a list of tables, each below [[rules]]"]
    monkeypatch.setenv("IDEMPOTENCY_PROXY_RULES__0__PATH", "/x")
    assert problems(toml(tmp_path, RULES)) == [
        "rules (by IDEMPOTENCY_PROXY_RULES): must be a list of tables, each below [[rules]]"
    ]


def test_a_scope_is_set_from_the_file_and_the_environment_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toml(tmp_path, '[scope]\nfrom = ["credential", "header"]\nheader = "X-Tenant"\n')
    assert load(file, API).scope.of == ("header", "credential")
    monkeypatch.setenv("IDEMPOTENCY_PROXY_SCOPE__FROM", "header")
    assert load(file, API).scope.of == ("header",)
    monkeypatch.setenv("IDEMPOTENCY_PROXY_SCOPE__FROM", json.dumps(["credential", "header"]))
    assert load(file, API).scope.of == ("header", "credential")
    monkeypatch.setenv("IDEMPOTENCY_PROXY_SCOPE__FROM", "tenant")
    assert problems(file) == [
        'scope.from = \'tenant\' (by IDEMPOTENCY_PROXY_SCOPE__FROM): must be "none", or one or several of "path",'
        ' "header", "jwt" and "credential"'
    ]


def test_the_name_that_a_scope_has_in_the_program_is_no_setting(tmp_path: Path) -> None:
    file = toml(tmp_path, '[scope]\nof = "credential"\n')
    assert problems(file) == [f"scope.of (in {file}): there is no such setting; is it scope.from?"]


def test_a_rule_is_said_never_to_apply_where_the_patterns_themselves_say_so() -> None:
    def all_of(segments: tuple[str, ...], longest: int) -> list[str]:
        return ["/" + "/".join(parts) for length in range(longest + 1) for parts in product(segments, repeat=length)]

    paths = all_of(("a", "b"), 4)
    templates = all_of(("a", "{_}"), 2)
    templates += [template.rstrip("/") + "/**" for template in templates]
    matched = {
        template: {path for path in paths if Pattern(template).match(path) is not None} for template in templates
    }
    for earlier, later in product(templates, repeat=2):
        assert _covers(earlier, later.upper()) == (matched[later] <= matched[earlier])
