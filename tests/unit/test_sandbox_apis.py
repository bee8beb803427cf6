"""The sandbox for the official clients of three payments APIs: their credentials, their bodies, their errors."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from proxy.sandbox import application, credentials

WALLETS = "/v2.01/acme/wallets/"
CHARGES = "/v1/charges"
PAYMENTS = "/payments"
Client = TestClient[Any, Any]


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(application())


@pytest.fixture
async def strict(client: Client) -> Client:
    """It asks for credentials."""
    assert (await client.put("/faults", json={"credentials": "required"})).status == 200
    return client


def basic(user: str, password: str = "secret") -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def token(client: Client, user: str = "acme", **fields: str) -> Any:
    response = await client.post("/v2.01/oauth/token", headers={**basic(user), **fields})
    assert response.status == 200
    return await response.json()


async def bearer(client: Client, user: str = "acme", **fields: str) -> dict[str, str]:
    return bearing((await token(client, user, **fields))["access_token"])


async def total(client: Client) -> int:
    return int((await (await client.get("/executions")).json())["total"])


async def denied(response: ClientResponse, status: int) -> None:
    assert response.status == status
    assert ("WWW-Authenticate" in response.headers) == (status == 401)
    assert (await response.json())["Type"] == ("unauthorized" if status == 401 else "forbidden")


class TestBearers:
    async def test_a_bearer_opens_what_is_the_clients_own(self, strict: Client) -> None:
        for headers in (await bearer(strict), await bearer(strict)):  # a new one does not end the one before
            assert (await strict.post(WALLETS, json={}, headers=headers)).status == 200
            assert (await strict.get("/V3.0/acme/wallets/2241581", headers=headers)).status == 200
            assert (await strict.get(WALLETS, headers=headers)).status == 200
            who = await strict.get("/v2.01/acme/clients", headers=headers)
            assert (await who.json())["ClientId"] == "acme"

    async def test_every_bearer_is_another(self, strict: Client) -> None:
        first, second = await token(strict), await token(strict)
        assert first["access_token"] != second["access_token"]
        assert [(made["token_type"], made["expires_in"]) for made in (first, second)] == [("Bearer", 1200)] * 2

    @pytest.mark.parametrize("headers", [{}, bearing(""), bearing("made-up"), basic("acme")])
    async def test_without_a_bearer_nothing_is_executed_or_shown(
        self, strict: Client, headers: Mapping[str, str]
    ) -> None:
        await denied(await strict.post(WALLETS, json={}, headers=headers), 401)
        for path in (WALLETS, f"{WALLETS}2241581", "/v2.01/acme/clients/"):
            await denied(await strict.get(path, headers=headers), 401)
        assert await total(strict) == 0

    async def test_another_clients_bearer_is_forbidden(self, strict: Client) -> None:
        theirs = await bearer(strict, "other")
        await denied(await strict.post(WALLETS, json={}, headers=theirs), 403)
        for path in (WALLETS, f"{WALLETS}2241581", "/v2.01/acme/clients/"):
            await denied(await strict.get(path, headers=theirs), 403)
        assert await total(strict) == 0

    async def test_a_bearer_that_is_too_old_is_none(self, strict: Client) -> None:
        dead = await bearer(strict, "acme", **{"X-Sandbox-Lifetime": "0"})
        await denied(await strict.post(WALLETS, json={}, headers=dead), 401)

    @pytest.mark.parametrize(
        "headers",
        [{}, basic("", "secret"), basic("acme", ""), bearing("made-up"), {"Authorization": "Basic %"}],
    )
    async def test_who_does_not_say_who_it_is_gets_no_bearer(self, client: Client, headers: Mapping[str, str]) -> None:
        await denied(await client.post("/v2.01/oauth/token", headers=headers), 401)

    async def test_the_oldest_bearers_are_forgotten_so_that_memory_is_bounded(
        self, strict: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(credentials, "KEPT", 1)
        first, second = await bearer(strict), await bearer(strict)
        assert (await strict.get(WALLETS, headers=first)).status == 401
        assert (await strict.get(WALLETS, headers=second)).status == 200

    async def test_as_long_as_nothing_is_required_any_bearer_and_none_will_do(self, client: Client) -> None:
        for headers in ({}, bearing("made-up"), await bearer(client, "other")):
            assert (await client.post(WALLETS, json={}, headers=headers)).status == 200
        assert await total(client) == 3


class TestStripe:
    async def test_a_charge_is_made_of_a_form_and_shown_to_its_account_alone(self, strict: Client) -> None:
        form = {"amount": "2000", "currency": "usd", "metadata[order]": "8472"}
        made = await strict.post(CHARGES, data=form, headers=bearing("sk_one"))
        charge = await made.json()
        assert made.status == 200
        expected = {"id": "ch_2241581", "object": "charge", "amount": 2000, "currency": "usd", "status": "succeeded"}
        assert expected.items() <= charge.items()
        shown = await strict.get(f"{CHARGES}/{charge['id']}", headers=bearing("sk_one"))
        assert await shown.json() == charge
        foreign = await strict.get(f"{CHARGES}/{charge['id']}", headers=bearing("sk_two"))
        assert (foreign.status, (await foreign.json())["error"]["code"]) == (404, "resource_not_found")
        intent = await strict.get("/v1/payment_intents/pi_2241581", headers=bearing("sk_one"))
        assert intent.status == 404

    async def test_an_intent_is_another_kind(self, client: Client) -> None:
        made = await (await client.post("/v1/payment_intents", data={"amount": "2000"})).json()
        assert (made["id"], made["object"]) == ("pi_2241581", "payment_intent")

    @pytest.mark.parametrize(
        ("body", "param"),
        [(b"amount=-1", "amount"), (b"amount=1.5", "amount"), (b"\xff", "body"), (b"a&" * 1001, "body")],
    )
    async def test_a_wrong_form_is_an_error_object_and_is_not_executed(
        self, client: Client, body: bytes, param: str
    ) -> None:
        response = await client.post(CHARGES, data=body)
        error = (await response.json())["error"]
        assert (response.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
        assert await total(client) == 0

    async def test_without_a_key_and_under_a_fault_it_is_an_error_object_too(self, strict: Client) -> None:
        response = await strict.post(CHARGES, data={})
        assert (response.status, "error" in await response.json()) == (401, True)
        response = await strict.post(CHARGES, data={}, headers={"X-Sandbox-Status": "503"})
        assert (response.status, (await response.json())["error"]["type"]) == (503, "api_error")


class TestGoCardless:
    async def test_a_payment_lies_in_an_envelope_and_is_shown_to_its_account_alone(self, strict: Client) -> None:
        given = {"amount": 1000, "currency": "GBP", "links": {"mandate": "MD123"}}
        made = await strict.post(PAYMENTS, json={"payments": given}, headers=bearing("one"))
        payment = (await made.json())["payments"]
        assert made.status == 201
        assert {"id": "PM2241581", "amount": 1000, "currency": "GBP", "status": "pending_submission"}.items() <= (
            payment.items()
        )
        shown = await strict.get(f"{PAYMENTS}/PM2241581", headers=bearing("one"))
        assert await shown.json() == {"payments": payment}
        assert (await strict.get(f"{PAYMENTS}/PM2241581", headers=bearing("two"))).status == 404

    @pytest.mark.parametrize(
        ("given", "field"), [({"payments": {"amount": -1}}, "amount"), ({"payments": 1}, "payments"), ({}, "payments")]
    )
    async def test_a_wrong_payment_is_named_and_not_executed(self, client: Client, given: object, field: str) -> None:
        response = await client.post(PAYMENTS, json=given)
        error = (await response.json())["error"]
        assert (response.status, error["type"], error["code"]) == (422, "validation_failed", 422)
        assert [wrong["field"] for wrong in error["errors"]] == [field]
        assert await total(client) == 0

    async def test_without_a_token_and_under_a_fault_it_is_an_error_object_too(self, strict: Client) -> None:
        response = await strict.post(PAYMENTS, json={"payments": {}})
        assert (response.status, (await response.json())["error"]["type"]) == (401, "invalid_api_usage")
        response = await strict.post(PAYMENTS, json={"payments": {}}, headers={"X-Sandbox-Status": "503"})
        assert (response.status, (await response.json())["error"]["type"]) == (503, "gocardless")
