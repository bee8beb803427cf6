"""GoCardless's official SDK for Python, as it is, through the proxy. There is no preset for it, and no dialect: it can
read a conflict only with the Id of what was created, which no proxy knows. So a key that is used again is given the
payment, and one that is in progress waits for it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gocardless_pro  # type: ignore[import-untyped]
import pytest
from gocardless_pro.errors import MalformedResponseError, RateLimitError  # type: ignore[import-untyped]

from tests.e2e.sdk.stand import Stand, until
from tests.support.process import ProxyProcess

ONE, OTHER = "token-one", "token-other"
PAYMENT = {"amount": 1000, "currency": "GBP", "links": {"mandate": "MD123"}}
REPLAYING = {"scope__from": "credential", "idempotency__on_reuse": "replay", "idempotency__on_concurrent": "wait"}
"""What it needs: access tokens do not change, so that each is an account of its own."""


@pytest.fixture(scope="module")
def proxy(started: Stand) -> ProxyProcess:
    return started.proxy(**REPLAYING)


@pytest.fixture(scope="module")
def refusing(started: Stand) -> ProxyProcess:
    """As by default."""
    return started.proxy()


def client(port: int, token: str = ONE, timeout: float = 10.0) -> Any:
    return gocardless_pro.Client(access_token=token, base_url=f"http://127.0.0.1:{port}", timeout=timeout)


def pay(client: Any, key: str) -> Any:
    return client.payments.create(params=PAYMENT, headers={"Idempotency-Key": key})


def replayed(payment: Any) -> bool:
    return bool(payment.api_response.headers.get("Idempotent-Replayed") == "true")


def test_a_payment_is_made_and_read(stand: Stand, proxy: ProxyProcess) -> None:
    """The SDK gives every POST a key, whether it is told one or not."""
    gocardless = client(proxy.port)
    payment = gocardless.payments.create(params=PAYMENT)
    assert gocardless.payments.get(payment.id).amount == 1000
    assert list(stand.executions().values()) == [1]


def test_the_same_request_again_gives_the_same_payment(stand: Stand, proxy: ProxyProcess, key: str) -> None:
    first, again = (pay(client(proxy.port), key) for _ in range(2))
    assert (again.id, replayed(first), replayed(again)) == (first.id, False, True)
    assert stand.executions() == {key: 1}


def test_a_connection_that_breaks_before_the_answer_ends_in_one_payment(
    stand: Stand, proxy: ProxyProcess, key: str
) -> None:
    network = stand.relay(proxy)
    stand.faults(delay=0.3)
    with ThreadPoolExecutor() as threads:
        paid = threads.submit(pay, client(network.port), key)
        until(lambda: stand.executions() == {key: 1})
        stand.break_links(network)
        assert replayed(paid.result())
    assert len(network.links) == 2
    assert stand.executions() == {key: 1}


def test_a_client_that_is_too_impatient_waits_in_its_second_try(stand: Stand, proxy: ProxyProcess, key: str) -> None:
    stand.faults(delay=1.1)  # the SDK's first retry comes half a second after its timeout
    assert replayed(pay(client(proxy.port, timeout=0.4), key))
    assert "conflict" not in stand.run(proxy.outcomes())
    assert stand.executions() == {key: 1}


def test_two_accounts_may_use_one_key_and_each_is_given_its_own_payment(
    stand: Stand, proxy: ProxyProcess, key: str
) -> None:
    ours, theirs = (pay(client(proxy.port, token), key) for token in (ONE, OTHER))
    assert ours.id != theirs.id
    assert pay(client(proxy.port, ONE), key).id == ours.id
    assert stand.executions() == {key: 2}


def test_a_rate_limit_leaves_the_key_free(stand: Stand, proxy: ProxyProcess, key: str) -> None:
    stand.faults(status=429)
    with pytest.raises(RateLimitError):
        pay(client(proxy.port), key)
    stand.faults()
    assert not replayed(pay(client(proxy.port), key))
    assert stand.executions() == {key: 1}


def test_a_conflict_is_nothing_that_it_can_read_but_it_shows_what_was_said(
    stand: Stand, refusing: ProxyProcess, key: str
) -> None:
    """It takes it for a broken answer, repeats the request, which harms nobody, and gives up."""
    pay(client(refusing.port), key)
    with pytest.raises(MalformedResponseError, match="already been created with this Idempotency Key") as conflict:
        pay(client(refusing.port), key)
    assert conflict.value.status_code == 409
    assert stand.executions() == {key: 1}


def test_an_outcome_that_nobody_knows_never_becomes_a_second_payment(
    stand: Stand, proxy: ProxyProcess, key: str
) -> None:
    stand.faults(drop="before-response")
    with pytest.raises(MalformedResponseError, match="may have been executed"):
        pay(client(proxy.port), key)
    assert stand.executions() == {key: 1}
