"""Stripe's official SDK for Python, as it is, through the proxy with the preset for it. It repeats a request by itself,
with the same key, after a lost connection and where it is told to: all of that ends in one charge."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Unpack

import pytest
import stripe
from stripe.params import ChargeCreateParams

from tests.e2e.sdk.stand import Stand, until
from tests.support.process import ProxyProcess

ONE, OTHER = "sk_test_one", "sk_test_other"
CHARGE: ChargeCreateParams = {"amount": 2000, "currency": "usd", "description": "order 8472"}


@pytest.fixture(scope="module")
def proxy(started: Stand) -> ProxyProcess:
    return started.proxy(preset="stripe")


@pytest.fixture(autouse=True)
def no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the SDK leaves a file in the home directory."""
    monkeypatch.setattr(stripe, "enable_telemetry", False)


class Clients:
    """Clients of the proxy, which end together."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._opened: list[stripe.RequestsClient] = []

    def client(
        self, api_key: str = ONE, *, retries: int = 0, timeout: float = 10.0, port: int | None = None
    ) -> stripe.StripeClient:
        http = stripe.RequestsClient(timeout=timeout)
        self._opened.append(http)
        url = f"http://127.0.0.1:{port or self._port}"
        return stripe.StripeClient(api_key, base_addresses={"api": url}, http_client=http, max_network_retries=retries)

    def close(self) -> None:
        for http in self._opened:
            http.close()  # type: ignore[no-untyped-call]


@pytest.fixture
def clients(stand: Stand, proxy: ProxyProcess) -> Iterator[Clients]:
    clients = Clients(proxy.port)
    yield clients
    clients.close()


def pay(
    client: stripe.StripeClient, key: str, amount: int = 2000, **whose: Unpack[stripe.RequestOptions]
) -> stripe.Charge:
    options: stripe.RequestOptions = {**whose, "idempotency_key": key}
    return client.v1.charges.create(params={**CHARGE, "amount": amount}, options=options)


def replayed(charge: stripe.Charge) -> bool:
    assert charge.last_response is not None
    return charge.last_response.headers.get("Idempotent-Replayed") == "true"


def told(error: pytest.ExceptionInfo[stripe.StripeError], status: int, code: str) -> None:
    assert error.value.error is not None
    assert (error.value.http_status, error.value.error.code) == (status, code)


def test_a_charge_and_an_intent_are_made_and_read(stand: Stand, clients: Clients) -> None:
    """The SDK gives every POST a key, whether it is told one or not."""
    client = clients.client()
    charge = client.v1.charges.create(params=CHARGE)
    assert client.v1.charges.retrieve(charge.id).amount == 2000
    intent = client.v1.payment_intents.create(params={"amount": 3000, "currency": "eur"})
    assert client.v1.payment_intents.retrieve(intent.id).currency == "eur"
    assert list(stand.executions().values()) == [1, 1]


def test_the_same_request_again_gives_the_same_charge(stand: Stand, clients: Clients, key: str) -> None:
    first, again = (pay(clients.client(), key) for _ in range(2))
    assert (again.id, again.amount, replayed(first), replayed(again)) == (first.id, 2000, False, True)
    assert stand.executions() == {key: 1}


def test_another_request_with_the_key_is_an_idempotency_error(stand: Stand, clients: Clients, key: str) -> None:
    pay(clients.client(), key)
    with pytest.raises(stripe.IdempotencyError) as mismatch:
        pay(clients.client(retries=2), key, amount=2001)
    told(mismatch, 400, "idempotency_key_reused")
    assert stand.executions() == {key: 1}


def test_another_request_with_the_key_is_one_also_while_the_first_is_under_way(
    stand: Stand, clients: Clients, key: str
) -> None:
    stand.faults(delay=0.5)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(pay, clients.client(), key)
        until(lambda: stand.executions() == {key: 1})
        with pytest.raises(stripe.IdempotencyError):
            pay(clients.client(), key, amount=2001)
        assert first.result().amount == 2000
    assert stand.executions() == {key: 1}


def test_a_connection_that_breaks_before_the_answer_ends_in_one_charge(
    stand: Stand, proxy: ProxyProcess, clients: Clients, key: str
) -> None:
    network = stand.relay(proxy)
    stand.faults(delay=0.3)
    with ThreadPoolExecutor() as threads:
        paid = threads.submit(pay, clients.client(retries=3, port=network.port), key)
        until(lambda: stand.executions() == {key: 1})
        stand.break_links(network)
        assert replayed(paid.result())
    assert len(network.links) == 2
    assert stand.executions() == {key: 1}


def test_a_client_that_is_too_impatient_repeats_the_conflict_until_the_charge_is_there(
    stand: Stand, proxy: ProxyProcess, clients: Clients, key: str
) -> None:
    before = stand.run(proxy.outcomes()).get("conflict", 0)
    stand.faults(delay=1.2)  # the SDK's first retry comes half a second after its timeout
    charge = pay(clients.client(retries=5, timeout=0.3), key)
    assert replayed(charge)
    assert stand.run(proxy.outcomes())["conflict"] > before
    assert stand.executions() == {key: 1}


def test_without_retries_the_conflict_is_told_as_it_is(stand: Stand, clients: Clients, key: str) -> None:
    stand.faults(delay=0.5)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(pay, clients.client(), key)
        until(lambda: stand.executions() == {key: 1})
        with pytest.raises(stripe.APIError) as conflict:
            pay(clients.client(), key)
        first.result()
    told(conflict, 409, "idempotency_key_in_use")


def test_many_at_once_are_one_charge_and_all_are_given_it(stand: Stand, clients: Clients, key: str) -> None:
    stand.faults(delay=0.2)
    with ThreadPoolExecutor(8) as threads:
        charges = list(threads.map(lambda _: pay(clients.client(retries=5), key), range(8)))
    assert len({charge.id for charge in charges}) == 1
    assert sorted(replayed(charge) for charge in charges) == [False, *[True] * 7]
    assert stand.executions() == {key: 1}


def test_an_outcome_that_nobody_knows_is_not_repeated_and_never_becomes_a_second_charge(
    stand: Stand, clients: Clients, key: str
) -> None:
    stand.faults(drop="before-response")
    with pytest.raises(stripe.APIError) as unknown:
        pay(clients.client(retries=2), key)
    told(unknown, 504, "upstream_outcome_unknown")
    stand.faults()
    with pytest.raises(stripe.APIError) as conflict:
        pay(clients.client(retries=2), key)
    told(conflict, 409, "idempotent_creation_conflict")
    assert stand.executions() == {key: 1}


def test_a_rate_limit_leaves_the_key_free(stand: Stand, clients: Clients, key: str) -> None:
    stand.faults(status=429)
    with pytest.raises(stripe.RateLimitError):
        pay(clients.client(), key)
    stand.faults()
    assert not replayed(pay(clients.client(), key))
    assert stand.executions() == {key: 1}


def test_two_accounts_may_use_one_key_and_each_is_given_its_own_charge(
    stand: Stand, clients: Clients, key: str
) -> None:
    ours, theirs = (pay(clients.client(account), key) for account in (ONE, OTHER))
    assert ours.id != theirs.id
    assert pay(clients.client(ONE), key).id == ours.id
    assert pay(clients.client(OTHER), key).id == theirs.id
    assert stand.executions() == {key: 2}


def test_a_platform_may_use_one_key_for_each_of_the_accounts_that_are_connected_to_it(
    stand: Stand, clients: Clients, key: str
) -> None:
    """With one API key: the SDK names the account in Stripe-Account, or in Stripe-Context."""
    platform = clients.client()
    whose: list[stripe.RequestOptions] = [
        {},
        {"stripe_account": "acct_A"},
        {"stripe_account": "acct_B"},
        {"stripe_context": "acct_A"},
        {"stripe_account": "acct_A", "stripe_context": "acct_B"},
    ]
    made = [pay(platform, key, **account) for account in whose]
    assert len({charge.id for charge in made}) == len(whose)
    for account, charge in zip(whose, made, strict=True):
        again = pay(clients.client(), key, **account)
        assert (again.id, replayed(again)) == (charge.id, True)
    assert stand.executions() == {key: len(whose)}
