"""Attempts to see, or to block, what belongs to another: a table, each row tried against retrieval and against replay.

A *stand* is a configuration and a victim. A row says how a stranger calls there, who knows the victim's key.
"""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.integration.conftest import Flags, StartProxy
from tests.support.origin import Origin, Recorded, hang, respond
from tests.support.proxy import HOST, Connection, Proxy, new_key, post, request
from tests.support.raw import Field, Reply, exchange, parse
from tests.support.tls import Authority, Pair, call
from tests.support.tokens import (
    SETTINGS,
    STRANGER,
    bearer,
    key_file,
    public_pem,
    shared_secret,
    tampered,
    token,
    unsigned,
)
from tests.unit.bearer.issuer import Signer

SECRET = b"471-EUR-to-acme"
PAID = 207
"""Nobody else is answered so."""
VICTIM, EVIL = (b"X-Story", b"victim"), (b"X-Story", b"stranger")
"""Who sent a request, for the backend of these tests. The proxy does not look at it."""
RIGHTS = {b"Bearer acme": b"acme", b"Bearer evil": b"evil", b"Bearer ACME": b"ACME", b"Bearer dot": b"acme."}
CONFLICT = {b"Content-Type", b"Cache-Control", b"Retry-After", b"Idempotency-State", b"Idempotency-Expires", b"Link"}
"""What a conflict may say of a key (and Date, Content-Length)."""


class Call(NamedTuple):
    """How somebody calls: *post* and *ask* are targets, %b in them is the key; *key*: what is made of the key, None:
    it is not in a field."""

    fields: tuple[Field, ...] = ()
    post: bytes = b"/payouts"
    ask: bytes = b"/responses/%b/"
    host: bytes = HOST
    key: Callable[[bytes], bytes | None] = bytes
    asked: Callable[[bytes], bytes] = bytes

    def pays(self, key: bytes, who: Field) -> bytes:
        """The POST."""
        made = post(self.key(key), [*self.fields, who], path=self.post.replace(b"%b", key))
        return made.replace(b"Host: " + HOST, b"Host: " + self.host, 1)

    def asks(self, key: bytes, who: Field) -> bytes:
        """The retrieval."""
        target = self.ask.replace(b"%b", self.asked(key))
        return request(b"GET", target, [*self.fields, who], host=self.host)


class Stand(NamedTuple):
    """*settings*, beside replay; and how its *victim* calls."""

    settings: Flags
    victim: Call


def authorization(value: bytes) -> Field:
    return b"Authorization", value


MINE, OTHER = authorization(b"Bearer acme"), authorization(b"Bearer evil")


def _paths(client: bytes) -> tuple[bytes, bytes]:
    """Where the SDKs of Mangopay post for a client, and where they ask."""
    return b"/V3.0/" + client + b"/payouts", b"/v2.01/" + client + b"/responses/%b/"


IN_PATH = Call((MINE,), *_paths(b"acme"))
PATH: Flags = {
    "scope.from": "path",
    "scope.path": "/{_}/{client}/",
    "responses.paths": ["/{version}/{client}/responses/{key}"],
}
PROBE: Flags = {"responses.authorize": "probe", "responses.probe": "/v2.01/{client}/clients"}
JWT: Flags = {**SETTINGS, "scope.from": "jwt"}
TOKEN = Call((bearer(token()),))
STANDS = {
    "credential": Stand({}, Call((MINE,))),
    "api key": Stand({}, Call(((b"X-Api-Key", b"acme"),))),
    "empty field": Stand({}, Call((authorization(b""), (b"X-Api-Key", b"acme")))),
    "path": Stand(PATH, IN_PATH),
    "probe": Stand({**PATH, **PROBE}, IN_PATH),
    "probe, another case": Stand({**PATH, **PROBE}, Call((authorization(b"Bearer ACME"),), *_paths(b"ACME"))),
    "header": Stand(
        {"scope.from": "header", "scope.header": "X-Tenant", "responses.authorize": "none"},
        Call(((b"X-Tenant", b"acme"),)),
    ),
    "jwt scope": Stand({**JWT, "responses.authorize": "none"}, TOKEN),
    "jwt proof": Stand({**SETTINGS, "responses.authorize": "jwt"}, TOKEN),
    "own account": Stand({"scope.from": "credential", "responses.authorize": "none"}, Call((MINE,))),
    "own account, empty field": Stand(
        {"scope.from": "credential"}, Call((authorization(b""), (b"X-Api-Key", b"acme")))
    ),
    "both": Stand(
        {**JWT, **PATH, "scope.from": ["path", "jwt"], "responses.authorize": "jwt"},
        IN_PATH._replace(fields=TOKEN.fields),
    ),
}


class Attempt(NamedTuple):
    """*own*: the stranger's POST is his own business: it is executed, in his own scope."""

    stand: str
    name: str
    call: Call
    own: bool = False


def by_fields(stand: str, own: bool, attempts: dict[str, list[Field]]) -> list[Attempt]:
    """The victim's paths, other fields."""
    victim = STANDS[stand].victim
    return [
        Attempt(stand, name, victim._replace(fields=tuple(own_fields)), own) for name, own_fields in attempts.items()
    ]


def by_path(stand: str, own: bool, *clients: bytes, fields: tuple[Field, ...] = (OTHER,)) -> list[Attempt]:
    """The stranger's credential, *clients* in the place of the victim."""
    return [
        Attempt(
            stand,
            f"/{client.decode()}/ with {fields[0][1].decode() if fields else 'nothing'}",
            Call(fields, *_paths(client)),
            own,
        )
        for client in clients
    ]


FOREIGN: dict[str, list[Field]] = {
    "a foreign credential": [OTHER],
    "no credential": [],
    "an empty credential": [authorization(b"")],
    "a scheme alone": [authorization(b"Bearer")],
    "another scheme": [authorization(b"Basic acme")],
    "the scheme in lower case": [authorization(b"bearer acme")],
    "the token in upper case": [authorization(b"Bearer ACME")],
    "two blanks": [authorization(b"Bearer  acme")],
    "a tab": [authorization(b"Bearer\tacme")],
    "in quotes": [authorization(b'"Bearer acme"')],
    "the beginning of the token": [authorization(b"Bearer acm")],
    "more than the token": [authorization(b"Bearer acmee")],
    "the value in another field": [(b"X-Api-Key", b"Bearer acme")],
    "the token in another field": [(b"X-Api-Key", b"acme")],
    "a field that is no credential": [(b"Proxy-Authorization", b"Bearer acme"), (b"Cookie", b"Bearer acme")],
    "his own first, the victim's behind": [OTHER, MINE],
    "the victim's first, his own behind": [MINE, OTHER],
    "twice the victim's": [MINE, MINE],
    "both in one field": [authorization(b"Bearer acme, Bearer evil")],
    "his own, and said to be for this hop": [OTHER, (b"Connection", b"Authorization")],
    "his own, the victim's in the second field that counts": [OTHER, (b"X-Api-Key", b"Bearer acme")],
    "obs-text": [authorization(b"Bearer acme\xe9")],
}
TENANTS: dict[str, list[Field]] = {
    "another tenant": [(b"X-Tenant", b"evil")],
    "no tenant": [],
    "an empty tenant": [(b"X-Tenant", b"")],
    "in upper case": [(b"X-Tenant", b"ACME")],
    "in quotes": [(b"X-Tenant", b'"acme"')],
    "joined, his own first": [(b"X-Tenant", b"evil, acme")],
    "joined, the victim first": [(b"X-Tenant", b"acme,evil")],
    "obs-text": [(b"X-Tenant", b"acme\xa0")],
    "another name": [(b"X-Tenant-Id", b"acme"), (b"Tenant", b"acme")],
    "his own, and said to be for this hop": [(b"X-Tenant", b"evil"), (b"Connection", b"close, X-Tenant")],
    "as it is joined inside": [(b"X-Tenant", b"+4:acme")],
    "percent-encoded": [(b"X-Tenant", b"%61cme")],
}
FORGED = {
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg NONE": unsigned("NONE"),
    "no alg": unsigned(""),
    "alg none, without the last dot": unsigned("none")[:-1],
    "signed with the public key as a secret": shared_secret(public_pem()),
    "signed with an empty secret": shared_secret(b""),
    "signed by himself": token(STRANGER),
    "signed by himself, with his key in the header": token(STRANGER, {"jwk": STRANGER.jwk()}),
    "signed by himself, with an address for his key": token(STRANGER, {"jku": "http://127.0.0.1:9/jwks"}),
    "of a kid that nobody has": token(Signer("evil", number=1)),
    "of a kid that is a path": token(Signer("../../dev/null", number=1)),
    "expired": token(exp=1_700_000_000),
    "without an end": token(exp=None),
    "not valid yet": token(nbf=4_000_000_000),
    "of another issuer": token(iss="https://evil.example.com"),
    "of no issuer": token(iss=None),
    "for another audience": token(aud="evil"),
    "for nobody": token(aud=None),
    "tampered with": tampered(),
    "without its signature": token().rpartition(b".")[0] + b".",
    "without the claim": token(tenant=None),
    "the victim in another claim": token(tenant=None, sub="acme", client="acme", Tenant="acme"),
    "the claim is a list": token(tenant=["acme"]),
    "the claim is an object": token(tenant={"acme": "acme"}),
    "the claim is empty": token(tenant=""),
    "no token at all": b"acme",
}
VALID = {
    "another tenant": token(tenant="evil"),
    "the tenant in upper case": token(tenant="ACME"),
    "the tenant with a blank": token(tenant="acme "),
    "the tenant with a NUL": token(tenant="acme\0"),
}
TOKENS: dict[str, list[Field]] = {name: [bearer(value)] for name, value in (VALID | FORGED).items()} | {
    "his own first, a forged one behind": [bearer(VALID["another tenant"]), bearer(FORGED["alg none"])],
    "a forged one first, his own behind": [bearer(FORGED["signed by himself"]), bearer(VALID["another tenant"])],
}
NO_TOKEN: dict[str, list[Field]] = {
    "no token": [],
    "in a field that carries none": [(b"X-Api-Key", FORGED["alg none"])],
    "of another scheme": [authorization(b"Basic " + FORGED["alg none"])],
}

SAME_CLIENT = (
    b"acme", b"ACME", b"Acme", b"%61cme", b"%41CME", b"acme/", b"/acme", b"acme%2F", b"%2Facme", b"acme;x=1",
    b"acme%3Bx", b";x/acme", b"./acme", b"%2e/acme", b"other/../acme", b"other/%2e%2e/acme", b"other%2F..%2Facme",
    b"other/..;x/acme", b"other//../acme",
)  # fmt: skip
"""One reading has it that they are acme: a collision costs a 409."""
OTHER_CLIENT = (
    b"evil", b"%2561cme", b"acme%00", b"acme%20", b"acme+", b"acme.", b"acme%2e", b"acme%0A", b"%EF%BD%81cme",
    b"acme%E9", b"acme/../evil", b"acme/%2e%2e/evil", b"acme%2F..%2Fevil", b"acme%5C..%5Cevil", b"acme%252F",
    b"evil;acme", b"~acme",
)  # fmt: skip


def elsewhere(stand: str) -> list[Attempt]:
    """The stranger's credential, and the rest of the request in other clothes."""
    foreign = Call((OTHER,))
    victim = STANDS[stand].victim._replace(fields=(OTHER,))
    rows = {
        "another Host": victim._replace(host=b"evil.example.com"),
        "a Host with a dot": victim._replace(host=HOST + b"."),
        "a Host with a port": victim._replace(host=HOST + b":80"),
        "an absolute target": victim._replace(post=b"http://" + HOST + victim.post, ask=b"http://" + HOST + victim.ask),
        "repeated slashes": victim._replace(ask=victim.ask.replace(b"/", b"//")),
        "an encoded key": victim._replace(asked=lambda key: key.replace(b"-", b"%2D")),
        "a query": victim._replace(
            post=victim.post + b"?client=acme", ask=victim.ask + b"?client=acme&access_token=acme"
        ),
        "a wait": victim._replace(fields=(OTHER, (b"Prefer", b"wait=3"))),
        "a quoted key": victim._replace(key=lambda key: b'"%b"' % key, asked=lambda key: b"%22" + key + b"%22"),
    }
    guessed = {
        "the key in upper case": foreign._replace(key=bytes.upper, asked=bytes.upper),
        "all but the last of the key": foreign._replace(key=_but_last, asked=_but_last),
        "the key but for a digit": foreign._replace(key=_next, asked=_next),
        "the key with a dash": foreign._replace(key=lambda key: key[:-1] + b"-", asked=lambda key: key[:-1] + b"-"),
        "the key in the query": foreign._replace(
            post=b"/payouts?Idempotency-Key=%b", key=lambda _: None, ask=b"/responses/?key=%b"
        ),
    }
    rest = [Attempt(stand, name, call) for name, call in rows.items()]
    return rest + [Attempt(stand, name, call, own=True) for name, call in guessed.items() if stand == "credential"]


def _but_last(key: bytes) -> bytes:
    return key[:-1]


def _next(key: bytes) -> bytes:
    return key[:-1] + (b"0" if key[-1:] != b"0" else b"1")


def asking_for_another(*fields: Field) -> Call:
    return IN_PATH._replace(fields=(OTHER, *fields))


ATTEMPTS = [
    *by_fields("credential", False, FOREIGN),
    *elsewhere("credential"),
    *by_fields(
        "api key",
        False,
        {
            "no key": [],
            "another key": [(b"X-Api-Key", b"evil")],
            "an empty key": [(b"X-Api-Key", b"")],
            "a look-alike": [(b"X_Api_Key", b"evil")],
            "a look-alike beside another key": [(b"X-Api-Key", b"evil"), (b"X_Api_Key", b"acme")],
            "the key in Authorization": [authorization(b"acme")],
            "the key behind an Authorization": [OTHER, (b"X-Api-Key", b"acme")],
            "two keys": [(b"X-Api-Key", b"evil"), (b"X-Api-Key", b"acme")],
        },
    ),
    *by_fields(
        "empty field",
        False,
        {
            "an empty Authorization": [authorization(b"")],
            "an empty Authorization, and a key of his own": [authorization(b""), (b"X-Api-Key", b"evil")],
            "a blank Authorization": [authorization(b" ")],
        },
    ),
    *by_path("path", False, *SAME_CLIENT),
    *by_path("path", True, *OTHER_CLIENT),
    *elsewhere("path"),
    *by_path("probe", False, *SAME_CLIENT),
    *by_path("probe", True, *OTHER_CLIENT),
    *by_path("probe", False, b"acme", b"ACME", b"%41CME", fields=(authorization(b"Bearer ACME"),)),
    *by_path("probe", True, b"acme.", b"acme%2e", fields=(authorization(b"Bearer dot"),)),
    *by_path("probe", False, b"acme", fields=()),
    *by_path("probe, another case", False, b"ACME", b"acme", b"%41cme", b"%61CME", fields=(MINE,)),
    *elsewhere("probe"),
    *(
        Attempt("probe", f"asking for another by {name.decode()}", asking_for_another((name, value)))
        for name, value in (
            (b"X-Original-URL", b"/v2.01/evil/clients"),
            (b"X-Rewrite-URL", b"/v2.01/evil/clients"),
            (b"X-HTTP-Method-Override", b"POST"),
        )
    ),
    *by_fields("header", True, TENANTS),
    *by_fields(
        "header",
        False,
        {
            "two tenants, his own first": [(b"X-Tenant", b"evil"), (b"X-Tenant", b"acme")],
            "two tenants, the victim first": [(b"X-Tenant", b"acme"), (b"x-tenant", b"evil")],
            "twice the victim": [(b"X-Tenant", b"acme"), (b"X-Tenant", b"acme")],
            "a look-alike alone": [(b"X_Tenant", b"acme")],
            "a look-alike beside his own": [(b"X-Tenant", b"evil"), (b"X_Tenant", b"acme")],
        },
    ),
    *by_fields("jwt scope", False, {name: fields for name, fields in TOKENS.items() if name not in VALID}),
    *by_fields("jwt scope", True, {**{name: TOKENS[name] for name in VALID}, **NO_TOKEN}),
    *by_fields("jwt proof", False, {**TOKENS, **NO_TOKEN}),
    *by_fields("own account", True, {name: FOREIGN[name] for name in FOREIGN}),
    *by_fields("own account, empty field", True, {"another account": [authorization(b""), (b"X-Api-Key", b"evil")]}),
    *by_fields("both", True, {name: TOKENS[name] for name in VALID}),
    *by_fields("both", False, {"signed by himself": TOKENS["signed by himself"], "alg none": TOKENS["alg none"]}),
]


async def api(request: Recorded, writer: asyncio.StreamWriter) -> None:
    """The backend: the victim's payment has a secret; who asks for a client is told whether it is his."""
    target = [*request.all(b"X-Original-URL"), *request.all(b"X-Rewrite-URL"), request.target][0]
    asked = re.fullmatch(rb"/v2\.01/([^/]+)/clients", target)
    if request.method == b"POST" and VICTIM in request.fields:
        answer = respond(
            PAID, [(b"Content-Type", b"application/json"), (b"X-Secret", SECRET)], b'{"Secret": "%b"}' % SECRET
        )
    elif request.method == b"POST":
        answer = respond(200, body=b"his own")
    elif asked:
        mine = [RIGHTS.get(value) for value in request.all(b"Authorization")]
        answer = respond(200 if mine == [asked[1].replace(b"%2E", b".")] else 403, body=b"about a client")
    else:
        answer = respond(404, body=b"there is no such page")
    await answer(request, writer)


def neutral(reply: Reply) -> tuple[object, ...]:
    """All of a reply but the time and the id of the request."""
    body = re.sub(rb'("Id": )"[0-9a-f-]{36}#\d+"|("Date": )\d+', rb"\1\2", reply.body)
    fields = [(name, b"" if name == b"Date" else value) for name, value in reply.fields]
    return reply.status, reply.reason, fields, body, len(reply.body)


def shows_nothing(received: bytes) -> Reply:
    reply = parse(received)
    assert SECRET not in received
    assert b"X-Secret" not in received
    assert reply.status != PAID
    assert b'"%d"' % PAID not in reply.body
    assert reply.all(b"Idempotent-Replayed") == []
    return reply


def tells_no_more_than_that_it_is_taken(reply: Reply) -> None:
    assert {name for name, _ in reply.fields} <= CONFLICT | {b"Date", b"Content-Length"}
    said = json.loads(reply.body)
    assert list(said) == ["Message", "Type", "Id", "Date", "errors"]
    assert (said["Type"], said["errors"]) == ("idempotent_creation_conflict", None)


async def pays(proxy: Proxy, victim: Call, key: bytes) -> Reply:
    reply = await proxy.call(victim.pays(key, VICTIM))
    assert (reply.status, reply.field(b"X-Secret")) == (PAID, SECRET), reply
    return reply


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: f"{attempt.stand}: {attempt.name}")
async def test_a_stranger_sees_nothing_and_blocks_nothing(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path, attempt: Attempt
) -> None:
    settings, victim = STANDS[attempt.stand]
    keys = {"jwt.keys": key_file(tmp_path)} if "jwt.issuer" in settings else {}
    proxy = await start_proxy(**{"idempotency.on_reuse": "replay", **settings, **keys})
    origin.behave(api)
    key, never, fresh = new_key(), new_key(), new_key()
    assert (await pays(proxy, victim, key)).all(b"Idempotent-Replayed") == []

    shown = shows_nothing(await exchange(proxy.port, attempt.call.asks(key, EVIL)))
    assert shown.status >= 400
    assert neutral(shown) == neutral(await proxy.call(attempt.call.asks(never, EVIL)))

    told = shows_nothing(await exchange(proxy.port, attempt.call.pays(key, EVIL)))
    if attempt.own:
        assert (told.status, told.body) == (200, b"his own")
    else:
        assert told.status in (400, 401, 403, 409, 503)
    if told.status == 409:
        tells_no_more_than_that_it_is_taken(told)

    assert (await pays(proxy, victim, key)).field(b"Idempotent-Replayed") == b"true"
    record = await proxy.call(victim.asks(key, VICTIM))
    assert (record.status, json.loads(record.body)["Resource"]) == (200, {"Secret": SECRET.decode()})

    if told.status in (200, 400, 401):
        await exchange(proxy.port, attempt.call.pays(fresh, EVIL))
        assert (await pays(proxy, victim, fresh)).all(b"Idempotent-Replayed") == []
    paid = [seen for seen in origin.requests if seen.method == b"POST" and VICTIM in seen.fields]
    assert len(paid) == (2 if told.status in (200, 400, 401) else 1)


def public(pair: Pair) -> tuple[bytes, bytes]:
    """A certificate, in PEM and DER."""
    certificate = x509.load_pem_x509_certificate(Path(pair.certificate).read_bytes())
    return certificate.public_bytes(Encoding.PEM), certificate.public_bytes(Encoding.DER)


async def test_a_client_certificate_cannot_be_said(origin: Origin, start_proxy: StartProxy, tmp_path: Path) -> None:
    """It is public: what counts is that a client has shown it, and not that it knows it."""
    servers, clients = (Authority(tmp_path, name) for name in ("servers", "clients"))
    certificate, private = servers.issue("proxy")
    listener = {"tls.certificate": certificate, "tls.key": private, "tls.client_ca": clients.path}
    proxy = await start_proxy(**listener, **{"tls.client_certificates": "optional", "idempotency.on_reuse": "replay"})
    origin.behave(api)
    alices = clients.issue("alice")
    alice, bob, nobody = (servers.client(pair) for pair in (alices, clients.issue("bob"), None))
    pem, der = public(alices)
    encoded = base64.b64encode(der)
    fields: list[tuple[Field, ...]] = [
        (),
        ((b"Client-Cert", b":%b:" % encoded),),
        ((b"X-SSL-Client-Cert", quote(pem).encode()),),
        ((b"X-Forwarded-Client-Cert", b"Cert=" + encoded), (b"X-Client-Verified", b"SUCCESS")),
        (authorization(encoded),),
        (authorization(hashlib.sha256(der).hexdigest().encode()),),
        ((b"X-Api-Key", b"client certificate"),),
        (authorization(b""),),
    ]
    key, never = new_key(), new_key()
    assert (await call(proxy.port, Call().pays(key, VICTIM), alice)).status == PAID
    for context in (bob, nobody):
        for said in map(Call, fields):
            shown = await call(proxy.port, said.asks(key, EVIL), context)
            assert neutral(shown) == neutral(await call(proxy.port, said.asks(never, EVIL), context))
            assert shown.status == 404
            told = await call(proxy.port, said.pays(key, EVIL), context)
            assert told.status == 409
            tells_no_more_than_that_it_is_taken(told)
    again = await call(proxy.port, Call().pays(key, VICTIM), alice)
    assert (again.status, again.field(b"Idempotent-Replayed")) == (PAID, b"true")
    assert (await call(proxy.port, Call().asks(key, VICTIM), alice)).status == 200


@pytest.mark.parametrize("authorize", ["credential", "jwt"])
async def test_a_stranger_is_not_told_that_a_key_is_in_progress_or_unknown(
    origin: Origin, start_proxy: StartProxy, tmp_path: Path, authorize: str
) -> None:
    """Nor made to wait for it, by which he would know."""
    flags = {**SETTINGS, "responses.authorize": "jwt", "jwt.keys": key_file(tmp_path)} if authorize == "jwt" else {}
    proxy = await start_proxy(**flags, **{"upstream.timeout": "1s"})
    victim, stranger = TOKEN, Call((bearer(VALID["another tenant"]), (b"Prefer", b"wait=20")))
    origin.behave(hang())
    key, never = new_key(), new_key()
    async with Connection(proxy.port) as client:
        client.send(victim.pays(key, VICTIM))
        await origin.until(lambda: origin.requests)
        meanwhile = await proxy.call(stranger.asks(key, EVIL), within=0.9)
        assert (await proxy.call(victim.asks(key, VICTIM))).status == 409
        assert (await client.reply()).status == 504
    afterwards = await proxy.call(stranger.asks(key, EVIL))
    assert (await proxy.call(victim.asks(key, VICTIM))).field(b"Idempotency-State") == b"unknown"
    assert neutral(meanwhile) == neutral(afterwards) == neutral(await proxy.call(stranger.asks(never, EVIL)))


async def test_head_tells_a_stranger_no_more_than_get(origin: Origin, start_proxy: StartProxy) -> None:
    proxy = await start_proxy()
    victim, stranger = STANDS["credential"].victim, Call((OTHER,))
    origin.behave(api)
    key, never = new_key(), new_key()
    await pays(proxy, victim, key)
    heads = [
        neutral(await proxy.call(b"HEAD" + stranger.asks(asked, EVIL).removeprefix(b"GET"), head=True))
        for asked in (key, never)
    ]
    assert heads[0] == heads[1]
    assert heads[0][:3] == neutral(await proxy.call(stranger.asks(key, EVIL)))[:3]
