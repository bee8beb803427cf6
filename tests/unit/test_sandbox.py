"""The sandbox: it executes what it is asked to, counts it, and fails in just the way that was asked for."""

import asyncio
import json
import re
import signal
import sys
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from pytest_aiohttp.plugin import AiohttpClient

from proxy.sandbox import api, application, ledger
from proxy.sandbox.faults import Faults
from tests.support.raw import Incomplete, eventually, exchange, parse, parse_all

PAYOUTS = "/v2.01/acme/payouts/bankwire/"
PAYOUT = {
    "AuthorId": "1397677",
    "DebitedFunds": {"Currency": "EUR", "Amount": 110000},
    "Fees": {"Currency": "EUR", "Amount": 0},
    "DebitedWalletId": "1397678",
    "BankAccountId": "2241544",
}
Client = TestClient[Any, Any]


@pytest.fixture
async def client(aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(application())


async def executions(client: Client) -> Any:
    return await (await client.get("/executions")).json()


async def refusal(response: ClientResponse, status: int, kind: str) -> Any:
    """The refusal's `errors`, once its five fields are as they must be."""
    assert response.status == status
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    fields = await response.json()
    assert list(fields) == ["Message", "Type", "Id", "Date", "errors"]
    assert fields["Type"] == kind
    assert re.fullmatch(rf"[0-9a-f-]{{36}}#{fields['Date']}", fields["Id"])
    return fields["errors"]


def post(path: str, body: bytes = b"{}", **fields: str) -> bytes:
    """A POST as bytes; `_` in a field's name stands for a dash."""
    lines = [f"POST {path} HTTP/1.1", "Host: sandbox", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class TestResources:
    async def test_a_payout_is_the_one_of_the_contract(self, client: Client) -> None:
        response = await client.post(PAYOUTS, json=PAYOUT)
        body = await response.read()
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        assert len(body) == 471
        payout = json.loads(body)
        assert (payout["Id"], payout["Status"], payout["PaymentType"]) == ("2241581", "CREATED", "BANK_WIRE")
        assert {name: payout[name] for name in PAYOUT} == PAYOUT
        assert payout["CreditedFunds"] == {"Currency": "EUR", "Amount": 110000}

    @pytest.mark.parametrize(
        ("creation", "collection", "given"),
        [
            ("payouts/bankwire", "payouts", PAYOUT),
            ("transfers", "transfers", {"CreditedWalletId": "8519987"}),
            ("wallets", "wallets", {"Owners": ["6784288"], "Description": "Mine", "Currency": "GBP"}),
            ("users/natural", "users", {"FirstName": "Joe", "Email": "joe@example.com"}),
            ("payins/intents", "payins/intents", {"Amount": 1000, "Currency": "GBP"}),
        ],
    )
    async def test_what_was_created_can_be_read_and_is_listed(
        self, client: Client, creation: str, collection: str, given: dict[str, object]
    ) -> None:
        made = await (await client.post(f"/v2.01/acme/{creation}/", json=given)).json()
        assert given.items() <= made.items()
        for place in (collection, creation):
            shown = await client.get(f"/V3.0/acme/{place}/{made['Id']}")
            assert shown.status == 200
            assert await shown.json() == made
        assert await (await client.get(f"/v2.01/acme/{collection}")).json() == [made]

    async def test_the_slash_at_the_end_and_the_version_do_not_matter(self, client: Client) -> None:
        paths = (PAYOUTS, PAYOUTS.rstrip("/"), "/V3.0/acme/payouts/bankwire/", "/v2/acme/payouts/bankwire")
        made = [await (await client.post(path, json=PAYOUT)).json() for path in paths]
        assert [payout["Id"] for payout in made] == ["2241581", "2241582", "2241583", "2241584"]

    async def test_a_list_comes_in_pages_and_only_to_the_client_who_owns_it(self, client: Client) -> None:
        for tag in "abc":
            await client.post(PAYOUTS, json={"Tag": tag})
        await client.post("/v2.01/other/payouts/bankwire/", json={"Tag": "d"})

        async def tags(path: str) -> list[str]:
            return [payout["Tag"] for payout in await (await client.get(path)).json()]

        assert await tags("/v2.01/acme/payouts/") == ["a", "b", "c"]
        assert await tags("/v2.01/acme/payouts/?page=2&per_page=2") == ["c"]
        assert await tags("/v2.01/acme/payouts/?page=9") == []
        assert await tags("/v2.01/other/payouts/") == ["d"]
        for query in ("page=0", "page=x", "per_page=101", "per_page=-1", "page="):
            await refusal(await client.get(f"/v2.01/acme/payouts/?{query}"), 400, "param_error")

    async def test_what_was_never_created_is_not_found(self, client: Client) -> None:
        made = await (await client.post(PAYOUTS, json=PAYOUT)).json()
        await refusal(await client.get("/v2.01/acme/payouts/1"), 404, "resource_not_found")
        await refusal(await client.get(f"/v2.01/other/payouts/{made['Id']}"), 404, "resource_not_found")
        await refusal(await client.get(f"/v2.01/acme/wallets/{made['Id']}"), 404, "resource_not_found")

    async def test_unknown_paths_and_methods_are_refused(self, client: Client) -> None:
        await refusal(await client.post("/v2.01/acme/cards/", json={}), 404, "request_error")
        response = await client.put(PAYOUTS, json=PAYOUT)
        await refusal(response, 405, "request_error")
        assert response.headers["Allow"] == "POST"

    @pytest.mark.parametrize("body", [b"{", b"\xff", b"[]", b"1", b'{"Tag": NaN}', b"[" * 100_000])
    async def test_what_is_no_json_object_is_refused_and_not_executed(self, client: Client, body: bytes) -> None:
        errors = await refusal(await client.post(PAYOUTS, data=body), 400, "param_error")
        assert list(errors) == ["body"]
        assert (await executions(client))["total"] == 0

    async def test_all_that_is_wrong_in_a_request_is_named_at_once(self, client: Client) -> None:
        wrong = {
            "Tag": "x" * 256,
            "AuthorId": 7,
            "DebitedFunds": {"Currency": "EUR", "Amount": 1.5},
            "Fees": 3,
            "More": 1,
        }
        errors = await refusal(await client.post(PAYOUTS, json=wrong), 400, "param_error")
        assert set(errors) == {"Tag", "AuthorId", "DebitedFunds", "Fees"}
        assert (await executions(client))["total"] == 0

    @pytest.mark.parametrize("amount", [True, -1, 2**53 + 1, 10**40, "5", None])
    async def test_an_amount_that_is_no_money_is_refused(self, client: Client, amount: object) -> None:
        given = {"DebitedFunds": {"Currency": "EUR", "Amount": amount}}
        errors = await refusal(await client.post(PAYOUTS, json=given), 400, "param_error")
        assert list(errors) == ["DebitedFunds"]

    async def test_fees_come_out_of_the_funds_and_never_exceed_them(self, client: Client) -> None:
        given = {"DebitedFunds": {"Currency": "EUR", "Amount": 100}, "Fees": {"Currency": "EUR", "Amount": 30}}
        made = await (await client.post(PAYOUTS, json=given)).json()
        assert made["CreditedFunds"] == {"Currency": "EUR", "Amount": 70}
        given["DebitedFunds"]["Amount"] = 29
        assert list(await refusal(await client.post(PAYOUTS, json=given), 400, "param_error")) == ["Fees"]

    async def test_a_wallet_has_one_owner(self, client: Client) -> None:
        response = await client.post("/v2.01/acme/wallets/", json={"Owners": ["1", "2"]})
        assert list(await refusal(response, 400, "param_error")) == ["Owners"]

    async def test_a_body_over_a_mebibyte_is_refused_and_not_executed(self, client: Client) -> None:
        response = await client.post(PAYOUTS, data=BytesIO(b'{"More": "' + b"x" * 2**20 + b'"}'))
        await refusal(response, 413, "request_error")
        assert (await executions(client))["total"] == 0


class TestExecutions:
    async def test_every_execution_is_counted_by_its_key_and_in_all(self, client: Client) -> None:
        for key in ("first-key", "second-key", "first-key"):
            await client.post(PAYOUTS, json=PAYOUT, headers={"Idempotency-Key": key})
        await client.post("/v2.01/acme/wallets/", json={})
        assert await executions(client) == {"total": 4, "keys": {"first-key": 2, "second-key": 1}}

    async def test_counting_from_zero_keeps_what_was_created(self, client: Client) -> None:
        made = await (await client.post(PAYOUTS, json=PAYOUT, headers={"Idempotency-Key": "a-key"})).json()
        assert (await client.delete("/executions")).status == 204
        assert await executions(client) == {"total": 0, "keys": {}}
        assert await (await client.get(f"/v2.01/acme/payouts/{made['Id']}")).json() == made

    async def test_the_oldest_are_forgotten_so_that_memory_is_bounded(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ledger, "KEPT", 2)
        for key in "abc":
            await client.post(PAYOUTS, json={"Tag": key}, headers={"Idempotency-Key": key})
        assert await executions(client) == {"total": 3, "keys": {"b": 1, "c": 1}}
        assert (await client.get("/v2.01/acme/payouts/2241581")).status == 404
        assert (await client.get("/v2.01/acme/payouts/2241582")).status == 200

    async def test_a_key_too_long_to_be_kept_is_refused(self, client: Client) -> None:
        response = await client.post(PAYOUTS, json=PAYOUT, headers={"Idempotency-Key": "k" * 256})
        assert list(await refusal(response, 400, "param_error")) == ["Idempotency-Key"]
        assert (await executions(client))["total"] == 0


class TestFaults:
    async def test_a_delayed_request_is_executed_before_the_wait(self, client: Client) -> None:
        delayed = asyncio.create_task(client.post(PAYOUTS, json=PAYOUT, headers={"X-Sandbox-Delay": "0.5"}))
        begun = asyncio.get_running_loop().time()
        await eventually(lambda: executed_once(client))
        assert not delayed.done()
        assert (await delayed).status == 200
        assert asyncio.get_running_loop().time() - begun >= 0.45

    @pytest.mark.parametrize("status", ["400", "401", "429", "503", "599"])
    async def test_a_request_that_is_turned_away_is_not_executed(self, client: Client, status: str) -> None:
        response = await client.post(PAYOUTS, json=PAYOUT, headers={"X-Sandbox-Status": status})
        await refusal(response, int(status), "sandbox_fault")
        assert (await executions(client))["total"] == 0

    @pytest.mark.parametrize("status", ["201", "202", "302"])
    async def test_any_other_status_is_given_after_the_execution(self, client: Client, status: str) -> None:
        response = await client.post(PAYOUTS, json=PAYOUT, headers={"X-Sandbox-Status": status}, allow_redirects=False)
        assert response.status == int(status)
        assert (await response.json())["Id"] == "2241581"
        assert (await executions(client))["total"] == 1

    async def test_a_204_has_no_body_and_the_connection_goes_on(self, client: Client) -> None:
        requests = post(PAYOUTS, X_Sandbox_Status="204") + post(PAYOUTS)
        empty, full = parse_all(await exchange(port_of(client), requests, replies=2))
        assert (empty.status, empty.body, empty.field(b"Content-Length")) == (204, b"", None)
        assert (full.status, json.loads(full.body)["Id"]) == (200, "2241582")

    async def test_a_head_request_has_no_body_and_the_connection_goes_on(self, client: Client) -> None:
        request = b"HEAD /v2.01/acme/payouts/ HTTP/1.1\r\nHost: sandbox\r\nX-Sandbox-Size: 5000\r\n\r\n"
        replies = parse_all(await exchange(port_of(client), request * 2, replies=2, head=True), head=True)
        assert [reply.field(b"Content-Length") for reply in replies] == [b"5000", b"5000"]

    async def test_dropped_before_the_response_it_is_executed_and_not_a_byte_comes_back(self, client: Client) -> None:
        request = post(PAYOUTS, Idempotency_Key="a-key", X_Sandbox_Drop="before-response")
        with pytest.raises(ConnectionResetError):
            await exchange(port_of(client), request, until_eof=True)
        assert await executions(client) == {"total": 1, "keys": {"a-key": 1}}

    @pytest.mark.parametrize("size", [0, 300_000])
    async def test_dropped_in_the_body_half_of_it_came_back(self, client: Client, size: int) -> None:
        request = post(PAYOUTS, X_Sandbox_Drop="in-body", X_Sandbox_Size=str(size))
        received = await exchange(port_of(client), request, until_eof=True)
        with pytest.raises(Incomplete):
            parse(received)
        head, _, half = received.partition(b"\r\n\r\n")
        announced = parse(head + b"\r\n\r\n", head=True).field(b"Content-Length")
        assert announced is not None
        assert len(half) == int(announced) // 2 > 0
        assert half.startswith(b'{"Id":"2241581"')
        assert (await executions(client))["total"] == 1

    @pytest.mark.parametrize("size", [1000, 65536, 2_000_000])
    async def test_a_body_is_filled_up_to_the_size_and_is_still_the_resource(self, client: Client, size: int) -> None:
        response = await client.post(PAYOUTS, json=PAYOUT, headers={"X-Sandbox-Size": str(size)})
        body = await response.read()
        assert len(body) == size
        assert json.loads(body)["Id"] == "2241581"
        listed = await (await client.get("/v2.01/acme/payouts/", headers={"X-Sandbox-Size": str(size)})).read()
        assert len(listed) == size
        assert [list(member) for member in json.loads(listed)[1:]] == [["Filler"]]

    async def test_a_size_under_the_body_changes_nothing(self, client: Client) -> None:
        response = await client.post(PAYOUTS, json=PAYOUT, headers={"X-Sandbox-Size": "10"})
        assert len(await response.read()) == 471

    def test_delay_and_size_are_capped(self) -> None:
        faults = Faults().overridden({"delay": "999999999", "size": "999999999999"})
        assert faults == Faults(delay=120.0, size=64 * 1024 * 1024)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("Delay", value) for value in ("", "-1", "nan", "inf", "1e3", "1_0", "\u0663")),
            *(("Status", value) for value in ("", "100", "199", "600", "2000", "20", "OK")),
            *(("Drop", value) for value in ("", "yes", "In-Body")),
            *(("Size", value) for value in ("", "-1", "1.5", "1MiB", "9" * 13)),
            *(("Credentials", value) for value in ("", "yes", "none")),
            *(("Lifetime", value) for value in ("", "-1", "1.5", "20m")),
            ("Dealy", "1"),
        ],
    )
    async def test_a_fault_that_cannot_be_read_is_refused_and_not_executed(
        self, client: Client, name: str, value: str
    ) -> None:
        response = await client.post(PAYOUTS, json=PAYOUT, headers={f"X-Sandbox-{name}": value})
        assert list(await refusal(response, 400, "param_error")) == [name.lower()]
        await refusal(await client.put("/faults", json={name.lower(): value}), 400, "param_error")
        assert (await executions(client))["total"] == 0

    async def test_a_fault_that_is_asked_for_twice_is_refused(self, client: Client) -> None:
        reply = parse(await exchange(port_of(client), post(PAYOUTS, X_Sandbox_Status="503", x_sandbox_status="200")))
        assert reply.status == 400

    async def test_faults_of_all_requests_hold_until_they_end_but_for_what_a_request_asks_itself(
        self, client: Client
    ) -> None:
        response = await client.put("/faults", json={"status": 503, "size": 900, "delay": 0.01, "drop": None})
        asked = {"delay": 0.01, "status": 503, "drop": None, "size": 900}
        assert await response.json() == {**asked, "credentials": None, "lifetime": 1200}
        assert (await client.post(PAYOUTS, json=PAYOUT)).status == 503
        assert (await client.get("/v2.01/acme/payouts/")).status == 503
        own = await client.post(PAYOUTS, json=PAYOUT, headers={"X-Sandbox-Status": "200"})
        assert (own.status, len(await own.read())) == (200, 900)
        assert (await executions(client))["total"] == 1

        assert (await client.delete("/faults")).status == 204
        healed = await client.post(PAYOUTS, json=PAYOUT)
        assert (healed.status, len(await healed.read())) == (200, 471)

    async def test_new_faults_take_the_place_of_the_old_ones(self, client: Client) -> None:
        await client.put("/faults", json={"status": 503})
        await client.put("/faults", json={"size": 900})
        assert (await client.post(PAYOUTS, json=PAYOUT)).status == 200

    async def test_a_reader_that_never_reads_is_cut_off(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(api, "EXCHANGE_TIMEOUT", 0.2)
        assert isinstance(client.server, TestServer)
        server = client.server.handler
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(client), limit=1024)
        try:
            writer.write(
                post(PAYOUTS, X_Sandbox_Size="60000000")
            )  # more than the kernel's buffers and the reader's take
            await eventually(lambda: executed_once(client))
            await eventually(lambda: len(server.connections) == 1)  # the one that asks for the executions
            with pytest.raises(ConnectionResetError):
                await reader.read()
        finally:
            writer.transport.abort()


async def executed_once(client: Client) -> bool:
    return bool((await executions(client))["total"] == 1)


def port_of(client: Client) -> int:
    assert client.port is not None
    return client.port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_listens_and_stops_when_told_to_even_in_a_delay(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from proxy.sandbox import run; run('127.0.0.1', 0)",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
        found = re.fullmatch(r"sandbox: a payments API listens on http://127\.0\.0\.1:(\d+)\n", line)
        assert found is not None, line
        port = int(found[1])

        async def executed() -> bool:
            reply = parse(await exchange(port, b"GET /executions HTTP/1.1\r\nHost: sandbox\r\n\r\n"))
            return bool(json.loads(reply.body)["total"] == 1)

        delayed = asyncio.create_task(exchange(port, post(PAYOUTS, X_Sandbox_Delay="100"), within=20))
        await eventually(executed)
        process.send_signal(number)
        more, errors = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert await delayed == b""
    assert (process.returncode, more, errors) == (0, b"", b"")
