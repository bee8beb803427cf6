"""The documents say what is: the commands of README and docs/semantics.md print what they print there, and the names
that the documents use are names that there are."""

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from config.problems import PREFIX, variable_of
from config.settings import every_setting
from proxy.core.dialect import DIALECTS, Subject
from proxy.core.lifecycle import TRANSITIONS
from proxy.core.refusal import Refusal
from proxy.telemetry.metrics import OUTCOMES, Exposition
from tests.e2e.documents import Run, assert_printed, constant, examples, made_run, runs
from tests.e2e.test_run import ROOT
from tests.wire import beside, nginx_requests, nginx_responses, table
from tests.wire import requests as wire_requests
from tests.wire import responses as wire_responses

DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "proxy").rglob("*.py")))
SETTINGS = dict(every_setting())
NGINX = nginx_requests.DIFFERENCES, nginx_responses.DIFFERENCES

README = examples((ROOT / "README.md").read_text())


async def test_the_commands_of_the_readme_print_what_the_readme_says(tmp_path: Path) -> None:
    assert len(README) >= 10
    async with made_run(tmp_path) as ports:
        await assert_printed(README, tmp_path, ports)


def test_the_readme_shows_each_way_that_a_request_can_go() -> None:
    shown = "\n".join(example.output for example in README)
    statuses = {int(status) for status in re.findall(r"^(?:HTTP/1\.1 )?([2-5]\d\d)\b", shown, re.MULTILINE)}
    assert statuses == {200, 400, 404, 409, 504}
    assert '{"total":4,"keys":{"order-8472-payout-0001":1,"order-8473-payout-0001":1}}' in shown


def test_a_document_that_said_something_else_would_be_found() -> None:
    (conflict,) = [example for example in README if example.output.startswith("HTTP/1.1 409")]
    for said, instead in (("409", "200"), ("already", "never"), ('"errors"', '"Errors"'), ("completed", "unknown")):
        assert said in conflict.output
        assert constant(conflict.output.replace(said, instead)) != constant(conflict.output)


def defaults() -> dict[str, str]:
    """Dotted name → default, as config/example.toml has it."""
    found, section = {}, ""
    for line in (ROOT / "config" / "example.toml").read_text().splitlines():
        if line.startswith(("[", "#[")):
            section = line.strip("#[]") + "."
        elif setting := re.fullmatch(r"#([a-z_]+) = (.+)", line):
            found[section + setting[1]] = setting[2].strip('"')
    return found


def test_the_settings_of_the_readme_exist_and_have_these_defaults() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Settings\n")[2].partition("\n## ")[0]
    table = re.findall(r"^\| `([a-z_.]+)` \| (.+?) \|", section, re.MULTILINE)
    assert len(table) > 10
    said = {name: value.strip("`").replace("(empty)", "") for name, value in table}
    assert said.pop("upstream.url") == "required"
    assert said == {name: defaults()[name] for name in said}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
class TestDocument:
    """What one document names, there is."""

    def test_its_links_lead_somewhere(self, document: Path) -> None:
        for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
            path, _, anchor = target.partition("#")
            linked = (document.parent / path).resolve() if path else document
            assert target.startswith("https://") or linked.is_relative_to(ROOT), target
            assert target.startswith("https://") or linked.exists(), target
            assert not anchor or anchor in anchors(linked), target

    def test_its_settings_and_variables_are_settings(self, document: Path) -> None:
        text = document.read_text()
        sections = {name.partition(".")[0] for name in SETTINGS if "." in name}
        named = re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)`", text)
        assert {name for name in named if not name.endswith(".py")} <= set(SETTINGS)
        variables = {variable_of(tuple(name.split("."))) for name in SETTINGS} | {f"{PREFIX}RULES"}
        assert set(re.findall(rf"{PREFIX}[A-Z_]+", text)) <= variables

    def test_its_metrics_are_exposed(self, document: Path) -> None:
        registry = CollectorRegistry()
        registry.register(Exposition(list))
        exposed = generate_latest(registry).decode()
        for name in re.findall(r"\bidempotency_proxy_[a-z_]+", document.read_text()):
            assert re.search(rf"^{name}(?:{{| )", exposed, re.MULTILINE) or f"# TYPE {name} histogram" in exposed, name

    def test_its_make_targets_and_tests_exist(self, document: Path) -> None:
        text = document.read_text()
        makefile = (ROOT / "Makefile").read_text()
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"`(test_[a-z0-9_]+)`", text):
            assert re.search(rf"def {name}\(", tests), name
        for path in re.findall(r"`((?:proxy|config|tests|docs|deploy|requirements)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), path


def anchors(document: Path) -> set[str]:
    """As the headings of a document make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_log_line_in_the_operations_manual_is_one_that_is_written() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text()
    lines = re.findall(r"^\| `([^`]+)` \| (?:debug|info|warning|error) \|", manual, re.MULTILINE)
    assert len(lines) > 15
    source = re.sub(r'"\n\s*"', "", SOURCE)  # a text over several lines of the source is one
    for line in lines:
        pieces = [re.escape(piece) for piece in line.split("…") if piece]
        assert re.search(r"[^\n]*".join(pieces), source), line


def test_each_outcome_and_state_of_the_source_is_told_of_in_the_manual() -> None:
    manual = (ROOT / "docs" / "operations.md").read_text()
    assert [outcome for outcome in OUTCOMES if f"`{outcome}`" not in manual] == []


def test_no_file_names_a_place_of_somebodys_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    names = [name for name in listed if name and (ROOT / name).is_file()]
    assert "README.md" in names
    places = [r"/(?:home|Users|root)/\w", r"\b[A-Z]:\\Users"]
    places += [re.escape(f"{ROOT}/")] if len(ROOT.parts) > 2 else []  # /src is a word like any other
    machine = re.compile("|".join(places))
    for name in names:
        text = (ROOT / name).read_text("utf-8", "replace")
        assert not (found := machine.search(text)), f"{name}: {found}"


def test_the_lifecycle_in_the_architecture_is_the_table() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \|", text, re.MULTILINE)
    assert set(rows) == {(before.value, event.value, after.value) for (before, event), after in TRANSITIONS.items()}
    assert len(rows) == len(TRANSITIONS)


def test_the_architecture_names_every_file_of_the_house_and_every_dependency() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    files = [path for path in (ROOT / "proxy").rglob("*.py") if path.name != "__init__.py"]
    assert [path.name for path in files if f"`{path.name}`" not in text] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = [re.split(r"[><=]", requirement)[0] for requirement in asked]
    assert [name for name in names if f"| `{name}` |" not in text] == []


class TestSemantics:
    """docs/semantics.md, beside what it tells of."""

    TEXT = (ROOT / "docs" / "semantics.md").read_text()
    RUNS = tuple(runs(TEXT))

    @pytest.mark.parametrize("asked", RUNS, ids=lambda asked: asked.heading.replace("`", ""))
    async def test_its_commands_print_what_it_says(self, tmp_path: Path, asked: Run) -> None:
        assert any(example.output for example in asked.shown)
        async with made_run(tmp_path, asked.preparation, **asked.variables) as ports:
            await assert_printed(asked.shown, tmp_path, ports)

    def test_it_shows_each_dialect_mode_preset_scope_and_proof(self) -> None:
        """Of the last, all but the one that shows a record to whoever knows the key."""
        shown = [
            *(("idempotency.dialect", dialect) for dialect in DIALECTS),
            *(("preset", preset.stem) for preset in (ROOT / "config" / "presets").glob("*.toml")),
            *(("scope.from", part) for part in ("path", "header", "jwt", "credential")),
            *(("responses.authorize", proof) for proof in ("jwt", "probe")),
            *(("idempotency.on_reuse", "replay"), ("idempotency.on_concurrent", "wait")),
            ("idempotency.on_mismatch", "reject"),
        ]
        told = [item for asked in self.RUNS for item in self.set_by(asked)]
        assert [item for item in shown if item not in told] == []

    @pytest.mark.parametrize("preset", sorted((ROOT / "config" / "presets").glob("*.toml")), ids=lambda path: path.stem)
    def test_it_says_of_each_preset_all_that_it_sets(self, preset: Path) -> None:
        rows = self.TEXT.partition(f"\n| `{preset.stem}` | ")[2].partition("\n| `")[0].partition("\n\n")[0]
        own = tomllib.loads(preset.read_text())
        names = [name for section in own.keys() - {"rules"} for name in own[section]] + ["rules"] * ("rules" in own)
        assert [name for name in names if not re.search(rf"`(?:\w+\.)?{name}(?: = |`)", rows)] == []

    @staticmethod
    def set_by(asked: Run) -> Iterator[tuple[str, object]]:
        """What a run sets, by itself and by its preset."""
        names = {variable_of(tuple(name.split("."))): name for name in SETTINGS}
        own = {names[variable]: value for variable, value in asked.variables.items() if variable in names}
        if "preset" in own:
            preset = tomllib.loads((ROOT / "config" / "presets" / f"{own['preset']}.toml").read_text())
            for section in preset.keys() - {"rules"}:
                for name, value in preset[section].items():
                    yield from ((f"{section}.{name}", item) for item in (value if isinstance(value, list) else [value]))
        yield from own.items()

    def test_its_table_of_refusals_is_the_one_of_the_code(self) -> None:
        rows = re.findall(
            r"^\| (\d{3}) \| `(\w+)` \| (.+?) \| `(\w+)`, `(\w+)` \| (yes|no) \|$", self.TEXT, re.MULTILINE
        )
        assert rows == list(dict.fromkeys(self.refusals()))

    @staticmethod
    def refusals() -> Iterator[tuple[str, ...]]:
        """Status, `Type`, title in `problem`, type and code in `stripe`, and whether Stripe's SDKs repeat it."""
        subject = Subject(UUID(int=0), 0, 0)
        for refusal in Refusal:
            problem = json.loads(DIALECTS["problem"].render(refusal, refusal.value, subject).body)
            stripe = DIALECTS["stripe"].render(refusal, refusal.value, subject)
            error = json.loads(stripe.body)["error"]
            repeated = "yes" if b"Stripe-Should-Retry: true" in stripe.fields else "no"
            status, code = str(refusal.value.status), refusal.value.type
            yield status, code, problem["title"], error["type"], error["code"], repeated


class TestWire:
    """docs/wire.md, beside what it tells of."""

    TEXT = (ROOT / "docs" / "wire.md").read_text()

    def test_its_tables_are_written_anew_where_a_row_has_changed(self) -> None:
        written = (ROOT / "docs" / "wire-table.md").read_text()
        assert written == "\n".join(table.markdown()) + "\n", "run `make wire-table`"

    def test_its_figures_are_those_of_the_tables(self) -> None:
        requests, responses = len(wire_requests.ROWS), len(wire_responses.ANSWERS)
        assert f"{requests} requests and {responses} responses" in self.TEXT
        theirs = [sum(len(kind.rows) for kind in kinds) for kinds in NGINX]
        assert f"{theirs[0]} of the {requests} requests and {theirs[1]} of the {responses} responses" in (
            self.TEXT.replace("\n", " ")
        )
        assert f"nginx {beside.SEEN} " in self.TEXT

    def test_it_tells_of_each_kind_of_difference_to_nginx_and_how_many_rows_show_it(self) -> None:
        kinds = [kind for kinds in NGINX for kind in kinds]
        told = re.findall(r"^\| [^|*]+, (\d+): (\*[^|]+\*) \|", self.TEXT, re.MULTILINE)
        assert len(told) == len(kinds)
        for (count, rows), kind in zip(told, kinds):
            assert int(count) == len(kind.rows), rows
            assert kind.rows.keys() >= set(re.findall(r"\*([^*]+)\*", rows))

    def test_its_limits_are_all_of_them_with_their_defaults(self) -> None:
        said = dict(re.findall(r"^\| `((?:limits|upstream)\.\w+)` \| (\S+) \|", self.TEXT, re.MULTILINE))
        limits = [name for name in SETTINGS if name.startswith("limits.")]
        limits += [name for name in SETTINGS if re.match(r"upstream\.(max_|\w*timeout)", name)]
        assert said == {name: defaults()[name] for name in limits}
