"""Whose key it is, and who is shown what was answered to it: stories of tenants on one proxy."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from config.advice import advice
from config.load import load
from proxy import assembly
from proxy.bearer.keys import Keys
from proxy.store.base import StoreRefused
from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Behaviour, Origin, Recorded, after, hang, reset, respond
from tests.support.process import run
from tests.support.proxy import Connection, Proxy, new_key, post, refused, request
from tests.support.raw import Field, Reply, eventually
from tests.support.tls import Authority
from tests.support.tokens import SETTINGS, SIGNER, bearer, key_file, token
from tests.unit.bearer.issuer import Issuer, Signer, held, key_set

REPLAY: Flags = {"idempotency.on_reuse": "replay"}
PATH: Flags = {
    "scope.from": "path",
    "scope.path": "/{_}/{client}/",
    "responses.paths": ["/{version}/{client}/responses/{key}"],
}
PROBE: Flags = {**PATH, "responses.authorize": "probe", "responses.probe": "/v2.01/{client}/clients"}
HEADER: Flags = {"scope.from": "header", "scope.header": "X-Tenant"}
JWT: Flags = {**SETTINGS, "scope.from": "jwt", "responses.authorize": "jwt"}
BOTH: Flags = {
    **HEADER,
    "scope.path": PATH["scope.path"],
    "scope.from": ["path", "header"],
    "responses.paths": PATH["responses.paths"],
}
FIELDS: Flags = {"scope.from": "header", "scope.header": ["X-Tenant", "X-Account"]}
ACME = [(b"Authorization", b"Bearer acme")]
RENEWED = [(b"Authorization", b"Bearer acme, renewed")]
EVIL = [(b"Authorization", b"Bearer evil")]


class Tenant:
    """Calls a proxy as one of its clients."""

    def __init__(self, fields: list[Field], prefix: bytes = b"") -> None:
        self.fields = fields
        self._prefix = prefix

    def posting(self, key: bytes | None, body: bytes = b"{}") -> bytes:
        return post(key, self.fields, body, path=self._prefix + b"/payouts")

    async def pays(self, proxy: Proxy, key: bytes | None, body: bytes = b"{}") -> Reply:
        return await proxy.call(self.posting(key, body))

    async def asks(self, proxy: Proxy, key: bytes) -> Reply:
        return await proxy.call(request(b"GET", self._prefix + b"/responses/%b/" % key, self.fields))

    async def is_shown(self, proxy: Proxy, key: bytes) -> bytes | None:
        """The body that was recorded; None: it is not known."""
        reply = await self.asks(proxy, key)
        if reply.status != 200:
            refused(reply, 404, "idempotency_key_not_found")
            return None
        text: str = json.loads(reply.body)["Resource"]["Text"]
        return text.encode()


def credentials(*values: bytes) -> list[Tenant]:
    return [Tenant([(b"Authorization", value)]) for value in values]


KINDS: dict[str, tuple[Flags, list[Tenant]]] = {
    "path": (PATH, [Tenant(ACME, b"/v2.01/acme"), Tenant(ACME, b"/v2.01/other")]),
    "header": (HEADER, [Tenant([(b"X-Tenant", b"acme")]), Tenant([(b"X-Tenant", b"other")])]),
    "two headers, by the first": (
        FIELDS,
        [Tenant([(b"X-Tenant", name), (b"X-Account", b"a")]) for name in (b"acme", b"other")],
    ),
    "two headers, by the second": (FIELDS, [Tenant([(b"X-Account", b"a")]), Tenant([(b"X-Account", b"b")])]),
    "two headers, the other way round": (
        FIELDS,
        [
            Tenant([(b"X-Tenant", b"a"), (b"X-Account", b"b")]),
            Tenant([(b"X-Tenant", b"b"), (b"X-Account", b"a")]),
        ],
    ),
    "jwt": (JWT, [Tenant([bearer(token(tenant=name))]) for name in ("acme", "other")]),
    "credential": ({"scope.from": "credential"}, credentials(b"acme", b"other")),
    "path and header, by the path": (
        BOTH,
        [Tenant([(b"X-Tenant", b"a")], path) for path in (b"/v1/acme", b"/v1/other")],
    ),
    "path and header, by the header": (BOTH, [Tenant([(b"X-Tenant", name)], b"/v1/acme") for name in (b"a", b"b")]),
    "path and header, the other way round": (
        BOTH,
        [Tenant([(b"X-Tenant", b"a")], b"/v1/b"), Tenant([(b"X-Tenant", b"b")], b"/v1/a")],
    ),
    "credential and jwt": (
        {**JWT, "scope.from": ["credential", "jwt"]},
        [Tenant([bearer(token(tenant=name))]) for name in ("acme", "other")],
    ),
}


@pytest.fixture
def keys(tmp_path: Path) -> Flags:
    return {"jwt.keys": key_file(tmp_path)}


async def told_apart(request: Recorded, writer: asyncio.StreamWriter) -> None:
    """A backend whose answer says who asked, and how."""
    known = (b"X-Tenant", b"X-Account", b"Stripe-Account", b"Stripe-Context", b"Authorization")
    tenant = [value for name in known for value in request.all(name)] or [b"nobody"]
    await respond(201, body=request.target + b" for " + b", ".join(tenant))(request, writer)


def payments(origin: Origin) -> int:
    return sum(seen.method == b"POST" for seen in origin.requests)


# -- scopes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_key_of_two_tenants_is_two_keys(
    origin: Origin, start_proxy: StartProxy, store: Flags, keys: Flags, kind: str
) -> None:
    flags, tenants = KINDS[kind]
    proxy = await start_proxy(**store, **REPLAY, **flags, **(keys if "jwt.issuer" in flags else {}))
    origin.behave(told_apart)
    key = new_key()
    given = [await tenant.pays(proxy, key) for tenant in tenants]
    assert [reply.status for reply in given] == [201, 201]
    assert given[0].body != given[1].body
    for tenant, first in zip(tenants, given):
        again = await tenant.pays(proxy, key)
        assert (again.body, again.field(b"Idempotent-Replayed")) == (first.body, b"true")
        assert await tenant.is_shown(proxy, key) == first.body
    assert payments(origin) == 2


@pytest.mark.parametrize("field", [b"Stripe-Account", b"Stripe-Context"])
async def test_accounts_that_are_connected_to_one_platform_are_each_paid_under_the_same_key(
    origin: Origin, start_proxy: StartProxy, field: bytes
) -> None:
    """The platform has one API key, and says by a field for which of them it acts."""
    proxy = await start_proxy(preset="stripe")
    origin.behave(told_apart)
    platform, key = (b"Authorization", b"Bearer sk_test_platform"), new_key()
    accounts = [Tenant([platform]), *(Tenant([platform, (field, name)]) for name in (b"acct_A", b"acct_B"))]
    given = [await account.pays(proxy, key) for account in accounts]
    assert len({reply.body for reply in given}) == 3
    for account, first in zip(accounts, given):
        again = await account.pays(proxy, key)
        assert (again.body, again.field(b"Idempotent-Replayed")) == (first.body, b"true")
        assert await account.is_shown(proxy, key) == first.body
    assert payments(origin) == 3
    stranger = Tenant([(b"Authorization", b"Bearer sk_test_other"), (field, b"acct_A")])
    assert (await stranger.pays(proxy, key)).all(b"Idempotent-Replayed") == []


async def test_without_scopes_the_second_is_told_that_the_key_is_taken(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**REPLAY)
    acme, evil = Tenant(ACME), Tenant(EVIL)
    key = new_key()
    assert (await acme.pays(proxy, key)).status == 200
    refused(await evil.pays(proxy, key), 409, "idempotent_creation_conflict")
    assert await evil.is_shown(proxy, key) is None
    assert payments(origin) == 1


async def test_a_key_in_progress_holds_up_nobody_elses(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**PATH, **{"idempotency.on_concurrent": "wait"})
    acme, other = KINDS["path"][1]
    key, gate = new_key(), asyncio.Event()
    origin.behave(after(gate, respond(201)))
    async with Connection(proxy.port) as client:
        client.send(acme.posting(key))
        await origin.until(lambda: payments(origin) == 1)
        origin.behave(respond(202))
        assert (await other.pays(proxy, key)).status == 202
        gate.set()
        assert (await client.reply()).status == 201


@pytest.mark.parametrize(
    "prefix", [b"/v2.01/acme", b"/V3.0/ACME", b"/x/Acme", b"//v1//%61cme", b"/v/other/../acme;v=1"]
)
async def test_a_client_is_one_scope_however_its_path_is_written(
    origin: Origin, start_proxy: StartProxy, prefix: bytes
) -> None:
    """What a backend may take for one client is one: two would pay twice."""
    proxy = await start_proxy(**PATH)
    key = new_key()
    assert (await Tenant(ACME, b"/V3.0/acme").pays(proxy, key)).status == 200
    refused(await Tenant(ACME, prefix).pays(proxy, key), 409, "idempotent_creation_conflict")
    assert payments(origin) == 1


async def test_what_is_posted_under_one_version_is_shown_under_another(start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**PATH)
    key = new_key()
    assert (await Tenant(ACME, b"/V3.0/acme").pays(proxy, key)).status == 200
    assert (await Tenant(ACME, b"/v2.01/acme").asks(proxy, key)).status == 200


@pytest.mark.parametrize(
    "flags", [HEADER, JWT, {"scope.from": "credential"}, {}], ids=["header", "jwt", "credential", "none"]
)
async def test_who_has_nothing_to_be_known_by_shares_one_scope(
    origin: Origin, start_proxy: StartProxy, keys: Flags, flags: Flags
) -> None:
    proxy = await start_proxy(**REPLAY, **flags, **(keys if "jwt.issuer" in flags else {}))
    origin.behave(told_apart)
    nobody = Tenant([])
    key = new_key()
    first = await nobody.pays(proxy, key)
    again = await nobody.pays(proxy, key)
    assert (again.body, again.field(b"Idempotent-Replayed")) == (first.body, b"true")
    assert await nobody.is_shown(proxy, key) == first.body
    assert payments(origin) == 1


async def test_what_has_no_client_in_its_path_shares_one_scope(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(**PATH)
    key = new_key()
    for path, status in ((b"/payouts", 200), (b"/", 409), (b"/..//v2.01/.", 409), (b"/v2.01/acme", 200)):
        assert (await proxy.call(post(key, ACME, path=path))).status == status, path
    assert payments(origin) == 2


async def turned_away(status: int, request: Recorded, writer: asyncio.StreamWriter) -> None:
    """A backend that lets nobody but acme pay."""
    mine = request.all(b"Authorization") == [ACME[0][1]]
    await (respond(201, body=b"paid") if mine else respond(status, body=b"not yours"))(request, writer)


async def test_who_is_turned_away_with_401_has_taken_no_key_of_anothers_path(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**REPLAY, **PROBE)
    origin.behave(partial(turned_away, 401))
    key = new_key()
    assert (await Tenant(EVIL, b"/v1/acme").pays(proxy, key)).status == 401
    acme = Tenant(ACME, b"/v1/acme")
    assert (await acme.pays(proxy, key)).status == 201
    assert await acme.is_shown(proxy, key) == b"paid"


@pytest.mark.parametrize("release", [(), (401, 403, 429)], ids=["kept", "released"])
async def test_a_403_takes_a_key_of_anothers_path_unless_it_is_said_to_free_it(
    origin: Origin, start_proxy: StartProxy, release: tuple[int, ...]
) -> None:
    """Anybody can write any path: a scope by path is as safe from being taken as its keys are from being guessed. Its
    owner is told the truth: he sees that nothing was paid."""
    flags = {"idempotency.release_statuses": list(release)} if release else {}
    proxy = await start_proxy(**PROBE, **flags)
    origin.behave(partial(turned_away, 403))
    key = new_key()
    assert (await Tenant(EVIL, b"/v1/acme").pays(proxy, key)).status == 403
    acme = Tenant(ACME, b"/v1/acme")
    assert (await acme.pays(proxy, key)).status == (201 if release else 409)
    assert json.loads((await acme.asks(proxy, key)).body)["StatusCode"] == ("201" if release else "403")


@pytest.mark.parametrize("connection", [b"X-Tenant", b"close, x-tenant, X-Account", b"Authorization", b"X-API-KEY"])
async def test_the_backend_sees_by_whom_the_request_is_known_whatever_connection_says(
    origin: Origin, start_proxy: StartProxy, connection: bytes
) -> None:
    proxy = await start_proxy(**FIELDS)
    fields = [(b"X-Tenant", b"acme"), (b"X-Account", b"a"), *ACME, (b"X-Api-Key", b"k")]
    assert (await proxy.post(new_key(), [*fields, (b"Connection", connection)])).status == 200
    (seen,) = origin.requests
    assert [field for field in seen.fields if field in fields] == fields


@pytest.mark.parametrize("fields", [[b"acme", b"evil"], [b"acme", b"acme"], [b"", b"acme"]])
async def test_who_has_two_tenants_is_told_so_and_uses_no_key(
    origin: Origin, start_proxy: StartProxy, fields: list[bytes]
) -> None:
    proxy = await start_proxy(**HEADER)
    acme, both = Tenant([(b"X-Tenant", b"acme")]), Tenant([(b"X-Tenant", value) for value in fields])
    key = new_key()
    for reply in (await both.pays(proxy, key), await both.asks(proxy, key)):
        refused(reply, 400, "bad_request")
        assert b"X-Tenant" in reply.body
    assert origin.requests == []
    assert (await acme.pays(proxy, key)).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        [(b"X_Tenant", b"evil")],
        [(b"X-Tenant", b"acme"), (b"x_tenant", b"evil")],
        [(b"X-Tenant", b"acme"), (b"X_Account", b"")],
        [(b"X-Tenant", b"acme"), (b"X-Account", b"a"), (b"X-Account", b"b")],
    ],
)
async def test_who_names_a_tenant_in_a_way_that_a_backend_may_read_otherwise_is_told_so(
    origin: Origin, start_proxy: StartProxy, fields: list[Field]
) -> None:
    """To WSGI and PHP X_Tenant is X-Tenant, which no gateway has set."""
    proxy = await start_proxy(**FIELDS)
    key, unclear = new_key(), Tenant(fields)
    for reply in (await unclear.pays(proxy, key), await unclear.asks(proxy, key)):
        refused(reply, 400, "bad_request")
        assert b"send one X-Account and one X-Tenant, not several" in reply.body
    assert origin.requests == []
    assert (await unclear.pays(proxy, None)).status == 200, "without a key it is no business of ours"


# -- what changes between a request and its retry -------------------------------------------------------------------


async def test_a_renewed_token_does_not_split_a_key(origin: Origin, start_proxy: StartProxy, keys: Flags) -> None:
    proxy = await start_proxy(**REPLAY, **JWT, **keys)
    key = new_key()
    before, after_it = (Tenant([bearer(token(jti=name))]) for name in ("1", "2"))
    origin.behave(respond(201, body=b"paid"))
    assert (await before.pays(proxy, key)).status == 201
    assert (await after_it.pays(proxy, key)).field(b"Idempotent-Replayed") == b"true"
    assert await after_it.is_shown(proxy, key) == b"paid"
    assert payments(origin) == 1


async def test_an_expired_token_uses_no_key(origin: Origin, start_proxy: StartProxy, keys: Flags) -> None:
    proxy = await start_proxy(**JWT, **keys)
    key = new_key()
    expired = Tenant([bearer(token(exp=1_700_000_000))])
    for reply in (await expired.pays(proxy, key), await expired.asks(proxy, key)):
        refused(reply, 401, "token_invalid")
        assert reply.field(b"WWW-Authenticate") == b'Bearer error="invalid_token"'
    assert origin.requests == []
    assert (await Tenant([bearer(token())]).pays(proxy, key)).status == 200


@pytest.mark.parametrize("flags", [{}, PATH], ids=["none", "path"])
async def test_a_rotated_bearer_meets_its_key_but_does_not_see_the_response(
    origin: Origin, start_proxy: StartProxy, flags: Flags
) -> None:
    proxy = await start_proxy(**REPLAY, **flags)
    key = new_key()
    assert (await Tenant(ACME, b"/v1/acme" if flags else b"").pays(proxy, key)).status == 200
    renewed = Tenant(RENEWED, b"/v1/acme" if flags else b"")
    refused(await renewed.pays(proxy, key), 409, "idempotent_creation_conflict")
    assert await renewed.is_shown(proxy, key) is None
    assert payments(origin) == 1


async def test_a_rotated_bearer_sees_the_response_where_the_backend_vouches_for_it(
    origin: Origin, start_proxy: StartProxy
) -> None:
    proxy = await start_proxy(**REPLAY, **PROBE)
    key = new_key()
    origin.behave(respond(201, body=b"paid"))
    assert (await Tenant(ACME, b"/V3.0/acme").pays(proxy, key)).status == 201
    assert (await Tenant(RENEWED, b"/V3.0/acme").pays(proxy, key)).field(b"Idempotent-Replayed") == b"true"
    assert await Tenant(RENEWED, b"/v2.01/acme").is_shown(proxy, key) == b"paid"
    assert [seen.target for seen in origin.requests[1:]] == [b"/v2.01/acme/clients"] * 2
    assert [seen.all(b"Authorization") for seen in origin.requests[1:]] == [[RENEWED[0][1]]] * 2


# -- the right to see -----------------------------------------------------------------------------------------------

SHOWN: dict[str, tuple[Flags, list[tuple[list[Field], bool]]]] = {
    "credential": ({}, [(ACME, True), (RENEWED, False), (EVIL, False), ([], False)]),
    "none": ({"responses.authorize": "none"}, [(ACME, True), (RENEWED, True), (EVIL, True), ([], True)]),
    "jwt": (
        {**SETTINGS, "responses.authorize": "jwt"},
        [
            ([bearer(token())], True),
            ([bearer(token(jti="2"))], True),
            ([bearer(token(tenant="evil"))], False),
            ([bearer(token(exp=1_700_000_000))], False),
            ([], False),
        ],
    ),
}


@pytest.mark.parametrize("authorize", SHOWN)
async def test_by_retrieval_and_by_replay_the_same_are_shown(
    origin: Origin, start_proxy: StartProxy, keys: Flags, authorize: str
) -> None:
    flags, callers = SHOWN[authorize]
    proxy = await start_proxy(**REPLAY, **flags, **(keys if authorize == "jwt" else {}))
    origin.behave(respond(201, body=b"paid"))
    key = new_key()
    assert (await Tenant(callers[0][0]).pays(proxy, key)).status == 201
    for fields, shown in callers:
        caller = Tenant(fields)
        again = await caller.pays(proxy, key)
        assert (again.status, b"paid" in again.body) == ((201, True) if shown else (409, False))
        assert await caller.is_shown(proxy, key) == (b"paid" if shown else None)
    assert payments(origin) == 1


def probed(answer: Behaviour) -> Behaviour:
    """*answer* to who asks for a client; a payment is made."""

    async def behaviour(request: Recorded, writer: asyncio.StreamWriter) -> None:
        await (respond(201, body=b"paid") if request.method == b"POST" else answer)(request, writer)

    return behaviour


@pytest.mark.parametrize("status", [401, 403, 429])
async def test_what_the_backend_says_of_a_stranger_is_what_he_is_told(
    origin: Origin, start_proxy: StartProxy, status: int
) -> None:
    proxy = await start_proxy(**REPLAY, **PROBE)
    key, acme = new_key(), Tenant(ACME, b"/v1/acme")
    origin.behave(probed(respond(status, [(b"X-Why", b"no")], b"not yours")))
    assert (await acme.pays(proxy, key)).status == 201
    stranger = Tenant(EVIL, b"/v1/acme")
    told = [await stranger.asks(proxy, key), await stranger.asks(proxy, new_key())]
    assert [(it.status, it.body, it.field(b"X-Why")) for it in told] == [(status, b"not yours", b"no")] * 2
    assert [it.field(b"Idempotency-State") for it in told] == [None, None]
    paying = await stranger.pays(proxy, key)
    if status in (401, 403, 429):
        assert (paying.status, paying.body, paying.field(b"X-Why")) == (status, b"not yours", b"no")
    else:  # of a POST's answer that would say: it was not paid
        refused(paying, 409, "idempotent_creation_conflict")
    assert paying.field(b"Idempotency-State") == b"completed"
    origin.behave(probed(respond(200)))
    assert await acme.is_shown(proxy, key) == b"paid"
    assert payments(origin) == 1


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_what_could_be_taken_for_a_payment_that_was_refused_is_no_answer_to_one(
    origin: Origin, start_proxy: StartProxy, status: int
) -> None:
    """It was made: a client that reads a 422, which is about the probe, would pay with a new key."""
    proxy = await start_proxy(**REPLAY, **PROBE)
    key, acme = new_key(), Tenant(ACME, b"/v1/acme")
    origin.behave(probed(respond(status, [(b"X-Why", b"no")], b"no such thing")))
    assert (await acme.pays(proxy, key)).status == 201
    told = await acme.pays(proxy, key)
    refused(told, 409, "idempotent_creation_conflict")
    assert (told.field(b"Idempotency-State"), told.field(b"X-Why")) == (b"completed", None)
    assert [(it.status, it.body) for it in (await acme.asks(proxy, key), await acme.asks(proxy, new_key()))] == [
        (status, b"no such thing")
    ] * 2
    assert payments(origin) == 1


@pytest.mark.parametrize(
    "answer", [respond(500), respond(302), respond(503), reset(), hang()], ids=["500", "302", "503", "reset", "hangs"]
)
async def test_where_the_backend_does_not_say_nothing_is_shown(
    origin: Origin, start_proxy: StartProxy, answer: Behaviour
) -> None:
    proxy = await start_proxy(**REPLAY, **PROBE, **{"responses.probe_timeout": "200ms"})
    key, acme = new_key(), Tenant(ACME, b"/v1/acme")
    origin.behave(probed(answer))
    assert (await acme.pays(proxy, key)).status == 201
    for reply in (await acme.asks(proxy, key), await acme.asks(proxy, new_key()), await acme.pays(proxy, key)):
        refused(reply, 503, "proof_unavailable")
        assert b"paid" not in reply.body
    origin.behave(probed(respond(204)))
    assert (await acme.pays(proxy, key)).field(b"Idempotent-Replayed") == b"true"
    assert payments(origin) == 1


@pytest.mark.parametrize("flags", [REPLAY, {"idempotency.on_mismatch": "reject"}], ids=["replay", "reject"])
@pytest.mark.parametrize("authorize", [PATH, PROBE], ids=["credential", "probe"])
async def test_a_stranger_is_not_told_whether_the_victim_paid_the_same(
    origin: Origin, start_proxy: StartProxy, flags: Flags, authorize: Flags
) -> None:
    """With the answers he could find out the amount, one guess after the other."""
    proxy = await start_proxy(**flags, **authorize)
    origin.behave(probed(respond(403)))
    key, stranger = new_key(), Tenant(EVIL, b"/v1/acme")
    assert (await Tenant(ACME, b"/v1/acme").pays(proxy, key, b'{"Amount": 471}')).status == 201
    same, another = [await stranger.pays(proxy, key, b'{"Amount": %d}' % amount) for amount in (471, 472)]
    assert (same.status, [name for name, _ in same.fields]) == (another.status, [name for name, _ in another.fields])


async def test_a_client_of_the_same_name_at_another_host_is_another(origin: Origin, start_proxy: StartProxy) -> None:
    """Where the backend tells its tenants by Host, it was asked about acme at that of the caller."""
    proxy = await start_proxy(**REPLAY, **PROBE, **{"upstream.host": "preserve"})
    key, stranger = new_key(), Tenant(EVIL, b"/v1/acme")
    origin.behave(probed(respond(200)))
    assert (await Tenant(ACME, b"/v1/acme").pays(proxy, key)).status == 201
    asked = request(b"GET", b"/v1/acme/responses/%b/" % key, EVIL, host=b"evil.example.com")
    reply = await proxy.call(asked)
    assert origin.requests[-1].all(b"Host") == [b"evil.example.com"]
    assert b"paid" not in reply.body
    made = stranger.posting(key).replace(b"Host: api.example.com", b"Host: evil.example.com")
    refused(await proxy.call(made), 409, "idempotent_creation_conflict")


def test_who_is_asked_about_another_than_whose_record_it_is_is_told_so() -> None:
    """Whom the backend lets see /me is shown the record of any client in whose path he asks."""
    flags = {"upstream.url": "http://127.0.0.1:9", **PROBE, "scope.path": "/{_}/{organisation}/{client}/"}
    flags["responses.paths"] = ["/{version}/{organisation}/{client}/responses/{key}"]
    for probe in ("/me", "/v1/{organisation}", "/v1/{client}"):
        (said,) = advice(load(None, {**flags, "responses.probe": probe}))
        assert "responses.probe" in said
    assert list(advice(load(None, {**flags, "responses.probe": "/v1/{organisation}/{client}"}))) == []


# -- the issuer's keys ----------------------------------------------------------------------------------------------


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer(key_set(SIGNER)) as issuer:
        yield issuer


async def test_a_key_that_the_issuer_has_changed_does_not_split_a_key_of_a_client(
    origin: Origin, start_proxy: StartProxy, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "Keys", partial(Keys, refetch_least=0.0))
    proxy = await start_proxy(**REPLAY, **JWT, **{"jwt.keys": issuer.url})
    key, old = new_key(), Tenant([bearer(token())])
    assert (await old.pays(proxy, key)).status == 200
    newer = Signer("two", number=2)
    issuer.document = key_set(newer)
    renewed = Tenant([bearer(token(newer))])
    assert (await renewed.pays(proxy, key)).field(b"Idempotent-Replayed") == b"true"
    assert (await renewed.asks(proxy, key)).status == 200
    refused(await old.asks(proxy, key), 401, "token_invalid")
    assert (issuer.asked, payments(origin)) == (3, 1)  # once more for a key that is not there any more


async def test_who_leaves_while_keys_are_fetched_has_used_his_key_all_the_same(
    origin: Origin, start_proxy: StartProxy, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "Keys", partial(Keys, refetch_least=0.0))
    proxy = await start_proxy(**JWT, **{"jwt.keys": issuer.url})
    newer = Signer("two", number=2)
    key, client = new_key(), Tenant([bearer(token(newer))])
    arrived, go = asyncio.Event(), asyncio.Event()
    issuer.handler = held(arrived, go, key_set(newer))
    async with Connection(proxy.port) as leaving:
        leaving.send(client.posting(key))
        await asyncio.wait_for(arrived.wait(), 5)
        assert origin.requests == []
        leaving.reset()
    go.set()
    await origin.until(lambda: origin.requests)
    await eventually(lambda: proxy.gauge("unsettled") == 0)
    assert (await client.asks(proxy, key)).status == 200
    refused(await client.pays(proxy, key), 409, "idempotent_creation_conflict")


@pytest.mark.parametrize("flags", [JWT, {**SETTINGS, "responses.authorize": "jwt"}], ids=["scope", "proof"])
async def test_without_the_issuers_keys_nothing_is_forwarded_and_no_key_is_used(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path, flags: Flags
) -> None:
    proxy = await start_proxy(**flags, **{"jwt.keys": str(tmp_path / "jwks.json")})
    key, acme = new_key(), Tenant([bearer(token())])
    for reply in (await acme.pays(proxy, key), await acme.asks(proxy, key)):
        refused(reply, 503, "identity_unavailable")
        assert reply.field(b"Retry-After") == b"1"
    assert origin.requests == []
    assert "jwks.json" in (await proxy.unready() or "")
    assert (await acme.pays(proxy, None)).status == 200, "without a key, as before"
    key_file(tmp_path)
    await proxy.reload()
    assert (await proxy.unready(), (await acme.pays(proxy, key)).status) == (None, 200)


async def test_keys_that_cannot_be_fetched_anew_go_on_to_be_used(
    origin: Origin, start_proxy: StartProxy, issuer: Issuer
) -> None:
    proxy = await start_proxy(**REPLAY, **JWT, **{"jwt.keys": issuer.url})
    await issuer.stop()
    await proxy.reload()
    key, acme = new_key(), Tenant([bearer(token())])
    assert [(await acme.pays(proxy, key)).status for _ in range(2)] == [200, 200]
    stranger = Tenant([bearer(token(Signer("two", number=2)))])
    refused(await stranger.pays(proxy, key), 503, "identity_unavailable")
    assert payments(origin) == 1


# -- two proxies on one store ---------------------------------------------------------------------------------------

OTHER_SCOPES: dict[str, Flags] = {
    "none": {"scope.from": "none"},
    "other captures": {**BOTH, "scope.path": "/{client}/"},
    "another field": {**BOTH, "scope.header": "X-Client"},
    "one more field": {**BOTH, "scope.header": ["X-Tenant", "X-Client"]},
    "less": PATH,
    "more": {**BOTH, "scope.from": ["path", "header", "credential"]},
}


@pytest.mark.parametrize("other", OTHER_SCOPES)
async def test_a_proxy_with_other_scopes_does_not_start_on_the_same_store(
    start_proxy: StartProxy, shared_store: Flags, other: str
) -> None:
    await start_proxy(**shared_store, **BOTH)
    await start_proxy(**shared_store, **BOTH, **{"responses.authorize": "none"})
    await start_proxy(**shared_store, **{**BOTH, "scope.header": "x-tenant", "scope.from": ["header", "path"]})
    with pytest.raises(StoreRefused, match="one key would become two"):
        await start_proxy(**shared_store, **OTHER_SCOPES[other])


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        (JWT, {"scope.claim": "sub"}),
        ({"scope.from": "credential"}, {"responses.credential_headers": ["X-Api-Key", "Authorization"]}),
    ],
    ids=["claim", "credentials"],
)
async def test_a_proxy_that_reads_a_scope_otherwise_does_not_start_on_the_same_store(
    start_proxy: StartProxy, shared_store: Flags, keys: Flags, flags: Flags, changes: Flags
) -> None:
    flags = shared_store | flags | (keys if "jwt.issuer" in flags else {})
    await start_proxy(**flags)
    with pytest.raises(StoreRefused, match="one key would become two"):
        await start_proxy(**flags | changes)


async def test_a_proxy_that_begins_to_ask_for_certificates_does_not_start_where_credentials_are_scopes(
    start_proxy: StartProxy, shared_store: Flags, tmp_path: Path
) -> None:
    """Whoever shows one has another scope from then on, and its retry would be paid twice."""
    own = Authority(tmp_path, "authority")
    certificate, key = own.issue("proxy")
    flags = {**shared_store, "scope.from": "credential", "tls.certificate": certificate, "tls.key": key}
    asking = [{"tls.client_ca": own.path, "tls.client_certificates": how} for how in ("optional", "required")]
    await start_proxy(**flags)
    for changes in asking:
        with pytest.raises(StoreRefused, match="one key would become two"):
            await start_proxy(**flags, **changes)
    other = {**flags, **_beside(shared_store, tmp_path)}
    for changes in asking:
        await start_proxy(**other, **changes)


def _beside(store: Flags, tmp_path: Path) -> Flags:
    """Another store of the same kind, empty."""
    if "store.prefix" in store:
        return {"store.prefix": store["store.prefix"] + "beside:"}
    return {"store.url": f"sqlite:///{tmp_path / 'beside.db'}"}


async def test_the_order_in_which_the_fields_of_a_scope_are_written_changes_nothing(
    origin: Origin, start_proxy: StartProxy, shared_store: Flags
) -> None:
    tenant, key = Tenant([(b"X-Tenant", b"acme"), (b"X-Account", b"a")]), new_key()
    one = await start_proxy(**shared_store, **FIELDS)
    other = await start_proxy(**shared_store, **{**FIELDS, "scope.header": ["x-account", "X-TENANT"]})
    assert (await tenant.pays(one, key)).status == 200
    refused(await tenant.pays(other, key), 409, "idempotent_creation_conflict")
    assert payments(origin) == 1


# -- an operator ----------------------------------------------------------------------------------------------------


async def test_an_operator_names_each_field_of_a_scope(
    start_proxy: StartProxy, shared_store: Flags, tmp_path: Path
) -> None:
    proxy, key = await start_proxy(**shared_store, **FIELDS), new_key()
    assert (await Tenant([(b"X-Tenant", b"acme")]).pays(proxy, key)).status == 200
    settings = {
        "upstream.url": "http://127.0.0.1:9",
        **shared_store,
        **FIELDS,
        "scope.header": '["X-Tenant", "X-Account"]',
    }

    async def show(*scope: str) -> tuple[int, str]:
        said = [word for value in scope for word in ("--scope", value)]
        arguments = ("key", "show", key.decode(), *said)
        done = await asyncio.to_thread(run, *arguments, directory=tmp_path, settings=settings)
        return done.returncode, done.stdout + done.stderr

    status, shown = await show("", "acme")
    assert (status, '"state": "completed"' in shown) == (0, True)
    for others in (("acme", ""), ("acme", "acme")):
        status, complaint = await show(*others)
        assert (status, "there is no such key" in complaint) == (1, True)
    status, complaint = await show("acme")
    assert status == 1
    assert "made of header here: say --scope for each (of header once for each of X-Account, X-Tenant)" in complaint
