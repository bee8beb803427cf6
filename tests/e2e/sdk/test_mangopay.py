"""Mangopay's official SDK for Python, as it is, through the proxy with the preset for it."""

import time
from typing import Any

import mangopay  # type: ignore[import-untyped]
import pytest
from mangopay.api import APIRequest  # type: ignore[import-untyped]
from mangopay.auth import StorageStrategyBase  # type: ignore[import-untyped]
from mangopay.exceptions import APIError  # type: ignore[import-untyped]
from mangopay.query import SelectQuery  # type: ignore[import-untyped]
from mangopay.resources import (  # type: ignore[import-untyped]
    IdempotencyResponse,
    NaturalUser,
    PayInIntent,
    Transfer,
    Wallet,
)
from mangopay.utils import Money  # type: ignore[import-untyped]

from tests.e2e.sdk.stand import Stand, until
from tests.support.process import ProxyProcess

ACME, OTHER = "acme", "other"
EVERY_CALL = 30
"""Seconds: the SDK takes a bearer that lives no longer for one that is about to end, and asks for another each time."""


class OwnBearers(StorageStrategyBase):  # type: ignore[misc]
    """The SDK's place to keep bearers in; its usual one is shared by all clients of a process."""

    def __init__(self) -> None:
        self.bearer: dict[str, Any] | None = None
        self.stored = 0

    def get(self, env_key: str) -> dict[str, Any] | None:
        return self.bearer

    def store(self, token: dict[str, Any], env_key: str) -> None:
        self.bearer = token
        self.stored += 1


@pytest.fixture(scope="module")
def proxy(started: Stand) -> ProxyProcess:
    return started.proxy(preset="mangopay")


@pytest.fixture
def bearers() -> OwnBearers:
    return OwnBearers()


@pytest.fixture
def acme(stand: Stand, proxy: ProxyProcess, bearers: OwnBearers) -> APIRequest:
    return handler(proxy, ACME, bearers)


@pytest.fixture
def other(stand: Stand, proxy: ProxyProcess) -> APIRequest:
    return handler(proxy, OTHER, OwnBearers())


def handler(proxy: ProxyProcess, client: str, bearers: OwnBearers, timeout: float = 10.0) -> APIRequest:
    return APIRequest(
        client_id=client, apikey="secret", api_sandbox_url=url_of(proxy), storage_strategy=bearers, timeout=timeout
    )


def url_of(proxy: ProxyProcess) -> str:
    """As the SDK wants it; what it posts under /V3.0/ it makes out of this."""
    return f"http://127.0.0.1:{proxy.port}/v2.01/"


def transfer(amount: int = 1000) -> Transfer:
    author = NaturalUser(id="6784288")
    return Transfer(
        author=author,
        credited_user=NaturalUser(id="6784289"),
        debited_funds=Money(amount=amount, currency="EUR"),
        fees=Money(amount=100, currency="EUR"),
        debited_wallet=Wallet(id="8519987"),
        credited_wallet=Wallet(id="8519988"),
        tag="order 8472",
    )


def shown(key: str, handler: APIRequest) -> IdempotencyResponse:
    """`IdempotencyResponse.get`, which knows no other handler than the one of the whole process."""
    return SelectQuery(IdempotencyResponse).get(key, handler=handler)


def refused(error: pytest.ExceptionInfo[APIError], status: int, kind: str) -> None:
    assert (error.value.code, error.value.content["Type"]) == (status, kind)


def test_a_user_a_wallet_and_a_transfer_are_made_and_read(stand: Stand, acme: APIRequest) -> None:
    user = NaturalUser(first_name="Joe", last_name="Doe", email="joe@example.com", user_category="PAYER")
    user.save(handler=acme)
    wallet = Wallet(owners=[user], description="Mine", currency="EUR")
    wallet.save(handler=acme)
    made = transfer()
    made.save(handler=acme)
    assert NaturalUser.get(user.id, handler=acme).email == "joe@example.com"
    assert Wallet.get(wallet.id, handler=acme).description == "Mine"
    again = Transfer.get(made.id, handler=acme)
    assert (again.credited_funds, again.tag) == (Money(amount=900, currency="EUR"), "order 8472")


def test_a_key_that_is_used_again_is_an_api_error(stand: Stand, acme: APIRequest, key: str) -> None:
    transfer().save(handler=acme, idempotency_key=key)
    with pytest.raises(APIError) as conflict:
        transfer().save(handler=acme, idempotency_key=key)
    refused(conflict, 409, "idempotent_creation_conflict")
    assert stand.executions() == {key: 1}


def test_what_was_answered_is_shown_as_the_resource(stand: Stand, acme: APIRequest, key: str) -> None:
    made = transfer()
    made.save(handler=acme, idempotency_key=key)
    response = shown(key, acme)
    assert (response.status, response.content_type) == ("200", "application/json; charset=utf-8")
    resource = response.get_resource(Transfer)
    assert (resource.id, resource.credited_funds) == (made.id, made.credited_funds)


def test_the_sdk_as_it_is_set_up_for_a_whole_process_is_shown_the_resource_with_a_new_bearer_each_time(
    stand: Stand, proxy: ProxyProcess, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.faults(lifetime=EVERY_CALL)
    monkeypatch.setattr(mangopay, "client_id", ACME)
    monkeypatch.setattr(mangopay, "apikey", "secret")
    monkeypatch.setattr(mangopay, "api_sandbox_url", url_of(proxy))
    made = transfer()
    made.save(idempotency_key=key)
    assert IdempotencyResponse.get(key).get_resource(Transfer).id == made.id
    with pytest.raises(APIError) as conflict:
        transfer().save(idempotency_key=key)
    refused(conflict, 409, "idempotent_creation_conflict")
    assert stand.executions() == {key: 1}


def test_every_call_has_a_bearer_of_its_own_and_the_key_stays_one(
    stand: Stand, acme: APIRequest, bearers: OwnBearers, key: str
) -> None:
    stand.faults(lifetime=EVERY_CALL)
    made = transfer()
    made.save(handler=acme, idempotency_key=key)
    with pytest.raises(APIError):
        transfer().save(handler=acme, idempotency_key=key)
    assert shown(key, acme).get_resource(Transfer).id == made.id
    assert bearers.stored == 3
    assert stand.executions() == {key: 1}


def test_a_key_of_version_3_is_asked_for_in_version_2(stand: Stand, acme: APIRequest, key: str) -> None:
    """The SDK posts some under /V3.0/ and asks for every response under /v2.01/."""
    made = acme.request("POST", "/payins/intents", {"Amount": 1000, "Currency": "EUR"}, key, is_v3=True)[1]
    assert shown(key, acme).get_resource(PayInIntent).amount == made["Amount"]
    with pytest.raises(APIError) as conflict:
        acme.request("POST", "/payins/intents", {"Amount": 1000, "Currency": "EUR"}, key)
    refused(conflict, 409, "idempotent_creation_conflict")
    assert stand.executions() == {key: 1}


def test_two_clients_may_use_one_key_and_neither_is_shown_the_others_response(
    stand: Stand, acme: APIRequest, other: APIRequest, key: str
) -> None:
    ours = transfer()
    ours.save(handler=acme, idempotency_key=key)
    with pytest.raises(APIError) as unknown:
        shown(key, other)
    refused(unknown, 400, "correlationid_not_found")
    theirs = transfer(2000)
    theirs.save(handler=other, idempotency_key=key)
    assert shown(key, acme).get_resource(Transfer).id == ours.id
    assert shown(key, other).get_resource(Transfer).id == theirs.id
    assert stand.executions() == {key: 2}


def test_a_bearer_that_has_ended_is_refused_and_its_successor_comes_with_the_same_key(
    stand: Stand, acme: APIRequest, bearers: OwnBearers, key: str
) -> None:
    bearers.bearer = {"token_type": "Bearer", "access_token": "ended", "timestamp": time.time() + 1000}
    with pytest.raises(APIError) as ended:
        transfer().save(handler=acme, idempotency_key=key)
    refused(ended, 401, "unauthorized")
    bearers.bearer = None
    transfer().save(handler=acme, idempotency_key=key)
    assert stand.executions() == {key: 1}


def test_who_has_no_bearer_of_the_client_is_shown_nothing(
    stand: Stand, proxy: ProxyProcess, acme: APIRequest, key: str
) -> None:
    transfer().save(handler=acme, idempotency_key=key)
    made_up, foreign = OwnBearers(), OwnBearers()
    made_up.bearer = {"token_type": "Bearer", "access_token": "made-up", "timestamp": time.time() + 1000}
    transfer().save(handler=handler(proxy, OTHER, foreign))  # it has its bearer now
    for stranger, status, kind in ((made_up, 401, "unauthorized"), (foreign, 403, "forbidden")):
        with pytest.raises(APIError) as denied:
            shown(key, handler(proxy, ACME, stranger))
        refused(denied, status, kind)


def test_a_client_that_ran_out_of_patience_is_told_to_wait_and_then_shown_what_it_missed(
    stand: Stand, proxy: ProxyProcess, bearers: OwnBearers, key: str
) -> None:
    impatient, patient = (handler(proxy, ACME, bearers, timeout) for timeout in (0.3, 10.0))
    user = NaturalUser(first_name="Joe", last_name="Doe", email="joe@example.com", user_category="PAYER")
    user.save(handler=patient)  # it has its bearer now
    stand.faults(delay=1.0)
    with pytest.raises(APIError, match="Timeout"):
        transfer().save(handler=impatient, idempotency_key=key)
    stand.faults()
    with pytest.raises(APIError) as in_progress:
        transfer().save(handler=patient, idempotency_key=key)
    refused(in_progress, 409, "idempotent_creation_conflict")
    with pytest.raises(APIError) as asked:
        shown(key, patient)
    refused(asked, 409, "idempotent_request_in_progress")

    def settled() -> bool:
        try:
            shown(key, patient)
        except APIError as error:
            if error.code != 409:
                raise
            return False
        return True

    until(settled)
    assert shown(key, patient).get_resource(Transfer).tag == "order 8472"
    assert stand.executions() == {key: 1}
