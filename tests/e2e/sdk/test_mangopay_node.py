"""Mangopay's official SDK for Node, as it is, through the proxy with the preset for it. What it does is in `story.js`,
once; what it was given is looked at here."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.sdk.stand import DEADLINE, Stand
from tests.support.proxy import new_key

NODE = Path(__file__).parent / "node"
KEY, ANOTHER_KEY = (new_key().decode("ascii") for _ in range(2))

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on the PATH"),
    pytest.mark.skipif(
        not (NODE / "node_modules").is_dir(),
        reason="the SDK is not installed: run `npm ci --ignore-scripts` in tests/e2e/sdk/node",
    ),
]


@pytest.fixture(scope="module")
def said(started: Stand) -> dict[str, Any]:
    """What the SDK was given, step by step."""
    proxy = started.proxy(preset="mangopay")
    started.forget()
    done = subprocess.run(
        ["node", "story.js", f"http://127.0.0.1:{proxy.port}", KEY, ANOTHER_KEY],
        cwd=NODE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    steps: dict[str, Any] = json.loads(done.stdout)
    return steps


def refused(step: dict[str, Any], status: int, kind: str) -> None:
    assert (step["status"], step["body"]["Type"]) == (status, kind)


def test_a_user_a_wallet_and_a_transfer_are_made_and_read(said: dict[str, Any]) -> None:
    assert said["user"]["Email"] == "joe@example.com"
    assert said["wallet"]["Owners"] == [said["user"]["Id"]]
    assert said["transfer"]["CreditedFunds"] == {"Currency": "EUR", "Amount": 900}
    assert said["read"]["Id"] == said["transfer"]["Id"]


def test_a_key_that_is_used_again_is_rejected_before_and_after_the_bearer_was_renewed(said: dict[str, Any]) -> None:
    assert said["rotated"]
    for step in ("conflict", "conflictAfterRotation"):
        refused(said[step], 409, "idempotent_creation_conflict")


def test_what_was_answered_is_shown_as_the_resource_before_and_after_the_bearer_was_renewed(
    said: dict[str, Any],
) -> None:
    for step in ("shown", "shownAfterRotation"):
        assert said[step]["StatusCode"] == "200"
        made = {name: value for name, value in said["transfer"].items() if name != "data"}  # the SDK's own, twice
        assert made.items() <= said[step]["Resource"].items()


def test_a_key_that_was_never_used_is_rejected_as_mangopay_does(said: dict[str, Any]) -> None:
    refused(said["unknown"], 400, "correlationid_not_found")


def test_a_key_of_version_3_is_asked_for_in_version_2(said: dict[str, Any]) -> None:
    """The SDK posts some under /V3.0/ and asks for every response under /v2.01/."""
    assert said["intentShown"]["Resource"]["Id"] == said["intent"]["Id"]
    assert said["intentShown"]["Resource"]["Amount"] == 2000


def test_each_key_was_executed_once(said: dict[str, Any], started: Stand) -> None:
    assert started.executions() == {KEY: 1, ANOTHER_KEY: 1}
