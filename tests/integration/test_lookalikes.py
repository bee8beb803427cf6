"""Names that a backend after CGI's fashion (WSGI, PHP) cannot tell from ours: `_` where we have `-`."""

import pytest

from tests.support.origin import Origin
from tests.support.proxy import Proxy, new_key, refusal, refused


@pytest.mark.parametrize("name", [b"Idempotency_Key", b"idempotency_key", b"IDEMPOTENCY_KEY"])
async def test_who_misspells_the_key_is_told_so_instead_of_paying_twice(
    origin: Origin, proxy: Proxy, name: bytes
) -> None:
    reply = await proxy.post(fields=[(name, new_key())])
    refused(reply, 400, "idempotency_key_invalid")
    assert "Idempotency-Key" in refusal(reply)["Message"]
    assert origin.requests == []


async def test_a_second_key_in_disguise_is_refused_and_the_first_is_not_claimed(origin: Origin, proxy: Proxy) -> None:
    key = new_key()
    refused(await proxy.post(key, [(b"Idempotency_Key", new_key())]), 400, "idempotency_key_invalid")
    assert origin.requests == []
    assert (await proxy.post(key)).status == 200


@pytest.mark.parametrize(
    "name", [b"X_Forwarded_For", b"x-forwarded_proto", b"X_Forwarded-Host", b"Transfer_Encoding", b"Content_Length"]
)
async def test_a_field_that_would_pass_for_one_of_ours_does_not_reach_the_backend(
    origin: Origin, proxy: Proxy, name: bytes
) -> None:
    assert (await proxy.post(fields=[(name, b"1"), (b"X_Other", b"2")])).status == 200
    [request] = origin.requests
    assert request.all(name) == []
    assert request.all(b"X_Other") == [b"2"]
